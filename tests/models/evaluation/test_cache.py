"""What was measured is kept by what produced it, and an interrupted run goes on where it stopped."""

from pathlib import Path

import numpy as np

from models.evaluation import measure
from models.evaluation.measure import Store
from models.evaluation.testset import Clip, ClipSet

PARTS = (("words", 1), ("words", 0), ("music", 0), ("words", 0), ("tones", 2))
CLIPS = [Clip(f"clip-{i}", part, "", None, "", "", "", turn, digest=f"d{i}") for i, (part, turn) in enumerate(PARTS)]
SILENCE = [np.zeros(80, np.int16)] * len(CLIPS)
TESTS = ClipSet(8000, CLIPS, SILENCE, SILENCE)


def half(noisy: np.ndarray, rate: int) -> np.ndarray:
    return 0.5 * noisy


def less(noisy: np.ndarray, rate: int) -> np.ndarray:
    return 0.4 * noisy


def test_results_are_filed_under_the_graph_and_under_what_it_does():
    first = measure.fingerprint("standard", "8000:aaa 16000:bbb", half, 8000)
    assert first == measure.fingerprint("standard", "8000:aaa 16000:bbb", half, 8000)
    assert first != measure.fingerprint("standard", "8000:ccc 16000:bbb", half, 8000)
    assert first != measure.fingerprint("standard", "8000:aaa 16000:bbb", less, 8000)
    assert first != measure.fingerprint("light", "8000:aaa 16000:bbb", half, 8000)


def test_a_new_graph_of_the_other_rate_leaves_results_alone():
    first = measure.fingerprint("standard", "8000:aaa 16000:bbb", half, 8000)
    assert first == measure.fingerprint("standard", "8000:aaa 16000:ddd", half, 8000)
    assert measure.version_at("pyrnnoise 0.4.5", 8000) == "pyrnnoise 0.4.5"


def test_a_store_remembers_and_forgives_the_half_line_of_a_killed_run(tmp_path: Path):
    store = Store(tmp_path, "WebRTC NS", "mark")
    store.add("d1", {"errors": 2.0})
    with store.path.open("a") as file:
        file.write('["d2", {"err')
    assert store.path.name == "webrtc-ns-mark.jsonl"
    assert Store(tmp_path, "WebRTC NS", "mark").figures == {"d1": {"errors": 2.0}}
    assert Store(tmp_path, "WebRTC NS", "other").figures == {}


def test_only_what_is_missing_is_measured_and_quick_clips_of_all_systems_come_first(tmp_path: Path):
    stores = {name: Store(tmp_path, name, "mark") for name in ("noisy", "standard")}
    stores["standard"].add("d1", {"errors": 1.0, "words": 9.0})
    found = list(measure.jobs(stores, TESTS, tmp_path / "testset.npz", [0, 1, 2, 3, 4]))
    assert [(job.system, job.clips) for job in found] == [
        ("noisy", (1, 3)), ("standard", (3,)), ("noisy", (2,)), ("standard", (2,)),
        ("noisy", (0,)), ("standard", (0,)), ("noisy", (4,)), ("standard", (4,)),
    ]  # fmt: skip


def test_a_clip_to_be_heard_is_measured_again_when_its_sound_is_gone(tmp_path: Path):
    clip = Clip("café-05dB", "noisy", "café", 5, "fr", "G.722", "", 0, digest="d9")
    tests, store = ClipSet(16000, [clip], SILENCE, SILENCE), Store(tmp_path, "RNNoise", "mark")
    store.add("d9", {"pesq": 2.0})
    assert measure.lacking("RNNoise", store, tests, tmp_path, [0]) == [0]
    measure.write_wav(tmp_path / clip.id / "rnnoise.wav", np.zeros(160, np.float32), 16000)
    assert measure.lacking("RNNoise", store, tests, tmp_path, [0]) == []
