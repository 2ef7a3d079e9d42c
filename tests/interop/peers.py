"""The machines of an interop test: real processes on a loopback network of their own.

Every test site takes a random 127.x.y.0/24, so ports can keep their usual numbers and several sites never meet. Each
process logs to a file, and `Site.logs` puts the ends of all of them into a failure message.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NG_PORT, ADMIN_PORT, SIP_PORT = 2223, 8080, 5060
PROGRAMS = ("kamailio", "sipp", "rtpengine")
TAIL_LINES = 40


class Network:
    """A /24 of the loopback network: one address a machine."""

    def __init__(self) -> None:
        self.prefix = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        hosts = [f"{self.prefix}.{host}" for host in range(1, 7)]
        self.proxy, self.forking_proxy, self.gateway, self.alice, self.bob, self.carol = hosts


class Process:
    """A program with its output in a file."""

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name, self.command = name, command
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as out:
            self.popen = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT, env=quiet_env()
            )

    def running(self) -> bool:
        return self.popen.poll() is None

    def ended(self) -> bool:
        """It has done its work; AssertionError when it failed."""
        code = self.popen.poll()
        assert not code, f"{self.name} failed\n{self.tail()}"
        return code == 0

    def stop(self) -> None:
        """SIGTERM twice (the gateway drains on the first), then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if not self.running():
                return
            self.popen.send_signal(number)
            try:
                self.popen.wait(2)
            except subprocess.TimeoutExpired:
                continue

    def tail(self) -> str:
        """The end of what it said: sipp's errors and scenario, but not its statistics."""
        text = self.log.read_text(errors="replace").partition("- Statistics Screen")[0]
        errors = self.log.with_suffix(".errors")
        lines = errors.read_text(errors="replace").splitlines()[-TAIL_LINES:] if errors.exists() else []
        lines += text.splitlines()[-TAIL_LINES:]
        return "\n".join([f"--- {self.name} ({' '.join(self.command)}): exit {self.popen.poll()}", *lines])


def quiet_env() -> dict[str, str]:
    """The environment without variables that would override the gateway's configuration file."""
    return {key: value for key, value in os.environ.items() if not key.startswith("DENOISE_GATEWAY_")}


class Site:
    """A proxy, a gateway and phones on one network; leave it with `close`."""

    def __init__(self, directory: Path, gateway: str = "ours") -> None:
        self.network, self.directory = Network(), directory
        self.processes: list[Process] = []
        self.gateway = self.start_ours() if gateway == "ours" else self.start_rtpengine()
        self.ng = NgClient(self.network.gateway)
        self.until(lambda: self.ng.ask({"command": "ping"})["result"] == "pong", "the gateway answers ping", 20)

    def start(self, name: str, command: list[str]) -> Process:
        self.processes.append(Process(name, command, self.directory))
        return self.processes[-1]

    def start_ours(self) -> Process:
        address = self.network.gateway
        config = {
            "ng": {"listen": [f"{address}:{NG_PORT}"]},
            "admin": {"listen": f"{address}:{ADMIN_PORT}"},
            "interfaces": {"default": {"address": address}},
            "media": {"workers": 1, "slots": 64, "port_min": 30000, "port_max": 30999},
        }
        path = self.directory / "gateway.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return self.start("gateway", [sys.executable, "-m", "gateway", "serve", "--config", str(path)])

    def start_rtpengine(self) -> Process:
        """Debian's rtpengine in userspace: a peer known to be good, to test the tests."""
        address = self.network.gateway
        command = ["rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=6", "--table=-1"]
        command += [f"--interface={address}", f"--listen-ng={address}:{NG_PORT}", "--port-min=30000"]
        command += ["--num-threads=2", f"--pidfile={self.directory}/pid", "--port-max=30999"]
        return self.start("rtpengine", command)

    def start_proxy(self, address: str, **defines: str) -> Process:
        """Kamailio with the example configuration; defines (name → string) override those in the file."""
        network = self.network
        defines = {
            "PBX": f"sip:{network.bob}:{SIP_PORT}",
            "GATEWAY": f"udp:{network.gateway}:{NG_PORT}",
            "TRUSTED": f"{network.alice}/32",
        } | defines
        run = Path(self.directory, address)
        run.mkdir()
        command = ["kamailio", "-f", "deploy/kamailio/kamailio.cfg", "-DD", "-E", "-Y", str(run), "-m", "32"]
        command += ["-l", f"udp:{address}:{SIP_PORT}"]
        for name, value in defines.items():
            command += ["-A", f'{name}="{value}"']
        proxy = self.start(f"kamailio-{address}", command)
        self.until(lambda: sip_answers(address), "kamailio answers OPTIONS", 10)
        return proxy

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except OSError:
                pass  # not there yet
            if any(process.popen.poll() for process in self.processes):
                break
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout_s} s: {what}\n{self.logs()}")

    def calls(self) -> list[dict]:
        """What the gateway's admin port lists."""
        return http_json(f"http://{self.network.gateway}:{ADMIN_PORT}/calls")["calls"]

    def media_pid(self) -> int:
        """The media worker that has the calls, as the gateway's log tells it."""
        events = [json.loads(line) for line in self.gateway.log.read_text().splitlines() if line.startswith("{")]
        return [event["pid"] for event in events if event["message"] == "media worker ready"][-1]

    def logs(self) -> str:
        return "\n".join(process.tail() for process in self.processes)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.stop()


class NgClient:
    """Speaks the NG control protocol as JSON, with a cookie a request."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect((address, NG_PORT))
        self.sock.settimeout(2)

    def send(self, payload: bytes) -> bytes:
        """The reply's dictionary to a dictionary, both as they stand on the wire."""
        cookie = f"{random.getrandbits(48):x}".encode()
        self.sock.send(cookie + b" " + payload)
        while True:
            received, _, reply = self.sock.recv(65535).partition(b" ")
            if received == cookie:
                return reply

    def ask(self, request: dict) -> dict:
        return json.loads(self.send(json.dumps(request).encode()))


def sip_answers(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        sock.settimeout(0.5)
        host, port = sock.getsockname()
        token = f"{random.getrandbits(48):x}"
        request = (
            f"OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{token}\r\n"
            f"From: <sip:probe@{host}>;tag=probe\r\nTo: <sip:{address}>\r\nCall-ID: {token}\r\n"
            "CSeq: 1 OPTIONS\r\nMax-Forwards: 5\r\nContent-Length: 0\r\n\r\n"
        )
        sock.sendto(request.encode(), (address, SIP_PORT))
        return sock.recv(65535).startswith(b"SIP/2.0 200")


def http_json(url: str):
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


def missing() -> str:
    """Why these tests cannot run here, or nothing."""
    lacking = [program for program in PROGRAMS if not shutil.which(program)]
    if lacking:
        return (
            f"not installed: {', '.join(lacking)} (Debian: kamailio kamailio-extra-modules sip-tester rtpengine-daemon)"
        )
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except (PermissionError, AttributeError):
        return "recording what the phones receive takes root (CAP_NET_RAW)"
    return ""
