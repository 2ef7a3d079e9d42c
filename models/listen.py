"""The listening page: `python -m models.listen` makes one HTML file of what evaluation wrote, out/listen.html.

The page compares systems at the same place of the same clip, and holds a blind test. Everything is inside: sounds as
FLAC, so that no codec of the page's own is judged; the browser draws the spectrograms. Its parts lie in `listening/`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import sys
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

PARTS = Path(__file__).with_name("listening")
OUT = Path(__file__).parents[1] / "out"
BUDGET_MB = 24.0
SECONDS = 6.0
SILENCE = 0.003
"""A clip whose clean speech has no sample above this has no speech."""
UNHEARD = "_fp32"
"""Models whose names end so sound like the ones without it, and stay off the page."""
REFERENCES = ("noisy", "clean")
RIVALS = ("RNNoise", "SpeexDSP", "WebRTC NS", "DTLN", "GTCRN", "NSNet2", "DeepFilterNet 3")
"""In the order the page shows them; whatever is none of these and no reference is ours."""


class ListenError(Exception):
    """There is nothing to make a page of; the message says what to run first."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One system's version of a clip. gain: linear, makes it as loud as clean speech while somebody speaks."""

    system: str
    flac: bytes
    gain: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip as every system gives it. details: what the index says of it (noise, snr, voice …)."""

    id: str
    rate: int
    details: dict[str, Any]
    sounds: tuple[Sound, ...]

    @property
    def bytes(self) -> int:
        """Its share of the page."""
        return sum(len(sound.flac) * 4 // 3 for sound in self.sounds)


def rank(system: str) -> tuple[int, int, str]:
    """Noisy, ours, the rivals, clean."""
    if system in REFERENCES:
        return (3 * REFERENCES.index(system), 0, system)
    if system in RIVALS:
        return (2, RIVALS.index(system), system)
    return (1, len(system), system)


def speech_gain(audio: np.ndarray, clean: np.ndarray, rate: int) -> float:
    """What makes the audio as loud as the clean speech where there is speech; between 0.5 and 2."""
    if np.abs(clean).max() < SILENCE:
        return 1.0
    frame, size = rate // 50, min(len(audio), len(clean)) // (rate // 50) * (rate // 50)
    power = np.square(clean[:size]).reshape(-1, frame).mean(axis=1)
    loud = power > power.max() / 300  # within 25 dB of the loudest 20 ms
    heard = np.square(audio[:size]).reshape(-1, frame).mean(axis=1)
    return float(np.clip(np.sqrt(power[loud].mean() / (heard[loud].mean() + 1e-12)), 0.5, 2.0))


def entries(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """What the indexes below `folder` list, by rate. Raises ListenError when there is none."""
    indexes = sorted(folder.glob("[0-9]*/index.json"), key=lambda path: int(path.parent.name))
    if not indexes:
        raise ListenError(f"{folder} has no <rate>/index.json: run `python -m models.evaluate` first")
    return {int(index.parent.name): json.loads(index.read_text())["clips"] for index in indexes}


def read(folder: Path, rate: int, entry: dict[str, Any], seconds: float) -> Clip:
    """Reads and encodes the WAV of every system that the index names. Raises ListenError when one is not there."""
    place, systems = folder / str(rate) / entry["id"], entry["systems"]
    names = {file: about["name"] for file, about in systems.items() if not about["name"].endswith(UNHEARD)}
    audio = {name: cut(place / f"{file}.wav", rate, seconds) for file, name in {**names, "clean": "clean"}.items()}
    scores = {about["name"]: {k: v for k, v in about.items() if k != "name"} for about in systems.values()}
    sounds = tuple(
        Sound(name, flac(audio[name], rate), speech_gain(audio[name], audio["clean"], rate), scores.get(name, {}))
        for name in sorted(audio, key=rank)
    )
    return Clip(entry["id"], rate, {k: v for k, v in entry.items() if k != "systems"}, sounds)


def cut(path: Path, rate: int, seconds: float) -> np.ndarray:
    """float32 [samples]: the beginning of a WAV file, faded out. Raises ListenError when it is not as expected."""
    if not path.exists():
        raise ListenError(f"{path} is missing: run `python -m models.evaluate` again")
    audio, found = soundfile.read(path, frames=int(seconds * rate), dtype="float32")
    if found != rate or audio.ndim != 1:
        raise ListenError(f"{path} is not mono at {rate} Hz: run `python -m models.evaluate` again")
    ramp = min(rate // 50, len(audio))
    audio[len(audio) - ramp :] *= np.linspace(1, 0, ramp, dtype=np.float32)
    return audio


def flac(audio: np.ndarray, rate: int) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.clip(audio, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def collect(folder: Path, budget_mb: float, seconds: float) -> list[Clip]:
    """As many clips as the page has room for, in the order of the indexes; rates take turns. Raises ListenError."""
    found = [[(rate, entry) for entry in of] for rate, of in entries(folder).items()]
    turns = [turn for turn in chain.from_iterable(zip_longest(*found)) if turn is not None]
    clips, room = [], budget_mb * 1e6
    for rate, entry in tqdm(turns, desc="clips", unit="clip", disable=None):
        clip = read(folder, rate, entry, seconds)
        if clip.bytes <= room:
            clips.append(clip)
            room -= clip.bytes
    if not clips:
        raise ListenError(f"not one clip fits into {budget_mb} MB: allow more with --megabytes")
    return sorted(clips, key=lambda clip: clip.rate)


def owner(system: str) -> str:
    """Whose a system is, for the page's colours: reference, rival or ours."""
    return "reference" if system in REFERENCES else "rival" if system in RIVALS else "ours"


def index_of(clips: list[Clip]) -> dict[str, Any]:
    """What the page's script reads. A sound's `id` names the element that holds it."""
    numbers = iter(range(10**6))
    about = [
        {
            **clip.details, "id": clip.id, "rate": clip.rate,
            "sounds": [
                {"system": s.system, "owner": owner(s.system), "gain": round(s.gain, 4), "scores": s.scores,
                 "id": f"sound-{next(numbers)}"}
                for s in clip.sounds
            ],
        }
        for clip in clips
    ]  # fmt: skip
    digest = hashlib.sha256(b"".join(s.flac for clip in clips for s in clip.sounds)).hexdigest()[:16]
    return {"digest": digest, "clips": about}


def inert(text: str) -> str:
    """Text that cannot end the script element it stands in."""
    return text.replace("<", "\\u003c")


def page(clips: list[Clip]) -> str:
    """The whole HTML file."""
    index, sounds = index_of(clips), []
    for clip, about in zip(clips, index["clips"], strict=True):
        for sound, entry in zip(clip.sounds, about["sounds"], strict=True):
            coded = base64.b64encode(sound.flac).decode()
            sounds.append(f'<script type="application/octet-stream" id="{entry["id"]}">{coded}</script>')
    scripts = "\n".join((PARTS / name).read_text() for name in ("blind.js", "player.js", "page.js"))
    filled = {
        "STYLE": (PARTS / "style.css").read_text(), "SCRIPT": scripts,
        "INDEX": inert(json.dumps(index)), "SOUNDS": "\n".join(sounds),
    }  # fmt: skip
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], (PARTS / "page.html").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, default=OUT / "evaluation", help="what models.evaluate wrote")
    parser.add_argument("--output", type=Path, default=OUT / "listen.html")
    parser.add_argument("--megabytes", type=float, default=BUDGET_MB, help="room for sounds")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each clip, from its beginning")
    args = parser.parse_args()
    try:
        clips = collect(args.clips, args.megabytes, args.seconds)
    except ListenError as error:
        print(error, file=sys.stderr)
        return 1
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(page(clips))
    print(f"{args.output}: {len(clips)} clips, {args.output.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
