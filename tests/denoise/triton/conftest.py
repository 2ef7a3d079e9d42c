"""A server for all tests that do it no harm, and one for those that do."""

import os
import subprocess

import pytest

from tests.denoise.triton.servers import SCRIPT, Triton


@pytest.fixture(scope="session")
def tritonserver() -> None:
    """The server's files are there; without a registry the tests that need it are skipped."""
    done = subprocess.run([str(SCRIPT), "--setup"], capture_output=True, text=True, timeout=600)
    if done.returncode:
        reason = f"cannot fetch tritonserver: {done.stderr.strip()[-300:]}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def triton(tritonserver, tmp_path_factory):
    server = Triton(Triton.export(tmp_path_factory.mktemp("triton") / "repository")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def _faulty(tritonserver, tmp_path_factory):
    server = Triton(Triton.export(tmp_path_factory.mktemp("triton") / "faulty", faulty=True)).start()
    yield server
    server.kill()


@pytest.fixture
def faulty(_faulty):
    """A server whose answers can be spoilt with `fault`."""
    yield _faulty
    _faulty.fault("")
