"""Phones on a real media worker, each with a voice of its own, that know whom they hear in every frame."""

import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import msgspec
import numpy as np

from gateway.config import Config, EngineConfig, MediaConfig
from gateway.messages import EngineFault, LegSpec, OpenLeg, Payload, Ready, WorkerStats, encoder, events
from tests.denoise.triton.voices import DELAY, LEVEL, Foreign, foreign, voices

PCMU = (Payload(0, "PCMU", 8000, 1, 0),)
FRAME, HEADER = 160, 12


class Worker:
    """`python -m gateway.media` on a Triton engine, and what it says."""

    def __init__(self, slots: int, **engine) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.control, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        config = Config(media=MediaConfig(slots=slots), engine=EngineConfig(kind="triton", **engine))
        command = [sys.executable, "-m", "gateway.media", "--control-fd", str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self.control.send(msgspec.json.encode(config))
        self.faults: dict[int, EngineFault] = {}
        self.stats = WorkerStats({}, {}, [])
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._ready.wait(20), "the worker did not start"

    def _listen(self) -> None:
        while datagram := self.control.recv(1 << 20):
            match events.decode(datagram):
                case Ready():
                    self._ready.set()
                case EngineFault() as fault:
                    self.faults[fault.rate] = fault
                case WorkerStats() as stats:
                    self.stats = stats

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.control.close()


class Phones:
    """Calls between neighbours: 0 and 1, 2 and 3, …; what phone i says is heard by phone i ^ 1."""

    def __init__(self, worker: Worker, count: int, seconds: float) -> None:
        self.count, self.frames = count, round(seconds * 50)
        self.payloads = voices(count, self.frames)
        self.heard = np.zeros_like(self.payloads)
        """By speaker: uint8 [count, frames, 160]."""
        self.sent_s = np.zeros((count, self.frames))
        self.came_s = np.zeros((count, self.frames))
        """0: lost."""
        self.strange = 0
        self._sockets = [udp() for _ in range(count)]
        self._ports = [udp() for _ in range(count)]
        self._first: dict[int, tuple[int, int]] = {}
        for slot, (phone, port) in enumerate(zip(self._sockets, self._ports, strict=True)):
            spec = LegSpec(
                slot=slot, generation=1, call_id=f"call {slot // 2}", peer=slot ^ 1, payloads=PCMU, bypass="off",
                level=LEVEL, rtp_remote=phone.getsockname(),
            )  # fmt: skip
            socket.send_fds(worker.control, [encoder.encode(OpenLeg(spec))], [port.fileno()])
            phone.connect(port.getsockname())
            phone.setblocking(False)
            time.sleep(0.001)
        self._selector = selectors.EpollSelector()
        for slot, phone in enumerate(self._sockets):
            self._selector.register(phone, selectors.EVENT_READ, slot)

    def talk(self, plan: dict[float, object]) -> None:
        """Everything in real time; plan: what to call at which second, in threads of its own."""
        due = sorted(plan.items())
        begun = time.monotonic()
        for frame in range(self.frames):
            for group in range(20):  # evenly over 20 ms
                at = begun + frame * 0.02 + group * 0.001
                self._receive(at)
                for slot in range(group, self.count, 20):
                    header = struct.pack("!BBHII", 0x80, 0, frame, frame * FRAME, slot + 1)
                    self._sockets[slot].send(header + self.payloads[slot, frame].tobytes())
                    self.sent_s[slot, frame] = time.monotonic()
            while due and due[0][0] <= frame * 0.02:
                threading.Thread(target=due.pop(0)[1], daemon=True).start()
        self._receive(time.monotonic() + 0.5)

    def _receive(self, until: float) -> None:
        while True:
            for key, _ in self._selector.select(max(until - time.monotonic(), 0)):
                self._take(key.data, key.fileobj)
            if time.monotonic() >= until:
                return

    def _take(self, slot: int, phone: socket.socket) -> None:
        try:
            while True:
                datagram = phone.recv(2048)
                now = time.monotonic()
                sequence, timestamp = struct.unpack("!HI", datagram[2:8])
                if datagram[1] & 127 or len(datagram) != HEADER + FRAME:
                    self.strange += 1
                    continue
                first = self._first.setdefault(slot, (sequence, timestamp))
                frame, speaker = (sequence - first[0]) & 0xFFFF, slot ^ 1
                if frame >= self.frames or self.came_s[speaker, frame]:
                    self.strange += 1
                    continue
                self.came_s[speaker, frame] = now
                self.heard[speaker, frame] = np.frombuffer(datagram, np.uint8, offset=HEADER)
        except BlockingIOError:
            return

    def lost(self) -> int:
        return int((self.came_s == 0).sum())

    def delays_ms(self) -> np.ndarray:
        """float [count, frames]"""
        return (self.came_s - self.sent_s) * 1000

    def p99_ms(self, begin_s: float, end_s: float) -> float:
        """Of the delay of packets that were sent in this time; content delay is not in it."""
        return float(np.percentile(self.delays_ms()[:, round(begin_s * 50) : round(end_s * 50)], 99))

    def wet_share(self, begin_s: float, end_s: float) -> float:
        """Share of packets that are not the sender's own bytes."""
        frames = slice(round(begin_s * 50), round(end_s * 50))
        stream = self.payloads.reshape(self.count, -1)
        late = np.concatenate([np.full((self.count, DELAY), 0xFF, np.uint8), stream[:, :-DELAY]], axis=1)
        dry = (late.reshape(self.heard.shape) == self.heard).all(axis=2)[:, frames]
        return float(1 - dry.mean())

    def foreign(self) -> list[Foreign]:
        """Every 10 ms in which somebody was heard who had not just said this, or nobody."""
        return foreign(self.payloads, self.heard)

    def figures(self) -> str:
        delays_ms = ", ".join(f"{value:.1f}" for value in np.percentile(self.delays_ms(), (50, 99, 99.9, 100)))
        wet = [round(self.wet_share(begin / 5, begin / 5 + 0.2), 2) for begin in range(self.frames // 10)]
        p99_ms = [round(self.p99_ms(begin / 5, begin / 5 + 0.2)) for begin in range(self.frames // 10)]
        return (f"lost {self.lost()}; delay p50, p99, p99.9, max {delays_ms} ms; p99 every 200 ms: {p99_ms}; "
                f"wet every 200 ms: {wet}")  # fmt: skip

    def close(self) -> None:
        self._selector.close()
        for each in (*self._sockets, *self._ports):
            each.close()


def udp() -> socket.socket:
    """Bound to a port by its number: one that the kernel chose is lost when a worker disconnects the socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        place = probe.getsockname()
    each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    each.bind(place)
    return each
