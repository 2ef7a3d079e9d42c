"""The whole command, in small, against a real gateway that denoises nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def loadtest(*options: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m loadtest capacity` to its end."""
    command = [sys.executable, "-m", "loadtest", "capacity", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a capacity run takes two cores")
def test_a_run_places_calls_matches_every_packet_and_writes_its_figures(tmp_path):
    figures = tmp_path / "figures.json"
    options = ("--engine", "passthrough", "--parts", "denoise", "--legs", "44", "--seconds", "1")
    done = loadtest(*options, "--json", str(figures))
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    (stage,) = found["stages"]
    assert (stage["legs"], stage["packets"], stage["egress_loss"], stage["duplicates"]) == (44, 44 * 50, 0, 0)
    assert stage["rss_mb"]["total"] > stage["rss_mb"]["media_worker"] > 0
    assert set(stage["cpu_share"]) == {"receive", "engine", "detect", "arrays", "send"}
    assert found["same_as_file"]["legs_identical"] == found["same_as_file"]["legs"] == 20
    assert "| denoised | 44 | 0 |" in done.stdout
    assert "gateway ready" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--legs", "7"), "even number"),
        (("--seconds", "0"), "whole seconds"),
        (("--parts", "denoise,everything"), "denoise,setups,relay"),
        (("--peer", "asterisk"), "rtpengine"),
    ],
)
def test_wrong_usage_says_what_is_right(options, says):
    done = loadtest(*options)
    assert done.returncode == 2
    assert says in done.stderr
