"""A connection to the real server: what it keeps open, and lets go."""

import threading
import time
from collections.abc import Callable

from gateway.denoise.triton import WIRE, wire
from gateway.denoise.triton.link import IDLE_S, Link


def ready_link(endpoint: str) -> Link:
    link = Link(endpoint, ("light_8k", ""), wire.Wanted(WIRE, 8000, 80, 80))
    for _ in range(200):
        link.tend(time.monotonic())
        if link.ready:
            return link
        time.sleep(0.05)
    raise AssertionError(link.fault)


def within_seconds(true: Callable[[], bool]) -> bool:
    """It becomes true."""
    end = time.monotonic() + 5.0
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_streams_that_keep_the_thread_awake_do_not_pile_up(triton):
    before = threading.active_count()
    link = ready_link(triton.endpoint)
    first, awake = link._idle, threading.active_count()
    for turn in range(1, 20):
        link.tend(time.monotonic() + turn * (IDLE_S + 0.1))
    assert link._idle is not first
    assert within_seconds(first.done) and not link._idle.done()
    assert within_seconds(lambda: threading.active_count() <= awake)
    link.close()
    assert within_seconds(lambda: threading.active_count() <= before)
