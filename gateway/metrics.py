"""Every metric of the gateway, in one place; units stand in the names.

What the workers count is kept as they report it, on top of what their predecessors counted, and turned into metrics
when Prometheus asks; so a scrape costs the media plane nothing and no counter ever goes back.
"""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.messages import DELAY_BOUNDS_MS, Detected, Reason, WorkerStats

PREFIX = "denoise_gateway_"
STAGES = ("receive", "arrays", "engine", "detect", "send")
NG_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
NAMED = ("progress", "fax")
"""Kinds of detections whose values are few names; the others would make a series for each number."""
ONCE = ("dtmf",)
"""Kinds that are told only when they are over."""
ENGINE = {
    "batches": "Batches sent to a remote engine",
    "late": "Batches that it did not answer in time",
    "failed": "Failures of it after which all rows began anew",
    "bad_answers": "Answers of it that did not fit their requests",
    "connects": "Times that a server took a worker's rows",
    "batches_substitute": "Batches run by the embedded network in its place",
}
NONE = WorkerStats({}, {}, [])


@dataclass(slots=True)
class WorkerTotals:
    """What the processes in one position have counted."""

    present: WorkerStats = NONE
    counters: Counts[str] = field(default_factory=Counts)
    """Of processes that are gone, as the next two."""
    seconds: Counts[str] = field(default_factory=Counts)
    buckets: list[int] = field(default_factory=lambda: [0] * len(DELAY_BOUNDS_MS))

    def bury(self) -> None:
        """The present process is gone: its counts stay."""
        self.counters.update(self.present.counters)
        self.seconds.update(self.present.seconds)
        self.buckets = self.delay_buckets()
        self.present = NONE

    def counter(self, name: str) -> int:
        """One counter, over all processes."""
        return self.counters[name] + self.present.counters.get(name, 0)

    def names(self) -> set[str]:
        """All counters there are."""
        return set(self.counters) | set(self.present.counters)

    def spent_s(self, stage: str) -> float:
        """Seconds in one stage, over all processes."""
        return self.seconds[stage] + self.present.seconds.get(stage, 0.0)

    def delay_buckets(self) -> list[int]:
        """Packets by delay, over all processes."""
        present = self.present.delay_buckets or [0] * len(self.buckets)
        return [before + now for before, now in zip(self.buckets, present, strict=True)]


class Metrics:
    """All metrics and the registry that holds them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.workers: dict[int, WorkerTotals] = {}
        self.calls_started = self._counter("calls_started", "Calls begun by an offer")
        self.calls_ended = self._counter("calls_ended", "Calls ended, by reason", "reason")
        self.ng_requests = self._counter("ng_requests", "NG requests, by command and result", "command", "result")
        self.ng_dropped = self._counter("ng_dropped", "NG datagrams dropped without a reply, by reason", "reason")
        self.read_timeouts = self._counter(
            "statistics_read_timeouts", "Workers too slow to report for a delete or query"
        )
        self.worker_deaths = self._counter("worker_deaths", "Media workers lost", "worker")
        self.orders_lost = self._counter("orders_lost", "Commands for media workers that could not be sent: a fault")
        self.detections = self._counter(
            "detections", "Signals heard in what parties send, by kind and name", "kind", "value"
        )
        self.ng_latency = Histogram(
            f"{PREFIX}ng_request_duration_seconds",
            "Time from an NG request's arrival to its reply, by command",
            ("command",),
            buckets=NG_BUCKETS_S,
            registry=self.registry,
        )
        self.registry.register(WorkerCollector(self.workers))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when Prometheus asks; name without prefix."""
        Gauge(f"{PREFIX}{name}", text, registry=self.registry).set_function(read)

    def streams_ended(self, counts: Counts[str]) -> None:
        """Streams that have ended, as they are counted elsewhere."""
        self.registry.register(StreamCollector(counts))

    def legs_by_worker(self, workers: int, read: Callable[[int], float]) -> None:
        """The gauge of legs in each worker."""
        gauge = Gauge(f"{PREFIX}legs", "Legs, by worker", ("worker",), registry=self.registry)
        for worker in range(workers):
            gauge.labels(worker).set_function(partial(read, worker))

    def port_pairs(self, addresses: Iterable[str], read: Callable[[str], Mapping[str, int]]) -> None:
        """The gauge of pairs of media ports; read: those of an address, by state."""
        self.registry.register(PortCollector(sorted(addresses), read))

    def worker_began(self, worker: int) -> None:
        """A process has taken a position."""
        self.workers.setdefault(worker, WorkerTotals())

    def worker_died(self, worker: int) -> None:
        """A position has lost its process."""
        self.workers[worker].bury()
        self.worker_deaths.labels(worker).inc()

    def detected(self, event: Detected) -> None:
        """A detector's report; once for a signal that is told at its beginning and its end."""
        if event.lasting_ms is None or event.kind in ONCE:
            value = event.value if event.kind in NAMED else ""
            self.detections.labels(event.kind, value.partition(" ")[0]).inc()

    def worker_reported(self, worker: int, stats: WorkerStats) -> None:
        """The once-a-second report."""
        if len(stats.delay_buckets) == len(DELAY_BOUNDS_MS):
            self.workers[worker].present = stats

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class StreamCollector(Collector):
    """Turns the counts of ended streams into a metric."""

    def __init__(self, counts: Counts[str]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Called by the registry at each scrape."""
        name, text = f"{PREFIX}streams_ended", "Streams (gRPC and HTTP) that ended, by gRPC status"
        family = CounterMetricFamily(name, text, labels=("status",))
        for status, count in self._counts.items():
            family.add_metric((status,), count)
        yield family


class PortCollector(Collector):
    """Turns the states of media ports into a metric."""

    def __init__(self, addresses: Iterable[str], read: Callable[[str], Mapping[str, int]]) -> None:
        self._addresses, self._read = addresses, read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called by the registry at each scrape."""
        name, text = f"{PREFIX}port_pairs", "Pairs of media ports, by local address and state"
        family = GaugeMetricFamily(name, text, labels=("address", "state"))
        for address in self._addresses:
            for state, count in self._read(address).items():
                family.add_metric((address, state), count)
        yield family


class WorkerCollector(Collector):
    """Turns what the workers have reported into metrics."""

    def __init__(self, workers: dict[int, WorkerTotals]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Called by the registry at each scrape."""
        yield self._by_worker("packets_received", "Media packets received", "packets_in")
        yield self._by_worker("packets_sent", "Media packets sent", "packets_out")
        yield self._by_worker("batches", "Batches run", "batches")
        yield self._by_worker("rows_spoilt", "Frames for which the network gave no numbers", "rows_spoilt")
        yield self._by_worker("detections_untold", "Detections above what is told of a leg", "detections_untold")
        yield self._by_worker("events_malformed", "Telephone-event packets without an event", "events_malformed")
        yield self._by_worker("reports_untold", "Reports for which the control plane had no time", "reports_untold")
        yield self._by_worker("commands_undecodable", "Orders that made no sense", "commands_undecodable")
        yield self._by_worker("legs_flooding", "Times a leg went dry for sending far too much", "legs_flooding")
        for name, text in ENGINE.items():
            yield self._by_worker(f"engine_{name}", text, f"engine_{name}")
        yield self._answer_seconds()
        yield self._frames()
        yield self._drops()
        yield self._seconds()
        yield self._shed()
        yield self._delay()

    def _by_worker(self, name: str, text: str, counter: str) -> CounterMetricFamily:
        family = CounterMetricFamily(f"{PREFIX}{name}", f"{text}, by worker", labels=("worker",))
        for worker, totals in self._workers.items():
            family.add_metric((str(worker),), totals.counter(counter))
        return family

    def _answer_seconds(self) -> CounterMetricFamily:
        name, text = f"{PREFIX}engine_answer_seconds", "Time of batches at a remote engine, until answered or given up"
        family = CounterMetricFamily(name, f"{text}, by worker", labels=("worker",))
        for worker, totals in self._workers.items():
            family.add_metric((str(worker),), totals.counter("engine_microseconds") / 1e6)
        return family

    def _frames(self) -> CounterMetricFamily:
        family = CounterMetricFamily(
            f"{PREFIX}frames",
            "10 ms frames, by worker, denoised (wet) or not (dry), and the reason for dry",
            labels=("worker", "path", "reason"),
        )
        for worker, totals in self._workers.items():
            family.add_metric((str(worker), "wet", ""), totals.counter("frames_wet"))
            for reason in (reason.name.lower() for reason in Reason if reason):
                family.add_metric((str(worker), "dry", reason), totals.counter(f"frames_dry_{reason}"))
        return family

    def _drops(self) -> CounterMetricFamily:
        family = CounterMetricFamily(
            f"{PREFIX}packets_dropped", "Media packets dropped, by worker and reason", labels=("worker", "reason")
        )
        for worker, totals in self._workers.items():
            for name in sorted(name for name in totals.names() if name.startswith("dropped_")):
                family.add_metric((str(worker), name.removeprefix("dropped_")), totals.counter(name))
        return family

    def _seconds(self) -> CounterMetricFamily:
        family = CounterMetricFamily(
            f"{PREFIX}stage_seconds", "Time of the media process, by worker and stage", labels=("worker", "stage")
        )
        for worker, totals in self._workers.items():
            for stage in ("busy", "idle", *STAGES):
                family.add_metric((str(worker), stage), totals.spent_s(stage))
        return family

    def _shed(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            f"{PREFIX}legs_shed", "Legs left dry for lack of time, by worker", labels=("worker",)
        )
        for worker, totals in self._workers.items():
            family.add_metric((str(worker),), totals.present.counters.get("legs_shed", 0))
        return family

    def _delay(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            f"{PREFIX}added_delay_seconds",
            "Packets by time in the gateway beside the algorithmic delay, by worker",
            labels=("worker",),
        )
        for worker, totals in self._workers.items():
            cumulated = accumulate(totals.delay_buckets())
            family.add_metric((str(worker),), list(zip(bounds(), cumulated, strict=True)), sum_value=None)
        return family


def bounds() -> Iterable[str]:
    """Upper bounds of the delay buckets, in seconds, as Prometheus writes them."""
    return ["+Inf" if bound == float("inf") else str(bound / 1000) for bound in DELAY_BOUNDS_MS]
