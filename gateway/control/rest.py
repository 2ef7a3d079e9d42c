"""`POST /v1/denoise`: a WAV file in, the same without noise out, for scripts.

The upload is kept in a temporary file until it is complete, since many clients read nothing before that; then it runs
as a stream like any other, on credits, and the answer goes out while it does.
"""

import asyncio
import contextlib
import tempfile

from aiohttp import web

from gateway._pb import denoise_pb2 as pb
from gateway.control.conversation import converse
from gateway.control.stream_account import Account, Accounts
from gateway.control.stream_errors import StreamError, as_stream_error
from gateway.control.stream_session import BYPASS, ENCODING, MUSIC, Desk, Session
from gateway.errors import CallerError
from gateway.protocol import wav

PIECE_BYTES = 8192
IN_MEMORY_BYTES = 1 << 20
FULL_LOOK_S = 0.02
STATUS = {"INVALID_ARGUMENT": 400, "UNAUTHENTICATED": 401, "RESOURCE_EXHAUSTED": 503, "UNAVAILABLE": 503}
HINTS = {401: "send the header 'Authorization: Bearer TOKEN'", 503: "try again later"}
KNOWN = ("level", "music", "bypass")
File = tempfile.SpooledTemporaryFile[bytes]


class RefusedError(CallerError):
    """A request that HTTP has a status of its own for."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.status, self.hint = status, hint


class Rest:
    """The handler."""

    def __init__(self, desk: Desk, accounts: Accounts, upload_max_mb: int) -> None:
        self._desk, self._accounts, self._most = desk, accounts, upload_max_mb * 1_000_000
        self._patience_s = desk.config.grpc.idle_timeout_s

    async def denoise(self, request: web.Request) -> web.StreamResponse:
        """`?level=80&music=pass&bypass=auto`, the body a WAV file of one channel; answers with one of its length."""
        try:
            account = await self._accounts.of(request.headers.get("Authorization"))
            controls = parse_query(dict(request.query))
            with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file:
                return await self._serve(request, file, account, controls)
        except RefusedError as error:
            return web.json_response({"error": str(error), "hint": error.hint}, status=error.status)
        except StreamError as error:
            return refusal(error)
        except ConnectionError:
            return web.Response(status=400)  # nobody is there to read it

    async def _serve(
        self, request: web.Request, file: File, account: Account, controls: pb.Controls
    ) -> web.StreamResponse:
        """The stream is there from the first byte on, so that the limit of streams is one of uploads too."""
        ready, failed = asyncio.Event(), asyncio.Event()
        session = Session(self._desk, account, ready.set, failed.set)
        status = "CANCELLED"
        try:
            length = await self._receive(request, file, session)
            file.seek(0)
            recording = wav.parse(file.read(wav.HEADER_BYTES), length)
            file.seek(recording.begin)
            session.handle(pb.DenoiseRequest(configuration=configured(recording, controls)))
            response = await begin(request, recording)
            with contextlib.suppress(ConnectionError):
                work = feed(session, file, recording.size), write(session, ready, response)
                await converse(*work, failed, lambda error: session.fail(broken(error)))
                if session.failure is None:
                    await response.write_eof()
                    status = "OK"
            if status != "OK" and request.transport is not None:
                request.transport.abort()  # an answer that is cut must not look whole
            return response
        except (CallerError, ConnectionError) as error:
            status = broken(error).status
            raise
        except Exception as error:  # a full disk, say: ours to answer for, not the client's to have gone
            failure = as_stream_error(error)
            status = failure.status
            raise failure from error
        finally:
            session.close(session.failure.status if session.failure is not None else status)

    async def _receive(self, request: web.Request, file: File, session: Session) -> int:
        """Keep the body; returns its length."""
        length = 0
        self._measure(request.content_length or 0)
        try:
            while True:
                async with asyncio.timeout(self._patience_s):
                    piece = await request.content.readany()
                if not piece:
                    return length
                session.heard()
                length += len(piece)
                self._measure(length)
                file.write(piece)
        except TimeoutError:
            message = f"nothing of the body came for {self._patience_s:g} s"
            raise RefusedError(408, message, "send faster, or raise grpc.idle_timeout_s") from None
        except web.RequestPayloadError as error:
            raise RefusedError(400, f"the body is broken: {error}", "see RFC 9112 on chunks") from None

    def _measure(self, length: int) -> None:
        if length > self._most:
            message = f"the recording is longer than {self._most} bytes"
            raise RefusedError(413, message, "send it in parts, or raise admin.upload_max_mb")


def refusal(error: StreamError) -> web.Response:
    """A stream's error before the answer has begun."""
    status = STATUS.get(error.status, 500)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return web.json_response({"error": str(error), "hint": HINTS.get(status, "see the error")}, status=status,
                             headers=headers)  # fmt: skip


def configured(recording: wav.Wav, controls: pb.Controls) -> pb.Configuration:
    """The configuration of a recording's stream."""
    encoding = next(key for key, name in ENCODING.items() if name == recording.encoding)
    return pb.Configuration(
        sample_rate_hz=recording.rate_hz, encoding=encoding, controls=controls, label="POST /v1/denoise"
    )


async def begin(request: web.Request, recording: wav.Wav) -> web.StreamResponse:
    """The answer's headers and the recording's."""
    response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
    head = wav.header(recording.encoding, recording.rate_hz, recording.size)
    response.content_length = len(head) + recording.size
    await response.prepare(request)
    await response.write(head)
    return response


async def feed(session: Session, file: File, size: int) -> None:
    """The whole recording, as fast as it may go."""
    while size > 0 and (piece := file.read(min(PIECE_BYTES, size))):
        size -= len(piece)
        session.handle(pb.DenoiseRequest(audio=piece))
        while session.full:
            session.heard()
            await asyncio.sleep(FULL_LOOK_S)
    session.end()


async def write(session: Session, ready: asyncio.Event, response: web.StreamResponse) -> None:
    """What comes back, without the delay."""
    assert session.stream is not None
    skip = session.stream.delay * session.stream.coding.sample_bytes
    while not session.finished:
        await ready.wait()
        ready.clear()
        for each in session.take():
            audio = each.audio[skip:]
            skip = max(0, skip - len(each.audio))
            if audio:
                await response.write(audio)
        session.written()


def broken(error: Exception) -> StreamError:
    """What an exception means that was raised in reading the recording or in writing the answer."""
    gone = isinstance(error, ConnectionError)
    return StreamError("CANCELLED", "the client is gone") if gone else as_stream_error(error)


def parse_query(query: dict[str, str]) -> pb.Controls:
    """The controls of a query string; raises CallerError."""
    unknown = set(query) - set(KNOWN)
    if unknown:
        raise CallerError(f"{', '.join(sorted(unknown))[:100]}: unknown; known are {', '.join(KNOWN)}")
    controls = pb.Controls()
    if "level" in query:
        text = query["level"]
        if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > 100:
            raise CallerError("level must be a whole number from 0 to 100")
        controls.level = int(text)
    for name, names in (("music", MUSIC), ("bypass", BYPASS)):
        if name in query and query[name] not in names.values():
            raise CallerError(f"{name} must be one of {', '.join(names.values())}")
    if "music" in query:
        controls.music = next(key for key, value in MUSIC.items() if value == query["music"])
    if "bypass" in query:
        controls.bypass = next(key for key, value in BYPASS.items() if value == query["bypass"])
    return controls
