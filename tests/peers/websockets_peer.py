"""The Python package `websockets` as a peer; ws.cjs is its twin.

websockets_peer.py serve LIMIT               prints its port, then `PATH CODE REASON` for each connection that ended
websockets_peer.py call SCENARIO URL LIMIT   ends with 0 when the server at URL did what SCENARIO asks for
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

PINGS = 1000
TEXT = "h\u00e9llo \u2713 \U0001d11e"


def pieces(data, count):
    size = -(-len(data) // count)
    return [data[i * size : (i + 1) * size] for i in range(count)] + [data[:0]]


async def storm(socket):
    """Sends pings without waiting in between, then waits for the last pong."""
    pongs = [await socket.ping(str(i)) for i in range(PINGS)]
    await pongs[-1]


async def handle(socket, limit):
    path = socket.request.path
    try:
        if path == "/oversize":
            await socket.send(bytes(limit + 1))
        elif path == "/close":
            await socket.close(4001, "enough")
        elif path == "/pings":
            await storm(socket)
            await socket.send("answered")
        async for message in socket:
            await socket.send(pieces(message, 5) if path == "/fragments" else message)
    except ConnectionClosed:
        pass
    await socket.wait_closed()
    print(path, socket.close_code, socket.close_reason, flush=True)


async def run_server(limit):
    handler = lambda socket: handle(socket, limit)
    async with serve(handler, "127.0.0.1", 0, max_size=limit, subprotocols=["chat"], select_subprotocol=choose) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


def choose(_connection, offered):
    return "chat" if "chat" in offered else None


async def echo(socket, limit):
    payloads = ["", "a", TEXT, "x" * limit]
    payloads += [bytes(i % 251 for i in range(size)) for size in (0, 1, 125, 126, 65535, 65536, limit)]
    for payload in payloads:
        await socket.send(payload)
        assert await socket.recv() == payload
    await socket.close(1000)
    assert socket.close_code == 1000, socket.close_code


async def fragments(socket, _limit):
    for payload in (TEXT * 100, TEXT.encode() * 100):
        await socket.send(pieces(payload, 71))
        assert await socket.recv() == payload


async def oversize(socket, limit):
    await socket.send(bytes(limit + 1))
    await socket.wait_closed()
    assert socket.close_code == 1009, socket.close_code


async def pings(socket, _limit):
    await storm(socket)
    await socket.send("still there")
    assert await socket.recv() == "still there"


async def close(socket, _limit):
    await socket.close(4002, "that is all")
    assert socket.close_code == 4002, socket.close_code


async def closed(socket, _limit):
    await socket.wait_closed()
    assert (socket.close_code, socket.close_reason) == (4001, "enough"), socket.close_code


# The server drains once it has the message.
async def drained(socket, _limit):
    await socket.send("go")
    await socket.wait_closed()
    assert socket.close_code == 1012, socket.close_code
    reason, hint = socket.close_reason.split("; return-after-ms=")
    assert reason == "the server restarts" and int(hint) < 5000, socket.close_reason


async def call(scenario, url, limit):
    async with connect(url, max_size=limit) as socket:
        await globals()[scenario](socket, limit)


if sys.argv[1] == "serve":
    asyncio.run(run_server(int(sys.argv[2])))
else:
    asyncio.run(call(sys.argv[2], sys.argv[3], int(sys.argv[4])))
