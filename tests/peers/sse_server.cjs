// An event stream by Node.js's own `http`.
//   node sse_server.cjs   prints its port; /redirect leads to /events, which goes on from Last-Event-ID, two events a connection:
//                         written in pieces, with every kind of line end, cut in the middle of a third; after the ninth, 204
"use strict";
const http = require("node:http");

const LAST = 9;
const ENDS = ["\n", "\r\n", "\r"];

function event(n) {
  const end = ENDS[n % ENDS.length];
  const type = n % 2 ? [] : ["event: note"];
  return [":", ...type, `id: ${n}`, `data: event ${n}`, "data: \u00e9\u6f22\u{1f389}", "", ""].join(end);
}

const server = http.createServer(async (request, response) => {
  if (request.url === "/redirect") {
    return response.writeHead(307, { location: "events" }).end();
  }
  const seen = Number(request.headers["last-event-id"] ?? 0);
  if (request.url !== "/events" || request.headers.accept !== "text/event-stream") {
    return response.writeHead(404).end();
  }
  if (seen >= LAST) {
    return response.writeHead(204).end();
  }
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store" });
  const next = [seen + 1, seen + 2].filter((n) => n <= LAST);
  const bytes = Buffer.from("\ufeffretry: 10\n" + next.map(event).join("") + "data: cut");
  // In pieces of seven bytes: characters and line ends are cut too.
  for (let at = 0; at < bytes.length; at += 7) {
    response.write(bytes.subarray(at, at + 7));
    await new Promise(setImmediate);
  }
  seen % 4 === 0 ? response.end() : setTimeout(() => response.destroy(), 50);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
