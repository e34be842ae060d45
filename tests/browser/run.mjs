// node run.mjs PAGE.wasm
// The runner of the page for cargo: serves it with wasm-bindgen-test-runner, starts the server ($BROWSER_SERVER), opens
// the page in Chromium ($CHROMIUM) and ends with 0 once all tests of the page have passed.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Browser } from "../chromium/cdp.mjs";

const TIME = Number(process.env.BROWSER_TIME ?? 240) * 1000;

const children = [];

/** Starts a program, and returns what `pattern` finds in a line of its output. */
function start(program, args, pattern, env = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } });
  children.push(child);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = pattern.exec(line);
      if (found) resolve(found[1]);
    });
  });
}

const folder = mkdtempSync(join(tmpdir(), "page-"));
let browser;
let isGreen = false;
try {
  const [listeners, page] = await Promise.all([
    start(process.env.BROWSER_SERVER, [], /^listening on (\S+)/),
    start(process.env.WASM_BINDGEN_TEST_RUNNER, process.argv.slice(2), /available at (\S+)/, {
      NO_HEADLESS: "1",
      WASM_BINDGEN_TEST_ADDRESS: "127.0.0.1:0",
      TMPDIR: folder,
    }),
  ]);
  browser = new Browser(process.env.CHROMIUM, folder);
  const tab = await browser.open(`${page}/?${listeners}`);
  const end = Date.now() + TIME;
  let shown = 0;
  let output = "";
  while (!output.includes("test result: ")) {
    if (Date.now() > end) throw new Error(`the page has no result after ${TIME / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
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
  for (const child of children) child.removeAllListeners("exit").kill();
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
}
process.exit(isGreen ? 0 : 1);
