"""Sound effects of packages: cut to what is heard, and only those that are noise to a telephone.

Some hundred effects among thousands are chords, jingles and beeps, whatever their folder is called. Trained on as
noise, they teach a network to take music down. So the shipped network listens first: an effect in which its own heads
hear music or a tone is left out. Machines stay: their harmonics are what a network takes for music.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import soxr

from models.files import RATE
from models.runtime import session

SECONDS, LEAST = (0.015, 300.0), 100
"""Effects last so long, and are louder than this, of 32768. Longer ones are music."""
GRAPH, GRAPH_RATE, HOP = Path(__file__).parents[1] / "standard_8k.onnx", 8000, 80
MOST_MUSIC, MOST_TONE = 0.25, 0.2
"""Mean probabilities in the frames that are heard, above which an effect is no noise."""
HEARD_S, PLACES, PEAK, QUIET = 6.0, (0.0, 0.5, 1.0), 0.1, 0.03
"""How much of an effect is heard, where, how loud, and the share of its loudest frame above which a frame counts."""
SETTLED_FRAMES = 25
MACHINE = re.compile(
    r"engine|motor|machine(?!_?gun)|helicopter|rotor|turbo|turbine|^jet_|drill(?!gun)|vacuum|sawmill|windmill|generator"
    r"|pump(?!ship)|fan\d*$|(?<!fire)truck|(?<!at)tractor(?!_)|diesel|^prop$|^engine-prop$"
)
"""In the names of recordings, without their ends."""


def is_machine(name: str) -> bool:
    """Whether a recording's name says that it is an engine or another machine. The network may take its harmonics for
    music, as long as it has not heard machines in training."""
    return MACHINE.search(name.lower()) is not None


def usable(effect: np.ndarray, machine: bool = False) -> np.ndarray:
    """An effect from its first to its last sound, or nothing when it is too short, too long or too quiet to be one, or
    wanted sound (no machine is). int16 [samples] at RATE, both ways."""
    loud = np.flatnonzero(np.abs(effect.astype(np.int32)) > LEAST)
    effect = effect[loud[0] : loud[-1] + 1] if len(loud) else effect[:0]
    shortest, longest = SECONDS
    noise = shortest * RATE <= len(effect) <= longest * RATE and (machine or not wanted(effect))
    return effect if noise else effect[:0]


def wanted(effect: np.ndarray) -> bool:
    """Whether it sounds like music or a tone in any place. int16 [samples] at RATE, not silent."""
    size = int(HEARD_S * RATE)
    if len(effect) <= size:
        return sounds_wanted(np.resize(effect, size))  # repeated: a network takes a second or two to tell
    starts = (int(place * (len(effect) - size)) for place in PLACES)
    return any(sounds_wanted(effect[at : at + size]) for at in starts)


def sounds_wanted(effect: np.ndarray) -> bool:
    """Whether the network hears music or a tone in it."""
    sound = soxr.resample(effect.astype(np.float32), RATE, GRAPH_RATE)
    sound *= np.float32(PEAK) / np.abs(sound).max(initial=1e-3)
    frames = np.pad(sound, (0, -len(sound) % HOP + HOP)).reshape(-1, HOP)
    probabilities = heard(np.concatenate([np.zeros((SETTLED_FRAMES, HOP), np.float32), frames]))[SETTLED_FRAMES:]
    level = np.sqrt(np.square(frames).mean(axis=1))
    _, _, music, tone = probabilities[level >= QUIET * level.max()].mean(axis=0)
    return bool(music > MOST_MUSIC or tone > MOST_TONE)


def heard(frames: np.ndarray) -> np.ndarray:
    """float32 [frames, HOP] -> probabilities of speech, noise, music and tone, float32 [frames, 4]."""
    graph = opened()
    state, out = np.zeros((1, graph.get_inputs()[1].shape[1]), np.float32), []
    for frame in frames:
        feed = {"pcm": frame[None], "state": state, "control": np.array([[1.0, 1.0]], np.float32)}
        state, probability = graph.run(["state_out", "prob"], feed)
        out.append(probability[0])
    return np.stack(out)


@cache
def opened() -> onnxruntime.InferenceSession:
    return session(str(GRAPH))
