"""What lies in deploy/triton: the script's options, and packages that fit the server's Python."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.denoise.triton.servers import ROOT, SCRIPT

PYTHON = """\
#!/bin/sh
case "$*" in
  *version_info*) echo 3.11 ;;
  *LIBDIR*) echo "{folder}" ;;
  *) echo "$*" >> "{folder}/installed" ;;
esac
"""


@pytest.fixture
def home(tmp_path) -> Path:
    """A server that is there already, but for torch; its Python only notes what it is asked to install."""
    home = tmp_path / "triton"
    python = home / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(folder=tmp_path))
    python.chmod(0o755)
    (home / "ready").write_text("3.11\n")
    (tmp_path / "libpython3.11.so.1.0").touch()
    return home


def local(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"TRITON_HOME": str(home), "PYTHON": str(home / "venv" / "bin" / "python")}
    return subprocess.run([str(SCRIPT), *options], env=environ, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize("options", [("--torch", "--setup"), ("--setup", "--torch")], ids=" ".join)
def test_setup_and_torch_are_taken_in_both_orders(home, options):
    done = local(home, *options)
    assert done.returncode == 0, done.stderr
    assert "torch==" in (home.parent / "installed").read_text()


def test_setup_alone_fetches_no_torch(home):
    assert local(home, "--setup").returncode == 0
    assert not (home.parent / "installed").exists()


@pytest.mark.parametrize("options", [(), ("--help",), ("--torch",), ("--setup", "--help")], ids=" ".join)
def test_without_a_folder_the_script_explains_itself(home, options):
    done = local(home, *options)
    assert done.returncode == 0 and "REPOSITORY [options of tritonserver]" in done.stdout


def test_a_folder_that_is_not_there_is_said(home, tmp_path):
    done = local(home, str(tmp_path / "nowhere"), "--torch")
    assert done.returncode == 2 and "nowhere is no folder" in done.stderr


def test_the_image_has_numpy_as_the_script_and_an_onnxruntime_for_its_cuda():
    compose = yaml.safe_load((ROOT / "deploy" / "triton" / "compose.yaml").read_text())
    install = compose["services"]["triton"]["build"]["dockerfile_inline"].splitlines()[-1]
    assert '"numpy<2"' in install and '"numpy<2"' in SCRIPT.read_text()
    assert "onnxruntime-gpu==1.23.2" in install
