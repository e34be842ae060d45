// The npm package `ws` with permessage-deflate; deflate_peer.py is its twin.
//   node deflate.cjs serve OPTIONS      prints its port, then echoes; large messages in fragments, with a ping between
//   node deflate.cjs call URL OPTIONS   sends messages of many sizes and kinds; prints what was negotiated
// OPTIONS: `perMessageDeflate` of `ws`, as JSON; `null` for its defaults.
"use strict";
const assert = require("node:assert");
const { once } = require("node:events");
const { WebSocket, WebSocketServer } = require("ws");

function send(socket, data, binary, isFragmented) {
  if (!isFragmented) return socket.send(data, { binary, compress: true });
  const third = Math.floor(data.length / 3);
  socket.send(data.subarray(0, third), { binary, compress: true, fin: false });
  socket.ping("between");
  socket.send(data.subarray(third, 2 * third), { binary, fin: false });
  socket.ping("between");
  socket.send(data.subarray(2 * third), { binary, fin: true });
}

function serve(options) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: options ?? true });
  server.on("listening", () => console.log(server.address().port));
  server.on("connection", (socket) => {
    socket.on("error", (error) => console.error(error));
    socket.on("message", (data, binary) => send(socket, data, binary, data.length > 1000 && data.length % 2 === 0));
  });
}

function sample(size, kind) {
  const bytes = Array.from({ length: size }, (_, i) => i);
  switch (kind) {
    case 0: return Buffer.from('{"price":101,"side":"b\u00fcy"}'.repeat(size / 20));
    case 1: return Buffer.from(bytes.map((i) => (Math.imul(i, 2654435761) >>> 13) & 255));
    case 2: return Buffer.alloc(size);
    default: return Buffer.from(bytes.map((i) => 97 + ((i * i) % 26)));
  }
}

async function call(url, options) {
  const socket = new WebSocket(url, options === null ? {} : { perMessageDeflate: options });
  let negotiated = "";
  socket.on("upgrade", ({ headers }) => (negotiated = headers["sec-websocket-extensions"] ?? ""));
  await once(socket, "open");
  let count = 0;
  for (const size of [0, 1, 2, 10, 125, 126, 127, 1000, 4096, 32767, 65535, 65536, 200000]) {
    for (const kind of [0, 1, 2, 3]) {
      const [data, binary] = [sample(size, kind), kind === 1 || kind === 2];
      const answer = once(socket, "message");
      send(socket, data, binary, count++ % 2 === 1);
      const [came, isBinary] = await answer;
      assert(isBinary === binary && data.equals(came), `${size} bytes, kind ${kind}`);
    }
  }
  console.log(negotiated);
  socket.close(1000);
  assert.strictEqual((await once(socket, "close"))[0], 1000);
  process.exitCode = 0;
}

const [mode, ...rest] = process.argv.slice(2);
process.exitCode = 1; // until proven otherwise
if (mode === "serve") serve(JSON.parse(rest[0]));
else call(rest[0], JSON.parse(rest[1]));
