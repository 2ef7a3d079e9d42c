"""Which legs lose their denoiser when a worker is too busy, and when they get it back."""

import pytest

from gateway.denoise.passthrough import PassthroughEngine
from gateway.media.pipeline import Pipeline
from gateway.media.shedding import PATIENCE_S, Shedding
from gateway.messages import LegSpec


@pytest.fixture
def pipeline():
    made = Pipeline(64, {8000: PassthroughEngine(8000, 64)}, 0.005, rows=8)
    for slot in reversed(range(20)):
        made.open(LegSpec(slot=slot, generation=1, call_id="call", denoise=slot != 0))
    return made


def strain(shedding: Shedding, seconds: float = PATIENCE_S) -> None:
    """Batches that are all too old, 10 ms apart."""
    for i in range(round(seconds * 100) + 1):
        shedding.observe(0.02, now=100 + i / 100)


def test_the_newest_denoised_legs_go_dry_first(pipeline):
    strain(Shedding(pipeline, 0.015))
    assert list(pipeline.voice.shed.nonzero()[0]) == [1, 2]


def test_one_hiccup_sheds_nothing(pipeline):
    shedding = Shedding(pipeline, 0.015)
    strain(shedding, PATIENCE_S - 0.02)
    shedding.observe(0.001, now=101.0)
    strain(shedding, PATIENCE_S - 0.02)
    assert not pipeline.voice.shed.any()


def test_legs_come_back_only_after_a_calm_second(pipeline):
    shedding = Shedding(pipeline, 0.015)
    strain(shedding)
    shedding.review(busy_s=0.5, idle_s=0.5)
    assert pipeline.voice.shed.sum() == 2, "the second had strain in it"
    shedding.review(busy_s=1.45, idle_s=0.55)
    assert pipeline.voice.shed.sum() == 2, "the second was busy"
    shedding.review(busy_s=1.95, idle_s=1.05)
    assert list(pipeline.voice.shed.nonzero()[0]) == [1]


def test_a_leg_that_floods_goes_dry_alone_and_comes_back_when_it_stops(pipeline):
    shedding, frames = Shedding(pipeline, 0.015), pipeline.voice.frames_wet
    frames[1:20] += 100
    frames[7] += 400
    shedding.review(busy_s=0.5, idle_s=0.5)
    assert list(pipeline.voice.shed.nonzero()[0]) == [7]
    frames[1:20] += 100
    shedding.review(busy_s=1.0, idle_s=1.0)
    assert not pipeline.voice.shed.any()


def test_what_a_stall_has_gathered_is_no_flood(pipeline):
    shedding = Shedding(pipeline, 0.015)
    pipeline.voice.frames_wet[1:20] += 500
    shedding.review(busy_s=1.0, idle_s=4.0)
    assert not pipeline.voice.shed.any()


def test_a_stream_may_be_faster_than_the_clock(pipeline):
    shedding = Shedding(pipeline, 0.015)
    pipeline.legs.noted[5] = True
    pipeline.voice.frames_wet[5] += 4000
    shedding.review(busy_s=0.5, idle_s=0.5)
    assert not pipeline.voice.shed.any()
