"""The embedded network in place of a server that is away."""

import numpy as np

from gateway.denoise.engine import Ticket
from gateway.denoise.passthrough import PassthroughEngine
from gateway.denoise.triton.fallback import FallbackEngine
from tests.denoise.triton.fakes import HOP, Site


class Counting(PassthroughEngine):
    """Knows how many of its results wait."""

    kept = 0

    def submit(self, slots, frames, counts, control) -> Ticket:
        self.kept += 1
        return super().submit(slots, frames, counts, control)

    def collect(self, ticket, deadline):
        self.kept -= 1
        return super().collect(ticket, deadline)


def frame():
    return np.zeros(1, int), np.zeros((1, 1, HOP), np.float32), np.ones(1, int), np.ones((1, 2), np.float32)


def test_what_nobody_collects_is_not_kept(monkeypatch):
    second = Counting(8000, 8)
    both = FallbackEngine(Site(monkeypatch).engine, second, "light", 8)
    for _ in range(50):
        both.submit(*frame())
        packet = both.submit(*frame())
        both.flush()
        assert both.collect(packet, 0.0) is not None
    assert second.kept <= 2
