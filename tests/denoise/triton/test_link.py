"""A connection to the real server: what it keeps open, and lets go."""

import threading
import time

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


def threads_become(count: int) -> bool:
    """There are no more threads than that, within a second."""
    end = time.monotonic() + 1.0
    while threading.active_count() > count and time.monotonic() < end:
        time.sleep(0.01)
    return threading.active_count() <= count


def test_streams_that_keep_the_thread_awake_do_not_pile_up(triton):
    before = threading.active_count()
    link = ready_link(triton.endpoint)
    first, awake = link._idle, threading.active_count()
    for turn in range(1, 20):
        link.tend(time.monotonic() + turn * (IDLE_S + 0.1))
    assert link._idle is not first and not link._idle.done() and first.done()
    assert threads_become(awake)
    link.close()
    assert threads_become(before)
