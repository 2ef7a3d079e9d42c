"""What an operator sees of Triton: the whole gateway, its readiness and metrics."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

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


def test_readyz_names_what_is_wrong_at_the_endpoint_and_what_works_instead(triton, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        ng = probe.getsockname()[1]
    admin, path = free_port(), tmp_path / "gateway.yaml"
    config = {
        "ng": {"listen": [f"127.0.0.1:{ng}"]},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "interfaces": {"default": {"address": "127.0.0.1"}},
        "media": {"workers": 1, "slots": 16, "port_min": 41000, "port_max": 41100},
        "engine": {"kind": "triton", "endpoints": [triton.endpoint], "fallback": "ort"},
    }
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ)
    try:
        status = ready(admin)
        until = time.monotonic() + PATIENCE_S
        while not status["degraded"] and time.monotonic() < until:
            time.sleep(0.1)
            status = ready(admin)
        (degraded,) = status["degraded"]  # the test's repository has the 8 kHz model only
        assert status["status"] == "ready"
        assert "16000 Hz" in degraded and triton.endpoint in degraded and "light_16k" in degraded
        assert degraded.endswith("calls run on light")
        while "denoise_gateway_engine_connects_total{" not in (text := get(admin, "/metrics")):
            time.sleep(0.1)
        assert 'denoise_gateway_engine_late_total{worker="0"} 0.0' in text
        assert "denoise_gateway_engines_failing 1.0" in text
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
