"""The Python packages `jsonrpcclient` and `jsonrpcserver` over `websockets` as a JSON-RPC peer; json_rpc.cjs is its twin.

json_rpc_peer.py serve      prints its port
json_rpc_peer.py call URL   ends with 0 when the server at URL did what it was asked
"""

import asyncio
import json
import sys

from jsonrpcclient import Error, Ok, notification_json, parse, parse_json, request, request_json
from jsonrpcserver import Error as Failure
from jsonrpcserver import Success, async_dispatch, method
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

notes = []


@method
async def sum(*numbers):
    total = 0
    for number in numbers:
        total += number
    return Success(total)


@method
async def echo(**fields):
    return Success(fields)


@method
async def fail():
    return Failure(7, "as asked", {"why": "a test"})


@method(name="note")
async def note(text):
    notes.append(text)
    return Success()


@method(name="notes")
async def list_notes():
    return Success(notes)


async def handle(socket):
    async for message in socket:
        answer = await async_dispatch(message)
        if answer:
            await socket.send(answer)


async def run_server():
    async with serve(handle, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


async def call(url):
    async with connect(url) as socket:

        async def ask(text):
            await socket.send(text)
            return parse_json(await socket.recv())

        assert (await ask(request_json("sum", params=[1, 2, 3]))).result == 6
        fields = {"text": "h\u00e9llo \u2713", "list": [1, [2.5, None]], "deep": {"a": True}}
        assert (await ask(request_json("echo", params=fields))).result == fields
        # An identifier of another kind.
        answer = await ask(request_json("sum", params=[4], id="a name"))
        assert answer == Ok(4, "a name"), answer
        answer = await ask(request_json("fail"))
        assert isinstance(answer, Error) and (answer.code, answer.message, answer.data) == (7, "as asked", {"why": "a test"})
        answer = await ask(request_json("nothing"))
        assert isinstance(answer, Error) and answer.code == -32601, answer
        for text in ("one", "two"):
            await socket.send(notification_json("note", params=[text]))
        assert (await ask(request_json("notes"))).result == ["one", "two"]

        batch = [request("sum", params=[number, 1]) for number in range(10)]
        batch.append({"jsonrpc": "2.0", "method": "note", "params": ["in a batch"]})
        batch.append(request("fail"))
        await socket.send(json.dumps(batch))
        answers = sorted(parse(json.loads(await socket.recv())), key=lambda answer: answer.id)
        assert [answer.result for answer in answers[:-1]] == list(range(1, 11)), answers
        assert answers[-1].code == 7
        # What is no JSON, and what is no request.
        for text, code in (("{", -32700), ("[]", -32600), ("1", -32600)):
            answer = await ask(text)
            assert isinstance(answer, Error) and answer.code == code, (text, answer)


asyncio.run(run_server() if sys.argv[1] == "serve" else call(sys.argv[2]))
