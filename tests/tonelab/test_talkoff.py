"""Talk-off: what is in the recordings is found and counted, and nothing is found in our speech."""

import numpy as np
import pytest
import soundfile

from tests.tonelab import material, signals, talkoff

MINUTE = 1 / 60


@pytest.fixture
def digits(tmp_path):
    """A recording with forty digits."""
    path = tmp_path / "digits.wav"
    soundfile.write(path, signals.dtmf("0123456789" * 4, 60, 60), 8000)
    return path


def test_digits_in_a_recording_are_found_and_kept_to_listen_to(digits, tmp_path):
    found = talkoff.talk_off([digits], MINUTE, clips=tmp_path / "clips")
    assert found.hours == pytest.approx(MINUTE)
    first = [example.split(":")[0] for example in found.examples if example.startswith("dtmf")][:40]
    assert first == [f"dtmf {digit}" for digit in "0123456789" * 4], "later ones are at other speeds"
    assert found.shares["dtmf"] > 0.03
    assert len(list((tmp_path / "clips").glob("dtmf-*.wav"))) == found.found["dtmf"]


def test_no_digit_and_no_fax_is_found_in_speech():
    found = talkoff.talk_off([material.RECORDINGS / "clean_8k.wav"], MINUTE)
    assert found.hours == pytest.approx(MINUTE)
    assert not found.found.keys() & {"dtmf", "fax"}


def test_stretches_come_again_differently(digits):
    stretches = [pcm for _, pcm in talkoff.stretches([digits], 3 * MINUTE)]
    assert [len(pcm) for pcm in stretches] == [480_000] * 3
    assert not np.array_equal(stretches[0], stretches[1])


def test_the_longest_run_does_not_go_from_one_stream_into_the_next():
    mask = np.array([[0, 1, 1, 1], [1, 1, 0, 1]], np.bool_)
    assert talkoff._longest_run(mask) == 3
