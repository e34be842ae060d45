// Node's `rpc-websockets` and `vscode-jsonrpc` as JSON-RPC peers; json_rpc_peer.py is their twin. `vscode-jsonrpc` speaks
// LSP's framing over TCP.
//
// json_rpc.cjs LIBRARY serve          prints its port
// json_rpc.cjs LIBRARY call ADDRESS   ends with 0 when the server there did what it was asked
const assert = require("node:assert/strict");
const net = require("node:net");

const FIELDS = { text: "h\u00e9llo \u2713", list: [1, [2.5, null]], deep: { a: true } };
const sumOf = (numbers) => numbers.reduce((sum, number) => sum + number, 0);

const websockets = {
  serve() {
    const { Server } = require("rpc-websockets");
    const server = new Server({ port: 0, host: "127.0.0.1" });
    const notes = [];
    server.register("sum", sumOf);
    server.register("echo", (fields) => fields);
    server.register("fail", () => {
      throw server.createError(7, "as asked", { why: "a test" });
    });
    server.register("note", ([text]) => void notes.push(text));
    server.register("notes", () => notes);
    server.on("listening", () => console.log(server.wss.address().port));
  },

  async call(url) {
    const { Client } = require("rpc-websockets");
    const client = new Client(url, { reconnect: false });
    await new Promise((resolve) => client.once("open", resolve));
    assert.equal(await client.call("sum", [1, 2, 3]), 6);
    assert.deepEqual(await client.call("echo", FIELDS), FIELDS);
    await assert.rejects(client.call("fail"), { code: 7, message: "as asked" });
    await assert.rejects(client.call("nothing"), { code: -32601 });
    await client.notify("note", ["one"]);
    await client.notify("note", ["two"]);
    assert.deepEqual(await client.call("notes"), ["one", "two"]);
    const sums = await Promise.all(Array.from({ length: 200 }, (_, number) => client.call("sum", [number, 1])));
    assert.deepEqual(sums, Array.from({ length: 200 }, (_, number) => number + 1));
    client.close();
  },
};

const vscode = {
  connection(socket) {
    const { createMessageConnection, ResponseError, SocketMessageReader, SocketMessageWriter } = require("vscode-jsonrpc/node");
    const connection = createMessageConnection(new SocketMessageReader(socket), new SocketMessageWriter(socket));
    const notes = [];
    let cancelled = 0;
    connection.onRequest("sum", (...numbers) => sumOf(numbers.filter((number) => typeof number === "number")));
    connection.onRequest("echo", (fields) => fields);
    connection.onRequest("fail", () => new ResponseError(7, "as asked", { why: "a test" }));
    connection.onRequest("never", (token) => new Promise(() => token.onCancellationRequested(() => cancelled++)));
    connection.onRequest("cancelled", () => cancelled);
    connection.onNotification("note", (text) => notes.push(text));
    connection.onRequest("notes", () => notes);
    // Asks the caller in turn.
    connection.onRequest("twice", async (number) => (await connection.sendRequest("sum", number, number)));
    connection.listen();
    return connection;
  },

  serve() {
    const server = net.createServer((socket) => vscode.connection(socket));
    server.listen(0, "127.0.0.1", () => console.log(server.address().port));
  },

  async call(address) {
    const { CancellationTokenSource } = require("vscode-jsonrpc/node");
    const socket = net.connect(Number(address.split(":")[1]), "127.0.0.1");
    const connection = vscode.connection(socket);
    assert.equal(await connection.sendRequest("sum", 1, 2, 3), 6);
    assert.deepEqual(await connection.sendRequest("echo", FIELDS), FIELDS);
    await assert.rejects(connection.sendRequest("fail"), { code: 7, message: "as asked" });
    await assert.rejects(connection.sendRequest("nothing"), { code: -32601 });
    await connection.sendNotification("note", "one");
    await connection.sendNotification("note", "two");
    assert.deepEqual(await connection.sendRequest("notes"), ["one", "two"]);
    const source = new CancellationTokenSource();
    const never = connection.sendRequest("never", source.token);
    source.cancel();
    await assert.rejects(never, { code: -32800 });
    // The server asks this end, while it is asked.
    assert.equal(await connection.sendRequest("twice", 21), 42);
    socket.end();
  },
};

const [library, role, address] = process.argv.slice(2);
const peer = { "rpc-websockets": websockets, vscode }[library];
if (role === "serve") peer.serve();
else
  peer.call(address).catch((error) => {
    console.error(error);
    process.exit(1);
  });
