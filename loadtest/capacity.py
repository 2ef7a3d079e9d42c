"""A capacity run: starts the gateway, climbs until it no longer holds, and measures rtpengine the same way."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest import processes, same, setups
from loadtest.material import RATE_HZ, Material
from loadtest.ng import NgError
from loadtest.peers import Gateway, Peer, PeerError, Rtpengine, gateway_command
from loadtest.report import FEW_LEGS, MANY_LEGS, Report, Tried, verdict
from loadtest.search import Search
from loadtest.stage import Bench, Capture, Stage, run_stage

ALGORITHMIC_MS = 10.0
"""The engine's delay; the comparison with the file command would fail with another."""
DENOISE_LADDER = (FEW_LEGS, 300, 500, 700, 850, MANY_LEGS, 1150, 1300)
RELAY_LADDER = (1000, 2000, 2500, 3000, 3500)
SETUP_LEGS, SETUPS_PER_S = 300, 100
DENOISE_SLOTS, RELAY_SLOTS = 2000, 5000
PARTS = ("denoise", "setups", "relay")


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    parts: frozenset[str] = frozenset(PARTS)
    legs: int | None = None
    """Only one stage with so many legs in each part."""
    seconds: int = 10
    limit_ms: float = 20.0
    peer: str = "rtpengine"
    engine: str = "ort"
    model: str | None = None
    quick: bool = False
    minutes: float = 15.0


class Capacity:
    """One run and its report."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        """say: told each line of progress. Raises RuntimeError on a machine with one core."""
        processes.raise_descriptor_limit()
        self._options, self._say = options, say
        self._media_core, generator_core, other_cores = processes.cores()
        os.sched_setaffinity(0, other_cores)
        say("preparing speech and noise")
        self._bench = Bench(Material(), generator_core, options.seconds)
        self._deadline = time.monotonic() + 60 * options.minutes
        self.report = Report(options.limit_ms)
        self._captured: dict[tuple[str, int], Capture] = {}

    def run(self) -> Report:
        """All parts that were asked for. Raises PeerError when the gateway itself does not start."""
        parts = self._options.parts
        if parts & {"denoise", "setups"}:
            self._denoised(parts)
        if "relay" in parts:
            self._relayed()
        return self.report

    def _denoised(self, parts: frozenset[str]) -> None:
        gateway = self._start_gateway(DENOISE_SLOTS)
        try:
            self.report.ready_s = gateway.ready_s
            self._say(f"gateway ready after {gateway.ready_s:.2f} s")
            if "denoise" in parts:
                self._climb(gateway, "denoised", DENOISE_LADDER, ALGORITHMIC_MS)
                if not self._options.legs and not self._options.quick and not self._ran("denoised", MANY_LEGS):
                    self._attempt(gateway, "denoised", MANY_LEGS, ALGORITHMIC_MS)
            if "setups" in parts:
                self._set_up(gateway)
        finally:
            gateway.stop()
        if "denoise" in parts:
            self._compare_with_file()

    def _relayed(self) -> None:
        gateway = self._start_gateway(RELAY_SLOTS)
        try:
            self._climb(gateway, "relay", RELAY_LADDER, 0.0)
        finally:
            gateway.stop()
        best = self._best_capture("relay")
        self.report.relay_untouched = same.untouched(best) if best else None
        if self._options.peer == "none":
            return
        try:
            peer = Rtpengine(self._media_core)
        except PeerError as fault:
            self._note(f"rtpengine not measured: {fault}")
            return
        try:
            self._climb(peer, "rtpengine", RELAY_LADDER, 0.0)
        finally:
            peer.stop()

    def _start_gateway(self, slots: int) -> Gateway:
        engine = {"kind": self._options.engine} | ({"model": self._options.model} if self._options.model else {})
        return Gateway(self._media_core, slots, {"engine": engine})

    def _climb(self, peer: Peer, what: str, ladder: Sequence[int], algorithmic_ms: float) -> None:
        """Search the most legs, within the time there is."""
        search = Search((self._options.legs,) if self._options.legs else ladder)
        while (legs := search.next()) is not None and peer.alive():
            if time.monotonic() > self._deadline:
                self._note(f"{what}: the time was up before the search had ended; {search.best} legs held")
                return
            tried = self._attempt(peer, what, legs, algorithmic_ms)
            search.note(legs, tried is not None and tried.held, tried is None or tried.stage.valid())
            if self._options.legs or (self._options.quick and search.least_failed):
                break
        if search.generator_limited:
            self._note(f"{what}: the generator was at its limit; more than {search.best} legs may be held")

    def _attempt(self, peer: Peer, what: str, legs: int, algorithmic_ms: float) -> Tried | None:
        """One stage; None when the calls could not be placed or the peer broke."""
        try:
            stage, capture = run_stage(peer, self._bench, legs, what == "denoised", algorithmic_ms)
        except (NgError, PeerError) as fault:
            self._note(f"{what}, {legs} legs: {fault}")
            return None
        return self._keep(what, stage, capture)

    def _keep(self, what: str, stage: Stage, capture: Capture) -> Tried:
        tried = Tried(what, stage, stage.faults(self._options.limit_ms))
        self.report.tried.append(tried)
        self._captured[what, stage.legs] = capture
        self._say(
            f"{what:10} {stage.legs:5} legs: p99 {stage.added_delay_ms('p99'):6.1f} ms, "
            f"media core {stage.media_cpu:4.0%}, generator {stage.media.generator_cpu:4.0%}: {verdict(tried)}"
        )
        return tried

    def _set_up(self, gateway: Gateway) -> None:
        """Set-ups at a steady rate while legs run."""
        found: list[setups.SetUps] = []
        seconds = self._bench.seconds
        run_stage(
            gateway, self._bench, SETUP_LEGS, True, ALGORITHMIC_MS,
            lambda ng: found.append(setups.run(ng, SETUPS_PER_S, seconds)),
        )  # fmt: skip
        self.report.setups = found[0]
        self._say(f"set-ups: p50 {found[0].percentile_ms(50):.1f} ms, p99 {found[0].percentile_ms(99):.1f} ms")

    def _compare_with_file(self) -> None:
        capture = self._best_capture("denoised")
        if capture is None:
            return
        settings = {"DENOISE_GATEWAY_ENGINE__KIND": self._options.engine}
        if self._options.model:
            settings["DENOISE_GATEWAY_ENGINE__MODEL"] = self._options.model
        delay_samples = round(ALGORITHMIC_MS * RATE_HZ / 1000)
        try:
            self.report.same = same.with_file(capture, [*gateway_command(), "file"], delay_samples, settings)
        except same.SamenessError as error:
            self._note(f"not compared with `denoise-gateway file`: {error}")
            return
        self._say(f"same as file: {self.report.same.legs_identical} of {self.report.same.legs} legs")

    def _best_capture(self, what: str) -> Capture | None:
        """Of the most legs that held, else of the last stage."""
        best = self.report.best(what)
        if best:
            return self._captured[what, best.legs]
        return next((found for (of, _), found in reversed(self._captured.items()) if of == what), None)

    def _ran(self, what: str, legs: int) -> bool:
        return any(tried.what == what and tried.stage.legs == legs for tried in self.report.tried)

    def _note(self, text: str) -> None:
        self.report.notes.append(text)
        self._say(text)


def to_stderr(line: str) -> None:
    """Progress, one line at a time."""
    print(f"loadtest: {line}", file=sys.stderr, flush=True)
