// node demo.mjs CHROMIUM DEMO AXE FOLDER
// Drives the page of the example `demo` (the program DEMO) in Chromium, as two people do. AXE is axe-core's script. Puts
// a screenshot of each panel and of the whole page into FOLDER. Prints what holds, and ends with 0 if all does.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Browser } from "./cdp.mjs";

const [program, demo, axe, folder] = process.argv.slice(2);
const DESKTOP = { width: 1440, height: 900, deviceScaleFactor: 1, mobile: false };
const TABLET = { width: 820, height: 1180, deviceScaleFactor: 1, mobile: true };
const PHONE = { width: 390, height: 844, deviceScaleFactor: 1, mobile: true };

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until an expression of a page is true. */
async function until(page, expression, what, seconds = 10) {
  const end = Date.now() + seconds * 1000;
  while (!(await page.evaluate(expression))) {
    if (Date.now() > end) {
      const seen = await page.evaluate("document.getElementById('state').textContent + '\\n' + document.getElementById('decisions').innerText");
      throw new Error(`${what}: not within ${seconds} s\n${seen}\n${page.log.join("\n")}`);
    }
    await sleep(25);
  }
}

const click = (page, selector) => page.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
const pick = (page, choice) => click(page, `[name=transport][value=${choice}]`);
const isOpen = (kind) => `demo.client.state === "open" && (${JSON.stringify(kind ?? null)} ?? demo.client.kind) === demo.client.kind`;
const verdict = (page) => page.evaluate("document.getElementById('verdict').textContent");

async function media(page, scheme, size) {
  const features = [{ name: "prefers-color-scheme", value: scheme }];
  await page.call("Emulation.setEmulatedMedia", { features });
  await page.call("Emulation.setScrollbarsHidden", { hidden: true });
  await page.call("Emulation.setDeviceMetricsOverride", size);
}

async function shoot(page, file, selector) {
  let clip;
  if (selector) {
    const box = await page.evaluate(`(({ x, y, width, height }) => ({ x: x + scrollX, y: y + scrollY, width, height }))(document.querySelector("${selector}").getBoundingClientRect())`);
    clip = { ...box, scale: 1 };
  }
  const { data } = await page.call("Page.captureScreenshot", { format: "png", clip, captureBeyondViewport: !!clip });
  writeFileSync(join(folder, file), Buffer.from(data, "base64"));
}

/** Says `count` numbered messages, one each few milliseconds, so that some are on the way whatever happens. */
const chatter = (page, from, count) =>
  page.evaluate(`(async () => { for (let i = ${from}; i < ${from + count}; i++) { demo.say("message " + i); await new Promise((r) => setTimeout(r, 8)); } })()`);

const scenarios = {
  async "two pages chat"({ ada, grace }) {
    await ada.evaluate("demo.say('Hello, Grace. Which transport are you on?')");
    await until(grace, "document.getElementById('log').innerText.includes('Hello, Grace')", "Ada's message reaches Grace");
    await grace.evaluate("demo.say('WebTransport. Cut me and see.')");
    await until(ada, "document.getElementById('log').innerText.includes('Cut me')", "Grace's message reaches Ada");
  },

  async "the ticker brings about 1,000 messages a second, in fewer bytes than their payload"({ ada }) {
    await until(ada, "demo.series.rate.length > 3", "the rate is measured");
    await sleep(1500);
    const [rate, wire, payload] = await ada.evaluate("['rate', 'wire', 'payload'].map((name) => { const list = demo.series[name].slice(-4); return list.reduce((a, b) => a + b) / list.length; })");
    assert(rate > 500 && rate < 1500, `${rate} messages a second`);
    assert(wire > 1 && wire < payload, `${wire} KB/s on the wire for ${payload} KB/s`);
    figures.push(`${Math.round(rate)} messages/s, ${wire.toFixed(1)} KB/s on the wire for ${payload.toFixed(1)} KB/s of payload`);
  },

  async "each transport carries the session, and a cut of each loses and doubles nothing"({ ada, grace }) {
    const before = await grace.evaluate("demo.audit.messages");
    let said = 0;
    for (const kind of ["websocket", "sse", "webtransport"]) {
      await pick(ada, kind);
      await until(ada, isOpen(kind), `the switch to ${kind}`);
      assert.match(await verdict(ada), /^Resumed/, kind);
      const reconnects = await ada.evaluate("document.getElementById('reconnects').textContent");
      const chatting = chatter(ada, said, 60);
      await sleep(120);
      await click(ada, "#cut");
      await until(ada, `document.getElementById('reconnects').textContent !== "${reconnects}" && ${isOpen(kind)}`, `back over ${kind}`);
      assert.match(await verdict(ada), /^Resumed/, kind);
      await chatting;
      said += 60;
      await until(grace, `demo.audit.messages >= ${before + said}`, `all messages over ${kind}`);
    }
    await sleep(200);
    assert.deepEqual(await grace.evaluate("demo.audit"), { messages: before + said, missing: 0, doubled: 0 });
    assert.equal(await ada.evaluate("demo.client.unacknowledged"), 0);
  },

  async "a transport that is blocked is replaced, and the page says why"({ ada }) {
    await pick(ada, "auto");
    await until(ada, isOpen("webtransport"), "WebTransport");
    await click(ada, "[data-block=webtransport]");
    await until(ada, isOpen("websocket"), "the WebSocket in place of WebTransport");
    assert.match(await ada.evaluate("document.getElementById('why').textContent"), /WebTransport: UDP blocked, or refused/);
    await click(ada, "[data-block=websocket]");
    await until(ada, isOpen("sse"), "SSE in place of the WebSocket");
    assert.match(await verdict(ada), /^Resumed/);
    await click(ada, "[data-block=webtransport]");
    await click(ada, "[data-block=websocket]");
    await until(ada, isOpen("webtransport"), "WebTransport again");
  },

  async "a page that stalls costs conflated ticks, and nothing grows"({ ada, grace }) {
    const heap = async () => (await ada.call("Runtime.getHeapUsage")).usedSize;
    const seen = () => ada.evaluate("({ dropped: demo.stats.dropped, queued: demo.stats.queued, unread: demo.client.unread, state: demo.client.state })");
    // Nothing of what follows holds before the stall: a page that reads loses no tick.
    await until(ada, "demo.stats.queued === 0 && demo.client.unread === 0", "everything is read");
    const before = await seen();
    await sleep(1200);
    assert((await seen()).dropped - before.dropped < 100, "ticks are conflated although the page reads");
    const calm = (await seen()).dropped;
    await click(ada, "#stall");
    await until(ada, `demo.stats.dropped > ${calm} + 2000`, "ticks are conflated");
    const [first, heapBefore] = [await seen(), await heap()];
    await until(ada, `demo.stats.dropped > ${first.dropped} + 1500`, "more of them");
    const after = await seen();
    assert(first.queued > 0 && first.queued <= 40 && after.queued <= 40, `${first.queued}, then ${after.queued} wait on the server`);
    assert(after.unread > 0 && after.unread <= 1024 && after.state === "open", JSON.stringify(after));
    assert.equal(after.unread, first.unread, "the page read on, or took more");
    assert((await heap()) < heapBefore + (8 << 20), "the page grows");
    await grace.evaluate("demo.say('Are you there, Ada?')");
    await until(grace, "document.getElementById('log').innerText.includes('Are you there, Ada?')", "the room hears it");
    await sleep(300);
    assert.doesNotMatch(await ada.evaluate("document.getElementById('log').innerText"), /Are you there, Ada/, "a page that stalls reads");
    await click(ada, "#stall");
    await until(ada, "document.getElementById('log').innerText.includes('Are you there, Ada?')", "what was said meanwhile");
    await until(ada, "demo.stats.queued === 0 && demo.client.unread === 0", "the page has caught up");
    figures.push(`stalled: ${after.queued} waiting on the server, ${after.unread} unread in the page`);
  },

  async "offline stops the attempts, and online brings the page back at once"({ ada, site }) {
    const network = (offline) => ada.call("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await network(true);
    await fetch(`${site}/control?client=${await ada.evaluate("demo.id")}`, { method: "POST", headers: { "content-type": "application/json" }, body: '{"type":"Cut"}' });
    await until(ada, "demo.client.state === 'offline'", "the page notices");
    const decisions = await ada.evaluate("document.querySelectorAll('#decisions li').length");
    await sleep(1500);
    assert.equal(await ada.evaluate("demo.client.state"), "offline");
    assert.equal(await ada.evaluate("document.querySelectorAll('#decisions li').length"), decisions, "it went on trying");
    const began = Date.now();
    await network(false);
    await until(ada, isOpen(), "back online", 3);
    figures.push(`back ${Date.now() - began} ms after online`);
    assert.match(await verdict(ada), /^Resumed/);
  },

  async "a restart drains: everything arrives, and a new session begins"({ ada, grace }) {
    const life = await ada.evaluate("demo.stats.life");
    await ada.evaluate("demo.say('Before the restart.')");
    await click(ada, "#restart");
    for (const page of [ada, grace]) await until(page, `${isOpen()} && demo.stats?.life === ${life} + 1`, "the next life", 20);
    assert.equal(await verdict(ada), "Fresh, 0 lost");
    await until(grace, "document.getElementById('log').innerText.includes('Before the restart')", "what was said before the restart");
  },

  async "a crash is told: Fresh, with what may be lost"({ ada, grace }) {
    const life = await ada.evaluate("demo.stats.life");
    await click(ada, "#crash");
    for (const page of [ada, grace]) await until(page, `${isOpen()} && demo.stats?.life === ${life} + 1`, "the next life", 25);
    assert.match(await verdict(ada), /^Fresh, \d+ lost$/);
    await ada.evaluate("demo.say('And we are back.')");
    await until(grace, "document.getElementById('log').innerText.includes('And we are back.')", "the room works again");
  },

  async "everything is reached by the keyboard, in order"({ ada }) {
    await ada.evaluate("document.activeElement.blur()");
    const key = async (key, code) => {
      for (const type of ["keyDown", "keyUp"]) await ada.call("Input.dispatchKeyEvent", { type, key, code: key, windowsVirtualKeyCode: code });
    };
    const reached = [];
    for (let i = 0; i < 20; i++) {
      await key("Tab", 9);
      const name = await ada.evaluate("(({ id, className, dataset, name }) => id || className || dataset.block || name)(document.activeElement)");
      if (!name) break;
      reached.push(name);
    }
    assert.deepEqual(reached.slice(0, 13), ["skip", "transport", "cut", "stall", "webtransport", "websocket", "sse", "restart", "crash", "log", "text", "BUTTON", "decisions"].map((it, i) => (it === "BUTTON" ? reached[i] : it)), reached.join(" "));
  },

  async "no script, style or request breaks the policy of the page"({ ada, grace, site }) {
    const broken = [...ada.log, ...grace.log].filter((line) => /Content Security Policy|Uncaught|SyntaxError|TypeError/.test(line));
    assert.deepEqual(broken, []);
    assert.deepEqual([...ada.exceptions, ...grace.exceptions], []);
    const { headers } = await fetch(site);
    assert.match(headers.get("content-security-policy"), /default-src 'none'/);
    assert.doesNotMatch(readFileSync(new URL("../../examples/demo/page/index.html", import.meta.url), "utf8"), / on[a-z]+=|style=|https?:\/\/(?!www\.w3\.org)/);
  },
};

/** A room of its own, beside the scenarios: what a visitor sees after half a minute, by eye and by axe-core. */
const staged = {
  async "a visitor cuts, blocks and stalls"({ ada, grace }) {
    const talk = async (page, text) => {
      await page.evaluate(`demo.say(${JSON.stringify(text)})`);
      await sleep(900);
    };
    await talk(grace, "Hello! Which transport are you on?");
    await talk(ada, "WebTransport, it says. 1,000 ticks a second.");
    await talk(grace, "Cut your link and see what gets lost.");
    await sleep(2500);
    const reconnects = await ada.evaluate("document.getElementById('reconnects').textContent");
    await click(ada, "#cut");
    await talk(ada, "Did this one arrive?");
    await until(ada, `document.getElementById('reconnects').textContent !== "${reconnects}" && ${isOpen()}`, "back after the cut");
    await talk(grace, "It did. Once.");
    await sleep(2500);
    await click(ada, "[data-block=webtransport]");
    await until(ada, isOpen("websocket"), "the WebSocket");
    await talk(ada, "UDP is blocked now, so I am on a WebSocket.");
    await sleep(3000);
    await click(ada, "#stall");
    await until(ada, "demo.stats.dropped > 1500", "conflated ticks");
    await talk(grace, "And if you stop reading?");
    await click(ada, "#stall");
    await until(ada, "document.getElementById('log').innerText.includes('And if you stop')", "Grace's question");
    await talk(ada, "Old prices are replaced. Your message waited.");
    await sleep(5000);
    await shoot(ada, "demo.png");
    for (const panel of ["connection", "experiments", "meters", "ticker", "room", "timeline"]) await shoot(ada, `panel-${panel}.png`, `.${panel}`);
  },

  async "the page has no violation of axe-core, light and dark, on a desktop, a tablet and a phone"({ ada }) {
    await ada.evaluate(`${readFileSync(axe, "utf8")}\n;undefined`);
    for (const scheme of ["light", "dark"]) {
      for (const [name, size] of Object.entries({ desktop: DESKTOP, tablet: TABLET, phone: PHONE })) {
        await media(ada, scheme, size);
        await sleep(100);
        const found = await ada.evaluate(`axe.run({ resultTypes: ["violations"] }).then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html, failureSummary }) => html + " " + failureSummary).join("; ")))`);
        assert.deepEqual(found, [], `${scheme}, ${name}`);
        const [wide, width] = await ada.evaluate("[document.documentElement.scrollWidth, innerWidth]");
        assert(wide <= width, `${scheme}, ${name}: ${wide} px in ${width}`);
        await shoot(ada, `${name}-${scheme}.png`, name === "desktop" ? undefined : "body");
      }
    }
  },
};

const figures = [];
const servers = [];

/** Starts a demo, and opens two pages of it. */
async function room(browser) {
  const server = spawn(demo, ["127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  servers.push(server);
  const site = await new Promise((resolve, reject) => {
    server.on("error", reject);
    server.on("exit", (code) => reject(new Error(`the demo ended with ${code}`)));
    createInterface({ input: server.stdout }).on("line", (line) => {
      const found = /^listening on (\S+);/.exec(line);
      if (found) resolve(`http://${found[1]}`);
    });
  });
  const pages = { site };
  for (const name of ["Ada", "Grace"]) {
    const page = await browser.open(`${site}/?name=${name}`);
    await page.call("Emulation.setFocusEmulationEnabled", { enabled: true }); // both are seen
    await media(page, "light", DESKTOP);
    await until(page, isOpen(), "the first connection");
    pages[name.toLowerCase()] = page;
  }
  return pages;
}

async function play(browser, scenes) {
  const pages = await room(browser);
  for (const [name, run] of Object.entries(scenes)) {
    const began = Date.now();
    await run(pages);
    console.log(`ok: ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const profiles = mkdtempSync(join(tmpdir(), "demo-"));
const browser = new Browser(program, profiles);
let isGreen = false;
try {
  await Promise.all([play(browser, scenarios), play(browser, staged)]);
  for (const figure of figures) console.log(`   ${figure}`);
  isGreen = true;
} catch (error) {
  console.error(error);
} finally {
  await browser.close();
  for (const server of servers) server.removeAllListeners("exit").kill("SIGKILL");
  rmSync(profiles, { recursive: true, force: true, maxRetries: 10 });
}
process.exit(isGreen ? 0 : 1);
