"""Clients of a Triton server: how far they climb."""

import numpy as np
import pytest

from loadtest import clients
from loadtest.clients import Wish, climb

WISH = Wish("nobody:8001", "light", 8000, clients=4, rows=100, batches=50, limit_ms=8.0)


@pytest.fixture
def server(monkeypatch):
    """Takes 10 us a row of a client, and as long as it is asked to between batches."""

    def together(wish, rows, pace_s=0.01):
        took = np.full(wish.clients * wish.batches, rows * 1e-5)
        return took, wish.batches * max(pace_s, rows * 1e-5)

    monkeypatch.setattr(clients, "_together", together)
    return lambda pace_s: monkeypatch.setattr(clients, "_together", lambda w, r: together(w, r, pace_s))


def test_the_last_step_within_the_limit_is_the_best(server):
    said = []
    best = climb(WISH, said.append)
    assert (best.rows, best.streams) == (759, 3036) and best.p99_ms == pytest.approx(7.59)
    assert len(said) == 7 and said[-1].endswith("too slow")


def test_what_is_not_real_time_does_not_hold(server):
    server(0.011)
    assert climb(WISH, lambda line: None) is None
