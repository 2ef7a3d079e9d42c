"""What hearing costs: `python -m tests.detect.cost`, an `Ear` on a minute of real sound, many rows at once.

Rows hold speech, speech in noise, noise and silence, as the legs of calls do; packets of 20 ms come as the worker takes
them, and between them the network `light` runs, untimed, for it empties the caches as in a gateway. Parts are timed in
the same run; `--against FOLDER` runs another checkout in turn with this one, since two runs on a busy machine cannot be
compared.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gateway.control.worker_link import worker_environment
from gateway.denoise.engines import graph_path
from gateway.denoise.ort import OrtEngine
from gateway.detect.ear import Ear
from gateway.detect.sines import HOP, RATE, Floats
from gateway.detect.sound import BLOCK_FRAMES
from tests.tonelab import material
from tests.tonelab.levels import at_level, through_g711, with_noise

PACKET = 2 * HOP
BLOCKS = BLOCK_FRAMES * HOP // PACKET
"""Packets in what the music detector hears at a time."""
PARTS = {
    "music": ("_music", "hear"),
    "screen": ("_screen", "see"),
    "sound": ("_sound", "add"),
    "dtmf": ("_dtmf", "hear"),
    "progress": ("_progress", "hear"),
    "fax": ("_fax", "hear"),
    "policy": ("policy", "decide"),
}
"""Name -> the ear's part and its method."""


def sounds(rows: int, seconds: float, seed: int = 0) -> Floats:
    """float32 [rows, samples] at 8 kHz through G.711. Of four rows, one is speech with the pauses of a dialogue, one
    such speech in noise, one noise alone, and one speech now and then."""
    rng, size = np.random.default_rng(seed), round(seconds * RATE)
    speech = material.speech(seconds * 8, seed)
    noise = material.noise("babble", seconds * 2, seed)
    out = np.zeros((rows, size), np.float32)
    for row in range(rows):
        at = int(rng.integers(len(speech) - size))
        pcm = at_level(speech[at : at + size], rng.uniform(-32, -14))
        turns = np.repeat(rng.random(size // RATE + 1) < (0.55 if row % 4 < 3 else 0.2), RATE)[:size]
        pcm = pcm * turns
        if row % 4 == 1:
            pcm = with_noise(pcm, rng.uniform(5, 20), seed=row)
        elif row % 4 == 2:
            start = int(rng.integers(len(noise) - size))
            pcm = at_level(noise[start : start + size], rng.uniform(-50, -28))
        out[row] = through_g711(pcm.astype(np.float32), "PCMU" if row % 2 else "PCMA")
    return out


def timed(spent: dict[str, float], name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, and its time added to what was spent."""

    def call(*args: Any, **named: Any) -> Any:
        began = time.thread_time()
        try:
            return method(*args, **named)
        finally:
            spent[name] += time.thread_time() - began

    return call


def cost(pcm: Floats, parts: bool) -> dict[str, float]:
    """µs a frame of 10 ms and row: of everything, or, slower for the watches, of each part."""
    ear, everyone, keep = Ear(len(pcm)), np.arange(len(pcm)), np.ones(len(pcm), np.bool_)
    for slot in everyone.tolist():
        ear.open_leg(slot)
    spent = {name: 0.0 for name, (part, _) in PARTS.items() if parts and hasattr(ear, part)}
    for name in spent:
        owner = getattr(ear, PARTS[name][0])
        setattr(owner, PARTS[name][1], timed(spent, name, getattr(owner, PARTS[name][1])))
    spent["all"] = 0.0
    network = OrtEngine(graph_path("light", RATE), len(pcm))
    for number, at in enumerate(range(0, pcm.shape[1] - PACKET + 1, PACKET)):
        slots = everyone[everyone % BLOCKS <= number]  # calls begin when they like
        frames = np.ascontiguousarray(pcm[slots, at : at + PACKET]).reshape(-1, 2, HOP)  # as a decoder leaves them
        ones = np.ones((len(slots), 2), np.float32)
        network.collect(network.submit(slots, frames, np.full(len(slots), 2), ones), np.inf)
        began = time.thread_time()
        ear.verdicts(slots)
        ear.take(slots, frames, RATE, keep[slots])
        ear.listen()
        spent["all"] += time.thread_time() - began
    if ear.fault:
        raise RuntimeError(f"a detector failed: {ear.fault}")
    frames = pcm.size / HOP
    return {name: seconds * 1e6 / frames for name, seconds in spent.items()}


def measured(args: argparse.Namespace) -> dict[str, float]:
    """The cost in this process, of the code it was started with."""
    with np.load(args.sounds) as file:
        pcm = file["pcm"]
    return {**cost(pcm, parts=True), "all": cost(pcm, parts=False)["all"]}


def elsewhere(folder: Path, sounds_at: Path) -> dict[str, float]:
    """The cost of the code in a checkout, in a process like a media worker's: one thread, and memory that is kept."""
    done = subprocess.run(
        [sys.executable, __file__, "--sounds", str(sounds_at)],
        env={**worker_environment(), "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        check=True,
    )
    out: dict[str, float] = json.loads(done.stdout)
    return out


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.detect.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[512, 700], help="legs (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of sound a leg (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the least of so many counts (default: %(default)s)")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout, measured in turn")
    parser.add_argument("--sounds", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.sounds:
        print(json.dumps(measured(args)))
        return
    folders = [Path(__file__).resolve().parents[2], *([args.against.resolve()] if args.against else [])]
    print("| rows | code | " + " | ".join(["all", *PARTS]) + " |\n" + "| --- " * (len(PARTS) + 3) + "|")
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "sounds.npz"
            np.savez(path, pcm=sounds(rows, args.seconds))
            rounds = [[elsewhere(folder, path) for folder in folders] for _ in range(args.rounds)]
        for at, folder in enumerate(folders):
            least = (np.min([each[at].get(name, np.nan) for each in rounds]) for name in ("all", *PARTS))
            print(f"| {rows} | {folder.name} | " + " | ".join(f"{value:.3f}" for value in least) + " |")


if __name__ == "__main__":
    main()
