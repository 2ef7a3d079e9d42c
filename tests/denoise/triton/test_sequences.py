"""Sequences that nobody ends, since the connection they came over is gone: they keep no other from being served."""

import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from gateway.denoise.triton import export, wire
from gateway.denoise.triton.engine import TritonEngine, silent
from tests.denoise.triton.servers import Triton, connected, quantised, run

SLOTS = 8
IDLE_S = 3.0


@pytest.fixture
def server(tritonserver, tmp_path, request, monkeypatch):
    """With rows for two workers; `request.param` changes what else it is exported with."""
    for name, value in getattr(request, "param", {}).items():
        monkeypatch.setattr(export, name, value)
    each = Triton(Triton.export(tmp_path / "repository", rows=2 * SLOTS)).start()
    yield each
    each.kill()


def engine(server: Triton) -> TritonEngine:
    return TritonEngine((server.endpoint,), ("light_8k", ""), 8000, SLOTS, 1.0)


def abandon(server: Triton, sequences: int) -> None:
    """A worker begins so many, each as if the connection of the one before had been lost."""
    none = wire.merge([wire.Part(*silent(80, 0))])
    with grpc.insecure_channel(server.endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for number in range(1, sequences + 1):
            begin = wire.request(("light_8k", ""), (number, True), number, (7, SLOTS), none, np.zeros(0, np.bool_))
            stub.ModelInfer(begin, timeout=2.0)


def test_hundreds_of_lost_connections_keep_neither_rows_nor_places(server):
    abandon(server, 600)
    assert run(connected(engine(server)), [1], quantised(1, 1)) is not None


@pytest.mark.parametrize("server", [{"WORKERS": 2, "IDLE_MICROSECONDS": round(IDLE_S * 1e6)}], indirect=True)
def test_beyond_the_limit_a_worker_is_served_when_the_first_of_them_ends(server):
    abandon(server, 2)
    remote, began = engine(server), time.monotonic()
    connected(remote, 2 * IDLE_S)
    assert time.monotonic() - began > IDLE_S / 2
    assert run(remote, [1], quantised(1, 1)) is not None
