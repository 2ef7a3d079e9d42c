"""A media worker: the plain loop of one process that fills one core.

It takes what has arrived, runs it as one batch, sends it, and looks again; under light load a packet is out at once,
under heavy load batches grow by themselves. Commands come from the control plane over one socket, which also carries
the sockets of the legs; when it closes, the worker ends.
"""

import gc
import os
import select
import socket
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from gateway.config import Config
from gateway.denoise import engines
from gateway.media.pipeline import Outgoing, Pipeline
from gateway.media.report import detected, leg_rows, worker_stats
from gateway.media.rtcp_relay import RtcpRelay
from gateway.media.shedding import Shedding
from gateway.media.sockets import Sockets, views_of
from gateway.messages import (
    DELAY_BOUNDS_MS,
    CallLatched,
    CloseLeg,
    Command,
    EngineFault,
    Event,
    Latched,
    Lease,
    LegStats,
    OpenLeg,
    ReadLegs,
    Ready,
    Stop,
    UpdateLeg,
    commands,
    encoder,
)

COMMAND_BYTES = 65536
COMMANDS_PER_ROUND = 64
REPORT_S = 1.0
REPORT_SLOTS = 500
"""Rows in one report: a datagram has to fit into a socket buffer."""
IDLE_S = 0.1
WAITED_S = 0.0001
"""A poll that took longer found nothing at first."""
REST_SHARE = 0.2
LONGEST_GAP_S = 0.004
"""Between two batches, as far as rest is concerned: delay is worth more than the last per cent of efficiency."""
ROWS = 8192
HEARD_AT_ONCE = 512
"""Rows that the detectors wait for, after the packets have left: fewer cost more each, more hold up the next batch."""
CONNECT_PATIENCE_S = 2.0
"""How long a worker waits for a remote engine before it takes calls."""

T = TypeVar("T")


class Since(NamedTuple):
    """A moment of the worker's."""

    s: float
    """Seconds, monotonic."""
    awaited_s: float
    """Of its life until then, what it spent waiting for answers of a remote engine."""


class Begun(NamedTuple):
    """A batch between sockets and sockets."""

    packets: int
    """Received."""
    since: Since
    """None of them can have come before that."""


class Worker:
    """Everything of one media process."""

    def __init__(self, control: socket.socket, config: Config) -> None:
        media = config.media
        self._control, self._config = control, config
        self._engines = engines.build(config.engine, media.slots)
        self.pipeline = Pipeline(media.slots, self._engines, media.hold_ms / 1000, ROWS)
        self.sockets = Sockets(media.slots, ROWS, media.latch_s, media.latch_any, self.pipeline.streams.count)
        self.rtcp = RtcpRelay(self.pipeline)
        self.shedding = Shedding(self.pipeline, media.dry_after_ms / 1000)
        self._views = views_of(self.pipeline.slab)
        self._interval_s = media.batch_interval_ms / 1000
        self._remotes = self.pipeline.voice.remotes
        self._answers = select.epoll()
        for engine in self._remotes.values():
            self._answers.register(engine.fileno(), select.EPOLLIN)
        self._answers.register(control.fileno(), select.EPOLLIN)
        self._begun: Begun | None = None
        """The batch that is out."""
        self._began_s = 0.0
        self._faulty: dict[tuple[int, str], str] = {}
        """By rate and server as in `EngineFault`: what was told."""
        self._stopping = False
        self.seconds = dict.fromkeys(("busy", "idle", "receive", "arrays", "engine", "detect", "send"), 0.0)
        self.counters = dict.fromkeys(("packets_in", "packets_out", "batches"), 0)
        self.delay_buckets = [0] * len(DELAY_BOUNDS_MS)
        self._reported_s = time.monotonic()
        self._awaited_s = 0.0
        self._received = Since(self._reported_s, 0.0)
        """What comes in next came after that."""

    def run(self) -> None:
        """Work until told to stop or the control plane is gone."""
        self._control.setblocking(False)
        self.sockets.epoll.register(self._control.fileno(), select.EPOLLIN)
        engines.connect(self._engines, CONNECT_PATIENCE_S)
        self._tell(Ready(os.getpid(), {rate: engine.delay for rate, engine in self._engines.items()}))
        gc.collect()
        gc.freeze()
        gc.disable()
        while not self._stopping:
            self.turn()

    def turn(self) -> None:
        """Wait for packets or commands, and see to them; while a batch is out, for its answer instead of packets."""
        begun = time.monotonic()
        resuming = self._begun is not None
        if resuming:
            wait_s = max((self.pipeline.due_s() or begun) - begun, 0.0)
            events = self._answers.poll(wait_s)
            woken = time.monotonic()
            self._awaited_s += min(woken - begun, wait_s)
        else:
            events = self.sockets.epoll.poll(self._interval_s if self.pipeline.held else IDLE_S, 4096)
            woken = time.monotonic()
        if not resuming and woken - begun > WAITED_S:
            self._received = Since(woken, self._awaited_s)  # the poll had to wait: nothing here came before now
        if any(descriptor == self._control.fileno() for descriptor, _ in events):
            self._obey()
        for engine in self._remotes.values():
            engine.acknowledge()
            engine.tend(woken)
        packets = self._resume(woken) if resuming else self._batch(events, woken)
        self._listen(packets)
        if woken - self._reported_s >= REPORT_S:
            self._report(woken)
        done = time.monotonic()
        rest = self._rest_s(done - self._began_s) if packets and self._begun is None else 0.0
        if rest > 0:
            time.sleep(rest)
        self.seconds["busy"] += done - woken
        self.seconds["idle"] += woken - begun + max(rest, 0.0)

    def _listen(self, packets: int) -> None:
        """Let the detectors hear, when it is worth it or nothing else is to be done."""
        voice = self.pipeline.voice
        if not packets or voice.ear.waiting >= HEARD_AT_ONCE:
            voice.listen()
        self.seconds["detect"] = voice.ear.seconds

    def _rest_s(self, worked_s: float) -> float:
        """How long to let packets gather: batches that take long become larger, and so cheaper a packet."""
        gap_s = max(self._interval_s, min(worked_s * (1 + REST_SHARE), LONGEST_GAP_S))
        return gap_s - worked_s

    def _batch(self, events: list[tuple[int, int]], now: float) -> int:
        """One batch from sockets to sockets; returns how many packets it had."""
        pipeline = self.pipeline
        since = self._received
        count = self.sockets.receive(events, self._views, pipeline.lengths, pipeline.slots, now)
        received = time.monotonic()
        self._received = Since(received, self._awaited_s)
        if count or pipeline.held:
            self._begun, self._began_s = Begun(count, since), now
            self._spend(lambda: pipeline.begin(count, now))
            if pipeline.due_s() is None:
                self._complete(self._begun, now)
            else:
                self._send(pipeline.untouched(), since)
        self.seconds["receive"] += received - now
        self._relay_rtcp(now)
        self._announce(now)
        return count

    def _resume(self, now: float) -> int:
        """Go on with the batch that is out, and send it when all is answered or it is due; returns how many packets
        it had."""
        self._spend(self.pipeline.go_on)
        due, begun = self.pipeline.due_s(), self._begun
        if begun is None or (due is not None and now < due):
            return 0
        self._complete(begun, now)
        self._announce(now)
        return begun.packets

    def _complete(self, begun: Begun, now: float) -> None:
        """From the engine's answer to the sockets."""
        self._begun, pipeline = None, self.pipeline
        age_s = self._send(self._spend(pipeline.finish), begun.since)
        self.counters["packets_in"] += begun.packets
        self.counters["batches"] += 1
        # What a server took of it is no load of this worker: legs that go dry here would not make it faster.
        self.shedding.observe(age_s - (self._awaited_s - begun.since.awaited_s), now)

    def _send(self, outgoing: Outgoing, since: Since) -> float:
        """To the sockets; returns the age, the longest in seconds that one of these can have been here."""
        started = time.monotonic()
        sent = self.sockets.send(outgoing, self.pipeline.lengths, self._views)
        finished = time.monotonic()
        self.seconds["send"] += finished - started
        self.counters["packets_out"] += sent
        self.delay_buckets[bisect_left(DELAY_BOUNDS_MS, (finished - since.s) * 1000)] += sent
        return finished - since.s

    def _spend(self, work: Callable[[], T]) -> T:
        """Do a part of a batch, and note which stages its time went into."""
        ear, seconds = self.pipeline.voice.ear, self.seconds
        started, voice_s, detect_s = time.monotonic(), self.pipeline.voice_s, ear.seconds
        done = work()
        voice_s = self.pipeline.voice_s - voice_s
        seconds["engine"] += voice_s - (ear.seconds - detect_s)
        seconds["arrays"] += time.monotonic() - started - voice_s
        return done

    def _relay_rtcp(self, now: float) -> None:
        arrived = self.sockets.rtcp_datagrams + self.pipeline.rtcp
        if not arrived:
            return
        self.sockets.rtcp_datagrams, self.pipeline.rtcp = [], []
        for slot, datagram in arrived:
            self.counters["rtcp_in"] = self.counters.get("rtcp_in", 0) + 1
            forward = self.rtcp.forward(slot, datagram)
            if forward is not None:
                self.sockets.send_rtcp(forward.slot, forward.datagram, forward.mux)

    def _announce(self, now: float) -> None:
        """Tell the control plane what was learned, and of engines that fail or work again."""
        if self.sockets.latched:
            learned, self.sockets.latched = set(self.sockets.latched), []
            for slot in learned:
                self._tell(Latched(self._lease(slot), *self.sockets.sources(slot)))
        voice = self.pipeline.voice
        if voice.ear.found:
            found, voice.ear.found = voice.ear.found, []
            for detection in found:
                self._tell(detected(detection, self._lease(detection.slot), self._config.detect.report_digits))
        if voice.latches:
            latches, voice.latches = voice.latches, []
            for slot in latches:
                self._tell(CallLatched(self._lease(slot)))
        self._announce_faults()

    def _announce_faults(self) -> None:
        """A fault is told when it begins and ends, a remote engine's and its servers' also when the reason changes."""
        reasons = {rate: reason for rate, reason in self.pipeline.voice.faulty.items() if rate not in self._remotes}
        faults = dict.fromkeys(((rate, "") for rate in reasons), "failing")
        for rate, engine in self._remotes.items():
            each = {"": engine.fault, **engine.endpoint_faults}
            faults |= {(rate, endpoint): reason for endpoint, reason in each.items() if reason}
        if faults == self._faulty:
            return
        for rate, endpoint in sorted({*faults, *self._faulty}):
            reason = faults.get((rate, endpoint), "")
            if reason != self._faulty.get((rate, endpoint), ""):
                substitute = self._remotes[rate].substitute if rate in self._remotes else ""
                self._tell(EngineFault(rate, reasons.get(rate, reason), substitute, endpoint))
        self._faulty = faults

    def _lease(self, slot: int) -> Lease:
        return Lease(slot, int(self.pipeline.legs.generation[slot]))

    def _report(self, now: float) -> None:
        """Once a second: statistics up, and the small change of memory."""
        self._reported_s = now
        used = np.flatnonzero(self.pipeline.legs.generation >= 0)
        for first in range(0, len(used), REPORT_SLOTS):
            self._tell(LegStats(leg_rows(self.pipeline, used[first : first + REPORT_SLOTS]).tobytes()))
        self.shedding.review(self.seconds["busy"], self.seconds["idle"])
        self._tell(worker_stats(self.pipeline, self.counters, self.seconds, self.delay_buckets))
        gc.collect(0)

    def _obey(self) -> None:
        for _ in range(COMMANDS_PER_ROUND):
            try:
                datagram, descriptors, _, _ = socket.recv_fds(self._control, COMMAND_BYTES, 2)
            except BlockingIOError:
                return
            except ConnectionError:
                datagram = b""
            if not datagram:
                self._stopping = True
                return
            try:
                command = commands.decode(datagram)
            except msgspec.MsgspecError:  # cut off, or never one: a leg less, not a worker
                self.pipeline.streams.count("commands_undecodable")
                for descriptor in descriptors:
                    os.close(descriptor)
                continue
            self._execute(command, descriptors)

    def _execute(self, command: Command, descriptors: list[int]) -> None:
        match command:
            case OpenLeg(spec):
                self.sockets.open(spec, descriptors)
                self.pipeline.open(spec)
            case UpdateLeg(spec) if self.pipeline.legs.holds(spec.slot, spec.generation):
                relatch = spec.epoch != self.pipeline.legs.specs[spec.slot].epoch
                self.pipeline.update(spec)
                self.sockets.update(spec, relatch)
            case CloseLeg(lease) if self.pipeline.legs.holds(*lease):
                self.sockets.close(lease.slot)
                self.pipeline.close(lease.slot)
            case ReadLegs(request_id, slots):
                known = np.array([slot for slot in slots if 0 <= slot < self.pipeline.legs.slots], np.int64)
                self._tell(LegStats(leg_rows(self.pipeline, known).tobytes(), request_id))
            case Stop():
                self._stopping = True
            case _:
                self.pipeline.streams.count("stale_command")

    def _tell(self, event: Event) -> None:
        """Events are dropped rather than waited for when the control plane does not keep up."""
        try:
            self._control.send(encoder.encode(event))
        except BlockingIOError:
            self.pipeline.streams.count("reports_untold")
        except ConnectionError:
            self._stopping = True
