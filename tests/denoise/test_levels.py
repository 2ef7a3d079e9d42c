"""A change of the level in mid-word: smooth in every engine that denoises.

Heard is a held vowel in noise, all of it below 1 kHz; what a switch brings above 1.5 kHz is the click.
"""

import numpy as np
import pytest

from gateway.config import EngineConfig
from gateway.denoise import engines
from gateway.media.legs import smallest_gain
from tests.denoise.tools import click_db, vowel

FRAMES = 160
SWITCHES = range(80, 140, 20)


def spoken(kind: str, rate: int, levels: np.ndarray) -> np.ndarray:
    """The vowel at a level for each frame, float32 [samples]."""
    engine, frames = engines.build(EngineConfig(kind=kind), 1)[rate], vowel(rate, FRAMES)
    out = []
    for frame, level in zip(frames, levels, strict=True):
        control = np.array([[smallest_gain(int(level)), 1.0]], np.float32)
        ticket = engine.submit(np.zeros(1, np.int64), frame[None, None], np.ones(1, np.int64), control)
        out.append(engine.collect(ticket, 0.0).frames[0, 0])
    return np.concatenate(out)


@pytest.mark.parametrize("levels", [(20, 100), (100, 20), (40, 80)], ids=str)
@pytest.mark.parametrize("rate", engines.RATES_HZ)
@pytest.mark.parametrize("kind", ["ort", "rnnoise", "speex"])
def test_a_level_changed_in_a_held_vowel_does_not_click(kind, rate, levels):
    for switch in SWITCHES:
        heard = spoken(kind, rate, np.where(np.arange(FRAMES) < switch, *levels))
        assert click_db(heard, switch * rate // 100, rate) < -50


@pytest.mark.parametrize("rate", engines.RATES_HZ)
def test_a_cut_between_levels_would_be_heard_by_this_measure(rate):
    loud = np.concatenate(list(vowel(rate, FRAMES)))
    steady = [loud, loud * np.float32(smallest_gain(40))]
    for switch in SWITCHES:
        places = range(switch * rate // 100, (switch + 1) * rate // 100, rate // 800)
        assert max(click_db(np.concatenate([steady[0][:at], steady[1][at:]]), at, rate) for at in places) > -35
