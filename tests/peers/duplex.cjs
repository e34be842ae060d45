// A client of SSE and POST in Node.js: the very script that the browser runs, over `eventsource` and Node's own `fetch`.
// duplex.cjs URL: messages up and back, on standard output what came and how it ended.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

globalThis.EventSource = require("eventsource").EventSource;
const client = (0, eval)(readFileSync(join(__dirname, "../chromium/pages/sse_duplex.js"), "utf8"));
const messages = JSON.parse(readFileSync(0, "utf8"));
client({ url: process.argv[2], messages }).then((report) => process.stdout.write(JSON.stringify(report)));
