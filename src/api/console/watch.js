// Watch: frames go out once a second, three lists come back and change under one's eyes.

import { item, json, picture, show } from "/console/api.js";
import { clock, duration, field, h, percent, put, segments, toast } from "/console/dom.js";
import { liveSession } from "/console/live.js";
import { cameraPlayer, clipPlayer, filePlayer } from "/console/player.js";
import { timeline } from "/console/timeline.js";

const EVERY_MS = 1000;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const words = (name) => name.replaceAll("_", " ");

/** One list. Places move to where they belong instead of jumping. */
function column(index, turnTo) {
  const heading = h("h2", {}, "–");
  const list = h("ol", { class: "places" });
  const rows = new Map();
  function row(id) {
    const made = {
      img: h("img", { class: "thumb", alt: "" }), name: h("div", { class: "name" }, id), chance: h("b", {}), bar: h("i", {}),
      why: h("div", { class: "why" }), moved: h("span", { class: "moved" }), rank: null, title: id,
    };
    made.button = h("button", { type: "button", onclick: () => turnTo(id, made.title) }, made.img,
      h("div", {}, made.name, h("div", { class: "chance" }, made.chance, h("div", { class: "bar" }, made.bar), made.moved), made.why));
    made.element = h("li", { class: "place" }, made.button);
    item(id).then((found) => {
      if (!found) return;
      made.title = found.title || id;
      put(made.name, made.title);
      show(made.img, found.images[0]?.url);
    }, () => {});
    return made;
  }
  return {
    element: h("section", { class: `card column tone-${index}`, "aria-live": "off" }, heading, list),
    update(horizon, most) {
      put(heading, `within ${horizon.seconds} s`, h("span", {}, "probability"));
      const before = new Map([...rows.values()].map((r) => [r, r.element.getBoundingClientRect().top]));
      const wanted = new Set(horizon.items.map((i) => i.item_id));
      for (const [id, r] of rows) if (!wanted.has(id)) { r.element.remove(); rows.delete(id); }
      horizon.items.forEach((place, at) => {
        let r = rows.get(place.item_id);
        const fresh = !r;
        if (fresh) { r = row(place.item_id); rows.set(place.item_id, r); }
        if (list.children[at] !== r.element) list.insertBefore(r.element, list.children[at] ?? null);
        r.chance.textContent = percent(place.probability);
        r.bar.style.transform = `scaleX(${Math.min(1, place.probability / most).toFixed(4)})`;
        const step = fresh || r.rank === null ? 0 : r.rank - place.rank;
        r.moved.textContent = fresh ? "new" : step > 0 ? `▲ ${step}` : step < 0 ? `▼ ${-step}` : "";
        r.moved.className = `moved ${step > 0 ? "good" : step < 0 ? "bad" : "soft"}`;
        r.rank = place.rank;
        const reasons = Object.entries(place.reasons ?? {}).filter(([, v]) => Math.abs(v) >= 0.05).sort((a, b) => b[1] - a[1]);
        const told = reasons.filter(([name]) => name !== "base" && name !== "prior").slice(0, 3);
        r.why.textContent = (place.explored ? "tried because new · " : "") + told.map(([name, v]) => `${words(name)} ${v >= 0 ? "+" : "−"}${Math.abs(v).toFixed(1)}`).join(" · ");
        r.why.title = reasons.map(([name, v]) => `${words(name)}: ${v.toFixed(2)}`).join("\n");
        r.button.setAttribute("aria-label", `Place ${place.rank}: ${r.title}, ${percent(place.probability)}. Turn to it.`);
        if (still.matches) return;
        if (fresh) r.element.animate({ opacity: [0, 1] }, 350);
        else {
          const by = before.get(r) - r.element.getBoundingClientRect().top;
          if (by) r.element.animate({ transform: [`translateY(${by}px)`, "none"] }, { duration: 450, easing: "cubic-bezier(.2,.7,.2,1)" });
        }
      });
    },
  };
}

export function watchPage(main) {
  let player = null;
  let session = null;
  let began = 0;
  let latest = null;
  let firsts = [];
  let name = `console-${crypto.randomUUID().slice(0, 8)}`;
  let ended = false;
  let failing = "";

  const canvas = h("canvas", { "aria-label": "The clip" });
  const video = h("video", { hidden: true, playsinline: true, "aria-label": "The video" });
  const badge = h("div", { class: "badge" }, "…");
  const facts = h("div", { class: "facts" }, "No frame has been sent yet.");
  const problem = h("p", { class: "problem", role: "alert" });
  const play = h("button", { class: "primary", type: "button", id: "play", onclick: () => toggle() }, "Play");
  const time = h("span", { class: "num soft" }, "0:00");
  const region = h("input", { placeholder: "any", maxlength: 64, onchange: () => session && openSession(false) });
  const viewer = h("input", { placeholder: "nobody", maxlength: 128, onchange: () => session && openSession(false) });
  const choose = h("select", { id: "clip", onchange: () => useClip(choose.value) });
  const file = h("input", { type: "file", accept: "video/*", "aria-label": "A video file", onchange: () => file.files[0] && useFile(file.files[0]) });
  const clipField = field("Item of the clip", choose);
  const fileField = field("Video file", file);
  fileField.hidden = true;
  const line = timeline();
  const columns = [0, 1, 2].map((i) => column(i, turnTo));

  put(main,
    h("div", { class: "page-head" }, h("h1", {}, "Watch"),
      h("p", {}, "A frame a second goes out; what this viewer will want within the next seconds comes back. Turn to something, and the lists know.")),
    h("div", { class: "watch" },
      h("section", { class: "card stage", "aria-label": "What is on screen" },
        h("div", { class: "screen" }, canvas, video, badge),
        h("div", { class: "controls" }, play, time,
          h("span", { class: "push" }, segments("Where frames come from", [["clip", "Clip"], ["file", "File"], ["camera", "Camera"]], "clip", source))),
        h("div", { class: "fields" }, clipField, fileField, field("Region", region), field("Viewer", viewer)),
        problem, facts),
      h("div", { class: "columns", id: "columns" }, columns.map((c) => c.element))),
    h("section", { class: "card timeline" },
      h("div", { class: "card-head" }, h("h2", {}, "Timeline"),
        h("div", { class: "legend push" }, h("span", {}, h("i", { class: "legend-motion" }), "motion"), h("span", {}, h("i", { class: "legend-cut" }), "cut"),
          [15, 30, 60].map((n, i) => h("span", { class: `tone-${i}` }, h("i", {}), `first within ${n} s`)))),
      line.element));

  function openSession(anew) {
    session?.close();
    if (anew) { began = performance.now(); line.clear(); firsts = []; }
    session = liveSession({
      session: name,
      context: () => ({ region: region.value.trim(), user_id: viewer.value.trim() }),
      onFrame: seen, onLists: lists,
      onProblem: (error) => { failing = error.message; put(problem, failing); },
    });
  }

  function seen(frame, took_ms) {
    if (failing) { failing = ""; put(problem); }
    const { figures } = session;
    const told = [["frame", duration(took_ms / 1000)], ["lists", latest ? duration(latest.took_ms / 1000) : "–"], ["frames", figures.frames], ["left out", figures.dropped],
      ["picture", frame.near_duplicate ? "as before" : `${frame.width}×${frame.height}`], ["sources", latest?.sources_used.length ?? "–"], ["by", figures.way]];
    if (latest?.degraded) told.push(["state", "degraded"]);
    put(facts, told.map(([label, value]) => h("span", {}, `${label} `, h("b", {}, value))));
    if (firsts.length) line.add({ t: (performance.now() - began) / 1000, energy: frame.motion.energy, cut: frame.motion.cut, firsts });
  }

  async function lists(recommendation) {
    latest = recommendation;
    const shown = recommendation.horizons.slice(0, 3);
    const most = Math.max(1e-9, ...shown.flatMap((x) => x.items.map((i) => i.probability)));
    shown.forEach((horizon, i) => columns[i].update(horizon, most));
    firsts = shown.map((x) => ({ seconds: x.seconds, id: x.items[0]?.item_id, title: x.items[0]?.item_id ?? "", image: null }));
    await Promise.all(firsts.filter((f) => f.id).map(async (f) => {
      const found = await item(f.id).catch(() => null);
      if (!found) return;
      f.title = found.title || f.id;
      if (found.images[0]) f.image = await picture(found.images[0].url).catch(() => null);
    }));
    if (!ended) line.redraw();
  }

  async function turnTo(id, title) {
    try {
      await session.event({ type: "click", item_id: id, recommendation_id: latest?.recommendation_id });
      toast(`The server knows that you turned to “${title}”.`);
      line.click((performance.now() - began) / 1000, title);
      if (clipField.hidden) return;
      if (![...choose.options].some((o) => o.value === id)) choose.append(h("option", { value: id }, title));
      choose.value = id;
      await useClip(id, true);
    } catch (error) { toast(error.message, true); }
  }

  async function toggle(on = !player?.playing) {
    if (!player) return;
    if (on) await player.play(); else player.pause();
    put(play, on ? "Pause" : "Play");
    if (on) beat();
  }

  async function beat() {
    if (!player?.playing || document.hidden) return;
    const on = player;
    const blob = await on.frame();
    if (blob && on === player && !ended) session.frame({ blob, at_s: on.at, item_id: on.item_id });
  }
  const beats = setInterval(beat, EVERY_MS);
  const clockTimer = setInterval(() => { if (player) time.textContent = `${clock(player.at)} / ${clock(player.length)}`; }, 250);

  async function use(make, label, keep = false) {
    player?.end();
    player = null;
    put(problem);
    try {
      const made = await make();
      if (ended) { made.end(); return; }
      player = made;
      put(badge, label);
      canvas.hidden = player.item_id === null;
      video.hidden = !canvas.hidden;
      if (!keep) { name = `console-${crypto.randomUUID().slice(0, 8)}`; openSession(true); }
      await toggle(true);
    } catch (error) { put(problem, error.message); put(play, "Play"); }
  }

  const useClip = async (id, keep = false) => {
    const found = await item(id);
    if (found) await use(() => clipPlayer(canvas, found), found.title || id, keep);
  };
  const useFile = (chosen) => use(() => filePlayer(video, chosen), chosen.name);

  function source(kind) {
    clipField.hidden = kind !== "clip";
    fileField.hidden = kind !== "file";
    if (kind === "clip" && choose.value) useClip(choose.value);
    if (kind === "file") file.click();
    if (kind === "camera") use(() => cameraPlayer(video), "camera");
  }

  (async () => {
    try {
      const page = await json("/v1/items?limit=60");
      const shown = page.items.filter((i) => i.images.length);
      put(choose, shown.map((i) => h("option", { value: i.item_id }, i.title || i.item_id)));
      if (!shown.length) { put(problem, "The catalogue has no item with pictures yet; add some, or watch a file."); return; }
      if (!ended) await useClip(shown[0].item_id);
    } catch (error) { put(problem, error.message); }
  })();

  return () => {
    ended = true;
    clearInterval(beats);
    clearInterval(clockTimer);
    player?.end();
    session?.close();
  };
}
