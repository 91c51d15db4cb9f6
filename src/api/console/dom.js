// How is a page built? From elements and text. Nothing here reads HTML from a string, so whatever a user has typed
// stays text; the server's policy (Trusted Types) forbids anything else.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** An element with attributes, listeners (`onclick`) and children. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** The same for SVG. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** Puts `children` in the place of whatever `element` has. */
export function put(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

/** A short message in the corner. */
export function toast(text, bad = false) {
  const box = document.getElementById("toasts");
  const note = h("div", { class: bad ? "toast bad" : "toast" }, text);
  box.append(note);
  while (box.children.length > 4) box.firstChild.remove();
  setTimeout(() => note.remove(), bad ? 8000 : 4000);
}

/** A labelled field of a form. */
export const field = (label, control) => h("label", { class: "field" }, h("span", {}, label), control);

/** Buttons of which one is pressed; `choose` gets its value. */
export function segments(label, options, chosen, choose) {
  const buttons = options.map(([value, text]) =>
    h("button", {
      type: "button",
      "aria-pressed": String(value === chosen),
      onclick: () => {
        buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(options[i][0] === value)));
        choose(value);
      },
    }, text));
  return h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

/** A place for one picture: dropped, pasted by the page, or chosen. */
export function dropZone(text, take, { multiple = false } = {}) {
  const files = (list) => [...list].filter((f) => f.type.startsWith("image/"));
  const input = h("input", {
    type: "file", accept: "image/*", multiple, "aria-label": text,
    onchange: () => { if (files(input.files).length) take(files(input.files)); input.value = ""; },
  });
  const inner = h("span", {}, text);
  const over = (on) => (event) => { event.preventDefault(); zone.classList.toggle("over", on); };
  const zone = h("div", {
    class: "drop", ondragover: over(true), ondragleave: over(false),
    ondrop: (event) => { over(false)(event); const found = files(event.dataTransfer.files); if (found.length) take(found); },
  }, inner, input);
  return { element: zone, show: (...children) => put(zone, ...(children.length ? children : [inner]), input) };
}

/** Asks before something is done that cannot be undone. */
export function confirmed(title, text, verb) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "small", onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      h("h1", {}, title), h("p", { class: "soft" }, text),
      h("div", { class: "actions" },
        h("button", { type: "button", onclick: () => dialog.close("no") }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, verb)));
    document.body.append(dialog);
    dialog.showModal();
  });
}

export const percent = (p) => (p >= 0.1 ? `${(100 * p).toFixed(1)} %` : `${(100 * p).toFixed(2)} %`);
export const count = (n) => Number(n).toLocaleString("en");
export const clock = (seconds) => {
  const t = Math.max(0, Math.floor(seconds));
  const mm = String(Math.floor((t % 3600) / 60)).padStart(t >= 3600 ? 2 : 1, "0");
  return `${t >= 3600 ? `${Math.floor(t / 3600)}:` : ""}${mm}:${String(t % 60).padStart(2, "0")}`;
};
export const bytes = (n) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i += 1; }
  return `${n >= 100 || i === 0 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
};
export const duration = (seconds) => {
  if (seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 2 : seconds < 0.1 ? 1 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${(seconds / 86400).toFixed(1)} d`;
};
