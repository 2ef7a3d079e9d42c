"""Is a call's audio what `denoise-gateway file` makes of the same audio, whoever shared its batches?"""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from loadtest.material import RATE_HZ, ulaw_to_linear
from loadtest.stage import Capture

FILE_TIMEOUT_S = 120.0
NO_SETTINGS: Mapping[str, str] = {}


class SamenessError(Exception):
    """The file command did not make its output."""


@dataclass(frozen=True, slots=True)
class Sameness:
    """Legs' outputs against the file command's."""

    legs: int
    samples: int
    identical: int
    legs_identical: int
    largest_difference: int
    """In 16-bit steps."""


def with_file(
    capture: Capture, command: Sequence[str], delay_samples: int, settings: Mapping[str, str] = NO_SETTINGS
) -> Sameness:
    """Compare captured legs with what `command IN OUT --codec PCMU` makes of them, one channel a leg.

    delay_samples: how much later the call's audio is; settings: environment variables besides the present ones.
    Raises SamenessError when the command fails.
    """
    said = _columns(capture)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        source, target = Path(folder) / "said.wav", Path(folder) / "clean.wav"
        soundfile.write(source, said, RATE_HZ, subtype="PCM_16")
        _run([*command, str(source), str(target), "--codec", "PCMU"], settings)
        clean, _ = soundfile.read(target, dtype="int16", always_2d=True)
    return _compare(capture, clean, delay_samples)


def _run(command: Sequence[str], settings: Mapping[str, str]) -> None:
    environment = {**os.environ, **settings}
    try:
        subprocess.run(command, env=environment, check=True, timeout=FILE_TIMEOUT_S, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise SamenessError(error.stderr.decode(errors="replace").strip()) from None
    except subprocess.TimeoutExpired:
        raise SamenessError(f"the file command took more than {FILE_TIMEOUT_S:.0f} s") from None


def untouched(capture: Capture) -> Sameness:
    """Compare captured legs with what was sent, payload by payload."""
    return _compare(capture, _columns(capture), 0)


def _columns(capture: Capture) -> npt.NDArray[np.int16]:
    """What the legs said, [samples, legs]; those that began later end in silence."""
    said = [ulaw_to_linear(sent).reshape(-1) for sent, _, _ in capture.values()]
    columns = np.zeros((max(map(len, said)), len(said)), np.int16)
    for leg, samples in enumerate(said):
        columns[: len(samples), leg] = samples
    return columns


def _compare(capture: Capture, clean: npt.NDArray[np.int16], delay_samples: int) -> Sameness:
    """clean: int16 [samples, legs]."""
    worst = samples = identical = legs_identical = 0
    for leg, (_, payloads, arrived) in enumerate(capture.values()):
        heard = ulaw_to_linear(payloads).reshape(-1)[delay_samples:].astype(np.int32)
        known = np.repeat(arrived, payloads.shape[1])[delay_samples:]
        difference = np.abs(heard - clean[: len(heard), leg])[known]
        samples += len(difference)
        identical += int((difference == 0).sum())
        legs_identical += not difference.any()
        worst = max(worst, int(difference.max(initial=0)))
    return Sameness(len(capture), samples, identical, legs_identical, worst)
