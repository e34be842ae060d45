"""The Python package `httpx-sse` as a peer; sse.cjs is its twin.

httpx_sse_peer.py URL   reads until the server says that there is no more (204), then prints what came, as JSON:
                        [TYPE, DATA, LAST EVENT ID] for each event
"""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

came = []
last_event_id, retry = None, 0

with httpx.Client(trust_env=False, timeout=20) as client:
    while True:
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        with connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
            if source.response.status_code == 204:
                break
            try:
                for event in source.iter_sse():
                    retry = event.retry if event.retry is not None else retry
                    # It also gives what has no data, which is no event.
                    if event.data:
                        last_event_id = event.id
                        came.append([event.event, event.data, event.id])
            except httpx.RemoteProtocolError:
                pass  # a cut
        time.sleep(retry / 1000)

print(json.dumps(came))
