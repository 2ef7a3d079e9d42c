"""What the engine hears, and how wet and dry are mixed."""

import numpy as np
import pytest

from gateway.config import EngineConfig
from gateway.denoise.adapter import AdaptedEngine
from gateway.denoise.engine import Engine, Result, Ticket
from gateway.denoise.engines import build
from gateway.denoise.passthrough import PassthroughEngine
from gateway.media import codecs
from gateway.media.legs import Legs
from gateway.media.voice import CONCEAL_FRAMES, WARM_FRAMES, Voice, mix
from gateway.messages import LegSpec, Payload, Reason
from tests.denoise.tools import click_db, vowel


def never_bypassed(payload_type: Payload, **changes: object) -> LegSpec:
    """A leg whose detectors are off, or `changes` of it."""
    return LegSpec(slot=0, generation=1, call_id="call", payloads=(payload_type,), **{"bypass": "off", **changes})


class Ear(PassthroughEngine):
    """Notes what it is fed, and gives silence back."""

    def __init__(self, rate: int, slots: int) -> None:
        super().__init__(rate, slots)
        self.heard: list[np.ndarray] = []
        self.resets: list[int] = []
        self.spoilt = False

    def reset(self, slots) -> None:
        self.resets += list(slots)

    def submit(self, slots, frames, counts, control) -> Ticket:
        self.heard += [frames[0, i] for i in range(counts[0])]
        self._shape = frames.shape
        return Ticket(0)

    def collect(self, ticket, deadline) -> Result:
        frames = np.full(self._shape, np.nan if self.spoilt else 0.0, np.float32)
        return Result(frames, np.zeros((*self._shape[:2], 4), np.float32))


class Bench:
    """One leg, packet by packet, in a chosen codec."""

    def __init__(self, name: str = "PCMU", clock_hz: int = 8000, delay: int | None = None) -> None:
        table = codecs.build(4)
        self.legs = Legs(4, table)
        self.codec = table[(name, clock_hz)]
        self.index = self.legs.codecs.index(self.codec)
        self.ear = Ear(self.codec.rate, 4)
        self.ear.delay = self.ear.delay if delay is None else delay
        self.voice = Voice(self.legs, {self.codec.rate: self.ear})
        self.payload_type = Payload(0, name, clock_hz, 1, 0)
        self.legs.open(self.spec())
        self.voice.open_leg(0)
        self.timestamp = 0
        self.fresh = True

    def spec(self, **changes: object) -> LegSpec:
        return never_bypassed(self.payload_type, **changes)

    def feed(self, value: int = 10, lost: int = 0, jump: int = 0) -> np.ndarray:
        """Payload that leaves for a 20 ms packet of one repeated byte; `lost` packets or `jump` units before it."""
        units = 2 * self.voice.units(self.codec)
        self.timestamp += lost * units + jump
        payload = np.full((1, 2 * self.codec.frame_bytes), value, np.uint8)
        one = np.ones(1, np.int64)
        sent = self.voice.process(
            self.index, 0 * one, self.timestamp * one, lost * one, np.array([self.fresh]), payload
        )  # fmt: skip
        self.timestamp += units
        self.fresh = False
        return sent[0]


ALL_CODECS = [("PCMU", 8000), ("PCMA", 8000), ("G722", 8000), ("L16", 8000), ("L16", 16000)]


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_payloads_keep_their_length_in_every_codec(codec):
    bench = Bench(*codec)
    for _ in range(5):
        assert len(bench.feed()) == 2 * bench.codec.frame_bytes
    assert bench.ear.resets == [0] and len(bench.ear.heard) == 10


def test_denoised_silence_is_silence_once_faded_in():
    bench = Bench()
    bench.feed()
    assert set(bench.feed()) == {bench.codec.silence}


def test_the_engine_lives_through_a_loss_on_fading_repeats():
    bench = Bench()
    bench.feed()
    level = abs(bench.ear.heard[-1][0])
    bench.feed(lost=1)
    concealed = [abs(frame[0]) for frame in bench.ear.heard[2:4]]
    assert level > concealed[0] > concealed[1] > 0
    assert len(bench.ear.heard) == 6 and bench.ear.resets == [0]


def test_an_engine_without_delay_lives_through_a_loss_too():
    bench = Bench(delay=0)
    bench.feed()
    assert len(bench.feed(lost=1)) == 160 and len(bench.ear.heard) == 6


def test_a_long_gap_resets_the_engine():
    bench = Bench()
    bench.feed()
    bench.feed(lost=CONCEAL_FRAMES)
    assert bench.ear.resets == [0, 0] and len(bench.ear.heard) == 4


def test_a_short_silence_keeps_the_engine_and_discards_the_tail():
    bench = Bench()
    bench.legs.update(bench.spec(bypass="on"))
    bench.feed(value=10)
    sent = bench.feed(value=20, jump=160)
    assert list(sent) == [bench.codec.silence] * 80 + [20] * 80


def test_a_leg_that_becomes_wet_is_warmed_up_first_and_faded_in():
    bench = Bench()
    bench.legs.update(bench.spec(bypass="on"))
    bench.feed()
    bench.legs.update(bench.spec())
    packets = WARM_FRAMES // 2
    dry = [bench.feed(value=10) for _ in range(packets)]
    assert all(set(payload) == {10} for payload in dry)
    fading = bench.codec.decode(np.zeros(1, np.int64), bench.feed(value=10)[None])[0]
    assert np.all(np.diff(np.abs(fading)) <= 1e-6) and abs(fading[0]) > abs(fading[-1])
    assert set(bench.feed(value=10)) == {bench.codec.silence}


def test_a_shed_leg_fades_to_dry():
    bench = Bench()
    for _ in range(3):
        bench.feed()
    bench.voice.shed[0] = True
    bench.feed()
    assert set(bench.feed(value=10)) == {10}
    assert bench.voice.frames_dry[0] == 4
    assert bench.voice.reason[0] == Reason.LOAD


def test_a_row_that_is_no_number_goes_dry_and_starts_afresh():
    bench = Bench()
    bench.feed(value=10)
    bench.ear.spoilt = True
    assert set(bench.feed(value=10)) == {10}
    assert bench.voice.total_spoilt == 1 and bench.ear.resets == [0, 0]
    bench.ear.spoilt = False
    for _ in range(WARM_FRAMES // 2 + 1):
        bench.feed(value=10)
    assert set(bench.feed(value=10)) == {bench.codec.silence}


def test_a_mix_begins_and_ends_at_its_shares():
    dry, wet = np.zeros((1, 1, 80), np.float32), np.ones((1, 1, 80), np.float32)
    course = mix(dry, wet, np.array([[0.0]], np.float32), np.array([[0.5]], np.float32))[0, 0]
    assert course[0] == 0.0 and course[-1] == pytest.approx(0.5, abs=0.01) and np.all(np.diff(course) > 0)


class Blocks:
    """A suppressor with a hop of 16 ms that changes nothing."""

    delay = 0

    def __init__(self, rate: int) -> None:
        self.rate, self.hop = rate, rate * 16 // 1000

    def reset(self, slots) -> None:
        """It has no history."""

    def run(self, slots, blocks):
        return blocks, np.zeros(len(slots), np.float32)


ENGINES = {
    "hop of 10 ms": lambda rate: PassthroughEngine(rate, 1),
    "hop of 16 ms": lambda rate: AdaptedEngine(Blocks(rate), rate, 1),
    "resampled": lambda rate: AdaptedEngine(Blocks(2 * rate), rate, 1),
}
"""Engines that change nothing but the time: 10 ms, 14 ms, and 16 to 18 ms late."""


class Line:
    """A phone, a leg and the far phone, in 20 ms packets of a codec."""

    def __init__(self, codec: tuple[str, int], engine: Engine, **changes: object) -> None:
        table = codecs.build(1)
        self.phone, self.far_phone = codecs.build(1)[codec], codecs.build(1)[codec]
        self.legs = Legs(1, table)
        self.voice = Voice(self.legs, {self.phone.rate: engine})
        self.index = self.legs.codecs.index(table[codec])
        self.payload_type = Payload(0, codec[0], codec[1], 1, 0)
        self.legs.open(self.spec(**changes))
        self.voice.open_leg(0)

    def spec(self, **changes: object) -> LegSpec:
        return never_bypassed(self.payload_type, **changes)

    def say(
        self, pcm: np.ndarray, lost: tuple[int, ...] = (), then: dict[int, dict] | None = None, frames: int = 2
    ) -> np.ndarray:
        """What is heard, float32 [samples]; silence for lost packets. then: changes of the leg before a packet."""
        one, units = np.ones(1, np.int64), frames * self.voice.units(self.phone)
        heard, gap = [], 0
        for i, part in enumerate(np.split(pcm, len(pcm) // (frames * self.phone.rate // 100))):
            payload = self.phone.encode(0 * one, part[None])
            if i in lost:
                gap += 1
                heard.append(np.zeros_like(part))
                continue
            if then and i in then:
                self.legs.update(self.spec(**then[i]))
            sent = self.voice.process(self.index, 0 * one, i * units * one, gap * one, one == 0, payload)
            heard.append(self.far_phone.decode(0 * one, sent)[0])
            gap = 0
        return np.concatenate(heard)


def hiss(seconds: float, rate: int) -> np.ndarray:
    """Noise of 16-bit samples, float32."""
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).clip(-0.5, 0.5) * 32768
    return (np.rint(samples) / 32768).astype(np.float32)


@pytest.mark.parametrize("late", ENGINES)
@pytest.mark.parametrize("codec", ALL_CODECS)
def test_dry_and_denoised_audio_are_equally_late_in_every_codec(codec, late):
    """Noise through a network that changes nothing, against the same noise bypassed."""
    rate = codecs.build(1)[codec].rate
    engines = {bypass: ENGINES[late](rate) for bypass in ("on", "off")}
    heard = {bypass: Line(codec, engine, bypass=bypass).say(hiss(0.4, rate)) for bypass, engine in engines.items()}
    apart = np.correlate(heard["on"][rate // 10 :], heard["off"][rate // 10 :][100:-100], "valid")
    assert int(np.argmax(apart)) == 100


@pytest.mark.parametrize("late", ["hop of 10 ms", "hop of 16 ms"])
@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("lost", [(), (10,), (10, 11, 12)], ids=len)
def test_no_switch_and_no_loss_moves_a_sample(rate, late, lost):
    """Level 0 and back, through losses: once its concealment has passed, every sample is where it was."""
    engine = ENGINES[late](rate)
    pcm = hiss(1.0, rate)
    then = {15: {"level": 0}, 30: {"level": 80}}
    heard = Line(("L16", rate), engine).say(pcm, lost, then)
    settled = (max(lost) + 3 if lost else 3) * rate // 50
    np.testing.assert_array_equal(heard[settled:], pcm[settled - engine.delay : -engine.delay])


@pytest.mark.parametrize("rate", [8000, 16000])
def test_level_0_in_mid_call_is_the_senders_bytes_after_the_fade(rate):
    """Engine and input differ in every sample here, and the fade takes 20 ms."""
    engine = AdaptedEngine(Blocks(rate), rate, 1)
    engine._inner.run = lambda slots, blocks: (-blocks, np.zeros(len(slots), np.float32))  # type: ignore[method-assign]
    pcm = hiss(0.4, rate)
    heard = Line(("L16", rate), engine).say(pcm, then={10: {"level": 0}})
    switch, end = 10 * rate // 50, 11 * rate // 50
    late = np.concatenate([np.zeros(engine.delay, np.float32), pcm])[: len(pcm)]
    np.testing.assert_array_equal(heard[end:], late[end:])
    assert np.corrcoef(heard[switch // 2 : switch], late[switch // 2 : switch])[0, 1] < -0.99


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("changes", [{"level": 0}, {"bypass": "on"}], ids=str)
def test_the_denoiser_switched_off_and_on_in_a_held_vowel_does_not_click(rate, changes):
    engine = build(EngineConfig(), 1)[rate]
    heard = Line(("L16", rate), engine).say(vowel(rate, 160).reshape(-1), then={40: changes, 55: {"level": 80}})
    back = 55 * rate // 50 + WARM_FRAMES * rate // 100
    for switch in (40 * rate // 50, back):
        assert click_db(heard, switch, rate) < -50


def test_a_leg_that_warms_up_and_fades_in_within_one_long_packet_plays_no_old_sound():
    engine = AdaptedEngine(Blocks(8000), 8000, 1)
    pcm = hiss(0.96, 8000)
    heard = Line(("L16", 8000), engine).say(pcm, then={1: {"bypass": "on"}, 3: {"bypass": "off"}}, frames=16)
    np.testing.assert_array_equal(heard[320:], pcm[320 - engine.delay : -engine.delay])
