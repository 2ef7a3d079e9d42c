"""The media path with an engine that answers later: nobody waits for it, and what comes late reaches nobody else."""

import os
import socket
import threading
import time
from typing import ClassVar

import numpy as np
import pytest

from gateway.config import Config, MediaConfig
from gateway.denoise import engines
from gateway.denoise.engine import Result, Ticket
from gateway.denoise.passthrough import PassthroughEngine
from gateway.errors import EngineError
from gateway.media.pipeline import Pipeline
from gateway.media.shedding import PATIENCE_S
from gateway.media.voice import FADE_FRAMES, WARM_FRAMES
from gateway.media.worker import Worker
from gateway.messages import DELAY_BOUNDS_MS, EngineFault, LegSpec, OpenLeg, Payload, Reason, encoder, events
from gateway.protocol import rtp
from tests.media.test_sockets import udp

PCMU = (Payload(0, "PCMU", 8000, 1, 0),)
FRAMES = 2
"""Of 10 ms in a packet."""


class Remote(PassthroughEngine):
    """Answers with its input a frame later and half as loud, when `there` says so."""

    substitute = fault = ""
    endpoint_faults: ClassVar[dict[str, str]] = {}

    def __init__(self, slots: int) -> None:
        super().__init__(8000, slots)
        self.epoch, self.counters, self.resets = 0, {}, []
        self.there, self.broken, self.sent = True, False, 0
        self.heard: list[list[int]] = []
        """Slots of each part."""
        self.waited_until: list[float] = []
        self._waiting: list[Ticket] = []
        self._file = os.eventfd(0)

    def reset(self, slots) -> None:
        super().reset(slots)
        self.resets += slots.tolist()

    def submit(self, slots, frames, counts, control) -> Ticket:
        self.heard.append(slots.tolist())
        self._waiting.append(super().submit(slots, frames, counts, control))
        return self._waiting[-1]

    def flush(self) -> None:
        self.sent += bool(self._waiting)
        self._waiting = []

    def collect(self, ticket, deadline) -> Result | None:
        self.waited_until.append(deadline)
        result = super().collect(ticket, deadline)
        if self.broken:
            raise EngineError("broken")
        return Result(result.frames * 0.5, result.probabilities) if self.there else None

    def due_s(self) -> float | None:
        return None if self.there else 5.0 + self.sent

    def tend(self, now: float) -> None: ...

    def fileno(self) -> int:
        return self._file

    def acknowledge(self) -> None: ...


class Bench:
    """Two legs of a call; leg 0 speaks."""

    def __init__(self) -> None:
        self.remote = Remote(4)
        self.pipeline = Pipeline(4, {8000: self.remote}, hold_s=0.005, rows=8, seed=0)
        for slot in (0, 1):
            self.open(slot, generation=1)
        self.numbers = dict.fromkeys(range(4), 0)
        """Of the last packet of each slot."""

    def open(self, slot: int, generation: int, denoise: bool = True) -> None:
        spec = LegSpec(
            slot=slot, generation=generation, call_id="c", peer=slot ^ 1, payloads=PCMU, bypass="off", denoise=denoise
        )
        self.pipeline.open(spec)

    def begin(self, slot: int = 0, skip: int = 0) -> None:
        self.numbers[slot] += skip
        self.begin_all(slot)

    def begin_all(self, *slots: int) -> None:
        """The next packet of each, in one batch."""
        for row, slot in enumerate(slots):
            number = self.numbers[slot] = self.numbers[slot] + 1
            packet = rtp.pack(
                bytes([0x90]) * 160, payload_type=0, sequence=number, timestamp=160 * number, ssrc=9 + slot
            )
            self.pipeline.slab[row, : len(packet)] = np.frombuffer(packet, np.uint8)
            self.pipeline.lengths[row], self.pipeline.slots[row] = len(packet), slot
        self.pipeline.begin(len(slots), max(self.numbers.values()) * 0.02)

    def finish(self) -> bytes | None:
        return next(iter(self.finish_all()), None)

    def finish_all(self) -> list[bytes]:
        slab, lengths = self.pipeline.slab, self.pipeline.lengths
        return [rtp.unpack(slab[row, : lengths[row]].tobytes()).payload for row in self.pipeline.finish().rows]

    def packet(self) -> bytes | None:
        self.begin()
        return self.finish()


@pytest.fixture
def bench():
    each = Bench()
    for _ in range(3):
        each.packet()
    return each


def is_dry(payload: bytes) -> bool:
    return payload[80:] == bytes([0x90]) * 80


def test_a_batch_is_one_flush_and_may_be_finished_later(bench):
    sent = bench.remote.sent
    bench.begin()
    assert bench.remote.sent == sent + 1
    assert not is_dry(bench.finish())


def test_a_late_batch_is_dry_and_the_next_one_fades_in_without_a_reset(bench):
    resets = list(bench.remote.resets)
    bench.remote.there = False
    bench.begin()
    assert bench.pipeline.due_s() == 5.0 + bench.remote.sent
    assert is_dry(bench.finish()) and bench.pipeline.voice.reason[0] == Reason.FAULT
    bench.remote.there = True
    assert [is_dry(bench.packet()) for _ in range(2)] == [False, False]
    assert bench.pipeline.voice.wet[0] == 1.0 and bench.remote.resets == resets


def test_a_failed_batch_is_dry_and_the_row_hears_its_stream_before_it_is_heard(bench):
    bench.remote.broken = True
    assert is_dry(bench.packet())
    bench.remote.broken = False
    dry = [is_dry(bench.packet()) for _ in range((WARM_FRAMES + FADE_FRAMES) // FRAMES)]
    assert dry == [True] * (WARM_FRAMES // FRAMES) + [False]


def test_a_new_epoch_resets_rows_that_were_not_in_the_failed_batch(bench):
    resets = len(bench.remote.resets)
    bench.remote.epoch += 1
    assert [is_dry(bench.packet()) for _ in range(WARM_FRAMES // FRAMES)] == [True] * (WARM_FRAMES // FRAMES)
    assert bench.remote.resets[resets:] == [0]


def test_the_answer_of_a_leg_that_has_gone_reaches_nobody(bench):
    bench.begin()
    bench.pipeline.close(0)
    bench.open(0, generation=2)
    assert bench.finish() is None
    assert bench.pipeline.voice.frames_wet[0] == 0 and bench.pipeline.voice.wet[0] == 0


def test_concealed_frames_go_with_the_packet_that_ends_the_gap(bench):
    sent = bench.remote.sent
    bench.begin(skip=1)
    assert bench.finish() is None, "it is held for the missing one"
    bench.numbers[0] += 1
    bench.packet()
    assert bench.remote.sent - sent <= 2 and bench.pipeline.voice.wet[0] == 1.0


def test_a_slots_second_packet_is_sent_when_the_first_is_answered_and_nobody_waits_in_between(bench):
    bench.remote.there, sent = False, bench.remote.sent
    bench.begin_all(0, 0, 0)
    collected = len(bench.remote.waited_until)
    bench.pipeline.go_on()
    assert bench.remote.sent == sent + 1 and len(bench.remote.waited_until) == collected
    bench.remote.there = True
    bench.pipeline.go_on()
    assert bench.remote.sent == sent + 3
    assert [is_dry(payload) for payload in bench.finish_all()] == [False] * 3


def test_all_packets_of_a_batch_share_the_due_time_of_the_first(bench):
    bench.remote.there = False
    bench.begin_all(0, 0)
    due = bench.pipeline.due_s()
    waiting, answered = bench.remote.due_s, iter([None])
    bench.remote.due_s = lambda: next(answered, waiting())  # the first only
    bench.pipeline.go_on()
    assert waiting() > due and bench.pipeline.due_s() == due
    bench.finish_all()
    assert bench.remote.waited_until[-2:] == [due, due]


def test_after_a_late_packet_nobody_waits_for_the_others_and_the_engine_hears_them_in_order(bench):
    resets, bench.remote.there, sent = list(bench.remote.resets), False, bench.remote.sent
    bench.begin_all(0, 0, 0)
    due = bench.pipeline.due_s()
    assert [is_dry(payload) for payload in bench.finish_all()] == [True] * 3
    assert bench.remote.sent == sent + 3 and bench.remote.waited_until[-3:] == [due] * 3
    bench.remote.there = True
    assert [is_dry(bench.packet()) for _ in range(2)] == [False, False] and bench.remote.resets == resets


def test_a_packet_that_waits_for_the_one_before_it_is_dropped_with_its_leg(bench):
    bench.remote.there = False
    bench.begin_all(0, 0)
    bench.pipeline.close(0)
    bench.open(0, generation=2)
    heard = len(bench.remote.heard)
    assert bench.finish_all() == [] and bench.remote.heard[heard:] == []
    assert bench.pipeline.voice.last_codec[0] == -1


def test_what_waits_for_no_engine_leaves_at_once_and_in_order(bench):
    bench.open(2, generation=1, denoise=False)
    bench.packet()
    bench.remote.there = False
    bench.begin_all(2, 0)
    slots = bench.pipeline.slots
    assert slots[bench.pipeline.untouched().rows].tolist() == [2] and bench.pipeline.untouched().rows.size == 0
    before = bench.pipeline.slab[0].copy()
    assert slots[bench.pipeline.finish().rows].tolist() == [0]
    assert (bench.pipeline.slab[0] == before).all()
    bench.begin_all(2, 2, 0)
    assert bench.pipeline.untouched().rows.size == 0, "its second packet is for the next wave"
    sent = bench.pipeline.finish().rows
    sequences = [int.from_bytes(bench.pipeline.slab[row, 2:4].tobytes(), "big") for row in sent if slots[row] == 2]
    assert (sequences[1] - sequences[0]) & 0xFFFF == 1


class Distant(Remote):
    """Answers `answer_s` after it was sent a batch, and takes `work_s` of the worker's own time to send it."""

    def __init__(self, answer_s: float, work_s: float = 0.0) -> None:
        super().__init__(4)
        self.answer_s, self.work_s, self.answer_at_s = answer_s, work_s, 0.0

    def flush(self) -> None:
        if self._waiting:
            time.sleep(self.work_s)
            self.answer_at_s = time.monotonic() + self.answer_s
        super().flush()

    def due_s(self) -> float | None:
        return self.answer_at_s if time.monotonic() < self.answer_at_s else None


class Desk:
    """A worker of this process, and a call of two phones on it that speak every 10 ms."""

    def __init__(self, monkeypatch, remote: Remote) -> None:
        monkeypatch.setattr(engines, "build", lambda config, slots: {8000: remote})
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        theirs.setblocking(False)
        self.worker = Worker(theirs, Config(media=MediaConfig(slots=4)))
        self.worker.sockets.epoll.register(theirs.fileno(), 1)
        self.phones, self.ports = (udp(), udp()), (udp(), udp())
        for slot in (0, 1):
            spec = LegSpec(slot=slot, generation=1, call_id="c", peer=slot ^ 1, payloads=PCMU, bypass="off",
                           rtp_remote=self.phones[slot].getsockname())  # fmt: skip
            socket.send_fds(self.control, [encoder.encode(OpenLeg(spec))], [self.ports[slot].fileno()])

    def talk(self, seconds: float) -> None:
        talking = threading.Thread(target=self._speak, args=(seconds,))
        talking.start()
        while talking.is_alive():
            self.worker.turn()

    def faults(self) -> list[EngineFault]:
        """Told since the last time."""
        told = []
        while True:
            try:
                told.append(events.decode(self.control.recv(1 << 16)))
            except BlockingIOError:
                return [event for event in told if isinstance(event, EngineFault)]

    def _speak(self, seconds: float) -> None:
        for number in range(round(seconds / 0.01)):
            packet = rtp.pack(bytes(80), payload_type=0, sequence=number, timestamp=80 * number, ssrc=9)
            for slot in (0, 1):
                self.phones[slot].sendto(packet, self.ports[slot].getsockname())
            time.sleep(0.01)


def test_the_time_of_a_server_is_no_load_of_the_worker(monkeypatch):
    desk = Desk(monkeypatch, Distant(answer_s=0.010))
    desk.talk(3 * PATIENCE_S)
    worker = desk.worker
    assert worker.pipeline.streams.counters.get("legs_shed_total", 0) == 0
    waited = sum(worker.delay_buckets[DELAY_BOUNDS_MS.index(15.0) :])
    assert waited > 0.9 * worker.counters["packets_out"], "what is shown of delays holds the wait"


def test_a_server_that_fails_is_told_once_though_another_serves(monkeypatch):
    remote = Distant(answer_s=0.0)
    desk = Desk(monkeypatch, remote)
    remote.endpoint_faults = {"b:8001": "gone"}
    for _ in range(3):
        desk.worker.turn()
    assert desk.faults() == [EngineFault(8000, "gone", endpoint="b:8001")]
    remote.endpoint_faults = {}
    desk.worker.turn()
    assert desk.faults() == [EngineFault(8000, "", endpoint="b:8001")]


def test_a_worker_that_is_late_by_its_own_work_sheds_though_its_server_is_fast(monkeypatch):
    desk = Desk(monkeypatch, Distant(answer_s=0.002, work_s=0.020))
    desk.talk(3 * PATIENCE_S)
    assert desk.worker.pipeline.streams.counters["legs_shed_total"] > 0
