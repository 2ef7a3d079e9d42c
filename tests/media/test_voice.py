"""What the engine hears, and how wet and dry are mixed."""

import numpy as np
import pytest

from gateway.denoise.engine import Result, Ticket
from gateway.denoise.passthrough import PassthroughEngine
from gateway.media import codecs
from gateway.media.legs import Legs
from gateway.media.voice import CONCEAL_FRAMES, WARM_FRAMES, Voice, mix
from gateway.messages import LegSpec, Payload


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

    def __init__(self, name: str = "PCMU", clock_hz: int = 8000) -> None:
        table = codecs.build(4)
        self.legs = Legs(4, table)
        self.codec = table[(name, clock_hz)]
        self.index = self.legs.codecs.index(self.codec)
        self.ear = Ear(self.codec.rate, 4)
        self.voice = Voice(self.legs, {self.codec.rate: self.ear})
        self.payload_type = Payload(0, name, clock_hz, 1, 0)
        self.legs.open(self.spec())
        self.voice.open_leg(0)
        self.timestamp = 0
        self.fresh = True

    def spec(self, **changes: object) -> LegSpec:
        return LegSpec(slot=0, generation=1, call_id="call", payloads=(self.payload_type,), **changes)

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
    assert bench.voice.frames_dry[0] == 2


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


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_dry_and_denoised_audio_are_equally_late_in_every_codec(codec):
    """A tone through a network that changes nothing, against the same tone bypassed."""
    heard = {}
    for bypass in ("on", "off"):
        table = codecs.build(1)
        phone, far_phone = codecs.build(1)[codec], codecs.build(1)[codec]
        legs = Legs(1, table)
        voice = Voice(legs, {phone.rate: PassthroughEngine(phone.rate, 1)})
        payload_type = Payload(0, codec[0], codec[1], 1, 0)
        legs.open(LegSpec(slot=0, generation=1, call_id="call", payloads=(payload_type,), bypass=bypass))
        voice.open_leg(0)
        noise = np.random.default_rng(0).normal(0, 0.1, (1, 20 * phone.rate // 50)).astype(np.float32)
        one, units = np.ones(1, np.int64), 2 * voice.units(phone)
        packets = []
        for i, pcm in enumerate(np.split(noise, 20, axis=1)):
            sent = voice.process(
                legs.codecs.index(table[codec]), 0 * one, i * units * one, 0 * one, one == 0, phone.encode(0 * one, pcm)
            )  # fmt: skip
            packets.append(far_phone.decode(0 * one, sent)[0])
        heard[bypass] = np.concatenate(packets)[phone.rate // 10 :]
    apart = np.correlate(heard["on"], heard["off"][100:-100], "valid")
    assert int(np.argmax(apart)) == 100
