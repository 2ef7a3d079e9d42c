"""What the ear says of whole sounds, packet by packet."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.detect.detection import Detection
from gateway.detect.ear import REPORTS_PER_SECOND, Ear
from gateway.messages import Reason

RATE, AUDIO = 8000, Path(__file__).parents[1] / "audio"
BEGUN = 44
"""Frames after which white noise is known to be no music."""


def tone(seconds: float, *hz: float, rate: int = RATE, amplitude: float = 0.2) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return sum(amplitude * np.sin(2 * np.pi * f * t) for f in hz).astype(np.float32)


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal(int(seconds * rate)) * 0.05).astype(np.float32)


class Listener:
    """One slot among others."""

    def __init__(self, rate: int = RATE, frames: int = 2) -> None:
        self.ear, self.rate, self.frames, self.slot = Ear(4), rate, frames, np.array([2])
        self.ear.open_leg(2)

    def hear(self, pcm: np.ndarray, keep_music: bool = True) -> list[Reason]:
        packet = self.frames * self.rate // 100
        codes = []
        for at in range(0, len(pcm) - packet + 1, packet):
            frames = pcm[at : at + packet].reshape(1, self.frames, -1)
            codes += self.ear.verdicts(self.slot).tolist() * self.frames
            self.ear.take(self.slot, frames, self.rate, np.array([keep_music]))
        self.ear.listen()
        return [Reason(code) for code in codes]


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_a_digit_is_dry_from_its_first_packets_and_told_once(rate: int, frames: int):
    listener = Listener(rate, frames)
    codes = listener.hear(np.concatenate([noise(0.6, rate), tone(0.3, 770, 1336, rate=rate), noise(0.6, rate)]))
    first, last = 60, 90
    assert set(codes[BEGUN : first - 1]) == {Reason.NONE}
    assert Reason.NONE not in codes[first + 6 : last - 6]
    assert set(codes[last + 12 :]) == {Reason.NONE}
    assert [(found.kind, found.value) for found in listener.ear.found] == [("dtmf", "5")]


def test_a_short_beep_of_no_plan_is_dry_to_its_end():
    quiet = np.zeros(RATE // 2, np.float32)
    codes = Listener().hear(np.concatenate([quiet, tone(0.2, 2000), quiet]))
    assert set(codes[54:70]) == {Reason.TRIAL}
    assert set(codes[74:]) == {Reason.NONE}


def test_a_dial_tone_is_progress():
    listener = Listener()
    codes = listener.hear(tone(2.0, 350, 440))
    assert set(codes[20:]) == {Reason.PROGRESS}
    assert {found.kind for found in listener.ear.found} == {"progress"}


def test_an_answering_modem_latches_the_leg_and_nothing_unlatches_it():
    listener = Listener()
    codes = listener.hear(np.concatenate([tone(3.0, 2100), noise(1.0)]))
    assert set(codes[-100:]) == {Reason.FAX}
    assert listener.ear.latches == [2]
    listener.ear.forget(listener.slot)
    assert set(listener.hear(noise(1.0))) == {Reason.FAX}
    listener.ear.open_leg(2)
    assert set(listener.hear(noise(1.0))[BEGUN:]) == {Reason.NONE}


def test_noise_is_nothing_as_soon_as_it_cannot_be_music():
    listener = Listener()
    codes = listener.hear(noise(5.0))
    assert set(codes[2:34]) == {Reason.TRIAL}
    assert set(codes[BEGUN:]) == {Reason.NONE} and not listener.ear.found


def test_a_voice_is_denoised_from_its_first_second_on():
    speech = soundfile.read(AUDIO / "noisy_8k.wav", dtype="float32")[0]
    codes = Listener().hear(speech[: 10 * RATE])
    assert codes[:60].count(Reason.TRIAL) >= 10
    assert set(codes[60:]) == {Reason.NONE}


def test_the_noise_of_a_line_is_no_beginning():
    codes = Listener().hear(np.concatenate([noise(1.0) * np.float32(0.02), noise(1.0)]))
    assert set(codes[:100]) == set(codes[100 + BEGUN :]) == {Reason.NONE}
    assert set(codes[102:116]) == {Reason.TRIAL}


def test_nothing_begins_on_trial_where_music_is_to_be_taken_out():
    assert set(Listener().hear(noise(1.0), keep_music=False)) == {Reason.NONE}


def test_a_pause_in_a_stream_is_no_new_beginning_and_another_source_is():
    listener = Listener()
    listener.hear(noise(1.0))
    listener.ear.skip(listener.slot, np.array([300]))
    assert set(listener.hear(np.concatenate([noise(1.0), np.zeros(6 * RATE, np.float32), noise(1.0)]))) == {Reason.NONE}
    listener.ear.forget(listener.slot)
    assert set(listener.hear(noise(1.0))[2:18]) == {Reason.TRIAL}


def test_time_goes_on_where_nothing_was_heard():
    listener = Listener()
    listener.ear.skip(listener.slot, np.array([100]))
    listener.hear(np.concatenate([noise(0.2), tone(0.1, 697, 1209), noise(0.2)]))
    (digit,) = listener.ear.found
    assert abs(digit.begin - RATE * 1.2) <= 160


def test_a_leg_that_says_too_much_is_counted_instead():
    listener = Listener()
    for _ in range(2 * REPORTS_PER_SECOND):
        listener.ear.report(Detection(2, "dtmf", "1", 0, 400))
    assert len(listener.ear.found) == REPORTS_PER_SECOND == listener.ear.unreported


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["tone", "noise", "silence", "loud", "skip", "forget"]), max_size=30), st.data())
def test_a_row_hears_the_same_alone_and_in_company(sounds: list[str], data):
    """Whatever the neighbours hear."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    alone, among = Ear(8), Ear(8)
    company = np.array([5, 2, 7])
    for sound in sounds:
        if sound == "skip":
            for ear in (alone, among):
                ear.skip(np.array([2]), np.array([3]))
            continue
        if sound == "forget":
            for ear in (alone, among):
                ear.forget(np.array([2]))
            continue
        own = {"tone": tone(0.02, 425), "noise": noise(0.02), "silence": noise(0.02) * 0, "loud": noise(0.02) * 40}[
            sound
        ]
        others = rng.standard_normal((3, 2, 80)).astype(np.float32)
        others[1] = own.reshape(2, 80)
        alone.take(np.array([2]), others[1:2], RATE, np.array([True]))
        among.take(company, others, RATE, np.ones(3, bool))
        if rng.random() < 0.5:  # whenever the others are heard
            alone.listen()
        assert alone.verdicts(np.array([2]))[0] == among.verdicts(company)[1]
