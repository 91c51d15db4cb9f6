// What has happened in the last minutes? Cuts, motion, and what each list put first, along the time of the session.

import { clock, s } from "/console/dom.js";

const WINDOW_S = 180;
const [WIDTH, LEFT, LANE, MOTION_Y, MOTION_H] = [1200, 64, 30, 8, 46];
const TONES = ["--h15", "--h30", "--h60"];

export function timeline() {
  // Seconds of the session; bounded by the window.
  let moments = [];
  let clicks = [];
  const svg = s("svg", { role: "img", "aria-label": "Timeline of motion, cuts and the first place of each list" });

  function draw() {
    if (!moments.length) return;
    const now = moments.at(-1).t;
    const from = Math.max(0, now - WINDOW_S);
    const x = (t) => LEFT + ((t - from) / Math.max(30, now - from)) * (WIDTH - LEFT - 8);
    const lanes = moments.at(-1).firsts.length;
    const height = MOTION_Y + MOTION_H + 8 + lanes * (LANE + 4) + 20;
    const parts = [s("text", { x: 0, y: MOTION_Y + 28 }, "motion")];
    const most = Math.max(0.05, ...moments.map((m) => m.energy));
    const base = MOTION_Y + MOTION_H;
    const points = moments.map((m) => `${x(m.t).toFixed(1)},${(base - (m.energy / most) * MOTION_H).toFixed(1)}`);
    parts.push(s("polygon", {
      points: `${x(moments[0].t).toFixed(1)},${base} ${points.join(" ")} ${x(now).toFixed(1)},${base}`,
      style: { fill: "var(--ink-3)", opacity: ".28" },
    }));
    for (const m of moments.filter((m) => m.cut)) {
      parts.push(s("line", { x1: x(m.t), x2: x(m.t), y1: MOTION_Y, y2: base, style: { stroke: "var(--bad)", "stroke-width": "2" } },
        s("title", {}, `cut at ${clock(m.t)}`)));
    }
    for (let lane = 0; lane < lanes; lane += 1) {
      const y = base + 8 + lane * (LANE + 4);
      parts.push(s("text", { x: 0, y: y + 19 }, `${moments.at(-1).firsts[lane].seconds} s first`));
      for (let i = 0; i < moments.length;) {
        const first = moments[i].firsts[lane];
        let j = i;
        while (j + 1 < moments.length && moments[j + 1].firsts[lane]?.id === first?.id) j += 1;
        const [a, b] = [x(moments[i].t), x(j + 1 < moments.length ? moments[j + 1].t : now)];
        if (first?.id) {
          const w = Math.max(2, b - a - 1.5);
          parts.push(s("g", {}, s("title", {}, `${first.title}, from ${clock(moments[i].t)}`),
            s("rect", { x: a, y, width: w, height: LANE, rx: 4, style: { fill: `var(${TONES[lane % 3]})`, opacity: ".2" } }),
            w > 30 && first.image && s("image", { href: first.image, x: a + 2, y: y + 2, width: 46, height: LANE - 4, preserveAspectRatio: "xMidYMid slice" }),
            w > 110 && s("text", { x: a + 54, y: y + 19 }, first.title.slice(0, Math.floor((w - 60) / 6.4)))));
        }
        i = j + 1;
      }
    }
    for (const c of clicks.filter((c) => c.t >= from)) {
      parts.push(s("circle", { cx: x(c.t), cy: base + 3, r: 5, style: { fill: "var(--good)" } }, s("title", {}, `turned to ${c.title}`)));
    }
    for (let t = Math.ceil(from / 15) * 15; t <= now; t += 15) {
      parts.push(s("text", { x: x(t), y: height - 4, "text-anchor": "middle" }, clock(t)));
    }
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
    svg.replaceChildren(...parts.flat().filter(Boolean));
  }

  return {
    element: svg,
    add(moment) { moments = [...moments.filter((m) => m.t >= moment.t - WINDOW_S), moment]; draw(); },
    click(t, title) { clicks = [...clicks.slice(-50), { t, title }]; draw(); },
    redraw: draw,
    clear() { moments = []; clicks = []; svg.replaceChildren(); },
  };
}
