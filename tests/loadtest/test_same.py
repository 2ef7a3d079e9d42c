"""Comparison of a call's audio with the file command's, with a command of the test's own."""

import sys

import numpy as np
import pytest

from loadtest import same
from loadtest.material import Material

DELAY = 80
COPY = """
import sys, soundfile
pcm, rate = soundfile.read(sys.argv[1], dtype="int16", always_2d=True)
assert sys.argv[3:] == ["--codec", "PCMU"]
soundfile.write(sys.argv[2], pcm, rate, subtype="PCM_16")
"""


def capture(frames: int = 6):
    """Two legs whose audio comes back 80 samples late, and not otherwise changed."""
    made = {}
    for leg, said in enumerate(Material(folders=()).loops(2, frames)):
        said = np.where(said == 0x7F, 0xFF, said)
        late = np.concatenate([np.full(DELAY, 0xFF, np.uint8), said.reshape(-1)])[: said.size]
        made[leg] = (said, late.reshape(said.shape), np.ones(frames, bool))
    return made


@pytest.fixture
def command(tmp_path) -> list[str]:
    """Writes out what it reads."""
    (tmp_path / "copy.py").write_text(COPY)
    return [sys.executable, str(tmp_path / "copy.py")]


def test_legs_that_differ_only_by_the_delay_are_identical(command):
    found = same.with_file(capture(), command, DELAY)
    assert (found.legs, found.legs_identical, found.largest_difference) == (2, 2, 0)
    assert found.samples == found.identical == 2 * (6 * 160 - DELAY)


def test_another_delay_is_noticed(command):
    assert same.with_file(capture(), command, DELAY - 1).legs_identical == 0


def test_a_changed_sample_is_counted_and_measured(command):
    made = capture()
    made[1][1][3, 7] ^= 0x80
    found = same.with_file(made, command, DELAY)
    assert (found.legs_identical, found.samples - found.identical) == (1, 1)
    assert found.largest_difference > 0


def test_packets_that_did_not_arrive_are_not_compared(command):
    made = capture()
    made[0][1][2] = 0
    made[0][2][2] = False
    found = same.with_file(made, command, DELAY)
    assert (found.legs_identical, found.samples) == (2, 2 * (6 * 160 - DELAY) - 160)


def test_relayed_payloads_are_compared_as_they_are():
    made = {0: (said := Material(folders=()).pcmu(0, 4), said.copy(), np.ones(4, bool))}
    assert same.untouched(made).legs_identical == 1


def test_legs_of_different_lengths_are_compared_over_their_own(command):
    made = capture()
    made[0] = tuple(part[:4] for part in made[0])
    found = same.with_file(made, command, DELAY)
    assert (found.legs_identical, found.samples) == (2, (6 + 4) * 160 - 2 * DELAY)
