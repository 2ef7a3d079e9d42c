"""One stream of audio through the media plane: bytes of any length in, the same bytes without noise out, in order.

Cuts the client's audio into packets, lets live audio go at once and everything faster on credits, puts what comes back
into order, and answers for what does not come back with the client's own audio, as late as the network makes it. So
the number of samples is right whatever happens. Sans-IO; time is an argument.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from gateway.control.stream_coding import FRAMES_PER_S, Coding, powers
from gateway.control.stream_errors import StreamError
from gateway.control.stream_pace import FLOOR_RATE, LIVE_BURST_S, LIVE_FIRST_S, LIVE_RATE, Credits, Pace
from gateway.errors import PeerError
from gateway.messages import Reason
from gateway.protocol import stream_packet

FLOOR_FRAMES = 2
"""Of a packet that keeps a stream going whose client is faster than the clock."""
QUIET_FLIGHTS = 2
"""Packets in flight of such a stream where nobody is live; else it is one, since those of one leg share no step of the
network."""
TOGETHER_S = 0.1
"""It gets its answers in pieces of this length: each message costs the same, whatever it holds."""
LATE_S = 0.035
LIVE_PATIENCE_S, PATIENCE_S = 1.0, 10.0
"""After which a packet is not waited for: the media process has died, or hangs."""
MAX_IN_FLIGHT = 128
UNREAD_S = 1.0
"""With so much unread, nothing but live audio goes in."""
LEVELS_KEPT = 60_000
"""Frames whose level is kept for the summary: ten minutes."""


class Flight(NamedTuple):
    """A packet in the media plane."""

    payload: bytes
    tail: bytes
    """What came before it, as long as the network's delay."""
    sent_s: float
    live: bool


class Piece(NamedTuple):
    """Some audio for the client."""

    audio: bytes
    notes: bytes
    """See `stream_packet.NOTE_BYTES`; they are of the whole frames that the audio begins with."""


class Stream:
    """Everything about one stream but its gRPC and its leg."""

    def __init__(
        self,
        coding: Coding,
        engine_delay: int,
        send: Callable[[bytes], object],
        credits: Credits,
        account: Pace,
        ready: Callable[[], None],
        *,
        quality: bool = False,
    ) -> None:
        """engine_delay: samples at the engine's rate; send: gives a packet to the media plane;
        account: of all streams of this client; ready: called when there is something to `take`."""
        self.coding, self._credits = coding, credits
        self._send, self._account, self._ready = send, account, ready
        self.delay = engine_delay * (coding.rate_hz // coding.engine_rate_hz) + coding.resampling
        self._frame_bytes = coding.rate_hz // FRAMES_PER_S * coding.sample_bytes
        self._frame_units = coding.engine_rate_hz // FRAMES_PER_S
        self._tail = coding.inner_silence * (engine_delay * coding.inner_frame_bytes // self._frame_units)
        self._quality = quality
        self._pace = Pace(LIVE_RATE, LIVE_BURST_S, LIVE_FIRST_S)
        self._floor = Pace(FLOOR_RATE, LIVE_FIRST_S)
        self._ssrc = random.getrandbits(32)
        self._heard_ssrc = -1
        self._buffer = bytearray()
        self._index = self._timestamp = self._turn = 0
        self._flights: dict[int, Flight] = {}
        """Oldest first."""
        self._out: list[Piece] = []
        self._out_bytes = self._writing_bytes = self._given_bytes = 0
        self._queued = self._closed = self._ahead = False
        """Ahead: audio waits, since the client is faster than the clock."""
        self._fault: Exception | None = None
        self._total_bytes: int | None = None
        """To be given out in all, once the client has closed its side."""
        self.bytes_in = self.late_frames = self.lost_frames = 0
        self.reasons = [0] * len(Reason)
        """Frames by `Reason`."""
        self.levels: tuple[list[float], list[float]] = ([], [])
        """Mean squares of frames, before and after; see `LEVELS_KEPT`."""

    # --- in

    def feed(self, audio: bytes, now: float) -> None:
        """More audio; raises StreamError for half a sample."""
        if len(audio) % self.coding.sample_bytes:
            message = f"{len(audio)} bytes of audio: a sample has {self.coding.sample_bytes} bytes, send whole ones"
            raise StreamError("INVALID_ARGUMENT", message)
        self.bytes_in += len(audio)
        self._buffer += audio
        self.pump(now)

    def end(self, now: float) -> None:
        """The client sends no more: the tail follows."""
        if self._total_bytes is not None:
            return
        self._total_bytes = self.bytes_in + self.delay * self.coding.sample_bytes
        whole = -(-self._total_bytes // self._frame_bytes) * self._frame_bytes
        self._buffer += self.coding.silence * ((whole - self.bytes_in) // self.coding.sample_bytes)
        self.pump(now)

    def close(self, now: float) -> None:
        """Let go of everything; what is in flight is of no interest any more."""
        self._closed = True
        self._buffer.clear()
        self._mark(ahead=False)
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            if not flight.live:
                self._credits.give_back(now)

    @property
    def waiting_s(self) -> float:
        """Audio that may not go yet: with a second of it, the client should be read from no more."""
        return self._seconds(len(self._buffer))

    @property
    def waiting_bytes(self) -> int:
        """The same, in bytes of the client's."""
        return len(self._buffer)

    @property
    def unread_s(self) -> float:
        """Audio that waits for the client to read it."""
        return self._seconds(self._out_bytes + self._writing_bytes)

    @property
    def finished(self) -> bool:
        """Everything has been given out."""
        return self._total_bytes is not None and self._given_bytes >= self._total_bytes and not self._out

    @property
    def frames_late(self) -> int:
        """The network's delay in whole frames: how far `levels` after are behind those before."""
        return round(len(self._tail) / self.coding.inner_frame_bytes)

    def seconds_in(self) -> float:
        """Audio that came in."""
        return self._seconds(self.bytes_in)

    def _seconds(self, size: int) -> float:
        return size / self._frame_bytes / FRAMES_PER_S

    def pump(self, now: float) -> None:
        """Let go what may go."""
        while len(self._buffer) >= self._frame_bytes and len(self._flights) < MAX_IN_FLIGHT:
            pace = self._floor if self._ahead else self._pace
            live = pace.permits(now) and self._account.permits(now)
            if not live:
                self._mark(ahead=True)
            if self._ahead and len(self._flights) >= (QUIET_FLIGHTS if self._credits.quiet else 1):
                return
            most = (FLOOR_FRAMES if self._ahead else stream_packet.MAX_FRAMES) if live else self._credit(now)
            if not most:
                return
            self._let_go(min(len(self._buffer) // self._frame_bytes, most), live, now)
        if len(self._buffer) < self._frame_bytes:
            self._mark(ahead=False)

    def _mark(self, ahead: bool) -> None:
        if ahead != self._ahead:
            self._ahead = ahead
            self._credits.ahead += 1 if ahead else -1

    def _credit(self, now: float) -> int:
        """What is not live takes a credit or waits for one, and for its client to read; returns frames."""
        if self._queued or not self._account.permits(now) or self.unread_s > UNREAD_S:
            return 0
        frames = self._credits.take()
        if frames:
            self._turn = self._credits.turn
        else:
            self._queued = True
            self._credits.wait(self._go_on, self._turn, now)
        return frames

    def _go_on(self, now: float) -> None:
        """Called in a row with other streams, or while one of them is served: a fault is for who takes from this."""
        self._queued = False
        try:
            self.pump(now)
        except Exception as error:
            self._fault = error
            self._ready()

    def _let_go(self, frames: int, live: bool, now: float) -> None:
        size = frames * self._frame_bytes
        payload = self.coding.inward(bytes(self._buffer[:size]))
        del self._buffer[:size]
        for pace in (self._pace, self._floor, self._account):
            pace.take(frames / FRAMES_PER_S, now)
        if self._quality and len(self.levels[0]) < LEVELS_KEPT:
            self.levels[0].extend(powers(self.coding, payload).tolist())
        packet = stream_packet.pack(self._index, self._timestamp, self._ssrc, frames, payload)
        self._flights[self._index] = Flight(payload, self._tail, now, live)
        self._index += 1
        self._timestamp += frames * self._frame_units
        if self._tail:
            self._tail = (self._tail + payload)[-len(self._tail) :]
        self._send(packet)  # what cannot be sent is not waited for longer than what does not come back

    # --- back

    def receive(self, datagram: bytes, now: float) -> None:
        """A packet from the media plane; one that nobody waits for any more is ignored."""
        try:
            index, ssrc, notes, payload = stream_packet.unpack(datagram, self.coding.inner_frame_bytes)
        except PeerError:
            return
        flight = self._flights.pop(index, None)
        if flight is None or len(payload) != len(flight.payload):
            return
        if flight.live and now - flight.sent_s > LATE_S:
            self.late_frames += len(notes) // stream_packet.NOTE_BYTES
        if ssrc != self._heard_ssrc:
            if self._heard_ssrc >= 0:  # a new media process does not know what came before
                payload = flight.tail + payload[len(flight.tail) :]
            self._heard_ssrc = ssrc
        for earlier in list(self._flights):
            if earlier > index:
                break
            self._lose(earlier, now)  # the media plane keeps the order: it will not come any more
        self._give_out(payload, notes)
        self._done(flight, now)

    def expire(self, now: float) -> None:
        """Answer for packets that do not come back; whatever waited for time goes on."""
        for index, flight in list(self._flights.items()):
            if now - flight.sent_s < (LIVE_PATIENCE_S if flight.live else PATIENCE_S):
                break
            self._lose(index, now)
        self.pump(now)
        if self._out:
            self._ready()

    def _lose(self, index: int, now: float) -> None:
        """The client's own audio instead, as late as the rest."""
        flight = self._flights.pop(index)
        frames = len(flight.payload) // self.coding.inner_frame_bytes
        self.lost_frames += frames
        dry = (flight.tail + flight.payload)[: len(flight.payload)]
        self._give_out(dry, (bytes([Reason.FAULT]) + bytes(stream_packet.NOTE_BYTES - 1)) * frames)
        self._done(flight, now)

    def _done(self, flight: Flight, now: float) -> None:
        if not flight.live:
            self._credits.give_back(now)
        if self._ahead:
            self.pump(now)

    def _give_out(self, payload: bytes, notes: bytes) -> None:
        """What is next in order."""
        for code in notes[:: stream_packet.NOTE_BYTES]:
            self.reasons[code if code < len(self.reasons) else Reason.FAULT] += 1
        if self._quality and len(self.levels[1]) < LEVELS_KEPT:
            self.levels[1].extend(powers(self.coding, payload).tolist())
        audio = self.coding.outward(payload)
        if self._total_bytes is not None:
            audio = audio[: self._total_bytes - self._given_bytes]
        self._given_bytes += len(audio)
        self._out_bytes += len(audio)
        self._out.append(Piece(audio, notes))
        if not self._ahead or self._seconds(self._out_bytes) >= TOGETHER_S:
            self._ready()

    def take(self) -> list[Piece]:
        """What is ready for the client; it counts as unread until it is `written`. Raises what went wrong meanwhile."""
        if self._fault is not None:
            raise self._fault
        pieces, self._out = self._out, []
        self._writing_bytes += self._out_bytes
        self._out_bytes = 0
        return pieces

    def written(self, now: float) -> None:
        """The client has what was taken."""
        self._writing_bytes = 0
        self.pump(now)
