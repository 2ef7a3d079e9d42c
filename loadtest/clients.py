"""Streams that a Triton server carries for several clients: the rows of their batches climb until it is too slow.

Each client is a process with an engine as a media worker has it: a batch of one frame of all its streams, sent when
10 ms have passed since the one before, or as soon as an answer that took longer is there. The server may be anywhere,
with a GPU or none.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing.synchronize import Barrier

import numpy as np

from loadtest.triton import client, noise, timed

FRAME_S = 0.01
WARM = 20
"""Batches of each client that are not counted."""
CLIMB = 1.5


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure."""

    endpoint: str
    model: str
    rate: int
    clients: int
    rows: int
    """Of each client's batch, at first."""
    batches: int
    limit_ms: float


@dataclass(frozen=True, slots=True)
class Step:
    """All clients at a number of rows; ms from a batch's submission to its answer."""

    rows: int
    """Of each client's batch."""
    streams: int
    p50_ms: float
    p99_ms: float
    batches_s: float
    """Of each client, on average; real time are 100."""

    @property
    def real_time(self) -> bool:
        return self.batches_s > 0.99 / FRAME_S


def climb(wish: Wish, say: Callable[[str], None]) -> Step | None:
    """The largest step within the limit and in real time, of those before the first that was not."""
    best = None
    for step in _steps(wish):
        held = step.p99_ms <= wish.limit_ms and step.real_time
        say(
            f"{wish.clients} clients of {step.rows} rows, {step.streams} streams: p50 {step.p50_ms:.2f} ms, p99 "
            f"{step.p99_ms:.2f} ms, {step.batches_s:.1f} batches a second each: {'held' if held else 'too slow'}"
        )
        if not held:
            break
        best = step
    return best


def _steps(wish: Wish) -> Iterator[Step]:
    for number in count():
        rows = round(wish.rows * CLIMB**number)
        times, seconds = _together(wish, rows)
        p50, p99 = (float(np.percentile(times, at)) * 1000 for at in (50, 99))
        yield Step(rows, rows * wish.clients, p50, p99, wish.batches / seconds)


def _together(wish: Wish, rows: int) -> tuple[np.ndarray, float]:
    """(seconds of every batch, seconds that a client's batches took on average). Raises RuntimeError."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(wish.clients), context.SimpleQueue()
    processes = [context.Process(target=_client, args=(wish, rows, barrier, results)) for _ in range(wish.clients)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    if faults := [each for each in found if isinstance(each, str)]:
        raise RuntimeError("; ".join(faults))
    return np.concatenate([times for times, _ in found]), float(np.mean([seconds for _, seconds in found]))


def _client(wish: Wish, rows: int, barrier: Barrier, results: "multiprocessing.SimpleQueue[object]") -> None:
    try:
        engine = client(wish.endpoint, wish.model, wish.rate, rows)
        frames, times = noise(rows, engine.hop), np.zeros(wish.batches)
        for _ in range(WARM):
            timed(engine, frames)
        barrier.wait(60)
        began = due = time.perf_counter()
        for number in range(wish.batches):
            times[number] = timed(engine, frames)
            engine.tend(time.monotonic())
            due += FRAME_S
            time.sleep(max(due - time.perf_counter(), 0.0))
        results.put((times, time.perf_counter() - began))
        engine.close()
    except Exception as error:  # the others must not wait for this one
        barrier.abort()
        results.put(f"a client of {rows} rows: {error or type(error).__name__}")
