// Health: what is the service doing at the moment, where does its time go, and what is running full?

import { json, text } from "/console/api.js";
import { bytes, count, duration, h, put, s } from "/console/dom.js";

const EVERY_MS = 2000;
/** Figures of "now" are of this long. */
const WINDOW_MS = 60_000;

/** Prometheus's text format as a map from series to number. Label values of this service have no escapes. */
function parse(exposition) {
  const found = new Map();
  for (const line of exposition.split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const at = line.lastIndexOf(" ");
    found.set(line.slice(0, at), Number(line.slice(at + 1)));
  }
  return found;
}

/** Series of one name, with their labels. */
function* series(metrics, name) {
  for (const [key, value] of metrics) {
    if (key !== name && !key.startsWith(`${name}{`)) continue;
    yield [Object.fromEntries([...key.slice(name.length).matchAll(/(\w+)="([^"]*)"/g)].map((m) => [m[1], m[2]])), value];
  }
}

const sum = (metrics, name, test = () => true) => [...series(metrics, name)].reduce((total, [labels, v]) => total + (test(labels) ? v : 0), 0);

/** Quantiles of the histogram's growth between two readings, linear inside of a bucket as Prometheus has it. */
function quantiles(before, now, name, test, wanted) {
  const buckets = new Map();
  for (const [labels, value] of series(now, `${name}_bucket`)) if (test(labels)) buckets.set(labels.le, (buckets.get(labels.le) ?? 0) + value);
  for (const [labels, value] of series(before, `${name}_bucket`)) if (test(labels)) buckets.set(labels.le, (buckets.get(labels.le) ?? 0) - value);
  const rising = [...buckets].map(([le, v]) => [le === "+Inf" ? Infinity : Number(le), v]).sort((a, b) => a[0] - b[0]);
  const total = rising.at(-1)?.[1] ?? 0;
  if (total <= 0) return { total: 0 };
  return { total, at: wanted.map((q) => {
    let [low, below] = [0, 0];
    for (const [le, upTo] of rising) {
      if (upTo >= q * total) return le === Infinity ? low : low + (le - low) * ((q * total - below) / Math.max(1e-9, upTo - below));
      [low, below] = [le, upTo];
    }
    return low;
  }) };
}

/** 50 µs to 10 s on a logarithmic scale, in percent. */
const place = (seconds) => Math.max(0, Math.min(100, (100 * Math.log10(Math.max(seconds, 5e-5) / 5e-5)) / Math.log10(10 / 5e-5)));

/** A stage without work in the last minute is shown as it has been since the start, dimmed. */
function meter(name, lately, ever) {
  const found = lately.total ? lately : ever;
  if (!found.total) return h("div", { class: "meter soft" }, h("span", {}, name), h("div", { class: "range" }), h("span", { class: "figures" }, "–"));
  const [p50, p95, p99] = found.at;
  const bar = h("i", {});
  bar.style.left = `${place(p50)}%`;
  bar.style.width = `${Math.max(1, place(p99) - place(p50))}%`;
  const mark = h("b", {});
  mark.style.left = `${place(p95)}%`;
  return h("div", { class: lately.total ? "meter" : "meter idle", title: `${lately.total ? "last minute" : "since the start"}: ${count(Math.round(found.total))} times; p50 ${duration(p50)}, p95 ${duration(p95)}, p99 ${duration(p99)}` },
    h("span", {}, name), h("div", { class: "range" }, bar, mark), h("span", { class: "figures" }, `${duration(p50)} · ${duration(p95)}`));
}

function spark(values, tone = "--accent") {
  const most = Math.max(1e-9, ...values);
  const points = values.map((v, i) => `${((i / Math.max(1, values.length - 1)) * 300).toFixed(1)},${(52 - (v / most) * 46).toFixed(1)}`).join(" ");
  return s("svg", { class: "plot", viewBox: "0 0 300 56", role: "img", "aria-label": "The last minutes" },
    s("polyline", { points, style: { fill: "none", stroke: `var(${tone})`, "stroke-width": "2", "vector-effect": "non-scaling-stroke" } }));
}

const pairs = (entries) => h("dl", { class: "kv" }, entries.map(([k, v, tone]) => [h("dt", {}, k), h("dd", { class: tone }, v)]));

export function healthPage(main) {
  // Readings of the last minutes; bounded.
  let readings = [];
  const body = h("div", {});
  const problem = h("p", { class: "problem", role: "alert" });
  put(main, h("div", { class: "page-head" }, h("h1", {}, "Health"), h("p", {}, "Figures of the last minute, read every two seconds; dimmed where nothing has happened in it.")), problem, body);

  function draw(ready, status) {
    const { m: now, t } = readings.at(-1);
    const before = readings.length > 1 ? readings.find((r) => t - r.t <= WINDOW_MS) : { m: new Map(), t: t - 1000 * (status?.uptime_s ?? 1) };
    const seconds = Math.max(0.5, (t - before.t) / 1000);
    const rate = (name, test) => (sum(now, name, test) - sum(before.m, name, test)) / seconds;
    const perSecond = (v) => `${v.toFixed(v < 10 ? 1 : 0)} /s`;
    const failed = (l) => l.status?.startsWith("5");
    const tile = (label, value, note, tone = "") => h("div", { class: "tile" }, h("div", { class: "label" }, label), h("div", { class: `value ${tone}` }, value), h("div", { class: "note", title: note }, note));
    const cpu = rate("process_cpu_seconds_total");
    const whole = quantiles(before.m, now, "upnext_stage_seconds", (l) => l.stage === "request", [0.5, 0.95, 0.99]);
    const free = status?.disk_free_bytes;
    const rates = readings.slice(1).map((r, i) => (sum(r.m, "upnext_http_requests_total") - sum(readings[i].m, "upnext_http_requests_total")) / Math.max(0.5, (r.t - readings[i].t) / 1000));
    const memory = readings.map((r) => r.m.get("process_resident_memory_bytes") ?? 0);
    const stages = [...new Set([...series(now, "upnext_stage_seconds_count")].map(([l]) => l.stage))];
    const queues = [...series(now, "upnext_queue_depth")];
    const pushed = quantiles(before.m, now, "upnext_live_frame_to_push_seconds", () => true, [0.5, 0.95, 0.99]);
    const frames = (outcome) => rate("upnext_live_frames_total", (l) => l.outcome === outcome);
    const depth = ([labels, v]) => [`queue: ${labels.queue}`, count(v), v > 100 ? "bad" : ""];
    put(body,
      h("div", { class: "tiles" },
        tile("state", ready ? "ready" : "not ready", ready ? `${duration((status?.uptime_s ?? NaN))} up, version ${status?.version ?? "–"}` : "see the message above", ready ? "good" : "bad"),
        tile("requests", perSecond(rate("upnext_http_requests_total")), `${count(now.get("upnext_http_requests_in_flight") ?? 0)} in flight`),
        tile("a whole answer, p95", whole.total ? duration(whole.at[1]) : "–", whole.total ? `p50 ${duration(whole.at[0])}, p99 ${duration(whole.at[2])}` : "no answers in this minute"),
        tile("failures", perSecond(rate("upnext_http_requests_total", failed)), `${count(sum(now, "upnext_overloaded_total"))} refused as too many since the start`, rate("upnext_http_requests_total", failed) > 0 ? "bad" : ""),
        tile("sessions", count(now.get("upnext_sessions") ?? 0), `${count(now.get("upnext_items") ?? 0)} items`),
        tile("memory", bytes(memory.at(-1)), `peak ${bytes(now.get("process_resident_memory_peak_bytes") ?? 0)}`),
        tile("processor", `${(100 * cpu).toFixed(0)} %`, `of one core; ${count(now.get("process_threads") ?? 0)} threads`)),
      h("div", { class: "grid two" },
        h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Latency by stage"), h("span", { class: "soft push" }, "bar p50 to p99, mark p95 · figures p50 · p95")),
          stages.map((stage) => meter(stage.replaceAll("_", " "), quantiles(before.m, now, "upnext_stage_seconds", (l) => l.stage === stage, [0.5, 0.95, 0.99]),
            quantiles(new Map(), now, "upnext_stage_seconds", (l) => l.stage === stage, [0.5, 0.95, 0.99])))),
        h("div", { class: "grid stack" },
          h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Requests a second")), spark(rates.length ? rates : [0, 0])),
          h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Memory")), spark(memory, "--h15")),
          h("section", { class: "card" }, h("h2", {}, "Model and queues"), pairs([
            ["model", ready?.model ?? status?.model ?? "–"], ["provider", ready?.provider ?? status?.provider ?? "–"], ["one inference", ready ? duration(ready.inference_ms / 1000) : "–"],
            ["frames that needed none", count(now.get("upnext_frames_skipped_total") ?? 0)], ["answers that lack a source", count(now.get("upnext_degraded_answers_total") ?? 0)], ...queues.map(depth)])),
          h("section", { class: "card" }, h("h2", {}, "Live sessions"), pairs([
            ["connections", count(sum(now, "upnext_live_connections"))], ["frame to lists, p50 · p99", pushed.total ? `${duration(pushed.at[0])} · ${duration(pushed.at[2])}` : "–"],
            ["frames looked at", perSecond(frames("seen"))], ["frames dropped for later ones", perSecond(frames("dropped")), frames("dropped") > frames("seen") ? "bad" : ""],
            ["lists pushed", perSecond(rate("upnext_live_lists_total", (l) => l.outcome === "pushed"))], ["requests at a time, at most", count(now.get("upnext_admission_limit") ?? 0)]])),
          h("section", { class: "card" }, h("h2", {}, "Index, log and disk"), pairs([
            ["vectors", count(now.get("upnext_index_vectors") ?? 0)], ["index", bytes(now.get("upnext_index_bytes") ?? 0)],
            ["last entry of the log", count(now.get("upnext_log_sequence") ?? 0)], ["entries after the checkpoint", count((now.get("upnext_log_sequence") ?? 0) - (now.get("upnext_checkpoint_sequence") ?? 0))],
            ["log", bytes(now.get("upnext_log_bytes") ?? 0)], ["disk free", free === undefined ? "–" : bytes(free), free !== undefined && free < 2 ** 30 ? "bad" : ""],
            ["events", perSecond(rate("upnext_events_total"))], ["persons", count(now.get("upnext_users") ?? 0)], ["open files", count(now.get("process_open_fds") ?? 0)]])))));
  }

  let ended = false;
  async function load() {
    try {
      const metrics = parse(await text("/metrics"));
      const [ready, status] = await Promise.all([
        json("/readyz").catch((error) => { put(problem, error.message); return null; }),
        json("/v1/admin/status").catch(() => null)]);
      if (ended) return;
      if (ready) put(problem);
      readings = [...readings.slice(-150), { m: metrics, t: performance.now() }];
      draw(ready, status);
    } catch (error) { if (!ended) put(problem, error.message); }
  }
  load();
  const timer = setInterval(() => { if (!document.hidden) load(); }, EVERY_MS);
  return () => { ended = true; clearInterval(timer); };
}
