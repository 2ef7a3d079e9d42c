"""The GPU measurement as a dry run on a processor: the same code, every path."""

import json

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnx")

from loadtest.__main__ import main


def test_a_dry_run_times_every_path_and_says_what_it_is(tmp_path, capsys):
    figures = tmp_path / "gpu.json"
    assert (
        main(["gpu", "--device", "cpu", "--quick", "--models", "light_8k", "--limit-ms", "1e9", "--json", str(figures)])
        == 0
    )
    shown = capsys.readouterr().out
    assert "Device: CPU (dry run)" in shown and "says nothing about a GPU" in shown
    found = json.loads(figures.read_text())
    assert [(t["path"], t["rows"]) for t in found["timed"]] == [
        (path, rows) for path in ("torch-bf16", "torch-fp32", "onnx") for rows in (64, 256)
    ]
    assert all(0 < t["p50_ms"] <= t["p99_ms"] for t in found["timed"]) and not found["notes"]


def test_a_batch_beyond_the_limit_ends_the_climb(capsys):
    options = ("--quick", "--models", "light_8k", "--paths", "torch-fp32", "--limit-ms", "0.000001")
    assert main(["gpu", "--device", "cpu", *options]) == 0
    assert "| light_8k | torch-fp32 | – | – |" in capsys.readouterr().out
