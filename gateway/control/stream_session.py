"""A stream as its client sees it: requests in, responses out, whatever carries them (gRPC alone or multiplexed, HTTP).

The first request is the configuration; then audio and changed controls. Everything a client can do wrong is a
`StreamError`, which ends this stream and no other.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from gateway._pb import denoise_pb2 as pb
from gateway.config import Config
from gateway.control.stream import Stream
from gateway.control.stream_account import Account
from gateway.control.stream_coding import choose
from gateway.control.stream_errors import StreamError, as_stream_error
from gateway.control.stream_legs import StreamLeg, StreamLegs
from gateway.control.stream_rows import Treatment
from gateway.errors import GatewayError
from gateway.measure import snr_db
from gateway.protocol.stream_packet import NOTE_BYTES

log = logging.getLogger(__name__)

Delays = Callable[[], dict[int, int]]
LABEL_LENGTH = 128
STALL_S = 10.0
"""A client that takes nothing for so long, while something waits for it, does not read."""
FULL_S = 1.0
"""Audio that may wait to go in before the client is read from no more."""
FLOOD_MESSAGES = 2
"""Of the longest there may be: so much may wait beyond FULL_S in a call that is read from for the sake of others."""
MUSIC = {pb.MUSIC_PASS: "pass", pb.MUSIC_SUPPRESS: "suppress"}
BYPASS = {pb.BYPASS_AUTO: "auto", pb.BYPASS_ON: "on", pb.BYPASS_OFF: "off"}
ENCODING = {
    pb.ENCODING_S16LE: "S16LE",
    pb.ENCODING_F32LE: "F32LE",
    pb.ENCODING_MULAW: "MULAW",
    pb.ENCODING_ALAW: "ALAW",
}
FIRST = "the first message must be the configuration (sample_rate_hz, encoding): send it before audio and controls"


class Watched(Protocol):
    """Something that waits for a client."""

    def tick(self, now: float) -> None:
        """See `Desk.tick`."""

    def fail(self, error: StreamError) -> None:
        """End it for this reason."""


class Desk:
    """What sessions need of the gateway, and the sessions there are."""

    def __init__(
        self,
        config: Config,
        legs: StreamLegs,
        delays: Callable[[], dict[int, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """delays: of the engines, in samples, by rate in Hz."""
        self.config, self.legs, self.delays, self.clock = config, legs, delays, clock
        self.draining = False
        self.sessions: set[Session] = set()
        self.watched: set[Watched] = set()
        """All sessions, and whatever else may fall silent."""
        self.ended: Counter[str] = Counter()
        """Streams that have ended, by gRPC status."""

    def models(self) -> list[str]:
        """Networks that are loaded."""
        engine = self.config.engine
        return [engine.model if engine.kind in ("ort", "triton") else engine.kind]

    def delay(self, rate_hz: int) -> int:
        """Samples at an engine's rate; raises StreamError while no media process is ready."""
        delay = self.delays().get(rate_hz)
        if delay is None:
            raise StreamError("UNAVAILABLE", "no media process is ready: try again in a second")
        return delay

    def tick(self) -> None:
        """A few times a second: what waits for time goes on, and who does not read is found."""
        now = self.clock()
        for each in list(self.watched):
            try:
                each.tick(now)
            except Exception as error:  # and the others have their turn
                each.fail(as_stream_error(error))

    def silent(self, heard_s: float, now: float) -> StreamError | None:
        """What becomes of a client that has been silent since then."""
        patience_s = self.config.grpc.idle_timeout_s
        if now - heard_s < patience_s:
            return None
        message = f"nothing came for {patience_s:g} s: send audio (silence too), or close the stream"
        return StreamError("DEADLINE_EXCEEDED", message)


class Session:
    """One stream and its client."""

    def __init__(self, desk: Desk, account: Account, ready: Callable[[], None], failed: Callable[[], None]) -> None:
        """ready: called when there is something to `take`; failed: when the session is over before its time. Raises
        StreamError when the account has no stream left."""
        self._desk, self._account, self._ready, self._failed = desk, account, ready, failed
        self._queue_s = desk.config.grpc.queue_ms / 1000
        self._leg: StreamLeg | None = None
        self.stream: Stream | None = None
        self._configuration = pb.Configuration()
        self._responses: list[pb.DenoiseResponse] = []
        self._taken_s = self.heard_s = desk.clock()
        """Taken: when the client last took something, or nothing waited for it."""
        self._writing = False
        self.failure: StreamError | None = None
        self.finished = self._ended = False
        account.enter()
        desk.sessions.add(self)
        desk.watched.add(self)

    # --- requests

    def handle(self, request: pb.DenoiseRequest) -> None:
        """Serve a request; raises StreamError."""
        now = self.heard_s = self._desk.clock()
        kind = request.WhichOneof("message")
        try:
            if kind == "audio":
                self._started().feed(request.audio, now)
            elif kind == "configuration":
                self._configure(request.configuration)
            elif kind == "controls":
                self._control(request.controls)
            else:
                raise StreamError("INVALID_ARGUMENT", "the message is empty: send configuration, audio or controls")
        except GatewayError as error:
            raise as_stream_error(error) from None
        self._check_unread()

    def heard(self) -> None:
        """The client would send if it could."""
        self.heard_s = self._desk.clock()

    def end(self) -> None:
        """The client sends no more; raises StreamError when it has not begun."""
        self.heard_s = self._desk.clock()
        self._started().end(self.heard_s)
        self._ended = True
        self._ready()

    def _started(self) -> Stream:
        if self.stream is None:
            raise StreamError("INVALID_ARGUMENT", FIRST)
        return self.stream

    def _configure(self, asked: pb.Configuration) -> None:
        if self.stream is not None:
            raise StreamError("INVALID_ARGUMENT", "configuration twice: send controls to change how audio is treated")
        if self._desk.draining:
            raise StreamError("UNAVAILABLE", "the gateway is shutting down: connect to another")
        models = self._desk.models()
        if asked.model and asked.model not in models:
            raise StreamError("INVALID_ARGUMENT", f"model {asked.model[:60]} is not loaded: {', '.join(models)} is")
        coding = choose(asked.sample_rate_hz, encoding_name(asked.encoding))
        delay = self._desk.delay(coding.engine_rate_hz)
        treatment = treated(Treatment.configured(self._desk.config.denoise), asked.controls)
        label = "".join(letter for letter in asked.label[:LABEL_LENGTH] if letter.isprintable()) or "stream"
        legs = self._desk.legs
        self._leg = legs.open(label, coding, treatment, self._receive, self.fail)
        self.stream = Stream(
            coding, delay, self._leg.send, legs.credits(self._leg), self._account.pace, self._ready,
            quality=asked.report_quality,
        )  # fmt: skip
        self._configuration = understood(asked, treatment, models[0])
        started = pb.Started(configuration=self._configuration, delay_samples=self.stream.delay)
        self._responses.append(pb.DenoiseResponse(started=started))
        log.info("stream began", extra={"call_id": label, "rate_hz": coding.rate_hz, "client": self._account.name})
        self._ready()

    def _control(self, asked: pb.Controls) -> None:
        self._started()
        assert self._leg is not None
        self._desk.legs.change(self._leg, treated(self._leg.treatment, asked))

    # --- responses

    def _receive(self, datagram: bytes, now: float) -> None:
        if self.stream is None or self.failure is not None:
            return
        try:
            self.stream.receive(datagram, now)
            self._check_unread()
        except Exception as error:  # the caller serves all streams
            self.fail(as_stream_error(error))

    def _check_unread(self) -> None:
        if self.stream is not None and self.stream.unread_s > self._queue_s:
            self.fail(StreamError("RESOURCE_EXHAUSTED", f"{self.stream.unread_s:.1f} s of answers wait unread: read "
                                  f"while you send (grpc.queue_ms is {self._queue_s * 1000:.0f})"))  # fmt: skip

    def fail(self, error: StreamError) -> None:
        """End the stream for this reason."""
        self.failure = self.failure or error
        self._failed()

    def tick(self, now: float) -> None:
        """See `Desk.tick`."""
        silent = None if self._ended else self._desk.silent(self.heard_s, now)
        if silent is not None:
            self.fail(silent)
        if self.failure is not None or self.stream is None:
            return
        if not self.finished:
            self.stream.expire(now)
        if not self._writing and not self.stream.unread_s:
            self._taken_s = now
        elif (unread := stalled(self._taken_s, now)) is not None:
            self.fail(unread)

    @property
    def full(self) -> bool:
        """More waits to go in than is wise: the client should be read from no more for now."""
        return self.stream is not None and self.stream.waiting_s > FULL_S

    @property
    def excess_bytes(self) -> int:
        """What waits to go in beyond FULL_S: it was read from after it was `full`."""
        if self.stream is None:
            return 0
        coding = self.stream.coding
        return max(0, self.stream.waiting_bytes - round(FULL_S * coding.rate_hz) * coding.sample_bytes)

    @property
    def flooded(self) -> bool:
        """It was read from for long after it was `full`."""
        return self.excess_bytes > FLOOD_MESSAGES * self._desk.config.grpc.max_message_bytes

    def take(self) -> list[pb.DenoiseResponse]:
        """What is ready, which is to be `written`; the last is the summary."""
        responses, self._responses = self._responses, []
        stream = self.stream
        if stream is None or self.finished:
            return responses
        self._taken_s, self._writing = self._desk.clock(), True
        pieces = stream.take()
        if pieces:
            response = pb.DenoiseResponse(audio=b"".join([piece.audio for piece in pieces]), delay_samples=stream.delay)
            if self._configuration.report_frames:
                response.frames.extend(frame for piece in pieces for frame in frames(piece.notes))
            responses.append(response)
        if stream.finished:
            self.finished = True
            responses.append(pb.DenoiseResponse(summary=self._summary(stream)))
        return responses

    def written(self) -> None:
        """The client has what was taken."""
        self._taken_s, self._writing = self._desk.clock(), False
        if self.stream is not None:
            self.stream.written(self._taken_s)

    def _summary(self, stream: Stream) -> pb.Summary:
        """Frames of the tail are not counted twice: the time is that of the audio that came in."""
        total = max(sum(stream.reasons), 1)
        seconds = stream.seconds_in()
        share = [seconds * count / total for count in stream.reasons]
        summary = pb.Summary(
            seconds=seconds, wet_seconds=share[0], late_frames=stream.late_frames, lost_frames=stream.lost_frames,
            dry=[pb.Dry(reason=pb.Reason.ValueType(code), seconds=s) for code, s in enumerate(share) if code and s],
        )  # fmt: skip
        if self._configuration.report_quality:
            ratios = snr_db(*stream.levels, shift=stream.frames_late)
            if ratios is not None:
                summary.snr_before_db, summary.snr_after_db = ratios
        return summary

    def close(self, status: str) -> None:
        """Give everything back. status: the gRPC status that the stream ends with."""
        if self not in self._desk.sessions:
            return
        self._desk.sessions.discard(self)
        self._desk.watched.discard(self)
        self._account.leave()
        self._desk.ended[status] += 1
        if self.stream is not None:
            self.stream.close(self._desk.clock())
        if self._leg is not None:
            self._desk.legs.close(self._leg)
            log.info("stream ended", extra={"call_id": self._leg.call_id, "reason": status})


def stalled(taken_s: float, now: float) -> StreamError | None:
    """What becomes of a client for whom something waits, and who has taken nothing since then."""
    if now - taken_s <= STALL_S:
        return None
    return StreamError("RESOURCE_EXHAUSTED", f"answers wait unread for {STALL_S:.0f} s: read while you send")


def treated(before: Treatment, asked: pb.Controls) -> Treatment:
    """The treatment with what is asked for changed; raises StreamError."""
    level = before.level
    strength = asked.WhichOneof("strength")
    if strength == "level":
        level = asked.level
        if level > 100:
            raise StreamError("INVALID_ARGUMENT", f"level is {level}: use 0 (nothing is taken out) to 100 (no limit)")
    elif strength == "intensity_ratio":
        if not 0.0 <= asked.intensity_ratio <= 1.0:
            raise StreamError("INVALID_ARGUMENT", f"intensity_ratio is {asked.intensity_ratio:g}: use 0 to 1")
        level = round(asked.intensity_ratio * 100)
    if asked.music and asked.music not in MUSIC:
        raise StreamError("INVALID_ARGUMENT", f"music {asked.music} is unknown: use MUSIC_PASS or MUSIC_SUPPRESS")
    if asked.bypass and asked.bypass not in BYPASS:
        raise StreamError("INVALID_ARGUMENT", f"bypass {asked.bypass} is unknown: use BYPASS_AUTO, _ON or _OFF")
    return Treatment(
        asked.denoise if asked.HasField("denoise") else before.denoise,
        level,
        MUSIC.get(asked.music, before.music),
        BYPASS.get(asked.bypass, before.bypass),
    )


def understood(asked: pb.Configuration, treatment: Treatment, model: str) -> pb.Configuration:
    """The configuration with defaults filled in."""
    echo = pb.Configuration()
    echo.CopyFrom(asked)
    echo.encoding = asked.encoding or pb.ENCODING_S16LE
    echo.model = asked.model or model
    music = next(key for key, value in MUSIC.items() if value == treatment.music)
    bypass = next(key for key, value in BYPASS.items() if value == treatment.bypass)
    echo.controls.CopyFrom(pb.Controls(denoise=treatment.denoise, level=treatment.level, music=music, bypass=bypass))
    return echo


def encoding_name(encoding: pb.Encoding.ValueType) -> str:
    """As `stream_coding.ENCODINGS` has it."""
    return ENCODING.get(encoding or pb.ENCODING_S16LE, str(encoding))


def frames(notes: bytes) -> list[pb.Frame]:
    """The notes of a packet, frame by frame."""
    found = []
    for at in range(0, len(notes), NOTE_BYTES):
        code, speech, noise, music, tone = notes[at : at + NOTE_BYTES]
        found.append(
            pb.Frame(
                wet=code == 0, reason=pb.Reason.ValueType(code), speech=speech / 255, noise=noise / 255,
                music=music / 255, tone=tone / 255,
            )
        )  # fmt: skip
    return found
