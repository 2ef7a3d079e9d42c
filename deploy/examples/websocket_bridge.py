"""A bridge for websocket media streams of the kind that Twilio and others send: JSON, mu-law of 8 kHz in base64.

    python websocket_bridge.py [TARGET] [PORT]

Each `media` frame goes to the gateway; what comes back is sent as a `media` frame of the same stream. Connect the
provider's <Stream url="wss://…/media"> to it, behind a proxy that ends TLS.
"""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web

from gateway.client import DenoiseClient, DenoiseError


async def audio_of(socket: web.WebSocketResponse, name: list[str]) -> AsyncIterator[bytes]:
    """The audio of a socket; name gets the stream's."""
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        if event.get("event") == "start":
            name.append(event["start"]["streamSid"])
        elif event.get("event") == "media":
            yield base64.b64decode(event["media"]["payload"])
        elif event.get("event") == "stop":
            return


async def bridge(request: web.Request) -> web.WebSocketResponse:
    """One call."""
    socket = web.WebSocketResponse(max_msg_size=65536)
    await socket.prepare(request)
    name: list[str] = []
    try:
        async for audio in request.app["client"].stream(audio_of(socket, name), 8000, encoding="mulaw"):
            payload = base64.b64encode(audio).decode()
            await socket.send_json(
                {"event": "media", "streamSid": name[0] if name else "", "media": {"payload": payload}}
            )
    except (DenoiseError, ValueError, KeyError) as error:
        await socket.close(message=str(error).encode()[:120])
    await socket.close()
    return socket


async def connected(app: web.Application) -> AsyncIterator[None]:
    """One client for all calls."""
    async with DenoiseClient(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051") as client:
        app["client"] = client
        yield


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(connected)
    app.router.add_get("/media", bridge)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]) if len(sys.argv) > 2 else 8081)


if __name__ == "__main__":
    asyncio.set_event_loop(asyncio.new_event_loop())
    main()
