// The npm package `ws` as a peer; websockets_peer.py is its twin.
//   node ws.cjs serve LIMIT               prints its port, then `PATH CODE REASON` for each connection that ended
//   node ws.cjs call SCENARIO URL LIMIT   ends with 0 when the server at URL did what SCENARIO asks for
// A last argument `http2` takes the module `http2` of Node.js below `ws`: RFC 8441, without TLS.
"use strict";
const assert = require("node:assert");
const { once } = require("node:events");
const http2 = require("node:http2");
const { WebSocket, WebSocketServer } = require("ws");

const PINGS = 1000;

function sendFragmented(socket, data, binary, pieces) {
  const size = Math.ceil(data.length / pieces);
  for (let i = 0; i < pieces; i++) socket.send(data.subarray(i * size, (i + 1) * size), { binary, fin: false });
  socket.send(Buffer.alloc(0), { binary, fin: true });
}

const routes = {
  "/echo": (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })),
  "/fragments": (socket) => socket.on("message", (data, binary) => sendFragmented(socket, data, binary, 5)),
  "/oversize": (socket, limit) => socket.send(Buffer.alloc(limit + 1)),
  "/close": (socket) => socket.close(4001, "enough"),
  // Accepts a subprotocol and does not know what to do with it.
  "/drops": (socket) => (socket.protocol ? socket.terminate() : routes["/echo"](socket)),
  "/goes": (socket) => (socket.protocol ? socket.close(1001) : routes["/echo"](socket)),
  "/refuses": (socket) => routes["/echo"](socket),
  "/pings": (socket) => {
    socket.on("pong", (data) => {
      if (data.toString() === String(PINGS - 1)) socket.send("answered");
    });
    for (let i = 0; i < PINGS; i++) socket.ping(String(i));
  },
};

function serve(limit) {
  // With its defaults it chooses whichever subprotocol is offered first.
  const verifyClient = ({ req }, accept) =>
    accept(req.url !== "/refuses" || !req.headers["sec-websocket-protocol"], 400);
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: limit, verifyClient });
  server.on("listening", () => console.log(server.address().port));
  server.on("connection", (socket, request) => accept(socket, request.url, limit));
}

function accept(socket, path, limit) {
  socket.on("error", () => {});
  socket.on("close", (code, reason) => console.log(`${path} ${code} ${reason}`));
  routes[path](socket, limit);
}

// A WebSocket whose handshake was made within HTTP/2.
function over(stream, isServer, limit) {
  stream.on("error", () => {});
  const socket = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30_000 });
  socket._isServer = isServer;
  const options = { maxPayload: limit, allowSynchronousEvents: true, skipUTF8Validation: false };
  socket.setSocket(stream, Buffer.alloc(0), options);
  return socket;
}

function serveHttp2(limit) {
  const server = http2.createServer({ settings: { enableConnectProtocol: true } });
  server.on("stream", (stream, headers) => {
    const asked = ["CONNECT", "websocket", "13"];
    assert.deepStrictEqual([":method", ":protocol", "sec-websocket-version"].map((name) => headers[name]), asked);
    stream.respond({ ":status": 200 });
    accept(over(stream, true, limit), headers[":path"], limit);
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
}

async function callHttp2(scenario, url, limit) {
  const { origin, pathname } = new URL(url.replace("ws:", "http:"));
  const session = http2.connect(origin);
  const [settings] = await once(session, "remoteSettings");
  assert(settings.enableConnectProtocol);
  const head = { ":method": "CONNECT", ":protocol": "websocket", ":path": pathname, "sec-websocket-version": "13" };
  const stream = session.request(head);
  const [answer] = await once(stream, "response");
  assert.strictEqual(answer[":status"], 200);
  await scenarios[scenario](over(stream, false), limit);
  session.close();
  process.exitCode = 0;
}

const scenarios = {
  async echo(socket, limit) {
    const texts = ["", "a", "h\u00e9llo \u2713 \u{1d11e}", "x".repeat(limit)];
    for (const text of texts) {
      socket.send(text);
      const [data, binary] = await once(socket, "message");
      assert(!binary && data.toString() === text);
    }
    for (const size of [0, 1, 125, 126, 65535, 65536, limit]) {
      const bytes = Buffer.from(Array.from({ length: size }, (_, i) => i % 251));
      socket.send(bytes);
      const [data, binary] = await once(socket, "message");
      assert(binary && data.equals(bytes));
    }
    socket.close(1000);
    assert.strictEqual((await once(socket, "close"))[0], 1000);
  },
  async fragments(socket) {
    const text = "h\u00e9llo \u2713 \u{1d11e}".repeat(100);
    for (const binary of [false, true]) {
      sendFragmented(socket, Buffer.from(text), binary, 71);
      const [data, isBinary] = await once(socket, "message");
      assert(isBinary === binary && data.toString() === text);
    }
    socket.close();
  },
  async oversize(socket, limit) {
    socket.on("error", () => {});
    socket.send(Buffer.alloc(limit + 1));
    assert.strictEqual((await once(socket, "close"))[0], 1009);
  },
  async pings(socket) {
    const pongs = [];
    socket.on("pong", (data) => pongs.push(Number(data.toString())));
    for (let i = 0; i < PINGS; i++) socket.ping(String(i));
    while (pongs.at(-1) !== PINGS - 1) await once(socket, "pong");
    assert(pongs.every((pong, i) => i === 0 || pongs[i - 1] < pong));
    socket.send("still there");
    assert.strictEqual((await once(socket, "message"))[0].toString(), "still there");
    socket.close();
  },
  async close(socket) {
    socket.close(4002, "that is all");
    assert.strictEqual((await once(socket, "close"))[0], 4002);
  },
  async closed(socket) {
    const [code, reason] = await once(socket, "close");
    assert.strictEqual(`${code} ${reason}`, "4001 enough");
  },
  // The server drains once it has the message.
  async drained(socket) {
    socket.send("go");
    const [code, reason] = await once(socket, "close");
    assert.strictEqual(code, 1012);
    assert.match(reason.toString(), /^the server restarts; return-after-ms=\d+$/);
  },
};

async function call(scenario, url, limit) {
  const socket = new WebSocket(url);
  // What the server says at once arrives in the same turn as `open`: listen before.
  const done = scenario === "closed" ? scenarios.closed(socket) : once(socket, "open").then(() => scenarios[scenario](socket, limit));
  await done;
  process.exitCode = 0;
}

const [mode, ...rest] = process.argv.slice(2);
process.exitCode = 1; // until proven otherwise
const isHttp2 = rest.at(-1) === "http2";
if (mode === "serve") (isHttp2 ? serveHttp2 : serve)(Number(rest[0]));
else (isHttp2 ? callHttp2 : call)(rest[0], rest[1], Number(rest[2]));
