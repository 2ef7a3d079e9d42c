"""The engine against a real tritonserver: the same audio as embedded, and nothing but dry audio from what is wrong."""

import time

import numpy as np
import pytest

from gateway.denoise.engines import graph_path
from gateway.denoise.ort import OrtEngine
from gateway.denoise.triton.engine import LATE_LIMIT, SPOILT_LIMIT, TritonEngine
from gateway.denoise.triton.fallback import FallbackEngine
from gateway.denoise.triton.link import BAD_ANSWERS
from gateway.errors import EngineError
from tests.denoise.triton.servers import Triton, connected, free_port, largest_difference, quantised, run, submit

SLOTS = 100


def engine(*servers, model=("light_8k", ""), deadline_s: float = 1.0, slots: int = SLOTS) -> TritonEngine:
    endpoints = tuple(server.endpoint if isinstance(server, Triton) else server for server in servers)
    return TritonEngine(endpoints, model, 8000, slots, deadline_s)


def tend(remote, seconds: float, until=lambda: False) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        remote.tend(time.monotonic())
        time.sleep(0.005)


@pytest.fixture(scope="module")
def wide(tritonserver, tmp_path_factory):
    """The light and the standard model at both rates."""
    folder = tmp_path_factory.mktemp("wide") / "repository"
    for model in ("light", "standard"):
        Triton.export(folder, model, wide=True)
    server = Triton(folder).start()
    yield server
    server.kill()


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("model", ["light", "standard"])
def test_the_output_equals_the_embedded_engines(wide, model, rate):
    remote = TritonEngine((wide.endpoint,), (f"{model}_{rate // 1000}k", ""), rate, SLOTS, 1.0)
    connected(remote)
    embedded = OrtEngine(graph_path(model, rate), SLOTS)
    worst = largest_difference(remote, embedded, SLOTS, probability_atol=1e-6)
    assert worst <= 1.01 / 65536  # the rounding to 16 bits and nothing else


def test_parts_of_a_batch_are_one_request_and_each_gets_its_own(triton):
    remote, embedded = connected(engine(triton)), OrtEngine(graph_path("light", 8000), SLOTS)
    lost, packet, other = quantised(2, 3, 1), quantised(3, 2, 2), quantised(1, 1, 3)
    tickets = [submit(remote, [5, 9], lost), submit(remote, [4, 5, 9], packet), submit(remote, [70], other)]
    remote.flush()
    ours = [remote.collect(ticket, np.inf).frames for ticket in tickets]
    theirs = [run(embedded, slots, frames).frames for slots, frames in (([5, 9], lost), ([4, 5, 9], packet))]
    assert remote.counters["batches"] == 1
    for mine, wanted in zip(ours, theirs, strict=False):
        np.testing.assert_allclose(mine, wanted, atol=1.01 / 65536)


def test_two_workers_on_one_server_do_not_hear_each_other(triton):
    first, second = connected(engine(triton)), connected(engine(triton))
    alone = OrtEngine(graph_path("light", 8000), SLOTS)
    for step in range(5):
        mine, other = quantised(SLOTS, 1, step), quantised(SLOTS, 1, 100 + step)
        tickets = submit(first, np.arange(SLOTS), mine), submit(second, np.arange(SLOTS), other)
        second.flush()
        first.flush()
        ours = first.collect(tickets[0], np.inf).frames
        second.collect(tickets[1], np.inf)
        np.testing.assert_allclose(ours, run(alone, np.arange(SLOTS), mine).frames, atol=1.01 / 65536)


def test_a_late_answer_is_none_and_the_state_goes_on(faulty):
    remote, embedded = connected(engine(faulty, deadline_s=0.1)), OrtEngine(graph_path("light", 8000), SLOTS)
    frames = [quantised(4, 1, step) for step in range(3)]
    wanted = [run(embedded, range(4), each).frames for each in frames]
    assert run(remote, range(4), frames[0]) is not None
    faulty.fault("sleep 0.3")
    assert run(remote, range(4), frames[1]) is None
    faulty.fault("")
    time.sleep(0.4)
    epoch = remote.epoch
    np.testing.assert_allclose(run(remote, range(4), frames[2]).frames, wanted[2], atol=1.01 / 65536)
    assert (remote.counters["late"], remote.counters["failed"], remote.epoch) == (1, 0, epoch)


def test_a_server_that_is_late_again_and_again_is_left_alone_and_found_again(faulty):
    remote = connected(engine(faulty, deadline_s=0.03))
    epoch = remote.epoch
    faulty.fault("sleep 0.2")
    for _ in range(LATE_LIMIT):
        assert run(remote, [1], quantised(1, 1)) is None
    assert not remote.ready and "took longer than 30 ms" in remote.fault and remote.epoch > epoch
    with pytest.raises(EngineError, match="took longer"):
        submit(remote, [1], quantised(1, 1))
    faulty.fault("")
    connected(remote)
    assert run(remote, [1], quantised(1, 1)) is not None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("short", "PCM is"), ("type", "PCM is FP32"), ("batch", "it answered batch"), ("previous", "it answered batch"),
     ("shuffle", "other slots"), ("epoch", "begun anew"), ("raise", "out of memory")],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_an_error_and_all_rows_begin_anew(faulty, fault, reason):
    remote = connected(engine(faulty))
    run(remote, [1, 2], quantised(2, 2))
    epoch = remote.epoch
    faulty.fault(fault)
    with pytest.raises(EngineError, match=reason):
        run(remote, [1, 2], quantised(2, 2))
    assert remote.epoch > epoch
    faulty.fault("")
    connected(remote)
    embedded, frames = OrtEngine(graph_path("light", 8000), SLOTS), quantised(2, 2, 9)
    np.testing.assert_allclose(
        run(remote, [1, 2], frames).frames, run(embedded, [1, 2], frames).frames, atol=1.01 / 65536
    )


def test_a_server_that_answers_wrong_again_and_again_is_taken_for_broken(faulty):
    remote = engine(faulty)
    faulty.fault("batch")
    tend(remote, 5.0, until=lambda: "taken for broken" in remote.fault)
    assert "taken for broken" in remote.fault and remote.counters["bad_answers"] == BAD_ANSWERS
    faulty.fault("")
    tend(remote, 0.5)
    assert not remote.ready


def test_rows_without_numbers_are_nan_and_a_model_that_goes_on_like_this_is_bad(faulty):
    remote = connected(engine(faulty))
    faulty.fault("nan")
    made = run(remote, [3, 4], quantised(2, 1)).frames
    assert np.isnan(made[0]).all() and np.isfinite(made[1]).all()
    for _ in range(SPOILT_LIMIT - 1):
        run(remote, [3, 4], quantised(2, 1))
    assert not remote.ready and "no numbers" in remote.fault


@pytest.mark.parametrize(
    ("model", "rate", "reason"),
    [(("standard_8k", ""), 8000, "standard_8k"), (("light_8k", "7"), 8000, "version 7"),
     (("light_8k", ""), 16000, "has rate 8000, expected 16000")],
)  # fmt: skip
def test_a_wrong_model_version_or_rate_is_named(triton, model, rate, reason):
    remote = TritonEngine((triton.endpoint,), model, rate, SLOTS, 1.0)
    tend(remote, 3.0, until=lambda: reason in remote.fault)
    assert reason in remote.fault and triton.endpoint in remote.fault and not remote.ready


def test_a_worker_with_more_slots_than_the_server_has_rows_is_told(triton):
    remote = engine(triton, slots=4096)
    tend(remote, 3.0, until=lambda: "4096" in remote.fault)
    assert "this model has 2048 rows" in remote.fault


def test_without_a_server_the_embedded_network_works_and_gives_back(triton, tmp_path):
    second = Triton(triton.repository)
    first = engine(second)
    both = FallbackEngine(first, OrtEngine(graph_path("light", 8000), SLOTS), "light", SLOTS)
    embedded, frames = OrtEngine(graph_path("light", 8000), SLOTS), quantised(3, 2, 4)
    assert both.substitute == "light" and both.fault
    np.testing.assert_array_equal(run(both, range(3), frames).frames, run(embedded, range(3), frames).frames)
    second.start()
    epoch = both.epoch
    try:
        tend(both, 5.0, until=lambda: not both.fault)
        assert both.epoch > epoch and not both.substitute
        assert run(both, range(3), frames) is not None
        assert both.counters["batches_substitute"] == both.counters["batches"] == 1
        second.kill()
        with pytest.raises(EngineError):
            run(both, range(3), frames)
        assert run(both, range(3), frames) is not None and both.substitute == "light"
    finally:
        second.kill()


def test_a_worker_moves_on_when_its_server_fails_and_comes_back(triton, monkeypatch):
    monkeypatch.setattr("gateway.denoise.triton.engine.RETURN_S", 0.1)
    preferred = Triton(triton.repository).start()
    remote = connected(engine(preferred, triton))
    assert remote._link.endpoint == preferred.endpoint
    preferred.kill()
    with pytest.raises(EngineError):
        run(remote, [1], quantised(1, 1))
    connected(remote)
    assert run(remote, [1], quantised(1, 1)) is not None and remote._link.endpoint == triton.endpoint
    preferred.start()
    tend(remote, 5.0, until=lambda: remote._link.endpoint == preferred.endpoint)
    assert remote._link.endpoint == preferred.endpoint and run(remote, [1], quantised(1, 1)) is not None
    preferred.kill()


def test_nobody_there_is_said_and_costs_nothing():
    remote = engine(f"127.0.0.1:{free_port()}")
    tend(remote, 1.0, until=lambda: "UNAVAILABLE" in remote.fault)
    assert "UNAVAILABLE" in remote.fault
    with pytest.raises(EngineError):
        submit(remote, [1], quantised(1, 1))
