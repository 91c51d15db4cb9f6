// Quality: how good do the lists turn out to be, are their probabilities true, and how do arms compare?

import { json } from "/console/api.js";
import { count, duration, h, percent, put, s, toast } from "/console/dom.js";

const EVERY_MS = 5000;
const ENOUGH = 20;
const TONES = ["--h15", "--h30", "--h60"];
const figure = (value, digits = 3) => (value === undefined ? "–" : value.toFixed(digits));

/** Predicted against observed rates on logarithmic axes; on the diagonal a probability is what it says. */
function calibration(horizons) {
  const [W, H, L, B] = [520, 400, 54, 40];
  const decades = [-5, -4, -3, -2, -1, 0];
  const at = (v) => (Math.max(-5, Math.log10(Math.max(v, 1e-9))) + 5) / 5;
  const x = (v) => L + at(v) * (W - L - 24);
  const y = (v) => H - B - at(v) * (H - B - 12);
  const name = (d) => `${Number((100 * 10 ** d).toPrecision(2))} %`;
  const grid = decades.flatMap((d) => [
    s("line", { x1: x(10 ** d), x2: x(10 ** d), y1: 12, y2: H - B, style: { stroke: "var(--line)" } }),
    s("line", { x1: L, x2: W - 24, y1: y(10 ** d), y2: y(10 ** d), style: { stroke: "var(--line)" } }),
    s("text", { x: x(10 ** d), y: H - B + 16, "text-anchor": "middle" }, name(d)),
    s("text", { x: L - 6, y: y(10 ** d) + 4, "text-anchor": "end" }, name(d))]);
  const marks = horizons.flatMap((horizon, i) => {
    const tone = `var(${TONES[i % 3]})`;
    const bins = (horizon.bins ?? []).filter((b) => b.cases >= 20);
    const most = Math.max(1, ...bins.map((b) => b.cases));
    return [
      s("polyline", { points: bins.filter((b) => b.observed > 0).map((b) => `${x(b.predicted)},${y(b.observed)}`).join(" "), style: { fill: "none", stroke: tone, "stroke-width": "1.5" } }),
      ...bins.map((b) => s("circle", { cx: x(b.predicted), cy: y(b.observed), r: 3 + 5 * Math.sqrt(b.cases / most), style: { fill: tone, "fill-opacity": ".75" } },
        s("title", {}, `within ${horizon.seconds} s: ${percent(b.predicted)} predicted, ${percent(b.observed)} observed, ${count(Math.round(b.cases))} cases`)))];
  });
  return s("svg", { class: "plot", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Calibration: predicted against observed rates" },
    grid, s("line", { x1: x(1e-5), y1: y(1e-5), x2: x(1), y2: y(1), style: { stroke: "var(--ink-3)", "stroke-dasharray": "4 4" } }), marks,
    s("text", { x: (W + L) / 2, y: H - 4, "text-anchor": "middle" }, "predicted"),
    s("text", { x: 12, y: (H - B) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(H - B) / 2})` }, "observed"));
}

function figures(title, note, horizons) {
  const cells = [["decisions", (f) => count(f.decisions)], ["engaged", (f) => count(f.engaged)], ["hit rate", (f) => figure(f.hit_rate)],
    ["reciprocal rank", (f) => figure(f.reciprocal_rank)], ["log loss", (f) => figure(f.log_loss, 4)], ["predicted ÷ observed", (f) => figure(f.calibration, 2)]];
  return h("section", { class: "card scroll-x" }, h("div", { class: "card-head" }, h("h2", {}, title), h("span", { class: "soft" }, note)),
    h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "within"), cells.map(([n]) => h("th", { class: "right", scope: "col" }, n)))),
      h("tbody", {}, horizons.map((f) => h("tr", {}, h("td", {}, `${f.seconds} s`), cells.map(([, cell]) => h("td", { class: "right" }, cell(f))))))));
}

const spread = (v, signed = false) => (v ? `${signed && v.estimate >= 0 ? "+" : ""}${v.estimate.toFixed(3)} [${v.low.toFixed(3)}, ${v.high.toFixed(3)}]` : "–");

function experiments(answer) {
  const rows = answer.experiments.flatMap((e) => e.arms.map((arm, i) => h("tr", {},
    h("td", {}, i === 0 ? e.name ?? "no experiment" : ""), h("td", {}, arm.name), h("td", { class: "right" }, percent(arm.share)),
    h("td", { class: "right" }, count(arm.horizons.at(-1)?.decisions ?? 0)), h("td", { class: "right" }, spread(arm.engagement_rate)), h("td", { class: "right" }, spread(arm.hit_rate)),
    h("td", { class: "right" }, spread(arm.against_first?.hit_rate, true)))));
  return h("section", { class: "card scroll-x" }, h("div", { class: "card-head" }, h("h2", {}, "Experiments"), h("span", { class: "soft" }, "with 95 % intervals")),
    h("table", {}, h("thead", {}, h("tr", {}, ["experiment", "arm"].map((n) => h("th", { scope: "col" }, n)),
      ["share", "answers", "engagement rate", "hit rate", "hit rate less the first arm's"].map((n) => h("th", { class: "right", scope: "col" }, n)))), h("tbody", {}, rows)));
}

const pairs = (entries) => h("dl", { class: "kv" }, entries.map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));

export function qualityPage(main) {
  const body = h("div", { class: "grid" });
  const problem = h("p", { class: "problem", role: "alert" });
  const train = h("button", { type: "button", onclick: async () => {
    try { await json("/v1/admin/training", { method: "POST" }); toast("A training begins; what comes of it stands here when it is done."); } catch (error) { toast(error.message, true); }
  } }, "Train now");
  put(main, h("div", { class: "page-head" }, h("h1", {}, "Quality"), h("p", {}, "Every decision is tested on what the viewer did next, before it is learned from."), h("span", { class: "push" }, train)), problem, body);

  function draw(training, arms) {
    const { decisions, online } = training;
    // A handful of answers says nothing yet.
    const best = training.served.some((f) => f.engaged >= ENOUGH) ? training.served : training.organic;
    const what = best === training.served ? "of answers" : "of moments without an answer";
    const tiles = h("div", { class: "tiles" }, best.map((f, i) => h("div", { class: `tile tone-${i % 3}` },
      h("div", { class: "label" }, `hit rate within ${f.seconds} s`), h("div", { class: "value" }, f.hit_rate === undefined ? "–" : percent(f.hit_rate)),
      h("div", { class: "note", title: what }, `${count(f.engaged)} of ${count(f.decisions)} engaged`))),
    h("div", { class: "tile" }, h("div", { class: "label" }, "decisions learned from"), h("div", { class: "value" }, count(online.steps)), h("div", { class: "note" }, `${count(decisions.open)} wait for their outcome`)),
    h("div", { class: "tile" }, h("div", { class: "label" }, "roll-backs"), h("div", { class: "value" }, count(online.roll_backs)), h("div", { class: "note" }, "what did harm was undone")));
    const run = training.last_training;
    const weights = pairs([
      ["learning", training.enabled ? "on" : "off"], ["weights", training.trained ? "trained here" : "as shipped or configured"],
      ["decisions closed", count(decisions.closed)], ["censored", count(decisions.censored)], ["dropped", count(decisions.dropped + decisions.overflow)],
      ["kept for training", `${count(training.lessons)} decisions, ${count(training.examples)} rows`],
      ["shift of the log-odds", online.shifts.map((v) => v.toFixed(2)).join(" · ") || "–"], ["tilt", online.tilts.map((v) => v.toFixed(2)).join(" · ") || "–"],
      ["last training", run ? new Date(run.at).toLocaleString() : "none since the start"],
      ...(run ? [["took", duration(run.took_ms / 1000)], ["outcome", run.problem ?? (run.adopted ? "new weights serve" : "the running weights were better")],
        ...(run.comparison ? [["log loss", `${run.comparison.running.toFixed(4)} → ${run.comparison.trained.toFixed(4)} ± ${run.comparison.standard_error.toFixed(4)}`]] : [])] : []),
    ]);
    put(body, tiles, h("div", { class: "grid two" },
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Calibration"), h("span", { class: "soft" }, what),
        h("div", { class: "legend push" }, best.map((f, i) => h("span", { class: `tone-${i % 3}` }, h("i", {}), `${f.seconds} s`)))), calibration(best)),
      h("section", { class: "card" }, h("h2", {}, "Learning"), weights)),
    figures("Answers", "rates are of the latest, counts of all since the start", training.served),
    figures("Moments without an answer", "what the ranking would have said", training.organic), experiments(arms));
  }

  let ended = false;
  async function load() {
    try {
      const [training, arms] = await Promise.all([json("/v1/admin/training"), json("/v1/admin/experiments")]);
      if (!ended) { put(problem); draw(training, arms); }
    } catch (error) { if (!ended) put(problem, error.message); }
  }
  load();
  const timer = setInterval(() => { if (!document.hidden) load(); }, EVERY_MS);
  return () => { ended = true; clearInterval(timer); };
}
