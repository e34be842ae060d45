// node gallery.mjs SERVER PAGE..
// Drives the built pages of examples/browser in Chromium ($CHROMIUM), as two people use them: SERVER is the program of
// the example `browser`. Prints what holds, and ends with 0 if all does.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Browser } from "../chromium/cdp.mjs";
import { Wire, sleep, start, stop, until } from "./support.mjs";

const [server, ...names] = process.argv.slice(2);

const shows = (page, selector, text) => () =>
  page.evaluate(`(document.querySelector(${JSON.stringify(selector)})?.textContent ?? "").includes(${JSON.stringify(text)})`);
const isConnected = (page) => () => page.evaluate(`document.getElementById("state")?.dataset.connected === "true"`);
const said = (page) => page.evaluate(`[...document.querySelectorAll("#log li")].map((item) => item.textContent)`);
const toggle = (page) => page.evaluate(`document.getElementById("toggle").click()`);

/** Types into the form as a user does, and sends it. */
const say = (page, text) =>
  page.evaluate(`(() => {
    const input = document.querySelector("form input");
    input.value = ${JSON.stringify(text)};
    input.dispatchEvent(new Event("input", { bubbles: true }));
    document.querySelector("form button").click();
  })()`);

async function drive(browser, name) {
  const lines = [];
  const listening = await start(server, [name, "127.0.0.1:0"], /^listening on (\S+);/, { lines });
  const wire = await Wire.to(listening);
  const members = () => Number(/(\d+) in the room/.exec(lines.findLast((line) => line.includes("in the room")) ?? "0 in the room")[1]);
  const ada = await browser.open(`http://${wire.address}/`);
  const grace = await browser.open(`http://${listening}/`);
  // Both are seen: a hidden page makes few attempts to reconnect.
  for (const page of [ada, grace]) await page.call("Emulation.setFocusEmulationEnabled", { enabled: true });
  for (const page of [ada, grace]) await until(isConnected(page), `${name}: connected; ${page.log} ${page.exceptions}`, 20);
  await until(() => members() === 2, "both are in the room");

  // A message goes out, and comes back on both pages, once.
  await say(ada, "hello");
  for (const page of [ada, grace]) await until(shows(page, "#log", "hello"), `${name}: the message arrives`);
  assert.equal(await ada.evaluate(`document.querySelector("form input").value`), "", "the form is empty again");

  // A cut is shown with its reason. Messages of both sides wait, and arrive once, in order.
  wire.cut();
  await until(shows(ada, "#state", "Reconnecting"), `${name}: the cut is shown`);
  await until(() => ada.evaluate(`document.getElementById("error").textContent !== ""`), `${name}: the reason is shown`);
  await say(grace, "are you there?");
  await say(ada, "not yet");
  await sleep(300);
  assert.equal(members(), 2, "the session outlives the cut");
  wire.mend();
  await until(isConnected(ada), `${name}: connected again`);
  for (const page of [ada, grace]) {
    await until(async () => (await said(page)).length >= 3, `${name}: what was said meanwhile arrives`);
  }
  await sleep(100);
  for (const page of [ada, grace]) {
    const texts = (await said(page)).map((text) => text.split(": ")[1]);
    assert.deepEqual(texts, ["hello", "are you there?", "not yet"], name);
  }
  assert.equal(await ada.evaluate(`document.getElementById("error").textContent`), "", "the error is gone");

  // Unmounting closes the session, at once and in order. Mounting again is another one.
  await toggle(ada);
  await until(() => members() === 1, `${name}: the session is closed`, 3);
  assert.equal(await ada.evaluate(`document.getElementById("state")`), null);
  await say(grace, "gone?");
  await until(shows(grace, "#log", "gone?"), `${name}: the room goes on`);
  await toggle(ada);
  await until(isConnected(ada), `${name}: mounted again`);
  await until(() => members() === 2, "the other session");
  assert.deepEqual(await said(ada), [], "a new component");
  // Unmounted while there is no connection, it stops trying.
  wire.cut();
  const before = wire.attempts;
  await until(() => wire.attempts >= before + 2, `${name}: attempts after the second cut`);
  await toggle(ada);
  await sleep(100);
  const attempts = wire.attempts;
  await sleep(2500);
  assert.equal(wire.attempts, attempts, `${name}: an unmounted component still tries to connect`);
  assert.deepEqual([...ada.exceptions, ...grace.exceptions], [], name);
  wire.close();
  console.log(`ok: ${name}`);
}

const profiles = mkdtempSync(join(tmpdir(), "gallery-"));
const browser = new Browser(process.env.CHROMIUM, profiles);
let isGreen = false;
try {
  for (const name of names) await drive(browser, name);
  isGreen = true;
} catch (error) {
  console.error(error);
} finally {
  await browser.close();
  stop();
  rmSync(profiles, { recursive: true, force: true, maxRetries: 10 });
}
process.exit(isGreen ? 0 : 1);
