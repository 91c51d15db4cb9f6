// How do frames reach the server, and lists come back? Over a WebSocket, for which a ticket stands in for the key; the
// server looks at the newest frame and leaves out those that it had no time for. A server without live sessions is sent one
// frame at a time by POST, and here, too, the newest that has come meanwhile goes next.

import { json, Refusal, request, segment } from "/console/api.js";

const COUNT = 6;
const LONGEST_PAUSE_MS = 15_000;
const ACK_MS = 10_000;
/** Another connection has taken over this session; it would only be taken back again. */
const REPLACED = 4001;

let supported = null;
/** Whether the server has live sessions, from its own description. */
const hasLive = () => (supported ??= json("/openapi.json").then((d) => Object.keys(d.paths).some((p) => p.endsWith("/tickets")), () => false));

/**
 * A live session. `onFrame(frame, took_ms)` hears what was seen in a frame, `onLists(recommendation)` of new lists,
 * `onProblem(error)` what went wrong; `context()` says region and viewer.
 */
export function liveSession(options) {
  const figures = { way: "", frames: 0, dropped: 0 };
  let closed = false;
  let inner = null;
  let latest = null;
  hasLive().then((live) => {
    if (closed) return;
    inner = live ? socketSession(options, figures) : postSession(options, figures);
    if (latest) inner.frame(latest);
  });
  return {
    figures,
    /** A frame that is on screen: `{ blob, at_s, item_id }`. */
    frame(frame) { if (inner) inner.frame(frame); else latest = frame; },
    /** Something that the viewer did: an event of `POST /v1/events` without the session. */
    async event(event) {
      if (!inner) throw new Refusal(0, { detail: "there is no connection yet" });
      return inner.event(event);
    },
    close() { closed = true; inner?.close(); },
  };
}

function socketSession({ session, context, onFrame, onLists, onProblem }, figures) {
  figures.way = "WebSocket";
  let socket = null;
  let closed = false;
  let pause = 500;
  let onScreen = null;
  const acks = new Map();

  async function open() {
    if (closed) return;
    try {
      const { region, user_id } = context();
      const data = { ...(region && { region }), ...(user_id && { user_id }) };
      const { ticket } = await json(`/v1/sessions/${segment(session)}/tickets`, { method: "POST", data });
      if (closed) return;
      const query = new URLSearchParams({ ticket, count: COUNT, explain: "true", frames: "true" });
      const address = new URL(`/v1/sessions/${segment(session)}/live?${query}`, location.href);
      address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
      socket = new WebSocket(address);
      socket.onmessage = (message) => heard(JSON.parse(message.data));
      socket.onclose = (event) => {
        onScreen = null;
        if (closed) return;
        if (event.code === REPLACED) { onProblem(new Error("another page has taken over this session")); return; }
        onProblem(new Error(`the connection ended (${event.reason || event.code}); trying again`));
        again();
      };
    } catch (error) { onProblem(error); again(); }
  }
  function again() {
    setTimeout(open, pause);
    pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
  }
  function heard(message) {
    if (closed) return;
    if (message.dropped_frames !== undefined) figures.dropped = message.dropped_frames;
    if (message.type === "hello") pause = 500;
    else if (message.type === "frame") { figures.frames += 1; onFrame(message, message.took_ms); }
    else if (message.type === "lists") onLists(message.recommendation);
    else if (message.type === "ack" || message.type === "error") {
      const waiting = acks.get(message.event_id);
      acks.delete(message.event_id);
      if (message.type === "ack") waiting?.resolve(message);
      else if (waiting) waiting.reject(new Refusal(message.status, message));
      else onProblem(new Refusal(message.status, message));
    }
  }
  open();
  return {
    async frame({ blob, at_s, item_id }) {
      if (socket?.readyState !== WebSocket.OPEN) return;
      if (item_id && item_id !== onScreen) {
        onScreen = item_id;
        socket.send(JSON.stringify({ type: "item", item_id, at_s }));
      }
      const head = new DataView(new ArrayBuffer(8));
      head.setFloat64(0, at_s);
      socket.send(new Blob([head.buffer, blob]));
    },
    event(event) {
      if (socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Error("there is no connection at the moment"));
      const event_id = crypto.randomUUID();
      return new Promise((resolve, reject) => {
        acks.set(event_id, { resolve, reject });
        setTimeout(() => { if (acks.delete(event_id)) reject(new Error("the server did not acknowledge it")); }, ACK_MS);
        socket.send(JSON.stringify({ ...event, event_id }));
      });
    },
    close() { closed = true; socket?.close(1000); },
  };
}

function postSession({ session, context, onFrame, onLists, onProblem }, figures) {
  figures.way = "POST";
  let waiting = null;
  let busy = false;
  let closed = false;

  async function next() {
    if (busy || closed || !waiting) return;
    const frame = waiting;
    waiting = null;
    busy = true;
    const query = new URLSearchParams({ recommend: "true", explain: "true", count: COUNT, at_s: frame.at_s.toFixed(2) });
    if (frame.item_id) query.set("item_id", frame.item_id);
    for (const [name, value] of Object.entries(context())) if (value) query.set(name, value);
    const began = performance.now();
    try {
      const answer = await request(`/v1/sessions/${segment(session)}/frames?${query}`, {
        method: "POST", body: frame.blob, headers: { "content-type": frame.blob.type },
      });
      const report = await answer.json();
      figures.frames += 1;
      if (closed) return;
      onLists(report.recommendation);
      onFrame(report.frame, performance.now() - began);
    } catch (error) {
      if (!closed) onProblem(error);
    } finally {
      busy = false;
      next();
    }
  }
  return {
    frame(frame) {
      if (waiting) figures.dropped += 1;
      waiting = frame;
      next();
    },
    event(event) {
      const { region, user_id } = context();
      const full = { session_id: session, ...event, ...(region && { region }), ...(user_id && { user_id }) };
      return json("/v1/events", { method: "POST", data: { events: [full] } });
    },
    close() { closed = true; },
  };
}
