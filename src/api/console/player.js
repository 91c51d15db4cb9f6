// Where do frames come from? A clip made of an item's own pictures, a video file, or the camera. All have the same face:
// play, pause, the time, and the frame on screen as a JPEG of at most 640 pixels.

import { picture } from "/console/api.js";

const WIDTH = 640;
const SCENE_S = 4.5;
export const CLIP_S = 60;

function still(source, width, height) {
  const scale = Math.min(1, WIDTH / width);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}

const load = (url) => new Promise((resolve, reject) => {
  const image = new Image();
  image.onload = () => resolve(image);
  image.onerror = () => reject(new Error("a picture cannot be shown"));
  image.src = url;
});

/** A clip of an item: its pictures, one scene after the other, with the camera moving slowly over each. */
export async function clipPlayer(canvas, item) {
  const images = await Promise.all(item.images.map((i) => picture(i.url).then(load)));
  if (!images.length) throw new Error("the item has no pictures to make a clip of");
  canvas.width = 640;
  canvas.height = 360;
  const drawing = canvas.getContext("2d");
  let at = 0;
  let last = null;
  let timer = 0;

  function draw() {
    const scene = Math.floor(at / SCENE_S);
    const image = images[scene % images.length];
    const t = (at % SCENE_S) / SCENE_S;
    const zoom = 1.04 + 0.12 * (scene % 2 ? 1 - t : t);
    const fit = Math.max(canvas.width / image.width, canvas.height / image.height) * zoom;
    const w = image.width * fit;
    const hgt = image.height * fit;
    const drift = ((scene * 7) % 3) - 1;
    drawing.drawImage(image, (canvas.width - w) / 2 + drift * (t - 0.5) * (w - canvas.width), (canvas.height - hgt) / 2, w, hgt);
  }
  function tick(now) {
    if (last !== null) at = (at + (now - last) / 1000) % CLIP_S;
    last = now;
    draw();
    timer = requestAnimationFrame(tick);
  }
  draw();
  return {
    item_id: item.item_id,
    length: CLIP_S,
    get at() { return at; },
    get playing() { return timer !== 0; },
    play() { if (!timer) { last = null; timer = requestAnimationFrame(tick); } },
    pause() { cancelAnimationFrame(timer); timer = 0; },
    seek(to) { at = to; draw(); },
    frame: () => still(canvas, canvas.width, canvas.height),
    end() { cancelAnimationFrame(timer); timer = 0; },
  };
}

async function videoPlayer(video, end) {
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new Error("this browser cannot play the video"));
  });
  return {
    item_id: null,
    get length() { return Number.isFinite(video.duration) ? video.duration : 0; },
    get at() { return video.currentTime; },
    get playing() { return !video.paused && !video.ended; },
    play: () => video.play(),
    pause: () => video.pause(),
    seek(to) { video.currentTime = to; },
    frame: () => still(video, video.videoWidth, video.videoHeight),
    end() { video.pause(); video.removeAttribute("src"); video.srcObject = null; end(); },
  };
}

/** A video file of this computer; it is not uploaded, only a frame a second is. */
export function filePlayer(video, file) {
  const url = URL.createObjectURL(file);
  video.loop = true;
  video.muted = true;
  video.src = url;
  return videoPlayer(video, () => URL.revokeObjectURL(url));
}

/** The camera. */
export async function cameraPlayer(video) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 }, audio: false });
  video.muted = true;
  video.srcObject = stream;
  return videoPlayer(video, () => stream.getTracks().forEach((track) => track.stop()));
}
