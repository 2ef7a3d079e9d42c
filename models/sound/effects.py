"""Sound effects of packages: cut to what is heard, and only those that are noise to a telephone.

Some hundred effects among thousands are chords, jingles, beeps and single notes, whatever their folder is called.
Trained on as noise, they teach a network to take music down. `musical.json` names them: what a network of ours took for
music or a tone, and what stands on steady lines, less what its name and its spectrum say is none (hooves, steel, rain).
A list and not a judge, so that a cache holds the same sounds whatever network is shipped.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from models.files import RATE

SECONDS, LEAST = (0.015, 300.0), 100
"""Effects last so long, and are louder than this, of 32768. Longer ones are music."""
MUSICAL = Path(__file__).with_name("musical.json")
"""Package, or folder of recordings -> names without their ends."""
MACHINE = re.compile(
    r"engine|motor|machine(?!_?gun)|helicopter|rotor|turbo|turbine|^jet_|drill(?!gun)|vacuum|sawmill|windmill|generator"
    r"|pump(?!ship)|fan\d*$|(?<!fire)truck|(?<!at)tractor(?!_)|diesel|^prop$|^engine-prop$"
)
"""In the names of recordings, without their ends."""


def is_machine(name: str) -> bool:
    """Whether a recording's name says that it is an engine or another machine, which runs on however short it is."""
    return MACHINE.search(name.lower()) is not None


def is_musical(name: str) -> bool:
    """Whether a source is known to be music or a tone. name: as `data.Source` has it."""
    path = PurePosixPath(name)
    return len(path.parts) > 2 and path.stem in musical().get(path.parts[1], ())


@cache
def musical() -> dict[str, list[str]]:
    names: dict[str, list[str]] = json.loads(MUSICAL.read_text())
    return names


def usable(effect: np.ndarray) -> np.ndarray:
    """An effect from its first to its last sound, or nothing when it is too short, too long or too quiet to be one.
    int16 [samples] at RATE, both ways."""
    loud = np.flatnonzero(np.abs(effect.astype(np.int32)) > LEAST)
    effect = effect[loud[0] : loud[-1] + 1] if len(loud) else effect[:0]
    shortest, longest = SECONDS
    return effect if shortest * RATE <= len(effect) <= longest * RATE else effect[:0]
