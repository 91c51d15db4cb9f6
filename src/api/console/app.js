// Which page is shown, with which key, in which light?

import { connect, disconnect, isConnected, Refusal } from "/console/api.js";
import { h, put } from "/console/dom.js";
import { cataloguePage } from "/console/catalogue.js";
import { healthPage } from "/console/health.js";
import { qualityPage } from "/console/quality.js";
import { searchPage } from "/console/search.js";
import { watchPage } from "/console/watch.js";

// A page is a function that fills an element and returns what ends it.
const PAGES = {
  watch: ["Watch", watchPage],
  search: ["Search", searchPage],
  catalogue: ["Catalogue", cataloguePage],
  quality: ["Quality", qualityPage],
  health: ["Health", healthPage],
};

const main = document.getElementById("main");
let end = () => {};

function show() {
  const [name, argument] = location.hash.slice(1).split("/");
  const [title, page] = PAGES[name] ?? PAGES.watch;
  for (const link of document.querySelectorAll("#pages a")) {
    if (link.textContent === title) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · UpNext console`;
  end();
  end = () => {};
  if (!isConnected()) {
    put(main, h("div", { class: "page-head" }, h("h1", {}, title)),
      h("p", { class: "empty" }, "Enter an API key to see this page."));
    return;
  }
  put(main);
  end = page(main, argument === undefined ? "" : decodeURIComponent(argument)) ?? (() => {});
}

function askForKey() {
  const existing = document.getElementById("key-dialog");
  if (existing) return;
  const input = h("input", { type: "password", id: "key-input", autocomplete: "off", spellcheck: "false", placeholder: "un_…" });
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { class: "primary", type: "submit" }, "Connect");
  const form = h("form", {
    class: "form",
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      problem.textContent = "";
      try {
        await connect(input.value);
        dialog.close();
        connectedTo();
        show();
      } catch (error) {
        problem.textContent = error instanceof Refusal ? error.message : String(error);
        button.disabled = false;
        input.focus();
      }
    },
  },
  h("label", { class: "field" }, h("span", {}, "API key"), input), problem,
  h("div", { class: "actions" }, button));
  const dialog = h("dialog", { class: "small", id: "key-dialog", "aria-labelledby": "key-title", onclose: () => dialog.remove() },
    h("h1", { id: "key-title" }, "Connect to this server"),
    h("p", { class: "soft" }, "The key stays in this page's memory and is gone when the page is closed. Watching needs the scopes ",
      h("code", {}, "recommend"), " and ", h("code", {}, "ingest"), "; quality and health need ", h("code", {}, "admin"), " and ",
      h("code", {}, "metrics"), "."),
    form);
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}

function connectedTo() {
  document.getElementById("server").textContent = location.host;
  document.getElementById("key").textContent = isConnected() ? "Forget key" : "Key";
}

document.getElementById("key").addEventListener("click", () => {
  if (isConnected()) { disconnect(); connectedTo(); show(); }
  askForKey();
});

// The light: what the system prefers, until somebody says otherwise for this page.
const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
const light = () => { document.documentElement.dataset.theme = chosen ?? (dark.matches ? "dark" : "light"); };
dark.addEventListener("change", light);
document.getElementById("theme").addEventListener("click", () => {
  chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  light();
});
light();

// g, then a page's first letter, as in many tools; not while something is being typed.
let went = 0;
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "g") { went = Date.now(); return; }
  const page = Object.keys(PAGES).find((name) => name[0] === event.key);
  if (page && Date.now() - went < 1200) location.hash = page;
  went = 0;
});

addEventListener("hashchange", () => { show(); main.focus({ preventScroll: true }); scrollTo(0, 0); });
show();
askForKey();
