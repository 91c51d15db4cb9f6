// Search: a picture, words or an item in; neighbours with their scores out.

import { json, Refusal, request, segment, show } from "/console/api.js";
import { clock, dropZone, duration, field, h, put } from "/console/dom.js";

const WITH = ["title", "tags", "categories", "duration_s", "age_rating", "thumbnail"];

export function searchPage(main, like) {
  let image = null;
  let shown = null;
  let likeItem = like || null;
  let asked = 0;

  const words = h("input", { type: "search", id: "words", placeholder: "lighthouse, storm, …", maxlength: 500 });
  const tag = h("input", { placeholder: "any" });
  const category = h("input", { placeholder: "any" });
  const region = h("input", { placeholder: "any" });
  const age = h("input", { type: "number", min: 0, max: 99, placeholder: "any" });
  const limit = h("select", {}, [12, 24, 48, 96].map((n) => h("option", { value: n, selected: n === 24 }, n)));
  const now = h("input", { type: "checkbox" });
  const by = h("select", { id: "by" }, [["image", "looks"], ["metadata", "words"], ["engagement", "audience"], ["mixed", "looks and words"]].map(([v, t]) => h("option", { value: v }, t)));
  const byField = field("Alike in", by);
  const note = h("p", { class: "soft", role: "status" });
  const problem = h("p", { class: "problem", role: "alert" });
  const hits = h("ol", { class: "hits", id: "hits" });
  const clear = h("button", { type: "button", class: "quiet", onclick: () => { setImage(null); setLike(null); words.value = ""; put(hits); put(note); } }, "Clear");
  const drop = dropZone("Drop, paste or choose a picture", ([file]) => { setLike(null); setImage(file); search(); });

  function setImage(file) {
    if (shown) URL.revokeObjectURL(shown);
    image = file;
    shown = file && URL.createObjectURL(file);
    if (file) drop.show(h("img", { src: shown, alt: "The picture to search for" })); else drop.show();
  }
  function setLike(id) { likeItem = id; byField.hidden = !id; if (id) { setImage(null); drop.show(h("span", {}, "like ", h("b", {}, id))); } else drop.show(); }

  const form = h("form", { class: "form", onsubmit: (event) => { event.preventDefault(); search(); } },
    drop.element, field("Words", words), byField,
    h("div", { class: "pair" }, field("Category", category), field("Tag", tag), field("Region", region), field("Age at most", age)),
    h("div", { class: "pair" }, field("Hits", limit), h("label", { class: "check" }, now, "available now")),
    problem, h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, "Search"), clear));

  put(main,
    h("div", { class: "page-head" }, h("h1", {}, "Search"), h("p", {}, "Neighbours of a picture, of words, or of both together.")),
    h("div", { class: "split" }, h("section", { class: "card side", "aria-label": "What to search for" }, form),
      h("section", { "aria-label": "What was found" }, h("div", { class: "page-head" }, note), hits)));

  function body() {
    const must = [];
    for (const [name, input] of [["category", category], ["tag", tag]]) {
      const any = input.value.split(",").map((w) => w.trim()).filter(Boolean);
      if (any.length) must.push({ field: name, any });
    }
    if (age.value !== "") must.push({ field: "age_rating", lte: Number(age.value) });
    const wanted = { limit: Number(limit.value), explain: true, with: WITH };
    if (must.length) wanted.filter = { must };
    if (region.value.trim()) wanted.region = region.value.trim();
    if (now.checked) wanted.available_at = "now";
    if (words.value.trim()) wanted.text = words.value.trim();
    if (likeItem) wanted.positive = [{ item_id: likeItem, by: by.value }];
    return wanted;
  }

  async function search() {
    if (!image && !words.value.trim() && !likeItem) { put(problem, "Give a picture or words."); return; }
    put(problem);
    const mine = ++asked;
    try {
      let answer;
      if (image) {
        const form = new FormData();
        form.append("request", new Blob([JSON.stringify(body())], { type: "application/json" }));
        form.append("image", image, "picture");
        answer = await (await request("/v1/search", { method: "POST", body: form })).json();
      } else answer = await json("/v1/search", { method: "POST", data: body() });
      if (mine === asked) draw(answer);
    } catch (error) {
      put(problem, error instanceof Refusal ? error.message : String(error));
    }
  }

  function draw(answer) {
    put(note, `${answer.items.length} hits in ${duration(answer.took_ms / 1000)}`);
    const most = Math.max(1e-9, ...answer.items.map((hit) => hit.score));
    put(hits, answer.items.map((hit) => {
      const found = hit.item ?? {};
      const bar = h("i", {});
      bar.style.transform = `scaleX(${Math.max(0, hit.score / most).toFixed(3)})`;
      const parts = (hit.parts ?? []).map((p) => `${p.by} ${p.similarity.toFixed(2)}`).join(" · ");
      return h("li", { class: "hit" }, show(h("img", { class: "thumb", alt: "" }), found.thumbnail),
        h("div", { class: "body" },
          h("div", { class: "name" }, found.title || hit.item_id), h("div", { class: "id", title: hit.item_id }, hit.item_id),
          h("div", { class: "score" }, h("b", {}, hit.score.toFixed(3)), h("div", { class: "bar" }, bar)),
          parts && h("div", { class: "why" }, parts),
          h("div", {}, (found.tags ?? []).slice(0, 3).map((t) => h("span", { class: "chip" }, t)), found.duration_s && h("span", { class: "chip" }, clock(found.duration_s))),
          h("div", { class: "row" },
            h("button", { type: "button", onclick: () => { setLike(hit.item_id); words.value = ""; search(); } }, "More like this"),
            h("a", { href: `#catalogue/${segment(hit.item_id)}` }, "Edit"))));
    }));
    if (!answer.items.length) put(hits, h("li", { class: "empty" }, "Nothing passes."));
  }

  const paste = (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith("image/"));
    if (file) { setLike(null); setImage(file); search(); }
  };
  addEventListener("paste", paste);
  setLike(likeItem);
  if (likeItem) search();
  return () => { removeEventListener("paste", paste); if (shown) URL.revokeObjectURL(shown); };
}
