"""`POST /v1/denoise`: a WAV file in, the same without noise out, for scripts.

The upload is kept in a temporary file until it is complete, since many clients read nothing before that; then it runs
as a stream like any other, on credits, and the answer goes out while it does.
"""

import asyncio
import tempfile

from aiohttp import web

from gateway._pb import denoise_pb2 as pb
from gateway.control.stream_account import Account
from gateway.control.stream_errors import StreamError
from gateway.control.stream_session import BYPASS, ENCODING, MUSIC, Desk, Session
from gateway.errors import CallerError
from gateway.protocol import wav

PIECE_BYTES = 8192
IN_MEMORY_BYTES = 1 << 20
FULL_LOOK_S = 0.02
STATUS = {"INVALID_ARGUMENT": 400, "RESOURCE_EXHAUSTED": 503, "UNAVAILABLE": 503}
KNOWN = ("level", "music", "bypass")


class Rest:
    """The handler."""

    def __init__(self, desk: Desk, upload_max_mb: int) -> None:
        self._desk, self._most = desk, upload_max_mb * 1_000_000
        self._account = Account("http")

    async def denoise(self, request: web.Request) -> web.StreamResponse:
        """`?level=80&music=pass&bypass=auto`, the body a WAV file of one channel; answers with one of its length."""
        try:
            controls = parse_query(dict(request.query))
            with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file:
                length = await self._receive(request, file)
                file.seek(0)
                recording = wav.parse(file.read(wav.HEADER_BYTES), length)
                file.seek(recording.begin)
                return await self._answer(request, file, recording, controls)
        except StreamError as error:
            hint = {"error": str(error), "hint": "see the error, or try again later"}
            return web.json_response(hint, status=STATUS.get(error.status, 500))

    async def _receive(self, request: web.Request, file: "tempfile.SpooledTemporaryFile[bytes]") -> int:
        """Keep the body; returns its length."""
        length = 0
        async for piece in request.content.iter_any():
            length += len(piece)
            if length > self._most:
                hint = {"error": f"the body is longer than {self._most} bytes", "hint": "raise admin.upload_max_mb"}
                raise web.HTTPRequestEntityTooLarge(self._most, length, text=str(hint))
            file.write(piece)
        return length

    async def _answer(
        self,
        request: web.Request,
        file: "tempfile.SpooledTemporaryFile[bytes]",
        recording: wav.Wav,
        controls: pb.Controls,
    ) -> web.StreamResponse:
        ready = asyncio.Event()
        session = Session(self._desk, self._account, ready.set, ready.set)
        feeder: asyncio.Task[None] | None = None
        status = "CANCELLED"
        try:
            encoding = next(key for key, name in ENCODING.items() if name == recording.encoding)
            configuration = pb.Configuration(
                sample_rate_hz=recording.rate_hz, encoding=encoding, controls=controls, label="POST /v1/denoise"
            )
            session.handle(pb.DenoiseRequest(configuration=configuration))
            response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
            head = wav.header(recording.encoding, recording.rate_hz, recording.size)
            response.content_length = len(head) + recording.size
            await response.prepare(request)
            await response.write(head)
            feeder = asyncio.ensure_future(feed(session, file, recording.size))
            await write(session, ready, response)
            status = "OK"
            await response.write_eof()
            return response
        finally:
            if feeder is not None:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)
            session.close(session.failure.status if session.failure is not None else status)


async def feed(session: Session, file: "tempfile.SpooledTemporaryFile[bytes]", size: int) -> None:
    """The whole recording, as fast as it may go."""
    try:
        while size > 0 and (piece := file.read(min(PIECE_BYTES, size))):
            size -= len(piece)
            session.handle(pb.DenoiseRequest(audio=piece))
            while session.full:
                session.heard()
                await asyncio.sleep(FULL_LOOK_S)
        session.end()
    except StreamError as error:
        session.fail(error)


async def write(session: Session, ready: asyncio.Event, response: web.StreamResponse) -> None:
    """What comes back, without the delay; raises ConnectionError where the stream fails, so that the answer is cut."""
    assert session.stream is not None
    skip = session.stream.delay * session.stream.coding.sample_bytes
    while not session.finished:
        await ready.wait()
        ready.clear()
        if session.failure is not None:
            raise ConnectionError(str(session.failure))
        for each in session.take():
            audio = each.audio[skip:]
            skip = max(0, skip - len(each.audio))
            if audio:
                await response.write(audio)


def parse_query(query: dict[str, str]) -> pb.Controls:
    """The controls of a query string; raises CallerError."""
    unknown = set(query) - set(KNOWN)
    if unknown:
        raise CallerError(f"{', '.join(sorted(unknown))[:100]}: unknown; known are {', '.join(KNOWN)}")
    controls = pb.Controls()
    if "level" in query:
        if not query["level"].isascii() or not query["level"].isdigit() or int(query["level"][:9]) > 100:
            raise CallerError("level must be a whole number from 0 to 100")
        controls.level = int(query["level"])
    for name, names in (("music", MUSIC), ("bypass", BYPASS)):
        if name in query and query[name] not in names.values():
            raise CallerError(f"{name} must be one of {', '.join(names.values())}")
    if "music" in query:
        controls.music = next(key for key, value in MUSIC.items() if value == query["music"])
    if "bypass" in query:
        controls.bypass = next(key for key, value in BYPASS.items() if value == query["bypass"])
    return controls
