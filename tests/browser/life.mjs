// node life.mjs FOLDER
// A page that is left and comes back (bfcache), that is frozen, and whose line is cut meanwhile, in Chromium: the
// client in FOLDER (life.rs) against our server. Prints what holds, and ends with 0 if all does.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Browser } from "../chromium/cdp.mjs";
import { Wire, serve, sleep, start, stop, until } from "./support.mjs";

const [folder] = process.argv.slice(2);

const PAGE = `<!doctype html><title>life</title><script type="module">
import init, * as client from "./life.js";
await init();
globalThis.client = client;
globalThis.events = [];
for (const name of ["pagehide", "pageshow"]) addEventListener(name, (event) => events.push(name + " " + event.persisted));
for (const name of ["freeze", "resume"]) document.addEventListener(name, () => events.push(name));
globalThis.ticks = 0;
setInterval(() => ticks++, 20);
globalThis.ready = true;
</script>`;

const lines = async (page, name) => (await page.evaluate(`client.${name}()`)).split("\n").filter((line) => line);
const isConnected = (page) => () => page.evaluate("globalThis.client?.is_connected() === true");

/** Sends a text, and waits for its echo. */
async function talks(page, text) {
  await page.evaluate(`client.send(${JSON.stringify(text)})`);
  await until(async () => (await lines(page, "received")).includes(text), `the echo of ${text}`);
}

async function open(browser, site, url, interval, timeout) {
  const page = await browser.open(site);
  await isSeen(page, true);
  await until(() => page.evaluate("globalThis.ready === true"), `the client starts; ${page.exceptions}`, 20);
  await page.evaluate(`client.connect("ws://${url}/", ${interval}, ${timeout})`);
  await talks(page, "first");
  return page;
}

const isSeen = (page, enabled) => page.call("Emulation.setFocusEmulationEnabled", { enabled });

/** Hides a page, and freezes it, as a browser does with pages that nobody has seen for a while. */
async function freeze(page) {
  await isSeen(page, false);
  await page.call("Page.setWebLifecycleState", { state: "frozen" });
  await sleep(200);
  const ticks = await page.evaluate("ticks");
  await sleep(300);
  assert.equal(await page.evaluate("ticks"), ticks, "the page is not frozen");
}

/** Stops a page in the middle of its script while `meanwhile` runs. */
async function pause(page, meanwhile) {
  await page.call("Debugger.enable");
  await page.call("Debugger.pause");
  await sleep(100);
  await meanwhile();
  await page.call("Debugger.resume");
  await page.call("Debugger.disable");
}

/** Somebody looks at it. */
async function wake(page) {
  await page.call("Page.setWebLifecycleState", { state: "active" });
  await isSeen(page, true);
}

const scenarios = {
  async "a page that is left goes into the browser's cache, and resumes its session when it is back"({ browser, site, listeners }) {
    const wire = await Wire.to(listeners.get("stack"));
    const page = await open(browser, site, wire.address, 30_000, 30_000);
    await page.evaluate("globalThis.life = 'the same page'");
    let refusal;
    page.onevent = ({ method, params }) => {
      if (method === "Page.backForwardCacheNotUsed") refusal = JSON.stringify(params.notRestoredExplanations);
    };
    for (let round = 1; round <= 3; round++) {
      await page.navigate(`${site}other`);
      await until(() => wire.open === 0, "the connection of the page that was left is closed", 3);
      // Sent to the page while it is away: the server keeps it for the session.
      await page.back();
      assert.equal(refusal, undefined, "the page was not kept");
      assert.equal(await page.evaluate("globalThis.life"), "the same page");
      await until(isConnected(page), "connected again", 3);
      await talks(page, `after ${round}`);
      assert.equal(await page.evaluate("client.connections()"), round + 1);
    }
    const events = await page.evaluate("events.filter((event) => event.startsWith('page'))");
    assert.deepEqual(events, ["pageshow false", ...Array(3).fill(["pagehide true", "pageshow true"]).flat()].slice(-events.length));
    assert((await lines(page, "states")).includes("Reconnecting: the page was left or frozen"), await lines(page, "states"));
    const verdicts = await lines(page, "verdicts");
    assert(verdicts.length >= 2 && verdicts.slice(1).every((verdict) => verdict.startsWith("Resumed")), verdicts.join());
    assert.deepEqual(await lines(page, "received"), ["first", "after 1", "after 2", "after 3"]);
    wire.close();
  },

  async "a frozen page closes its connection, makes no attempt, and is back at once when it wakes"({ browser, site, listeners }) {
    for (const isCut of [false, true]) {
      const wire = await Wire.to(listeners.get("stack"));
      const page = await open(browser, site, wire.address, 30_000, 30_000);
      await freeze(page);
      await until(() => wire.open === 0, "the connection of a frozen page is closed", 3);
      if (isCut) wire.cut();
      await sleep(2500);
      assert.equal(wire.attempts, 1, "attempts of a frozen page");
      wire.mend();
      const woke = Date.now();
      await wake(page);
      await until(async () => (await page.evaluate("client.connections()")) === 2, "another connection", 3);
      figures.push(`a frozen page was back ${Date.now() - woke} ms after it woke`);
      await talks(page, "awake");
      assert.match((await lines(page, "verdicts")).at(-1), /^Resumed/);
      const events = await page.evaluate("events.filter((event) => !event.startsWith('page'))");
      assert.deepEqual(events, ["freeze", "resume"]);
      wire.close();
    }
  },

  async "a page that slept takes no peer for dead when it wakes, and sends no burst of pings"({ browser, site, listeners }) {
    const wire = await Wire.to(listeners.get("stack"));
    const page = await open(browser, site, wire.address, 400, 400);
    await sleep(1000); // with pings
    // Its timers are overdue, and what the peer sent waits, as after the sleep of a computer.
    await pause(page, async () => {
      await sleep(4000);
      wire.sent = 0;
    });
    await sleep(250);
    // A ping has 20 bytes or so.
    figures.push(`${wire.sent} bytes were sent in the 250 ms after a sleep of 4 s`);
    assert(wire.sent < 100, `${wire.sent} bytes were sent at once: ${await lines(page, "states")}`);
    await sleep(1500);
    await talks(page, "awake");
    assert.deepEqual(await lines(page, "states"), ["Connecting { attempt: 1 }", "Connected"]);
    wire.close();
  },

  async "a page whose peer vanished while it slept asks it, and then connects again"({ browser, site, listeners }) {
    const wire = await Wire.to(listeners.get("stack"));
    const page = await open(browser, site, wire.address, 400, 400);
    await pause(page, async () => {
      wire.stall();
      await sleep(2000);
      wire.sent = 0;
    });
    await until(() => wire.sent > 0, "a ping to the peer");
    await until(async () => (await page.evaluate("client.connections()")) === 2, "another connection");
    await talks(page, "another");
    assert.match((await lines(page, "states")).join(), /taken for dead/);
    wire.close();
  },
};

const figures = [];
const profiles = mkdtempSync(join(tmpdir(), "life-"));
const http = await serve(folder, { "": PAGE, other: "<!doctype html><title>other</title>" });
let browser;
let isGreen = false;
try {
  const listeners = new URLSearchParams(await start(process.env.BROWSER_SERVER, [], /^listening on (\S+)/));
  browser = new Browser(process.env.CHROMIUM, profiles);
  for (const [name, run] of Object.entries(scenarios)) {
    await run({ browser, site: http.site, listeners });
    console.log(`ok: ${name}`);
  }
  for (const figure of figures) console.log(`   ${figure}`);
  isGreen = true;
} catch (error) {
  console.error(error);
} finally {
  await browser?.close();
  stop();
  http.close();
  rmSync(profiles, { recursive: true, force: true, maxRetries: 10 });
}
process.exit(isGreen ? 0 : 1);
