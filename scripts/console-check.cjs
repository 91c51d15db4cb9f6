// Uses the console as a person would; run by scripts/console-check, which says what it needs.
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");

const { CONSOLE_URL: url, UPNEXT_KEY: key, PICTURES: folder, PROFILE: profile } = process.env;
const PATIENCE_MS = 60_000;

async function main() {
  fs.mkdirSync(folder, { recursive: true });
  const options = {
    executablePath: process.env.CHROMIUM,
    ignoreHTTPSErrors: true,
    viewport: { width: 1360, height: 900 },
    colorScheme: "light",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
      // A camera that shows a moving test picture, and nobody to ask.
      "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
  };
  const context = await chromium.launchPersistentContext(profile, options);
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`); });
  page.on("pageerror", (error) => complaints.push(`exception: ${error.message}`));
  const origin = new URL(url).origin;
  page.on("request", (request) => {
    const to = request.url();
    if (!to.startsWith(origin) && !to.startsWith("blob:")) complaints.push(`a request to ${to}`);
  });

  // Counted in the page: the browser does not tell its driver of blobs.
  await page.addInitScript(() => {
    const send = WebSocket.prototype.send;
    window.framesSent = 0;
    WebSocket.prototype.send = function (data) {
      window.framesSent += typeof data === "string" ? 0 : 1;
      return send.call(this, data);
    };
  });
  const moreFrames = async (count) => {
    const framesSent = () => page.evaluate(() => window.framesSent);
    const wanted = await framesSent() + count;
    for (const until = Date.now() + PATIENCE_MS; await framesSent() < wanted;) {
      assert(Date.now() < until, `only ${await framesSent()} of ${wanted} frames went out`);
      await page.waitForTimeout(200);
    }
  };
  const quiet = (where) => assert.deepStrictEqual(complaints, [], `${where} complains`);
  const picture = async (name) => {
    await page.waitForFunction(() => !document.querySelector(".toast") && [...document.images].every((i) => i.src ? i.complete : false || i.getBoundingClientRect().top > innerHeight), null, { timeout: 20_000 })
      .catch(() => {});
    await page.waitForTimeout(600);
    const file = path.join(folder, `console-${name}.png`);
    await page.screenshot({ path: file });
  };
  const connect = async () => {
    await page.fill("#key-input", key);
    await page.click("#key-dialog button[type=submit]");
    await page.waitForSelector("#key-dialog", { state: "detached" });
  };
  const go = async (name, ready) => {
    await page.click(`#pages a[href="#${name}"]`);
    await page.waitForSelector(ready);
  };
  const lists = () => page.$$eval(".column", (all) => all.map((c) => [...c.querySelectorAll(".place")].map((p) => p.textContent)));

  await page.goto(`${url}/console`);
  await connect();

  // Watch: the clip plays, three lists are there, and they change.
  await page.waitForFunction(() => [...document.querySelectorAll(".column")].every((c) => c.querySelectorAll(".place").length > 0));
  const first = JSON.stringify(await lists());
  await page.waitForFunction((before) => JSON.stringify([...document.querySelectorAll(".column")].map((c) =>
    [...c.querySelectorAll(".place")].map((p) => p.textContent))) !== before, first);
  await page.click(".column .place button");
  await page.waitForFunction(() => document.querySelector(".timeline circle"));
  await page.waitForTimeout(Number(process.env.WATCH_MS ?? 20_000));
  quiet("watch");
  await picture("watch");
  console.log("watch: a clip plays, the lists change, a click is told");

  // The camera, and a video file: frames of them go out, and lists are there.
  await page.click("text=Camera");
  await page.waitForFunction(() => document.querySelector("video")?.videoWidth > 0);
  await moreFrames(3);
  quiet("the camera");
  console.log("watch: the camera's frames go out");
  if (process.env.VIDEO) {
    await page.setInputFiles('input[aria-label="A video file"]', process.env.VIDEO);
    await page.waitForFunction(() => document.querySelector("video")?.src.startsWith("blob:"));
    await moreFrames(3);
    quiet("a video file");
    console.log("watch: a file's frames go out");
  }

  // Catalogue: an item is added with a picture.
  await go("catalogue", "#rows .title");
  await picture("catalogue");
  const image = Buffer.from(await page.evaluate(async () => {
    const canvas = document.createElement("canvas");
    canvas.width = 320;
    canvas.height = 180;
    const drawing = canvas.getContext("2d");
    const colours = drawing.createLinearGradient(0, 0, 320, 180);
    colours.addColorStop(0, "#c0392b");
    colours.addColorStop(1, "#f1c40f");
    drawing.fillStyle = colours;
    drawing.fillRect(0, 0, 320, 180);
    drawing.fillStyle = "#ffffff";
    for (let i = 0; i < 9; i += 1) drawing.fillRect(20 + 33 * i, 40 + (i % 3) * 30, 18, 60);
    return canvas.toDataURL("image/png").split(",")[1];
  }), "base64");
  const file = { name: "check.png", mimeType: "image/png", buffer: image };
  const title = "<b>A check</b> & its quokkas";
  await page.click("#add");
  await page.fill("#edit [name=item_id]", "000/console check");
  await page.fill("#edit [name=title]", title);
  await page.setInputFiles("#edit input[type=file]", file);
  await page.click("#edit button[type=submit]");
  await page.waitForSelector("#edit", { state: "detached" });
  quiet("catalogue");

  // Search finds it by its picture and by its words, and its title is text.
  await go("search", "#words");
  await page.setInputFiles(".drop input[type=file]", file);
  await page.waitForFunction((wanted) => document.querySelector("#hits .name")?.textContent === wanted, title);
  await page.click("text=Clear");
  await page.fill("#words", "quokkas");
  await page.keyboard.press("Enter");
  await page.waitForFunction((wanted) => document.querySelector("#hits .name")?.textContent === wanted, title);
  console.log("catalogue and search: what was added is found by its picture and its words");
  await page.fill("#words", "sea storm");
  await page.keyboard.press("Enter");
  await page.waitForFunction((other) => document.querySelector("#hits .name") && document.querySelector("#hits .name").textContent !== other, title);
  await page.click("#hits .hit button");
  await page.waitForFunction(() => document.querySelector(".drop")?.textContent.includes("like "));
  await page.waitForTimeout(1500);
  quiet("search");
  await picture("search");

  await page.goto(`${url}/console#catalogue/${encodeURIComponent("000/console check")}`);
  await page.reload();
  assert.strictEqual(await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length), 0, "nothing is kept");
  await connect();
  await page.waitForSelector("#edit");
  await page.fill("#edit [name=title]", "Renamed");
  await page.click("#edit button[type=submit]");
  await page.waitForSelector("#edit", { state: "detached" });
  await page.click("[aria-label='Delete Renamed']");
  await page.click("dialog .danger");
  await page.waitForFunction(() => ![...document.querySelectorAll("#rows .title")].some((t) => t.textContent === "Renamed"));
  quiet("editing");
  console.log("catalogue: an item is renamed and deleted");

  await go("quality", ".plot");
  await page.waitForTimeout(500);
  quiet("quality");
  await picture("quality");
  await go("health", ".meter");
  await page.waitForTimeout(7000);
  quiet("health");
  await picture("health");
  console.log("quality and health: their figures are there");

  await page.click("#theme");
  await go("watch", ".place");
  await page.waitForTimeout(12_000);
  quiet("dark");
  await picture("watch-dark");
  await page.setViewportSize({ width: 390, height: 844 });
  await page.click("#theme");
  await page.waitForTimeout(4000);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `a phone has to scroll sideways by ${wide} pixels`);
  quiet("phone");
  await picture("phone");
  console.log("dark and phone: as they should be");
  await context.close();
}

main().then(() => console.log("console-check: all is well"), (error) => { console.error(error); process.exitCode = 1; });
