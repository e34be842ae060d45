// node run.mjs CHROMIUM FOLDER URL SCRIPT ARGUMENT [FLAG..]
// Opens URL in Chromium (a program, with a profile under FOLDER), and calls there the function that is in the file SCRIPT
// with ARGUMENT (JSON). Prints {"browser", "value", "log"} and ends with 0; or, where the function threw, {"browser", "error",
// "log"} and ends with 1.
import { readFileSync } from "node:fs";
import { Browser } from "./cdp.mjs";

const [program, folder, url, script, argument, ...flags] = process.argv.slice(2);
const browser = new Browser(program, folder, flags);
const report = { browser: undefined, log: [] };
try {
  report.browser = await browser.version();
  const page = await browser.open(url);
  report.log = page.log;
  report.value = await page.evaluate(`(${readFileSync(script, "utf8")}\n)(${argument})`);
} catch (error) {
  report.error = String(error);
  process.exitCode = 1;
} finally {
  await browser.close();
}
console.log(JSON.stringify(report));
