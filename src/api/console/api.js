// How does the console talk to the server? With a key that lives in this variable and nowhere else: not in storage, not
// in a cookie, not in an address. It goes when the page goes.

let key = "";
let connected = false;

/** What the server refused, in its own words. */
export class Refusal extends Error {
  constructor(status, problem) {
    const fields = (problem.errors ?? []).map((e) => `${e.field}: ${e.detail}`).join("; ");
    super(fields || problem.detail || `the server answered ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
  }
}

export const isConnected = () => connected;

/** Takes a key if the server does; an empty one works where the server lets this machine in without. */
export async function connect(candidate) {
  const before = key;
  key = candidate.trim();
  try {
    await json("/v1/items?limit=1");
    connected = true;
  } catch (error) {
    // A key for operators alone may not read the catalogue, and is still a key.
    if (error.status === 403) { connected = true; return; }
    key = before;
    throw error;
  }
}

/** Forgets the key, and every picture that was read with it. */
export function disconnect() {
  key = "";
  connected = false;
  pictures.forEach((entry) => entry.then(URL.revokeObjectURL, () => {}));
  pictures.clear();
  items.clear();
}

export async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  const all = new Headers(headers);
  if (key) all.set("authorization", `Bearer ${key}`);
  let answer;
  try {
    answer = await fetch(path, { method, body, headers: all, signal, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { detail: "the server cannot be reached", code: "unreachable" });
  }
  if (!answer.ok) throw new Refusal(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export async function json(path, options = {}) {
  if (options.data !== undefined) {
    options = { ...options, body: JSON.stringify(options.data), headers: { "content-type": "application/json" } };
  }
  const answer = await request(path, options);
  return answer.status === 204 ? null : answer.json();
}

export const text = async (path) => (await request(path)).text();
export const segment = encodeURIComponent;

// Pictures need the key too, so they are fetched and shown as blobs. The latest are kept.
const PICTURES = 600;
const pictures = new Map();

/** The address of a thumbnail as a blob of this page. */
export function picture(path) {
  const known = pictures.get(path);
  if (known) return known;
  const loading = request(path).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob));
  pictures.set(path, loading);
  loading.catch(() => pictures.delete(path));
  if (pictures.size > PICTURES) {
    const [oldest, entry] = pictures.entries().next().value;
    pictures.delete(oldest);
    entry.then(URL.revokeObjectURL, () => {});
  }
  return loading;
}

/** Shows a picture in `img` when it has come; without one the place stays plain. */
export function show(img, path) {
  if (path) picture(path).then((url) => { img.src = url; }, () => {});
  return img;
}

const ITEMS = 3000;
const items = new Map();

/** An item of the catalogue, remembered; `null` if it is not there. */
export function item(id) {
  if (!items.has(id)) {
    const loading = json(`/v1/items/${segment(id)}`).catch((error) => {
      items.delete(id);
      if (error.status === 404 || error.status === 403) return null;
      throw error;
    });
    items.set(id, loading);
    if (items.size > ITEMS) items.delete(items.keys().next().value);
  }
  return items.get(id);
}

/** After an item has changed, what is remembered of it is wrong. */
export function forgetItem(id) {
  items.delete(id);
  for (const path of [...pictures.keys()]) {
    if (path.startsWith(`/v1/items/${segment(id)}/`)) {
      pictures.get(path).then(URL.revokeObjectURL, () => {});
      pictures.delete(path);
    }
  }
}
