"""Judges: decoders that we did not write say what reaches the far side.

Each takes float32 audio at 8 kHz. A judge that is not installed says how to install it; it is never silently left
out: `missing()` names it, and its rows in the table say so.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tests.tonelab import spandsp
from tests.tonelab.levels import RATE_HZ, Floats

PATIENCE_S = 120.0
MULTIMON_HZ = 22050


@dataclass(frozen=True, slots=True)
class Judge:
    """A decoder from elsewhere."""

    name: str
    package: str
    """Of Debian."""
    hear: Callable[[Floats], str]
    """What it decodes."""

    def missing(self) -> str:
        """Empty when it can be asked; else what to do."""
        there = spandsp.library() is not None if self.package == spandsp.PACKAGE else shutil.which(self.package)
        return "" if there else f"{self.name} is not installed: apt-get install {self.package}"


def multimon_digits(pcm: Floats) -> str:
    """DTMF digits that multimon-ng hears."""
    linear = np.clip(soxr.resample(pcm, RATE_HZ, MULTIMON_HZ) * 32767, -32768, 32767).astype("<i2").tobytes()
    said = _run(["multimon-ng", "-q", "-t", "raw", "-a", "DTMF", "-"], linear)
    return "".join(line.removeprefix("DTMF:").strip() for line in said.splitlines() if line.startswith("DTMF:"))


def minimodem_text(pcm: Floats, *mode: str) -> str:
    """Characters that minimodem receives; mode: `tdd`, `300`, `-M 2225 -S 2025 300` word by word."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "line.wav"
        soundfile.write(path, pcm, RATE_HZ, subtype="PCM_16")
        return _run(["minimodem", "--rx", "--quiet", *mode, "--file", str(path)])


def _run(command: list[str], given: bytes = b"") -> str:
    done = subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE_S, check=False)
    return done.stdout.decode("ascii", errors="replace")


def connect_tones(pcm: Floats) -> str:
    """Everything that spandsp's receivers of connect tones report, each name once, in order of the receivers."""
    kinds = ("cng", "ans", "ansam", "v21-preamble", "bell-answer")
    return " ".join(dict.fromkeys(name for kind in kinds for name in spandsp.connect_tone(pcm, kind)))


SPANDSP_DTMF = Judge("spandsp's DTMF receiver", spandsp.PACKAGE, spandsp.dtmf_digits)
MULTIMON_DTMF = Judge("multimon-ng", "multimon-ng", multimon_digits)
SPANDSP_TONES = Judge("spandsp's connect tones", spandsp.PACKAGE, connect_tones)
MINIMODEM_TTY = Judge("minimodem --rx tdd", "minimodem", lambda pcm: minimodem_text(pcm, "tdd"))
MINIMODEM_300 = Judge("minimodem --rx 300", "minimodem", lambda pcm: minimodem_text(pcm, "300"))
MINIMODEM_300_ANSWER = Judge(
    "minimodem --rx 300 (answer)", "minimodem", lambda pcm: minimodem_text(pcm, "-M", "2225", "-S", "2025", "300")
)
ALL = (SPANDSP_DTMF, MULTIMON_DTMF, SPANDSP_TONES, MINIMODEM_TTY, MINIMODEM_300, MINIMODEM_300_ANSWER)


def missing() -> list[str]:
    """What is not installed, as sentences for a person."""
    return [sentence for judge in ALL if (sentence := judge.missing())]


def kept(before: str, after: str) -> int:
    """How many characters of `before` are in `after` in the same order (longest common subsequence)."""
    row = [0] * (len(after) + 1)
    for wanted in before:
        last = 0
        for index, got in enumerate(after):
            last, row[index + 1] = row[index + 1], last + 1 if wanted == got else max(row[index + 1], row[index])
    return row[-1]
