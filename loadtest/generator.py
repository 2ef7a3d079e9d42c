"""The generator: sends all legs evenly over each 20 ms, and writes down what comes back. Nothing else.

Legs are dealt to twenty endpoints, one for each millisecond of a packet's 20 ms. In its millisecond an endpoint sends
one packet of each of its legs in one or a few system calls, so the cost of a packet is the kernel's. Everything is
written into arrays and understood after the run.
"""

import gc
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtest.calls import Leg
from loadtest.matching import Arrivals
from loadtest.mmsg import Inbox, Outbox, monotonic_offset_ns

ENDPOINTS = 20
SLOT_NS = 1_000_000
BURST = 32
"""Packets that share a time of sending: what the kernel takes in about 0.1 ms."""
DRAIN_SLOTS = 1000
"""How long answers are waited for after the last packet."""

PACKET = np.dtype(
    [
        ("first", "u1"),
        ("marker_type", "u1"),
        ("sequence", ">u2"),
        ("timestamp", ">u4"),
        ("ssrc", ">u4"),
        ("payload", "u1", 160),
    ]
)
"""RTP (RFC 3550 section 5.1) with 20 ms of PCMU."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, and when."""

    legs: Sequence[Leg]
    loops: npt.NDArray[np.uint8]
    """Payloads [legs, frames of the loop, 160]."""
    start_ns: int
    """Monotonic time of the first packet."""
    warm_frames: int
    """Frames sent before the measured ones."""
    frames: int
    """All frames of a leg."""
    ramp_frames: int = 0
    """Legs begin one after the other over so many frames, as calls do, not all at once."""
    captured: frozenset[int] = frozenset()
    """Legs whose payloads are kept."""
    core: int | None = None

    def starts(self) -> npt.NDArray[np.int64]:
        """First frame of each leg, ascending."""
        return np.arange(len(self.legs)) * self.ramp_frames // len(self.legs)


@dataclass(frozen=True, slots=True)
class Recording:
    """All that happened, as arrays."""

    sent_ns: npt.NDArray[np.int64]
    """[legs, frames]; 0 where the kernel did not take the packet."""
    due_ns: npt.NDArray[np.int64]
    arrivals: Arrivals
    payloads: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]
    """Of each captured leg: which arrivals, and their payloads [n, 160]."""
    foreign: int
    """Datagrams that were no RTP of ours."""
    cpu_share: float
    """Of the generator's core, over the measured frames."""


class _Speaker:
    """The legs of one endpoint: one packet of each, refilled every 20 ms."""

    def __init__(self, sock: socket.socket, plan: Plan, legs: npt.NDArray[np.int64]) -> None:
        rng = np.random.default_rng(len(plan.legs))
        self.legs = legs
        self._starts = plan.starts()[legs]
        self._loops = plan.loops
        self._sequence = rng.integers(0, 1 << 16, len(legs))
        self._timestamp = rng.integers(0, 1 << 32, len(legs))
        self._packets = np.zeros(len(legs), PACKET)
        self._packets["first"] = 0x80
        self._packets["ssrc"] = legs + 1
        self._outbox = Outbox(sock, self._packets, [plan.legs[leg].enters for leg in legs])

    def refill(self, frame: int) -> None:
        """Put the next frame of every leg into its packet."""
        self._packets["marker_type"] = np.where(self._starts == frame, 0x80, 0)
        self._packets["sequence"] = (self._sequence + frame) & 0xFFFF
        self._packets["timestamp"] = (self._timestamp + frame * 160) & 0xFFFFFFFF
        self._packets["payload"] = self._loops[self.legs, frame % self._loops.shape[1]]

    def send(self, frame: int, sent_ns: npt.NDArray[np.int64]) -> None:
        """Send the packet of every leg that has begun; writes the times into `sent_ns` [legs of this endpoint]."""
        begun = int(np.searchsorted(self._starts, frame, side="right"))
        for first in range(0, begun, BURST):
            at = time.monotonic_ns()
            took = self._outbox.send(first, min(BURST, begun - first))
            sent_ns[first : first + took] = at


class _Listener:
    """Writes down every datagram that any endpoint gets."""

    def __init__(self, sockets: Sequence[socket.socket], plan: Plan) -> None:
        room = len(plan.legs) * plan.frames * 5 // 4 + 10_000
        self._sockets = sockets
        self._inbox = Inbox(1024)
        self._headers = self._inbox.slab[:, : PACKET.itemsize].view(PACKET)[:, 0]
        self._leg_of_port = np.full(1 << 16, -1, np.int32)
        self._leg_of_port[[leg.leaves[1] for leg in plan.legs]] = np.arange(len(plan.legs))
        self._captured = np.zeros(len(plan.legs), bool)
        self._captured[list(plan.captured)] = True
        self._leg = np.zeros(room, np.int32)
        self._sequence = np.zeros(room, np.uint16)
        self._ssrc = np.zeros(room, np.uint32)
        self._at_ns = np.zeros(room, np.int64)
        self._kept: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]] = []
        self._n = 0
        self.foreign = 0

    def listen(self) -> None:
        """Take everything that waits."""
        while count := self._inbox.fill(self._sockets):
            self._write(count)
            if count < self._inbox.rows:
                return

    def _write(self, count: int) -> None:
        leg = self._leg_of_port[self._inbox.ports(count)]
        headers = self._headers[:count]
        rtp = (leg >= 0) & (self._inbox.lengths(count) == PACKET.itemsize) & (headers["first"] & 0xC0 == 0x80)
        rows = np.flatnonzero(rtp)[: len(self._leg) - self._n]
        self.foreign += count - len(rows)
        to = slice(self._n, self._n + len(rows))
        self._leg[to] = leg[rows]
        self._sequence[to] = headers["sequence"][rows]
        self._ssrc[to] = headers["ssrc"][rows]
        self._at_ns[to] = self._inbox.arrivals_ns(count)[rows] - monotonic_offset_ns()
        kept = np.flatnonzero(self._captured[leg[rows]])
        if len(kept):
            self._kept.append((kept + self._n, headers["payload"][rows[kept]]))
        self._n += len(rows)

    def arrivals(self) -> Arrivals:
        """All packets so far."""
        n = self._n
        return Arrivals(self._leg[:n], self._sequence[:n], self._ssrc[:n], self._at_ns[:n])

    def payloads(self) -> dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
        """Captured payloads by leg."""
        if not self._kept:
            return {}
        arrival = np.concatenate([rows for rows, _ in self._kept])
        payload = np.concatenate([payload for _, payload in self._kept])
        leg = self._leg[arrival]
        return {int(one): (arrival[leg == one], payload[leg == one]) for one in np.unique(leg)}


def run(plan: Plan, sockets: Sequence[socket.socket]) -> Recording:
    """Send the plan in real time and record what comes back. Takes the whole process: run it in one of its own."""
    _take_core(plan.core)
    dealt = np.array([leg.endpoint for leg in plan.legs])
    speakers = [_Speaker(sock, plan, np.flatnonzero(dealt == i)) for i, sock in enumerate(sockets)]
    listener = _Listener(sockets, plan)
    sent_ns = [np.zeros((plan.frames, len(speaker.legs)), np.int64) for speaker in speakers]
    cpu_ns = wall_ns = 0
    for slot in range(plan.frames * ENDPOINTS):
        frame, turn = divmod(slot, ENDPOINTS)
        if slot == plan.warm_frames * ENDPOINTS:
            cpu_ns, wall_ns = time.process_time_ns(), time.monotonic_ns()
        speakers[turn].refill(frame)
        _sleep_until(plan.start_ns + slot * SLOT_NS)
        speakers[turn].send(frame, sent_ns[turn][frame])
        listener.listen()
    cpu_share = (time.process_time_ns() - cpu_ns) / (time.monotonic_ns() - wall_ns)
    for slot in range(plan.frames * ENDPOINTS, plan.frames * ENDPOINTS + DRAIN_SLOTS):
        _sleep_until(plan.start_ns + slot * SLOT_NS)
        listener.listen()
    return _recording(plan, speakers, sent_ns, listener, cpu_share)


def _recording(
    plan: Plan,
    speakers: Sequence[_Speaker],
    sent_ns: Sequence[npt.NDArray[np.int64]],
    listener: _Listener,
    cpu_share: float,
) -> Recording:
    by_leg = np.zeros((len(plan.legs), plan.frames), np.int64)
    due_ns = np.zeros_like(by_leg)
    for turn, speaker in enumerate(speakers):
        by_leg[speaker.legs] = sent_ns[turn].T
        due_ns[speaker.legs] = plan.start_ns + (np.arange(plan.frames) * ENDPOINTS + turn) * SLOT_NS
    return Recording(by_leg, due_ns, listener.arrivals(), listener.payloads(), listener.foreign, cpu_share)


def _take_core(core: int | None) -> None:
    gc.disable()
    if core is not None:
        os.sched_setaffinity(0, {core})
    with suppress(PermissionError):
        # It sleeps most of every millisecond, and must not be late because somebody else had the core.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def _sleep_until(at_ns: int) -> None:
    wait_ns = at_ns - time.monotonic_ns()
    if wait_ns > 0:
        time.sleep(wait_ns / 1e9)
