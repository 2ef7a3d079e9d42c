"""The whole process: start, drain, stop, as an operator sees it."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.config import GrpcConfig
from gateway.control.workers import Workers
from gateway.errors import ConfigError, EngineError
from gateway.protocol import bencode
from tests.control.harness import SDP, loopback_config

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
sys.path[:0] = [{root!r}]
from dataclasses import replace
from tests.control.harness import loopback_config
from gateway.app import serve
from gateway.config import CallsConfig, NgConfig
config = replace(loopback_config(), calls=CallsConfig(drain_timeout_s={drain_s}), ng=NgConfig(listen=({ng!r},)))
sys.exit(serve(config, lambda listening: print("ready", listening.ng[0].rpartition(":")[2], flush=True)))
"""


class Process:
    """`serve` in a process of its own."""

    def __init__(self, drain_s: float = 60.0, ng: str = "127.0.0.1:0") -> None:
        text = PROGRAM.format(root=str(ROOT), drain_s=drain_s, ng=ng)
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_ready(self) -> float:
        """Seconds from start to ready."""
        word, port = self.process.stdout.readline().split()
        assert word == "ready"
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", int(port)))
        self.socket.settimeout(5)
        return time.monotonic() - self.begun

    def ask(self, cookie: bytes, **keys) -> dict:
        self.socket.send(cookie + b" " + bencode.encode({k.replace("_", "-"): v for k, v in keys.items()}))
        return bencode.decode(self.socket.recv(65536).partition(b" ")[2])

    def offer(self, call_id: str) -> dict:
        return self.ask(call_id.encode(), command="offer", call_id=call_id, from_tag="A", sdp=SDP.format(port=4000))

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def process():
    made = []

    def start(**keys) -> Process:
        made.append(Process(**keys))
        return made[-1]

    yield start
    for each in made:
        each.end()


def test_it_is_ready_within_three_seconds_and_drains_at_sigterm(process):
    running = process()
    assert running.wait_ready() < 3.0
    assert running.offer("one")["result"] == "ok"
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert running.offer("two") == {"result": "error", "error-reason": "Parallel session limit reached"}
    assert running.offer("one")["result"] == "ok"
    running.ask(b"d", command="delete", call_id="one", from_tag="A")
    assert running.process.wait(5) == 0


def test_a_second_sigterm_stops_at_once_and_takes_the_children_along(process):
    running = process()
    running.wait_ready()
    running.offer("one")
    children = running.children()
    assert children
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert running.process.poll() is None
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(5) == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)


def test_the_drain_timeout_ends_the_wait(process):
    running = process(drain_s=0.3)
    running.wait_ready()
    running.offer("one")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(5) == 0


def test_children_end_when_the_control_plane_is_killed(process):
    running = process()
    running.wait_ready()
    children = running.children()
    running.process.kill()
    running.process.wait(5)
    for _ in range(1000):
        if not any(alive(pid) for pid in children):
            return
        time.sleep(0.01)
    raise AssertionError("media processes outlive the gateway")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that its new parent has not buried yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_an_address_that_is_taken_stops_the_start_and_names_the_key(process):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        running = process(ng=f"127.0.0.1:{stranger.getsockname()[1]}")
        _, errors = running.process.communicate(timeout=10)
    assert running.process.returncode != 0 and "ConfigError: ng.listen" in errors


def refuse(*_, **__):
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


async def refusal(gateway: Gateway) -> Exception:
    """What a start ends with."""
    try:
        await gateway.start()
    except Exception as error:
        return error
    finally:
        await gateway.stop()
    raise AssertionError("it has started")


async def test_a_media_process_that_cannot_be_started_is_no_fault_of_an_address(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", refuse)
    error = await refusal(Gateway(loopback_config()))
    assert isinstance(error, EngineError)
    assert "a process cannot be started: [Errno 11] Resource temporarily unavailable; look at ulimit" in str(error)


async def test_a_grpc_process_that_cannot_be_started_is_no_fault_of_an_address(monkeypatch):
    monkeypatch.setattr(Workers, "start", lambda *_: None)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    config = replace(loopback_config(), grpc=GrpcConfig(listen="127.0.0.1:0", processes=2))
    error = await refusal(Gateway(config))
    assert isinstance(error, EngineError) and "a process cannot be started" in str(error)


async def test_an_address_that_cannot_be_listened_on_is_one_of_the_configuration(monkeypatch):
    monkeypatch.setattr(Workers, "start", lambda *_: None)
    monkeypatch.setattr("gateway.control.ng_server.listen", refuse)
    error = await refusal(Gateway(loopback_config()))
    assert isinstance(error, ConfigError) and str(error).startswith("ng.listen or admin.listen: ")
