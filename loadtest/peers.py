"""What is measured: our gateway, or Debian's rtpengine, each started as a black box with its media on one core."""

import os
import re
import shutil
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml

from loadtest import processes
from loadtest.ng import Address, NgClient, NgError

HOST = "127.0.0.1"
PORT_MIN, PORT_MAX = 10000, 59999
START_S = 30.0
STAGES = ("receive", "engine", "detect", "arrays", "send")
OURS = ("", "load", "fault")
"""Reasons of frames that are denoised, or dry for want of time or an engine. The others were left alone on purpose."""
_SAMPLE = re.compile(r"^denoise_gateway_(\w+?)(?:\{(.*)\})? ([0-9.e+-]+|NaN|\+Inf)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of a running peer; the difference of two says what a stage cost."""

    media_cpu_s: float
    at_s: float
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of the media process by stage, with `busy` and `idle`; empty where the peer does not say."""
    frames_wet: float = 0.0
    frames_dry: float = 0.0
    frames_left_alone: float = 0.0
    legs_shed: float = 0.0


class Peer(Protocol):
    """A running media relay that speaks NG."""

    name: str
    ng: Address
    ready_s: float
    """From the start of the process to its readiness."""

    def read(self) -> Reading: ...
    def rss_mb(self) -> tuple[float, float]:
        """Of the media process, and of all processes."""
        ...

    def alive(self) -> bool:
        """Whether the process that was started still carries the media."""
        ...

    def stop(self) -> None: ...


class PeerError(Exception):
    """A peer did not start, or died."""


class Gateway:
    """`denoise-gateway serve` with one media worker on the media core."""

    name = "denoise-gateway"

    def __init__(self, media_core: int, slots: int, settings: dict[str, object]) -> None:
        """All but the worker stays on the cores of the caller. Raises PeerError when the gateway does not get ready.

        settings: further sections of the configuration.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="loadtest-")
        self.ng = (HOST, processes.free_port(socket.SOCK_DGRAM))
        self._admin = f"{HOST}:{processes.free_port(socket.SOCK_STREAM)}"
        config = Path(self._folder.name) / "gateway.yaml"
        config.write_text(yaml.safe_dump(self._config(slots) | settings))
        self._log = open(Path(self._folder.name) / "log", "w+b")  # noqa: SIM115  (lives as long as the process)
        begun = time.monotonic()
        self._process = processes.start([*gateway_command(), "serve", "--config", str(config)], self._log)
        try:
            self._wait_ready(begun + START_S)
        except PeerError:
            self.stop()
            raise
        self.ready_s = time.monotonic() - begun
        self.worker = self._find_worker()
        processes.pin(self.worker, {media_core})
        processes.prefer(self._process.pid)
        processes.prefer(self.worker)
        self._media_core = media_core

    def leave_media_core(self) -> None:
        """Keep everything but the worker off its core: the kernel may put both on one, and leave the other idle."""
        for pid in (self._process.pid, *self._grpc_processes()):
            processes.pin(pid, set(os.sched_getaffinity(0)) - {self._media_core})
            processes.prefer(pid)

    def _grpc_processes(self) -> list[int]:
        children = processes.descendants(self._process.pid)
        return [pid for pid in children if "gateway.serve_grpc" in processes.command_line(pid)]

    def _config(self, slots: int) -> dict[str, object]:
        return {
            "ng": {"listen": [f"{HOST}:{self.ng[1]}"]},
            "admin": {"listen": self._admin},
            "interfaces": {"default": {"address": HOST}},
            "media": {"workers": 1, "slots": slots, "port_min": PORT_MIN, "port_max": PORT_MAX},
            "calls": {"load_limit_percent": 100.0},
            "log": {"level": "warning", "format": "text"},
        }

    def _wait_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise PeerError(f"the gateway ended at its start:\n{self.log()}")
            try:
                with urllib.request.urlopen(f"http://{self._admin}/readyz", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise PeerError(f"the gateway was not ready within {START_S:.0f} s:\n{self.log()}")

    def _find_worker(self) -> int:
        """The first of its media processes; one that comes later is a spare."""
        media = [p for p in processes.descendants(self._process.pid) if "gateway.media" in processes.command_line(p)]
        if not media:
            raise PeerError("the gateway has no child process `gateway.media`")
        return min(media)

    def log(self) -> str:
        """The end of what it wrote."""
        return Path(self._log.name).read_text(errors="replace")[-2000:]

    def read(self) -> Reading:
        """Counters from /metrics and /proc. Raises PeerError when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self._admin}/metrics", timeout=5) as answer:
                samples = list(_SAMPLE.findall(answer.read().decode()))
            media_cpu_s = processes.cpu_s(self.worker)
        except OSError as error:
            raise PeerError(f"the gateway gives no metrics: {error}\n{self.log()}") from None
        seconds = {_label(labels, "stage"): float(v) for name, labels, v in samples if name == "stage_seconds_total"}
        frames = {"wet": 0.0, "dry": 0.0, "left alone": 0.0}
        for name, labels, value in samples:
            if name == "frames_total":
                ours = _label(labels, "reason") in OURS
                frames[_label(labels, "path") if ours else "left alone"] += float(value)
        shed = sum(float(value) for name, _, value in samples if name == "legs_shed")
        return Reading(media_cpu_s, time.monotonic(), seconds, *frames.values(), shed)

    def cpu_s(self) -> tuple[float, float]:
        """CPU time of the control process, with its gRPC processes, and of the media worker."""
        beside = [
            p for p in processes.descendants(self._process.pid) if "gateway.serve_grpc" in processes.command_line(p)
        ]
        return sum(map(processes.cpu_s, [self._process.pid, *beside])), processes.cpu_s(self.worker)

    def rss_mb(self) -> tuple[float, float]:
        """Of the media worker, and of all processes."""
        pids = [self._process.pid, *processes.descendants(self._process.pid)]
        return processes.rss_mb(self.worker), sum(map(processes.rss_mb, pids))

    def alive(self) -> bool:
        """Whether the worker is still the one that was started."""
        return self._process.poll() is None and self.worker in processes.descendants(self._process.pid)

    def stop(self) -> None:
        """End it; its files go too."""
        processes.end(self._process)
        self._log.close()
        self._folder.cleanup()


class Rtpengine:
    """Debian's rtpengine without its kernel module: a plain relay in userspace, all threads on the media core."""

    name = "rtpengine"

    def __init__(self, media_core: int) -> None:
        """Raises PeerError when it is not installed or does not start."""
        program = shutil.which("rtpengine")
        if program is None:
            raise PeerError("rtpengine is not installed (Debian: apt-get install rtpengine-daemon), or use --peer none")
        self.ng = (HOST, processes.free_port(socket.SOCK_DGRAM))
        options = [
            "--config-file=none", f"--listen-cli={HOST}:{processes.free_port(socket.SOCK_STREAM)}",
            "--table=-1", "--foreground", "--delete-delay=0", f"--interface={HOST}", f"--listen-ng={HOST}:{self.ng[1]}",
            f"--port-min={PORT_MIN}", f"--port-max={PORT_MAX}", "--num-threads=1", "--log-level=3", "--log-stderr",
        ]  # fmt: skip
        begun = time.monotonic()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self._process = processes.start([program, *options], self._log)
        try:
            self._wait_ready(begun + START_S)
        except PeerError:
            self.stop()
            raise
        self.ready_s = time.monotonic() - begun
        processes.pin(self._process.pid, {media_core})
        processes.prefer(self._process.pid)

    def _wait_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline and self._process.poll() is None:
            client = NgClient(self.ng)
            try:
                client.send({"command": "ping"})
                if any(True for _ in client.replies(wait_s=0.2)):
                    return
            except (NgError, OSError):
                time.sleep(0.05)
            finally:
                client.close()
        raise PeerError(f"rtpengine did not answer a ping:\n{self.log()}")

    def read(self) -> Reading:
        """CPU time only: rtpengine says nothing of stages."""
        if not self.alive():
            raise PeerError("rtpengine has died")
        return Reading(processes.cpu_s(self._process.pid), time.monotonic())

    def rss_mb(self) -> tuple[float, float]:
        """It is one process."""
        rss = processes.rss_mb(self._process.pid)
        return rss, rss

    def log(self) -> str:
        """The end of what it wrote."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-2000:]

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it."""
        processes.end(self._process)
        self._log.close()


def gateway_command() -> list[str]:
    """The installed command beside this interpreter, else the package."""
    installed = Path(sys.executable).with_name("denoise-gateway")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "gateway"]


def _label(labels: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]*)"', labels)
    return found[1] if found else ""
