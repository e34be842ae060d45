// `EventSource` of the npm packages `eventsource` and `undici`; httpx_sse_peer.py is their twin.
//   node sse.cjs PACKAGE URL   reads until the server says that there is no more (204), then prints what came, as JSON:
//                              [TYPE, DATA, LAST EVENT ID] for each event
"use strict";

const [name, url] = process.argv.slice(2);
const { EventSource } = require(name);

const came = [];
const alive = setInterval(() => {}, 1000); // undici's wait for the next attempt does not keep the process
const source = new EventSource(url);
for (const type of ["message", "note", "\u{e9}v\u{e9}nement"]) {
  source.addEventListener(type, (event) => came.push([event.type, event.data, event.lastEventId]));
}
source.addEventListener("error", () => {
  if (source.readyState !== EventSource.CLOSED) return;
  clearInterval(alive);
  console.log(JSON.stringify(came));
});
