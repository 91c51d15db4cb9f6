// How do frames reach the server, and lists come back? One frame is on its way at a time, and the newest that has come
// meanwhile goes next: a slow server is shown fewer frames, never old ones.

import { json, request, segment } from "/console/api.js";

/**
 * A live session. `onAnswer(report, frame)` gets what the server says to a frame, `onProblem(error)` why it did not.
 */
export function liveSession({ session, context, onAnswer, onProblem }) {
  let waiting = null;
  let busy = false;
  let closed = false;
  const figures = { sent: 0, skipped: 0 };

  async function next() {
    if (busy || closed || !waiting) return;
    const frame = waiting;
    waiting = null;
    busy = true;
    const query = new URLSearchParams({ recommend: "true", explain: "true", count: "6", at_s: frame.at_s.toFixed(2) });
    if (frame.item_id) query.set("item_id", frame.item_id);
    for (const [name, value] of Object.entries(context())) if (value) query.set(name, value);
    const began = performance.now();
    try {
      const answer = await request(`/v1/sessions/${segment(session)}/frames?${query}`, {
        method: "POST", body: frame.blob, headers: { "content-type": frame.blob.type },
      });
      const report = await answer.json();
      figures.sent += 1;
      if (!closed) onAnswer(report, frame, performance.now() - began);
    } catch (error) {
      if (!closed) onProblem(error);
    } finally {
      busy = false;
      next();
    }
  }

  return {
    figures,
    /** A frame that is on screen: `{ blob, at_s, item_id }`. */
    frame(frame) {
      if (waiting) figures.skipped += 1;
      waiting = frame;
      next();
    },
    /** Something that the viewer did. */
    event(event) {
      const { region, user_id } = context();
      const full = { session_id: session, ...event };
      if (region) full.region = region;
      if (user_id) full.user_id = user_id;
      return json("/v1/events", { method: "POST", data: { events: [full] } });
    },
    close() { closed = true; },
  };
}
