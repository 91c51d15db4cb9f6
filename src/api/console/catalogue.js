// Catalogue: items page by page; added, changed and deleted with their pictures.

import { forgetItem, item, json, Refusal, request, segment, show } from "/console/api.js";
import { clock, confirmed, dropZone, field, h, put, toast } from "/console/dom.js";

const PAGE = 25;
const MOST_PICTURES = 16;

export function cataloguePage(main, open) {
  let starts = [""];
  let next = null;
  const rows = h("tbody", { id: "rows" });
  const place = h("span", { class: "soft num" });
  const back = h("button", { type: "button", onclick: () => { starts.pop(); load(); } }, "Previous");
  const forth = h("button", { type: "button", onclick: () => { starts.push(next); load(); } }, "Next");
  const problem = h("p", { class: "problem", role: "alert" });

  put(main,
    h("div", { class: "page-head" }, h("h1", {}, "Catalogue"), h("p", {}, "In the order of the ids. ", h("a", { href: "#search" }, "Search"), " finds by words and pictures."),
      h("span", { class: "push" }, h("button", { type: "button", class: "primary", id: "add", onclick: () => edit(null, load) }, "Add an item"))),
    problem,
    h("section", { class: "card scroll-x", "aria-label": "Items" },
      h("table", { class: "cat" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Picture"), h("th", { scope: "col" }, "Item"), h("th", { class: "wide", scope: "col" }, "Categories and tags"),
          h("th", { class: "wide right", scope: "col" }, "Length"), h("th", { class: "wide right", scope: "col" }, "Age"), h("th", { class: "wide right", scope: "col" }, "Pictures"), h("th", {}, h("span", { class: "visually-hidden" }, "Tools")))),
        rows)),
    h("div", { class: "row page-head" }, back, forth, place));

  async function load() {
    try {
      const cursor = starts.at(-1);
      const page = await json(`/v1/items?limit=${PAGE}${cursor ? `&cursor=${segment(cursor)}` : ""}`);
      next = page.next_cursor ?? null;
      back.disabled = starts.length === 1;
      forth.disabled = !next;
      put(place, `page ${starts.length}`);
      put(problem);
      put(rows, page.items.map(row));
      if (!page.items.length) put(rows, h("tr", {}, h("td", { colspan: 7, class: "empty" }, "There is nothing here yet.")));
    } catch (error) { put(problem, error.message); }
  }

  const row = (it) => h("tr", {},
    h("td", {}, show(h("img", { class: "thumb", alt: "" }), it.images[0]?.url)),
    h("td", {}, h("div", { class: "title" }, it.title || "–"), h("div", { class: "id", title: it.item_id }, it.item_id)),
    h("td", { class: "wide" }, [...it.categories, ...it.tags].slice(0, 6).map((w) => h("span", { class: "chip" }, w))),
    h("td", { class: "wide right" }, it.duration_s ? clock(it.duration_s) : "–"),
    h("td", { class: "wide right" }, it.age_rating ?? "–"),
    h("td", { class: "wide right" }, it.images.length),
    h("td", { class: "tools" },
      h("button", { type: "button", class: "quiet", "aria-label": `Edit ${it.title}`, onclick: () => edit(it, load) }, "Edit"),
      h("button", { type: "button", class: "quiet danger", "aria-label": `Delete ${it.title}`, onclick: () => remove(it) }, "Delete")));

  async function remove(it) {
    if (!await confirmed("Delete this item?", `“${it.title || it.item_id}” leaves the catalogue and all lists at once.`, "Delete")) return;
    try {
      await request(`/v1/items/${segment(it.item_id)}`, { method: "DELETE" });
      forgetItem(it.item_id);
      toast("Deleted.");
      load();
    } catch (error) { toast(error.message, true); }
  }

  load();
  if (open) item(open).then((found) => found && edit(found, load), () => {});
}

const list = (text) => text.split(",").map((w) => w.trim()).filter(Boolean);

function edit(it, done) {
  const text = (name, value = "", more = {}) => h("input", { name, value, ...more });
  const controls = {
    item_id: text("item_id", it?.item_id, { required: true, disabled: Boolean(it), maxlength: 256 }),
    title: text("title", it?.title),
    description: h("textarea", { name: "description", value: it?.description ?? "" }),
    categories: text("categories", it?.categories.join(", "), { placeholder: "separated by commas" }),
    tags: text("tags", it?.tags.join(", "), { placeholder: "separated by commas" }),
    regions: text("regions", it?.regions.join(", "), { placeholder: "everywhere" }),
    duration_s: text("duration_s", it?.duration_s ?? "", { type: "number", min: 0, step: "any" }),
    age_rating: text("age_rating", it?.age_rating ?? "", { type: "number", min: 0, max: 99 }),
  };
  let files = [];
  const urls = [];
  const kept = h("div", { class: "pictures" }, (it?.images ?? []).map((i) => show(h("img", { class: "thumb", alt: "" }), i.url)));
  const drop = dropZone(it ? "Drop or choose pictures to replace those of the item" : "Drop or choose 1 to 16 pictures", (chosen) => {
    files = [...files, ...chosen].slice(0, MOST_PICTURES);
    put(kept, files.map((f) => { const url = URL.createObjectURL(f); urls.push(url); return h("img", { class: "thumb", src: url, alt: f.name }); }));
  }, { multiple: true });
  const problem = h("p", { class: "problem", role: "alert" });
  const save = h("button", { class: "primary", type: "submit" }, it ? "Save" : "Add");

  function document_() {
    const number = (control) => (control.value === "" ? null : Number(control.value));
    return {
      title: controls.title.value, description: controls.description.value,
      categories: list(controls.categories.value), tags: list(controls.tags.value), regions: list(controls.regions.value),
      duration_s: number(controls.duration_s), age_rating: number(controls.age_rating),
    };
  }

  const dialog = h("dialog", { id: "edit", "aria-labelledby": "edit-title", onclose: () => { urls.forEach(URL.revokeObjectURL); dialog.remove(); } },
    h("h1", { id: "edit-title" }, it ? "Edit the item" : "Add an item"),
    h("form", {
      class: "form",
      onsubmit: async (event) => {
        event.preventDefault();
        save.disabled = true;
        put(problem);
        const id = it?.item_id ?? controls.item_id.value.trim();
        const form = new FormData();
        form.append("item", new Blob([JSON.stringify(document_())], { type: "application/json" }));
        files.forEach((f) => form.append("image", f, f.name));
        try {
          await request(`/v1/items/${segment(id)}`, { method: it ? "PATCH" : "PUT", body: form });
          forgetItem(id);
          toast(it ? "Saved." : "Added; it can be found at once.");
          dialog.close();
          done();
        } catch (error) {
          put(problem, error instanceof Refusal ? error.message : String(error));
          save.disabled = false;
        }
      },
    },
    field("Id", controls.item_id), field("Title", controls.title), field("Description", controls.description),
    h("div", { class: "pair" }, field("Categories", controls.categories), field("Tags", controls.tags)),
    h("div", { class: "pair" }, field("Length in seconds", controls.duration_s), field("Least age in years", controls.age_rating)),
    field("Regions", controls.regions), kept, drop.element, problem,
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), save)));
  document.body.append(dialog);
  dialog.showModal();
}
