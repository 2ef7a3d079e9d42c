"""The check of the chaos tests sees a single frame of somebody else, and nothing where nothing is wrong."""

import numpy as np
import pytest

from gateway.denoise.engines import graph_path
from gateway.denoise.ort import OrtEngine
from gateway.media.legs import smallest_gain
from tests.denoise.tools import run
from tests.denoise.triton.voices import DELAY, HOP, LEVEL, decoded, encoded, foreign, voices

LEGS, PACKETS = 12, 200


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    return voices(LEGS, PACKETS)


@pytest.fixture(scope="module")
def wet(spoken) -> np.ndarray:
    """What leaves: the embedded network's."""
    pcm = decoded(spoken).reshape(LEGS, -1, HOP)
    made = run(OrtEngine(graph_path("light", 8000), LEGS), range(LEGS), pcm, gain=smallest_gain(LEVEL))
    return encoded(made.reshape(LEGS, -1)).reshape(spoken.shape)


@pytest.fixture(scope="module")
def dry(spoken) -> np.ndarray:
    late = np.pad(spoken.reshape(LEGS, -1), ((0, 0), (DELAY, 0)), constant_values=0xFF)[:, :-DELAY]
    return late.reshape(spoken.shape)


@pytest.mark.parametrize("kind", ["wet", "dry", "both"])
def test_what_is_a_legs_own_is_let_pass(spoken, wet, dry, kind):
    faded = encoded((decoded(wet) + decoded(dry)) / 2).reshape(wet.shape)
    assert foreign(spoken, {"wet": wet, "dry": dry, "both": faded}[kind]) == []


@pytest.mark.parametrize("frames", [1, 2], ids=["10 ms", "20 ms"])
@pytest.mark.parametrize("into", ["wet", "dry"])
@pytest.mark.parametrize("source", ["wet", "dry"])
def test_every_single_frame_of_another_leg_is_seen_and_named(spoken, request, into, source, frames):
    heard, others, spliced = parts(request, into), parts(request, source), set()
    for leg in range(LEGS):
        for at in range(7 + leg, heard.shape[1] - 2, 7):
            other = (leg + at) % (LEGS - 1)
            other += other >= leg
            heard[leg, at : at + frames] = others[other, at : at + frames]
            spliced |= {(leg, frame, other) for frame in range(at, at + frames)}
    assert len(spliced) > 600
    assert set(foreign(spoken, heard.reshape(spoken.shape))) == spliced


@pytest.mark.parametrize("back", [1, 2, 5])
def test_a_frame_of_an_earlier_batch_is_seen(spoken, request, back):
    heard, earlier = parts(request, "wet"), parts(request, "wet")
    at = np.arange(20, heard.shape[1], 7)
    heard[:, at] = earlier[:, at - back]
    assert {(leg, frame) for leg, frame, _ in foreign(spoken, heard.reshape(spoken.shape))} == {
        (leg, frame) for leg in range(LEGS) for frame in at
    }


def test_a_frame_of_silence_is_seen(spoken, request):
    heard = parts(request, "wet")
    heard[3, 50] = 0xFF
    assert foreign(spoken, heard.reshape(spoken.shape)) == [(3, 50, 3)]


def parts(request, name: str) -> np.ndarray:
    """A copy of a recording in frames of 10 ms."""
    return request.getfixturevalue(name).reshape(LEGS, -1, HOP).copy()
