"""The way of a packet between two sockets, without sockets: datagrams and `now` in, datagrams out.

The caller fills rows of `slab` and calls `step`; what is to be sent lies in the same rows afterwards, changed in place:
one packet in, one packet out, same length. Packets that wait for a missing one are kept aside and join the next batch.
"""

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.denoise.engine import Engine
from gateway.media import codecs
from gateway.media.events import Events
from gateway.media.legs import AUDIO, EVENT, OTHER, RAW, Legs
from gateway.media.streams import ACCEPT, HOLD, LATE, Admitted, Arrivals, Ints, Streams, run_starts
from gateway.media.voice import Voice
from gateway.media.wave import Wave
from gateway.messages import LegSpec
from gateway.protocol import rtp, stream_packet

ROW_BYTES = 2048
"""Longest datagram taken, with room to spare above an Ethernet frame."""
HELD_PER_SLOT = 16


class Outgoing(NamedTuple):
    """Rows of the slab to send, and the slots of the legs whose sockets send them."""

    rows: Ints
    slots: Ints


class Group(NamedTuple):
    """A wave on its way through the engine, and where its payloads go."""

    rows: Ints
    begin: int
    end: int
    """Columns of the slab."""
    frames: int
    wave: Wave


class Speech(NamedTuple):
    """Packets of a batch that go on, in the order of `Admitted`."""

    packets: Arrivals
    codec: npt.NDArray[np.int8]
    verdict: npt.NDArray[np.int8]
    gap: Ints
    generations: Ints
    """Of their slots' leases: a wave that has to wait may find its leg gone."""


class Held(NamedTuple):
    """A packet that waits for one before it."""

    slot: int
    datagram: bytes
    arrived_s: float


class Pipeline:
    """All streams of one worker."""

    def __init__(
        self, slots: int, engines: dict[int, Engine], hold_s: float, rows: int = 4096, seed: int | None = None
    ):
        self.slab = np.zeros((rows, ROW_BYTES), np.uint8)
        self.lengths = np.zeros(rows, np.int64)
        self.slots = np.zeros(rows, np.int64)
        self._arrived_s = np.zeros(rows)
        self.legs = Legs(slots, codecs.build(slots))
        self.streams = Streams(self.legs, hold_s, np.random.default_rng(seed))
        self.voice = Voice(self.legs, engines)
        self.events = Events(slots)
        self.rtcp: list[tuple[int, bytes]] = []
        """RTCP that came on RTP ports (RFC 5761): slot and datagram, for the caller to take."""
        self.held: list[Held] = []
        self.packets_out = np.zeros(slots, np.int64)
        self.bytes_out = np.zeros(slots, np.int64)
        self.voice_s = 0.0
        self._waves: list[tuple[Speech, Ints]] = []
        """Not begun, and which packets of the speech: a slot's packet waits for the answer to the one before."""
        self._groups: list[Group] = []
        """Begun and not finished."""
        self._due_s = np.inf
        """When the batch leaves, whatever has been answered by then; known once the first wave was sent."""
        self._rows = np.zeros(0, np.int64)
        """Of the batch that was begun: what is to be sent."""
        self._generations = np.zeros(0, np.int64)
        """Of their slots' leases."""

    def open(self, spec: LegSpec) -> None:
        """Begin a leg: its row is zeroed."""
        self.legs.open(spec)
        self.streams.open_leg(spec.slot)
        self.voice.open_leg(spec.slot)
        self.events.open_leg(spec.slot)
        self.voice.ear.policy.latched[spec.slot] = spec.latched
        self.packets_out[spec.slot] = self.bytes_out[spec.slot] = 0

    def update(self, spec: LegSpec) -> None:
        """Change a leg; a new epoch (re-INVITE) lets a new SSRC in at once."""
        self.streams.open[spec.slot] |= spec.epoch != self.legs.specs[spec.slot].epoch
        self.legs.update(spec)
        self.voice.ear.policy.latched[spec.slot] |= spec.latched

    def close(self, slot: int) -> None:
        """End a leg."""
        self.legs.close(slot)
        self.voice.shed[slot] = False
        self.held = [held for held in self.held if held.slot != slot]
        fed = self.streams.fed_by
        fed[fed == slot] = -1

    def step(self, count: int, now: float) -> Outgoing:
        """Take the first `count` rows of the slab through to what is to be sent: `begin` and `finish` at once."""
        self.begin(count, now)
        return self.finish()

    def begin(self, count: int, now: float) -> None:
        """Take the first `count` rows of the slab up to the engine.

        `lengths` and `slots` of these rows are the caller's, until `finish` nobody else's; now: seconds, monotonic.
        """
        count = self._rejoin(count, now)
        kind = self.legs.kind[self.slots[:count]]
        relayed = self._demux(np.flatnonzero(kind == RAW))
        arrivals = self._parse(np.flatnonzero(kind == AUDIO))
        admitted = self.streams.admit(arrivals, now)
        self._hold(admitted)
        sent = self._transform(admitted, now)
        rows = np.concatenate([sent, relayed]) if len(relayed) else sent
        self._count_raw(relayed, now)
        self._rows, self._generations = rows, self.legs.generation[self.slots[rows]]

    def untouched(self) -> Outgoing:
        """What can be sent of the batch that was begun before it is finished: all of legs that wait for no engine.

        A stream's notes are written when it is finished.
        """
        waiting = self.legs.noted.copy()
        for group in self._groups:
            waiting[self.slots[group.rows[group.wave.hear]]] = True
        for speech, wave in self._waves:
            waiting[speech.packets.slots[wave]] = True
        rows, later = self._rows, waiting[self.slots[self._rows]]
        self._rows, self._generations = rows[later], self._generations[later]
        return self._outgoing(rows[~later])

    def finish(self) -> Outgoing:
        """What is left to be sent of the batch that was begun; waits for the engine, at most until its deadline.

        Packets of legs that have gone in the meantime are not sent.
        """
        started = time.perf_counter()
        while self._waves:
            self._begin_wave()
        self._finish_groups()
        self.voice_s += time.perf_counter() - started
        rows = self._rows
        alive = self.legs.generation[self.slots[rows]] == self._generations
        return self._outgoing(rows if alive.all() else rows[alive])

    def due_s(self) -> float | None:
        """Until when to wait before `go_on` or `finish` (seconds, monotonic clock); None when it need not wait."""
        if not self._groups:
            return None
        dues = self._dues()
        return min(max(dues), self._due_s) if dues else None

    def _dues(self) -> list[float]:
        return [due for each in self.voice.remotes.values() if (due := each.due_s()) is not None]

    def go_on(self) -> None:
        """Begin what need not wait any more of the batch that was begun; never waits itself."""
        started = time.perf_counter()
        while self._waves and self.due_s() is None:
            self._begin_wave()
        self.voice_s += time.perf_counter() - started

    def _begin_wave(self) -> None:
        """The next packet of each slot that has one goes to the engine, when the one before is finished.

        All waves share the due time of the first: after a late one nobody waits for the others, whose frames the engine
        hears all the same.
        """
        self._finish_groups()
        speech, wave = self._waves.pop(0)
        alive = self.legs.generation[speech.packets.slots[wave]] == speech.generations[wave]
        self._voice_wave(speech, wave if alive.all() else wave[alive])
        for engine in self.voice.remotes.values():
            engine.flush()
        if self._due_s == np.inf:
            self._due_s = max(self._dues(), default=np.inf)

    def _finish_groups(self) -> None:
        groups, self._groups = self._groups, []
        for rows, begin, end, frames, wave in groups:
            self.slab[rows, begin:end] = self.voice.finish(wave, self._due_s)
            if self.legs.noted[self.slots[rows]].any():
                self._note(self.slots[rows], rows, begin, frames)

    def _rejoin(self, count: int, now: float) -> int:
        """Lay held packets behind the received ones."""
        self._arrived_s[:count] = now
        room = len(self.slab) - count
        for slot, datagram, arrived_s in self.held[:room]:
            self.slab[count, : len(datagram)] = np.frombuffer(datagram, np.uint8)
            self.lengths[count], self.slots[count], self._arrived_s[count] = len(datagram), slot, arrived_s
            count += 1
        self.held = self.held[room:]
        return count

    def _parse(self, rows: npt.NDArray[np.intp]) -> Arrivals:
        """RTP headers of the audio rows; garbage is counted, RTCP put aside."""
        contiguous = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
        slab = self.slab[rows[0] : rows[-1] + 1] if contiguous else self.slab[rows]
        headers = rtp.parse(slab, self.lengths[rows])
        slots = self.slots[rows]
        good = headers.valid & ~headers.rtcp
        arrivals = Arrivals(
            rows, slots, headers.sequence, headers.timestamp, headers.ssrc, headers.payload_type, headers.marker,
            headers.size, headers.offset, self._arrived_s[rows],
        )  # fmt: skip
        if good.all():
            return arrivals
        self._put_aside(rows[headers.rtcp])
        bad = ~headers.valid & ~headers.rtcp
        np.add.at(self.streams.errors, slots[bad], 1)
        self.streams.count("dropped_garbage", int(bad.sum()))
        return arrivals.take(good)

    def _demux(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Put RTCP aside that shares the RTP port of raw rows: the other party may take it elsewhere."""
        muxed = rows[self.legs.muxed[self.slots[rows]]]
        if not len(muxed):
            return rows
        rtcp = muxed[rtp.parse(self.slab[muxed], self.lengths[muxed]).rtcp]
        self._put_aside(rtcp)
        return np.setdiff1d(rows, rtcp, assume_unique=True)

    def _put_aside(self, rows: npt.NDArray[np.intp]) -> None:
        """For the relay of RTCP."""
        for row in rows.tolist():
            self.rtcp.append((int(self.slots[row]), self.slab[row, : self.lengths[row]].tobytes()))

    def _hold(self, admitted: Admitted) -> None:
        waiting = np.flatnonzero(admitted.verdict == HOLD)
        arrived_s = admitted.packets.arrived_s
        for i in waiting.tolist():
            row, slot = int(admitted.packets.rows[i]), int(admitted.packets.slots[i])
            if sum(held.slot == slot for held in self.held) < HELD_PER_SLOT:
                self.held.append(Held(slot, self.slab[row, : self.lengths[row]].tobytes(), float(arrived_s[i])))
            else:
                self.streams.count("dropped_held")

    def _transform(self, admitted: Admitted, now: float) -> Ints:
        """Rewrite payloads and headers of the packets that go on; returns their rows."""
        packets, verdict, gap = admitted
        going = (verdict == ACCEPT) | (verdict == LATE)
        if not going.all():
            packets, verdict, gap = packets.take(going), verdict[going], gap[going]
        if not len(verdict):
            return packets.rows
        codec = self.legs.codec[packets.slots, packets.payload_type]
        speech = Speech(packets, codec, verdict, gap, self.legs.generation[packets.slots])
        self._waves, self._due_s = [(speech, wave) for wave in waves(packets.slots, codec >= 0)], np.inf
        self.go_on()
        self._count_others(codec)
        self._hear_events(packets, codec)
        sequence, timestamp, ssrc, marker = self.streams.headers(packets, now)
        payload_type = self.legs.out_payload_type[packets.slots, packets.payload_type]
        rtp.write(
            self.slab, packets.rows, sequence=sequence, timestamp=timestamp, ssrc=ssrc, payload_type=payload_type,
            marker=marker,
        )  # fmt: skip
        return packets.rows

    def _voice_wave(self, speech: Speech, wave: Ints) -> None:
        """Voice for at most one packet a slot, by codec, size and place of the payload."""
        packets, codec, verdict, gap, _ = speech
        late = wave[verdict[wave] == LATE]
        for i in late.tolist():
            self._late(packets, i, int(codec[i]))
        wave = wave[verdict[wave] == ACCEPT] if len(late) else wave
        key = (codec[wave].astype(np.int64) << 32) | (packets.size[wave] << 16) | packets.offset[wave]
        if not len(key):
            return
        groups = [wave] if (key == key[0]).all() else [wave[key == value] for value in np.unique(key)]
        for group in groups:
            first, slots, rows = group[0], packets.slots[group], packets.rows[group]
            offset, end = int(packets.offset[first]), int(packets.offset[first] + packets.size[first])
            if end == offset:
                continue
            fresh = self.streams.fresh[slots]
            self.streams.fresh[slots] = False
            begun = self.voice.begin(
                int(codec[first]), slots, packets.timestamp[group], gap[group], fresh, self.slab[rows, offset:end]
            )
            frames = (end - offset) // self.legs.codecs[codec[first]].frame_bytes
            self._groups.append(Group(rows, offset, end, frames, begun))
            if self.voice.remotes:
                self.slab[rows, offset:end] = begun.dry  # what waits for no engine may leave at once
            else:
                self._finish_groups()

    def _note(self, slots: Ints, rows: Ints, offset: int, frames: int) -> None:
        """Tell the streams among these what became of their frames."""
        which = self.legs.noted[slots]
        if frames <= stream_packet.MAX_FRAMES and offset == stream_packet.payload_at(frames):
            noted, voice = slots[which], self.voice
            stream_packet.note(self.slab, rows[which], voice.codes[noted, :frames], voice.probabilities[noted, :frames])

    def _late(self, packets: Arrivals, i: int, codec_index: int) -> None:
        """A packet behind its successors goes dry, with its own 10 ms unknown: no state is rewound."""
        slot, row = packets.slots[i], packets.rows[i]
        if not self.legs.delayed[slot]:
            return
        codec = self.legs.codecs[codec_index]
        payload = self.slab[row, packets.offset[i] : packets.offset[i] + packets.size[i]]
        delay = min(self.voice.tail_bytes(codec), len(payload))
        payload[delay:] = payload[: len(payload) - delay].copy()
        payload[:delay] = codec.silence

    def _count_others(self, codec: npt.NDArray[np.int8]) -> None:
        others = int((codec == OTHER).sum())
        if others:
            self.streams.count("relayed_other_codec", others)

    def _hear_events(self, packets: Arrivals, codec: npt.NDArray[np.int8]) -> None:
        """Digits sent as RFC 4733 packets pass untouched, and are reported."""
        for i in np.flatnonzero(codec == EVENT).tolist():
            slot, offset = int(packets.slots[i]), int(packets.offset[i])
            payload = self.slab[packets.rows[i], offset : offset + packets.size[i]].tobytes()
            heard = int(self.voice.ear.heard[slot])
            detection = self.events.hear(slot, int(packets.timestamp[i]), payload, heard)
            if detection is not None:
                self.voice.ear.report(detection)

    def _count_raw(self, relayed: npt.NDArray[np.intp], now: float) -> None:
        if len(relayed):
            slots = self.slots[relayed]
            np.add.at(self.streams.packets, slots, 1)
            np.add.at(self.streams.bytes, slots, self.lengths[relayed])
            self.streams.last_s[slots] = now

    def _outgoing(self, rows: Ints) -> Outgoing:
        """Where the rows go; those without a way out are counted."""
        out = self.legs.peer[self.slots[rows]]
        going = out >= 0
        if not going.all():
            self.streams.count("unrouted", int((~going).sum()))
            rows, out = rows[going], out[going]
        np.add.at(self.packets_out, out, 1)
        np.add.at(self.bytes_out, out, self.lengths[rows])
        return Outgoing(rows, out)


def waves(slots: Ints, chosen: npt.NDArray[np.bool_]) -> list[Ints]:
    """Indices of the chosen packets, split so that no slot comes twice in a wave. slots: equal ones side by side."""
    picked = np.flatnonzero(chosen)
    begins = run_starts(slots[picked])
    if len(begins) == len(picked):
        return [picked] if len(picked) else []
    rank = np.arange(len(picked)) - np.repeat(begins, np.diff(begins, append=len(picked)))
    return [picked[rank == step] for step in range(int(rank.max()) + 1)]
