"""A client of DenoiseStream: audio in, the same audio without noise out.

    async with DenoiseClient("gateway:50051", token="…", ca=Path("ca.pem")) as client:
        async for audio in client.stream(frames, rate=8000):
            play(audio)

`SyncDenoiseClient` does it with plain `with` and `for`. What comes back is `delay` samples behind what went in, and
with `align=True` it is not: the first `delay` samples, silence, are left out. When the gateway goes away in
mid-stream, the client connects again; what had not come back is given out as it was, so no sample is lost or repeated.
"""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from gateway._pb import denoise_pb2 as pb
from gateway._pb import denoise_pb2_grpc as pb_grpc
from gateway.errors import GatewayError

Frames = Iterable[bytes] | AsyncIterable[bytes]
Item = TypeVar("Item")
_INTERNAL_CORE = "Internal error from Core"
"""grpc.aio's own words; a gateway's have another message."""
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""The gateway has gone away: another connection may find it, or another gateway behind the same name."""
SAMPLE_BYTES = {pb.ENCODING_S16LE: 2, pb.ENCODING_F32LE: 4, pb.ENCODING_MULAW: 1, pb.ENCODING_ALAW: 1}
SILENCE = {pb.ENCODING_S16LE: b"\0", pb.ENCODING_F32LE: b"\0", pb.ENCODING_MULAW: b"\xff", pb.ENCODING_ALAW: b"\xd5"}


class DenoiseError(GatewayError):
    """The gateway has refused or ended a stream; the message says what to change."""

    def __init__(self, status: str, message: str) -> None:
        """status: a name of grpc.StatusCode."""
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How often to try again when the gateway goes away, before the stream ends with an error."""

    attempts: int = 5
    """In a row; 0 never tries again."""
    first_wait_s: float = 0.1
    """Doubled with every attempt."""
    longest_wait_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a stream carries and how it is treated; None leaves the choice to the gateway."""

    rate: int
    """8000, 16000 or 48000 Hz."""
    encoding: str = "s16le"
    """`s16le`, `f32le`, `mulaw` or `alaw`."""
    denoise: bool | None = None
    level: int | None = None
    """0 to 100: 0.3 dB a step."""
    music: str | None = None
    """`pass` or `suppress`."""
    bypass: str | None = None
    """`auto`, `on` or `off`."""
    model: str = ""
    label: str = ""
    """A name for the gateway's log."""

    def message(self) -> pb.Configuration:
        """For the wire; raises DenoiseError."""
        return pb.Configuration(
            sample_rate_hz=self.rate, encoding=self.number(), model=self.model, label=self.label,
            controls=controls(self.denoise, self.level, self.music, self.bypass), report_quality=True,
        )  # fmt: skip

    def number(self) -> pb.Encoding.ValueType:
        """The encoding's; raises DenoiseError."""
        return pb.Encoding.ValueType(_number(pb.Encoding, f"ENCODING_{self.encoding.upper()}"))


def controls(
    denoise: bool | None = None, level: int | None = None, music: str | None = None, bypass: str | None = None
) -> pb.Controls:
    """Controls for the wire; raises DenoiseError."""
    message = pb.Controls(denoise=denoise)
    if level is not None:
        message.level = level
    if music is not None:
        message.music = pb.Music.ValueType(_number(pb.Music, f"MUSIC_{music.upper()}"))
    if bypass is not None:
        message.bypass = pb.Bypass.ValueType(_number(pb.Bypass, f"BYPASS_{bypass.upper()}"))
    return message


def _number(names: Any, name: str) -> int:
    if name not in names.keys():  # noqa: SIM118  # an enum of protobuf is no mapping
        known = ", ".join(key.split("_", 1)[1].lower() for key in names.keys()[1:])
        raise DenoiseError("INVALID_ARGUMENT", f"{name.split('_', 1)[1].lower()} is unknown: use one of {known}")
    return int(names.Value(name))


class Stream:
    """A stream that is open: iterate over it, and change its controls meanwhile."""

    def __init__(self, client: "DenoiseClient", frames: Frames, settings: Settings, align: bool) -> None:
        self._client, self._frames, self._settings, self._align = client, aiter_of(frames), settings, align
        self._sample_bytes, self._silence = SAMPLE_BYTES[settings.number()], SILENCE[settings.number()]
        self._kept = bytearray()
        """What was sent, from `delay` before what comes back next."""
        self._sent = self._returned = 0
        self._over = False
        self._coming: asyncio.Task[bytes | None] | None = None
        self._call: Any = None
        self._turn = asyncio.Lock()
        """gRPC takes one message of a call at a time."""
        self._changes = controls(settings.denoise, settings.level, settings.music, settings.bypass)
        self.delay = 0
        """Samples by which the audio is behind; known with the first audio."""
        self.summary: pb.Summary | None = None
        """Known at the end."""
        self.reconnects = 0

    async def change(
        self,
        *,
        denoise: bool | None = None,
        level: int | None = None,
        music: str | None = None,
        bypass: str | None = None,
    ) -> None:
        """Other controls from now on; what is left out stays. While the gateway is away nobody waits: the next
        connection begins with them."""
        message = controls(denoise, level, music, bypass)
        self._changes.MergeFrom(message)
        if self._call is not None:
            await self._write(self._call, pb.DenoiseRequest(controls=message))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for audio in self._connections():
                yield audio
        finally:
            if self._coming is not None:
                self._coming.cancel()

    async def _connections(self) -> AsyncIterator[bytes]:
        """Audio of one connection after the other."""
        attempt, policy = 0, self._client.reconnect
        while True:
            before = self._returned
            try:
                async for audio in self._converse():
                    if audio := self._aligned(audio):
                        yield audio
                return
            except grpc.aio.AioRpcError as error:
                attempt = 1 if self._returned > before else attempt + 1
                if not lost(error) or attempt > policy.attempts:
                    raise DenoiseError(error.code().name, error.details() or "") from None
            self.reconnects += 1
            if audio := self._aligned(self._unreturned()):
                yield audio
            await asyncio.sleep(min(policy.first_wait_s * 2 ** (attempt - 1), policy.longest_wait_s))

    async def _converse(self) -> AsyncIterator[bytes]:
        """One connection's worth of audio."""
        self._call = call = self._client.stub.DenoiseStream(metadata=self._client.metadata)
        configuration = self._settings.message()
        configuration.controls.MergeFrom(self._changes)
        sender: asyncio.Task[None] | None = None
        silent = 0
        try:
            await self._write(call, pb.DenoiseRequest(configuration=configuration))
            async for response in call:
                kind = response.WhichOneof("message")
                if kind == "started":
                    silent = self._start(response.started.delay_samples)
                    sender = asyncio.ensure_future(self._send(call))
                    sender.add_done_callback(lambda task: None if succeeded(task) else call.cancel())
                elif kind == "audio":
                    audio = response.audio
                    if silent:  # the new stream begins with silence: the old one's tail belongs there
                        audio = bytes(self._kept[: min(silent, len(audio))]) + audio[silent:]
                        silent = max(0, silent - len(response.audio))
                    self._came(len(audio))
                    yield audio
                elif kind == "summary":
                    self.summary = response.summary
        except asyncio.CancelledError:
            if sender is not None and sender.done() and not succeeded(sender):
                sender.result()  # the caller's frames have failed
            raise
        finally:
            self._call = None
            call.cancel()
            if sender is not None:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    def _start(self, delay: int) -> int:
        """A connection begins. Returns the bytes of its silence that are to be replaced."""
        size = delay * self._sample_bytes
        if not self.delay:
            self.delay = delay
            self._kept[:0] = self._silence * size
        return size if self._sent else 0

    async def _send(self, call: Any) -> None:
        while not self._over:
            audio = await self._next()
            if audio is None:
                self._over = True
                break
            self._kept += audio
            self._sent += len(audio)
            if not await self._write(call, pb.DenoiseRequest(audio=audio)):
                return
        await call.done_writing()

    async def _next(self) -> bytes | None:
        """The caller's next frame. It is waited for across connections: cancelling an async generator would end it."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(pull(self._frames))
        audio = await asyncio.shield(self._coming)
        self._coming = None
        return audio

    async def _write(self, call: Any, request: pb.DenoiseRequest) -> bool:
        """Whether the call took it. One that is over takes nothing more; why, its responses say."""
        try:
            async with self._turn:
                await call.write(request)
        except (grpc.aio.UsageError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
            return False
        return True

    def _came(self, size: int) -> None:
        self._returned += size
        del self._kept[:size]

    def _unreturned(self) -> bytes:
        """What was sent and did not come back, as it was; as late as the rest."""
        size = max(0, self._sent - self._returned)
        dry = bytes(self._kept[:size])
        self._came(size)
        return dry

    def _aligned(self, audio: bytes) -> bytes:
        """Without the silence of the delay, where that is wanted."""
        if not self._align:
            return audio
        skip = self.delay * self._sample_bytes - (self._returned - len(audio))
        return audio[max(0, skip) :]


def lost(error: grpc.aio.AioRpcError) -> bool:
    """Whether the gateway is gone, not unwilling; a write to a dying connection is an internal error of gRPC."""
    return error.code() in AGAIN or error.details() == _INTERNAL_CORE


async def pull(frames: AsyncIterator[bytes]) -> bytes | None:
    """The next one; None when there is none."""
    return await anext(frames, None)


class DenoiseClient:
    """A connection to a gateway, for any number of streams."""

    def __init__(
        self,
        target: str,
        *,
        token: str | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        reconnect: Reconnect | None = None,
    ) -> None:
        """target: host and port. ca: PEM file of the authority of the gateway's certificate: TLS, otherwise plain text;
        certificate, key: our own, for mutual TLS. Raises OSError when a file cannot be read."""
        self.target, self.reconnect = target, reconnect or Reconnect()
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._secrets: grpc.ChannelCredentials | None = None
        if ca is not None:
            own = [path.read_bytes() if path is not None else None for path in (key, certificate)]
            self._secrets = grpc.ssl_channel_credentials(ca.read_bytes(), *own)

    async def __aenter__(self) -> "DenoiseClient":
        options = [("grpc.keepalive_time_ms", 20_000), ("grpc.max_reconnect_backoff_ms", 1_000)]
        if self._secrets is None:
            self._channel = grpc.aio.insecure_channel(self.target, options)
        else:
            self._channel = grpc.aio.secure_channel(self.target, self._secrets, options)
        self.stub: Any = pb_grpc.DenoiseServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def info(self) -> pb.GetInfoResponse:
        """What the gateway offers; raises DenoiseError."""
        try:
            found: pb.GetInfoResponse = await self.stub.GetInfo(pb.GetInfoRequest(), metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            raise DenoiseError(error.code().name, error.details() or "") from None
        return found

    def stream(self, frames: Frames, rate: int, *, align: bool = False, **settings: Any) -> Stream:
        """Denoise frames of any length, in order. settings: see `Settings`. Iterating raises DenoiseError."""
        return Stream(self, frames, Settings(rate, **settings), align)


class SyncDenoiseClient:
    """For programs without asyncio: audio alone, no `change` and no `summary`. Its event loop runs in a thread."""

    def __init__(self, target: str, **settings: Any) -> None:
        """See `DenoiseClient`."""
        self._client = DenoiseClient(target, **settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="denoise-client", daemon=True)

    def __enter__(self) -> "SyncDenoiseClient":
        self._thread.start()
        self._wait(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._client.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def info(self) -> pb.GetInfoResponse:
        """See `DenoiseClient.info`."""
        found: pb.GetInfoResponse = self._wait(self._client.info())
        return found

    def stream(self, frames: Iterable[bytes], rate: int, **settings: Any) -> Iterator[bytes]:
        """See `DenoiseClient.stream`; the frames may come as slowly as they like."""
        audio = self._client.stream(from_thread(iter(frames)), rate, **settings).__aiter__()
        try:
            while (piece := self._wait(anext(audio, None))) is not None:
                yield piece
        finally:
            self._wait(_close(audio))


async def _close(audio: Any) -> None:
    await audio.aclose()


def succeeded(task: "asyncio.Task[None]") -> bool:
    """Whether a task that is done has not failed."""
    return task.cancelled() or task.exception() is None


async def from_thread(frames: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Frames of an iterator that may block."""
    while (frame := await asyncio.to_thread(next, frames, None)) is not None:
        yield frame


def aiter_of(frames: Frames) -> AsyncIterator[bytes]:
    """Any frames, asynchronously."""
    return aiter(frames) if isinstance(frames, AsyncIterable) else _plain(frames)


async def _plain(frames: Iterable[bytes]) -> AsyncIterator[bytes]:
    for frame in frames:
        yield frame
