"""The Python packages `websockets` and `aiohttp` with permessage-deflate; deflate.cjs is their twin.

deflate_peer.py PACKAGE serve OPTIONS      prints its port, then echoes; with `websockets`, large messages in fragments
deflate_peer.py PACKAGE call URL OPTIONS   sends messages of many sizes and kinds; prints what was negotiated

OPTIONS: JSON. For `websockets` the parameters of its extension factory (`null`: its defaults), for `aiohttp` the
`compress` of its client: a window of 9 to 15 bits.
"""

import asyncio
import json
import sys

MAX = 1 << 22


def samples():
    for size in (0, 1, 2, 10, 125, 126, 127, 1000, 4096, 32767, 65535, 65536, 200000):
        yield '{"price":101,"side":"b\u00fcy"}' * (size // 20)
        yield bytes((i * 2654435761 >> 13) & 255 for i in range(size))
        yield bytes(size)
        yield "".join(chr(97 + i * i % 26) for i in range(size))


def fragments(message):
    third = len(message) // 3
    return [message[:third], message[third : 2 * third], message[2 * third :]]


class Websockets:
    @staticmethod
    async def serve(options):
        from websockets.asyncio.server import serve
        from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

        async def echo(socket):
            async for message in socket:
                await socket.send(fragments(message) if len(message) > 1000 and len(message) % 2 == 0 else message)

        kind = {} if options is None else {"compression": None, "extensions": [ServerPerMessageDeflateFactory(**options)]}
        async with serve(echo, "127.0.0.1", 0, max_size=MAX, **kind) as server:
            print(server.sockets[0].getsockname()[1], flush=True)
            await server.serve_forever()

    @staticmethod
    async def call(url, options):
        from websockets.asyncio.client import connect
        from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

        kind = {} if options is None else {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**options)]}
        async with connect(url, max_size=MAX, **kind) as socket:
            for count, message in enumerate(samples()):
                await socket.send(fragments(message) if count % 2 else message)
                if count % 3 == 0:
                    await socket.ping()
                assert await socket.recv() == message, (count, len(message))
            print(socket.response.headers.get("Sec-WebSocket-Extensions", ""))


class Aiohttp:
    @staticmethod
    async def serve(_options):
        from aiohttp import WSMsgType, web

        async def echo(request):
            socket = web.WebSocketResponse(max_msg_size=MAX)
            await socket.prepare(request)
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type == WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
            return socket

        app = web.Application()
        app.router.add_get("/", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    @staticmethod
    async def call(url, options):
        from aiohttp import ClientSession

        async with ClientSession() as session, session.ws_connect(url, compress=options, max_msg_size=MAX) as socket:
            assert socket.compress
            for message in samples():
                if isinstance(message, str):
                    await socket.send_str(message)
                else:
                    await socket.send_bytes(message)
                assert (await socket.receive()).data == message, len(message)
            print(socket._response.headers.get("Sec-WebSocket-Extensions", ""))


peer = {"websockets": Websockets, "aiohttp": Aiohttp}[sys.argv[1]]
if sys.argv[2] == "serve":
    asyncio.run(peer.serve(json.loads(sys.argv[3])))
else:
    asyncio.run(peer.call(sys.argv[3], json.loads(sys.argv[4])))
