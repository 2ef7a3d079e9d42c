"""What an operator sees of Triton: the whole gateway, its readiness and metrics."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import yaml

from tests.denoise.triton.servers import ROOT, free_port

PATIENCE_S = 20.0


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as reply:
        return reply.read().decode()


def ready(port: int) -> dict:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            return json.loads(get(port, "/readyz"))
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the gateway did not start")


def settled(port: int, entries: int) -> dict:
    """What it says when it names so many."""
    until, status = time.monotonic() + PATIENCE_S, ready(port)
    while len(status["degraded"]) != entries and time.monotonic() < until:
        time.sleep(0.1)
        status = ready(port)
    return status


@contextlib.contextmanager
def gateway(tmp_path, **engine) -> Iterator[int]:
    """One that runs on Triton; the port of its admin interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        ng = probe.getsockname()[1]
    admin, path = free_port(), tmp_path / "gateway.yaml"
    config = {
        "ng": {"listen": [f"127.0.0.1:{ng}"]},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "interfaces": {"default": {"address": "127.0.0.1"}},
        "media": {"workers": 1, "slots": 16, "port_min": 41000, "port_max": 41100},
        "engine": {"kind": "triton", "fallback": "ort", "deadline_ms": 200, **engine},
    }
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ)
    try:
        yield admin
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


def test_readyz_names_what_is_wrong_at_the_endpoint_and_what_works_instead(triton, tmp_path):
    with gateway(tmp_path, endpoints=[triton.endpoint]) as admin:
        status = settled(admin, 1)
        (degraded,) = status["degraded"]  # the test's repository has the 8 kHz model only
        assert status["status"] == "ready"
        assert "16000 Hz" in degraded and triton.endpoint in degraded and "light_16k" in degraded
        assert degraded.endswith("calls run on light")
        while "denoise_gateway_engine_connects_total{" not in (text := get(admin, "/metrics")):
            time.sleep(0.1)
        assert 'denoise_gateway_engine_late_total{worker="0"} 0.0' in text
        assert "denoise_gateway_engines_failing 1.0" in text
        assert "denoise_gateway_engine_servers_failing 0.0" in text


def test_readyz_names_a_server_that_is_away_while_another_serves(triton, tmp_path):
    away = f"127.0.0.1:{free_port()}"
    with gateway(tmp_path, endpoints=[triton.endpoint, away]) as admin:
        status = settled(admin, 2)
        engine, server = status["degraded"]
        assert status["status"] == "ready" and "the 16000 Hz engine fails" in engine
        assert f"server {away} of the 8000 Hz engine fails: UNAVAILABLE" in server
