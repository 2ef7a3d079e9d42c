"""Signals on their way through the pipeline: what must not be denoised leaves as it came, and is told.

The engine of these tests makes silence of everything, so whatever is heard at the far side went round it.
"""

import numpy as np
import pytest

from gateway.denoise.engine import Result
from gateway.denoise.passthrough import PassthroughEngine
from gateway.detect.sines import Screen
from gateway.media.codecs.g711 import G711
from gateway.media.pipeline import Pipeline
from gateway.messages import DETECTORS, LegSpec, Payload, Reason
from gateway.protocol import rtp, telephone_event

PACKET, DELAY = 160, 80
PCMU, EVENT = Payload(0, "PCMU", 8000, 1, 0), Payload(101, "TELEPHONE-EVENT", 8000, 1, 101)
SILENCE = 0xFF


class Mute(PassthroughEngine):
    """Takes everything for noise."""

    def collect(self, ticket, deadline) -> Result:
        heard = super().collect(ticket, deadline)
        return Result(heard.frames * 0, heard.probabilities)


def encode(pcm: np.ndarray) -> bytes:
    return G711.mu_law().encode(np.zeros(1, np.int64), pcm[None].astype(np.float32))[0].tobytes()


def tone(seconds: float, *hz: float) -> bytes:
    t = np.arange(int(seconds * 8000) // PACKET * PACKET) / 8000
    return encode(sum(0.2 * np.sin(2 * np.pi * f * t) for f in hz))


def noise(seconds: float, seed: int = 1) -> bytes:
    return encode(np.random.default_rng(seed).standard_normal(int(seconds * 8000) // PACKET * PACKET) * 0.05)


class Call:
    """Two legs, each of which sends packets of its own; a third belongs to somebody else."""

    def __init__(self, **controls: object) -> None:
        self.controls = controls
        self.pipeline = Pipeline(4, {8000: Mute(8000, 4)}, hold_s=0.0, rows=8, seed=1)
        for slot, peer in ((0, 1), (1, 0), (2, -1)):
            self.pipeline.open(self.spec(slot, peer))
        self.next = [0] * 4
        self.now = 0.0

    def spec(self, slot: int, peer: int, **changes: object) -> LegSpec:
        defaults = {"generation": 1, "call_id": "call", "payloads": (PCMU, EVENT), "slot": slot, "peer": peer}
        return LegSpec(**{**defaults, **self.controls, **changes})

    def say(self, audio: bytes, slot: int = 0) -> bytes:
        """What the other side hears of it."""
        return b"".join(self.send(slot, 0, audio[at : at + PACKET]) for at in range(0, len(audio), PACKET))

    def send(self, slot: int, payload_type: int, payload: bytes, timestamp: int | None = None) -> bytes:
        number = self.next[slot]
        self.next[slot] += 1
        self.now += 0.02
        timestamp = number * PACKET if timestamp is None else timestamp
        datagram = rtp.pack(payload, payload_type=payload_type, sequence=number, timestamp=timestamp, ssrc=slot + 1)
        self.pipeline.slab[0, : len(datagram)] = np.frombuffer(datagram, np.uint8)
        self.pipeline.lengths[0], self.pipeline.slots[0] = len(datagram), slot
        (row,) = self.pipeline.step(1, self.now).rows
        return rtp.unpack(self.pipeline.slab[row, : len(datagram)].tobytes()).payload

    @property
    def heard(self) -> list[tuple[str, str]]:
        return [(found.kind, found.value) for found in self.pipeline.voice.ear.found]


def test_noise_is_denoised():
    got = Call().say(noise(1.0))
    assert set(got[-1600:]) == {SILENCE}


@pytest.mark.parametrize("hz", [(350, 440), (425,), (697, 1209), (1100,), (2100,), (1004,)], ids=str)
def test_a_tone_leaves_as_the_senders_bytes(hz: tuple[float, ...]):
    call = Call()
    call.say(noise(1.0))
    sent = tone(1.0, *hz)
    got = call.say(sent)
    assert got[1600:] == sent[1600 - DELAY : -DELAY]


def test_denoising_goes_on_after_a_digit():
    call = Call()
    call.say(noise(0.5) + tone(0.1, 770, 1336))
    got = call.say(noise(0.6))
    assert set(got[-1600:]) == {SILENCE}
    assert call.heard == [("dtmf", "5")]


def test_bypass_off_denoises_whatever_is_heard():
    call = Call(bypass="off")
    call.say(noise(1.0))
    assert set(call.say(tone(2.0, 2100))[-1600:]) == {SILENCE} and not call.heard


def test_a_fax_latches_both_directions_bit_for_bit_to_the_end():
    call = Call()
    call.say(noise(1.0), slot=1)
    call.say(tone(3.0, 2100))
    for slot in (0, 1):
        call.say(noise(0.1), slot)
        sent, after = noise(1.0, seed=slot), noise(0.02)
        got = call.say(sent, slot) + call.say(after, slot)
        assert got[DELAY : DELAY + len(sent)] == sent
        assert call.pipeline.voice.reason[slot] == Reason.FAX
    assert not call.pipeline.voice.ear.policy.latched[2]
    assert sorted(call.pipeline.voice.latches) == [0, 1]


def test_a_latch_survives_into_a_new_worker_and_ends_with_the_leg():
    call = Call()
    call.pipeline.open(call.spec(0, 1, latched=True))
    sent = noise(1.0)
    assert call.say(sent)[DELAY:] == sent[:-DELAY]
    call.pipeline.open(call.spec(0, 1, generation=2))
    call.next[0] = 0
    assert set(call.say(noise(1.0))[-1600:]) == {SILENCE}


def test_a_leg_latched_by_its_call_goes_dry_in_mid_stream():
    call = Call()
    call.say(noise(1.0))
    call.pipeline.update(call.spec(0, 1, latched=True))
    call.say(noise(0.1))
    sent = noise(0.5, seed=3)
    assert call.say(sent)[DELAY:] == sent[:-DELAY]


def test_an_event_passes_byte_for_byte_and_is_told_once():
    call = Call()
    call.say(noise(0.5))
    begin = call.next[0] * PACKET
    for number in range(8):
        payload = telephone_event.pack(telephone_event.Event(7, number >= 5, 10, PACKET * (number + 1)))
        assert call.send(0, 101, payload, timestamp=begin) == payload
    assert call.heard == [("event", "7")]
    (event,) = call.pipeline.voice.ear.found
    assert event.begin == 4000 and event.level_dbm0 == -10
    call.say(tone(0.1, 697, 1209) + noise(0.1))
    assert abs(call.pipeline.voice.ear.found[-1].begin - 4000 - 8 * PACKET) <= PACKET


def test_frames_are_counted_by_what_became_of_them():
    call = Call()
    call.say(noise(0.7) + tone(1.0, 350, 440))
    totals = call.pipeline.voice.totals
    assert totals.sum() == 170
    assert 25 <= totals[Reason.NONE] <= 40 and totals[Reason.TRIAL] >= 36 and totals[Reason.PROGRESS] > 80
    assert call.pipeline.voice.frames_wet[0] == totals[Reason.NONE]


def test_a_fault_in_a_detector_costs_no_call_its_audio(monkeypatch: pytest.MonkeyPatch):
    call = Call()
    voice = call.pipeline.voice
    hear = Screen.see
    monkeypatch.setattr(Screen, "see", lambda *_: 1 // 0)
    assert set(call.say(noise(1.0))[-1600:]) == {SILENCE}
    assert voice.faulty == {DETECTORS: "ZeroDivisionError: integer division or modulo by zero"}
    monkeypatch.setattr(Screen, "see", hear)
    call.say(tone(0.5, 350, 440))
    assert voice.reason[0] == Reason.PROGRESS and not voice.faulty
