"""An hour of call leaves the network as it was; `models.drift` would see it if it did not."""

from dataclasses import replace

import numpy as np
import pytest

from models import drift
from models.drift import FOLDER, PAUSE, SPEECH, Material, Period, follow, scenes

STANDARD = FOLDER / "standard_8k.onnx"
STEADY = Period(5.0, 20.0, -0.1, 1.0, 8.0, 0, 0, 30.0)


@pytest.fixture(scope="module")
def ten_minutes() -> list[Period]:
    """Two calls, a script of two minutes."""
    return follow(STANDARD, minutes=10, rows=2, scene_s=6.0)


def test_ten_minutes_do_not_change_the_network(ten_minutes: list[Period]):
    assert [p.minute for p in ten_minutes] == pytest.approx([2, 4, 6, 8, 10])
    assert drift.faults(ten_minutes) == []


def test_what_is_watched_is_a_network_at_work(ten_minutes: list[Period]):
    """Else nothing could be seen to change."""
    for period in ten_minutes:
        assert period.noise_reduction_db > 6
        assert abs(period.speech_gain_db) < 3
        assert period.state_rms > 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"noise_reduction_db": 19.6},
        {"noise_reduction_db": float("nan")},
        {"speech_gain_db": 0.3},
        {"state_peak": 13.0},
        {"state_peak": float("inf")},
        {"not_finite": 1},
    ],
)
def test_a_last_period_unlike_the_second_is_a_fault(change: dict[str, float]):
    assert len(drift.faults([STEADY, STEADY, replace(STEADY, **change)])) == 1


def test_what_a_fresh_state_does_is_no_fault():
    assert drift.faults([replace(STEADY, noise_reduction_db=18.0), STEADY, STEADY]) == []


def test_small_changes_are_none():
    slightly_off = replace(STEADY, noise_reduction_db=20.25, state_peak=11.0, us_per_frame=90.0)
    assert drift.faults([STEADY, STEADY, slightly_off]) == []


def test_calls_differ_and_repeat():
    material = Material(8000, 3.0)
    first, again = list(scenes(material, 2)), list(scenes(material, 2))
    for (audio, labels), (same, same_labels) in zip(first, again, strict=True):
        np.testing.assert_array_equal(audio, same)
        np.testing.assert_array_equal(labels, same_labels)
    loud = [audio for audio, _ in first if audio.any()]
    assert all((audio[0] != audio[1]).any() for audio in loud)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_pauses_hold_noise_and_speech_holds_speech(rate: int):
    for audio, labels in scenes(Material(rate, 15.0), 2):
        power = np.square(audio).reshape(2, -1, rate // 100).mean(axis=2)
        assert (power[labels == SPEECH] > 1e-9).all()
        assert (power[labels == PAUSE] > 1e-9).all()


def test_the_table_has_a_row_a_period():
    assert len(drift.table([STEADY] * 3).splitlines()) == 5
