// node websocket_stream.mjs
// Prints whether a page survives a cut connection of the browser's `WebSocketStream` in the middle of writes, which
// docs/decisions.md gives as the reason for `WebSocket`. Nothing of this crate runs in the page.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Browser } from "../chromium/cdp.mjs";
import { Wire, serve, sleep, start, stop } from "./support.mjs";

const ATTEMPTS = 20;
const TIME = 5000;

// As its documentation has it: each write waits for the one before.
const WRITES = (url) => `(async () => {
  const { readable, writable } = await new WebSocketStream(${JSON.stringify(url)}).opened;
  const [reader, writer] = [readable.getReader(), writable.getWriter()];
  const writing = (async () => {
    for (;;) {
      await writer.ready;
      await writer.write("a message");
    }
  })().catch(() => {});
  try {
    while (!(await reader.read()).done);
  } catch {}
  await writing;
})()`;

const temporary = mkdtempSync(join(tmpdir(), "page-"));
const http = await serve(temporary, { "": "<!doctype html>" });
let browser;
try {
  const listeners = new URLSearchParams(await start(process.env.BROWSER_SERVER, [], /^listening on (\S+)/));
  const wire = await Wire.to(listeners.get("main"));
  browser = new Browser(process.env.CHROMIUM, temporary);
  const tab = await browser.open(http.site);
  const crashed = new Promise((resolve) => {
    tab.onevent = ({ method }) => method === "Inspector.targetCrashed" && resolve("crashed");
  });
  await tab.call("Inspector.enable");
  let crashes = "never crashed";
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    wire.mend();
    const ended = tab.evaluate(WRITES(`ws://${wire.address}/echo`));
    await sleep(20 + 7 * attempt);
    wire.cut();
    const outcome = await Promise.race([ended, crashed, sleep(TIME).then(() => "hung")]);
    if (outcome) {
      crashes = `${outcome} at cut ${attempt}`;
      break;
    }
  }
  console.log(`${await browser.version()}: a page with a WebSocketStream ${crashes} of ${ATTEMPTS}`);
  wire.close();
} finally {
  await browser?.close();
  stop();
  http.close();
  rmSync(temporary, { recursive: true, force: true, maxRetries: 10 });
}
