"""The media path with an engine that answers later: nobody waits for it, and what comes late reaches nobody else."""

import os

import numpy as np
import pytest

from gateway.denoise.engine import Result, Ticket
from gateway.denoise.passthrough import PassthroughEngine
from gateway.errors import EngineError
from gateway.media.pipeline import Pipeline
from gateway.media.voice import FADE_FRAMES, WARM_FRAMES
from gateway.messages import LegSpec, Payload, Reason
from gateway.protocol import rtp

PCMU = (Payload(0, "PCMU", 8000, 1, 0),)
FRAMES = 2
"""Of 10 ms in a packet."""


class Remote(PassthroughEngine):
    """Answers with its input a frame later and half as loud, when `there` says so."""

    substitute = fault = ""

    def __init__(self, slots: int) -> None:
        super().__init__(8000, slots)
        self.epoch, self.counters, self.resets = 0, {}, []
        self.there, self.broken, self.sent = True, False, 0
        self._waiting: list[Ticket] = []
        self._file = os.eventfd(0)

    def reset(self, slots) -> None:
        super().reset(slots)
        self.resets += slots.tolist()

    def submit(self, slots, frames, counts, control) -> Ticket:
        self._waiting.append(super().submit(slots, frames, counts, control))
        return self._waiting[-1]

    def flush(self) -> None:
        self.sent += bool(self._waiting)
        self._waiting = []

    def collect(self, ticket, deadline) -> Result | None:
        result = super().collect(ticket, deadline)
        if self.broken:
            raise EngineError("broken")
        return Result(result.frames * 0.5, result.probabilities) if self.there else None

    def due_s(self) -> float | None:
        return None if self.there else 5.0

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
        self.number = 0

    def open(self, slot: int, generation: int) -> None:
        spec = LegSpec(slot=slot, generation=generation, call_id="c", peer=slot ^ 1, payloads=PCMU, bypass="off")
        self.pipeline.open(spec)

    def begin(self, slot: int = 0, skip: int = 0) -> None:
        self.number += 1 + skip
        packet = rtp.pack(
            bytes([0x90]) * 160, payload_type=0, sequence=self.number, timestamp=160 * self.number, ssrc=9
        )
        self.pipeline.slab[0, : len(packet)] = np.frombuffer(packet, np.uint8)
        self.pipeline.lengths[0], self.pipeline.slots[0] = len(packet), slot
        self.pipeline.begin(1, self.number * 0.02)

    def finish(self) -> bytes | None:
        rows = self.pipeline.finish().rows
        return rtp.unpack(self.pipeline.slab[0, : self.pipeline.lengths[0]].tobytes()).payload if len(rows) else None

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
    assert bench.pipeline.due_s() == 5.0
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
    bench.number += 1
    bench.packet()
    assert bench.remote.sent - sent <= 2 and bench.pipeline.voice.wet[0] == 1.0
