"""A connection to the real server: what it keeps open, and lets go."""

import threading
import time
from collections.abc import Callable

import grpc
import pytest
from tritonclient.grpc import service_pb2

from gateway.denoise.triton import WIRE, wire
from gateway.denoise.triton.link import CALM_S, IDLE_S, LAST_RETRY_S, SLOW_RETRY_S, STANDBY_S, Link
from tests.denoise.triton.fakes import Refusal


class Asked:
    """A link whose questions are answered at once, as `refusal` says."""

    def __init__(self, monkeypatch) -> None:
        self.link = Link("server0:8001", ("light_8k", ""), wire.Wanted(WIRE, 8000, 80, 80))
        self.link._stub, self.refusal, self.asked_s, self.now = self, None, [], 100.0
        self.ModelConfig = self.ModelStreamInfer = self
        monkeypatch.setattr(self.link, "_connect", lambda: None)
        monkeypatch.setattr(wire, "mismatch", lambda config, wanted: "")

    def __call__(self, requests, timeout) -> None: ...

    def future(self, question, timeout) -> "Asked":
        self.asked_s.append(self.now)
        return self

    def done(self) -> bool:
        return True

    def cancelled(self) -> bool:
        return False

    def exception(self):
        return self.refusal

    def result(self):
        return service_pb2.ModelConfigResponse()

    def wait(self, seconds: float, serving: bool = True) -> None:
        """Turns of the loop."""
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            self.link.tend(self.now, serving)

    def until_asked(self) -> float:
        """Seconds until it is asked again and its answer is there."""
        before, asked = self.now, len(self.asked_s)
        while len(self.asked_s) == asked:
            self.wait(0.02)
        self.wait(0.02)
        return self.asked_s[-1] - before


@pytest.fixture
def asked(monkeypatch) -> Asked:
    made = Asked(monkeypatch)
    made.until_asked()
    return made


def fail(asked: Asked, times: int, slow: bool) -> list[float]:
    """How long it is left alone each time."""
    waits = []
    for _ in range(times):
        assert asked.link.ready
        asked.link.failed("it is too slow" if slow else "it is gone", asked.now, slow=slow)
        waits.append(asked.until_asked())
    return waits


def test_a_server_that_is_slow_again_and_again_is_asked_ever_more_seldom(asked):
    waits = fail(asked, times=8, slow=True)
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.03)
    assert waits[-1] == pytest.approx(SLOW_RETRY_S, abs=0.03)


def test_one_that_is_gone_is_asked_every_second_though_it_was_slow_before(asked):
    fail(asked, times=8, slow=True)
    assert fail(asked, times=3, slow=False) == pytest.approx([LAST_RETRY_S] * 3, abs=0.03)


def test_one_that_has_served_for_a_while_is_asked_at_once_again(asked):
    fail(asked, times=8, slow=True)
    asked.wait(CALM_S + 0.1)
    assert fail(asked, times=1, slow=True) == pytest.approx([0.1], abs=0.03)


def test_one_that_refuses_is_asked_again_with_back_off(asked):
    asked.refusal = Refusal(grpc.StatusCode.UNAVAILABLE)
    asked.link.failed("it is gone", asked.now)
    waits = [asked.until_asked() for _ in range(8)]
    assert waits[-1] == pytest.approx(LAST_RETRY_S, abs=0.05) and asked.link.fault


def ready_link(endpoint: str) -> Link:
    link = Link(endpoint, ("light_8k", ""), wire.Wanted(WIRE, 8000, 80, 80))
    for _ in range(200):
        link.tend(time.monotonic(), serving=False)
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


def test_a_standby_that_dies_is_noticed_and_one_that_serves_is_not_asked(asked):
    questions = len(asked.asked_s)
    asked.wait(3 * STANDBY_S, serving=True)
    assert len(asked.asked_s) == questions
    asked.wait(3 * STANDBY_S, serving=False)
    assert questions + 3 <= len(asked.asked_s) <= questions + 4 and asked.link.ready
    asked.refusal = Refusal(grpc.StatusCode.UNAVAILABLE)
    asked.wait(STANDBY_S + 0.1, serving=False)
    assert not asked.link.ready and "UNAVAILABLE" in asked.link.fault


def test_what_was_wrong_is_kept_until_it_has_served_or_was_there_for_a_while(asked):
    fail(asked, times=1, slow=True)
    assert asked.link.ready and asked.link.fault == "it is too slow"
    asked.link.opened()
    assert asked.link.fault == ""
    fail(asked, times=1, slow=True)
    asked.wait(CALM_S - 0.2, serving=False)
    assert asked.link.fault == "it is too slow"
    asked.wait(0.4, serving=False)
    assert asked.link.fault == ""


def test_streams_that_keep_the_thread_awake_do_not_pile_up(triton):
    before = threading.active_count()
    link = ready_link(triton.endpoint)
    first, awake = link._idle, threading.active_count()
    for turn in range(1, 20):
        link.tend(time.monotonic() + turn * (IDLE_S + 0.1), serving=True)
    assert link._idle is not first
    assert within_seconds(first.done) and not link._idle.done()
    assert within_seconds(lambda: threading.active_count() <= awake)
    link.close()
    assert within_seconds(lambda: threading.active_count() <= before)
