// node run.mjs PAGE.wasm
// The runner of the page for cargo: serves it with wasm-bindgen-test-runner, starts the server ($BROWSER_SERVER), opens
// the page in Chromium ($CHROMIUM) and ends with 0 once all tests of the page have passed.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Browser } from "../chromium/cdp.mjs";
import { sleep, start, stop } from "./support.mjs";

const TIME = Number(process.env.BROWSER_TIME ?? 600) * 1000;

const folder = mkdtempSync(join(tmpdir(), "page-"));
let browser;
let isGreen = false;
try {
  const [listeners, page] = await Promise.all([
    start(process.env.BROWSER_SERVER, [], /^listening on (\S+)/),
    start(process.env.WASM_BINDGEN_TEST_RUNNER, process.argv.slice(2), /available at (\S+)/, {
      env: { NO_HEADLESS: "1", WASM_BINDGEN_TEST_ADDRESS: "127.0.0.1:0", TMPDIR: folder },
    }),
  ]);
  browser = new Browser(process.env.CHROMIUM, folder);
  const tab = await browser.open(`${page}/?${listeners}`);
  const end = Date.now() + TIME;
  let shown = 0;
  let output = "";
  while (!output.includes("test result: ")) {
    if (Date.now() > end) throw new Error(`the page has no result after ${TIME / 1000} s`);
    await sleep(100);
    output = await tab.evaluate("document.getElementById('output')?.textContent ?? ''");
    process.stdout.write(output.slice(shown));
    shown = output.length;
  }
  console.log();
  isGreen = output.includes("test result: ok");
  if (!isGreen) console.log(tab.log.join("\n"));
} catch (error) {
  console.error(String(error));
} finally {
  await browser?.close();
  stop();
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
}
process.exit(isGreen ? 0 : 1);
