"""The planner: by hand, and by what must hold for any plan."""

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import capacity, plan_text
from gateway.capacity import Client, Codecs, Core, Figures, Gpu, Memory, SetUps, Source, Speed
from gateway.errors import CallerError, ConfigError
from gateway.plan import CODECS, PTIMES_MS, Wish, leg_share, plan

SOURCE = Source("a machine", "2026-01-01", "a command")
FIGURES = Figures(
    cores={"light": Core(500, 0.8, 0.5, 15.0, SOURCE)},
    memory=Memory((100, 500), (100.0, 140.0), (200.0, 204.0), SOURCE),
    setups=SetUps(100.0, 5.0, SOURCE),
    speeds={"light": Speed({"8000": 2000.0, "16000": 1000.0}, SOURCE)},
    codecs=Codecs({"PCMU/8000": 1.0, "PCMA/8000": 1.0, "G722/16000": 41.0, "L16/16000": 1.0}, SOURCE),
    triton=Client({"8000": 2.0, "16000": 3.0}, 512, SOURCE),
    gpus={},
)
WITH_GPU = Figures(
    cores=FIGURES.cores, memory=FIGURES.memory, setups=FIGURES.setups, speeds=FIGURES.speeds, codecs=FIGURES.codecs,
    triton=FIGURES.triton,
    gpus={"light_8k": Gpu(1000, 7.0, "torch-bf16", Source("a GPU", "2026-01-01", "a command"))},
)  # fmt: skip
wishes = st.builds(
    Wish,
    calls=st.integers(1, 200_000),
    codec=st.sampled_from(sorted(CODECS)),
    ptime_ms=st.sampled_from(PTIMES_MS),
    ip=st.sampled_from((4, 6)),
    headroom=st.floats(0, 0.9),
    host_cores=st.integers(3, 256),
    streams_per_gpu=st.none() | st.integers(1, 1_000_000),
)


def test_a_plan_by_hand():
    """1,000 calls: 2,000 legs at 400 a worker (0.8 of a core's 500) are 5 workers on one machine of 7 busy cores."""
    found = plan(Wish(calls=1000, call_s=100.0), FIGURES)
    assert (found.legs, found.legs_a_worker, found.workers, found.gateways) == (2000, 400, 5, 1)
    assert found.gateway_cores == 7
    assert found.memory_mb == 5 * 130 + round(200 + 1900 * 4 / 400)
    assert (found.gpus, found.triton_instances, found.triton_bits_s) == (0, 0, 0)
    assert "no GPU was measured" in found.gpu_reason


def test_bandwidth_and_ports_by_hand():
    """A packet of PCMU and 20 ms is 160 + 12 + 8 + 20 = 200 bytes; 2,000 legs send 100,000 a second: 160 Mbit/s."""
    found = plan(Wish(calls=1000, call_s=100.0), FIGURES)
    assert (found.packets_s, found.media_bits_s, found.ethernet_bits_s) == (100_000, 160_000_000, 190_400_000)
    assert found.setups_s == 10.0
    assert found.ports == 2 * (2000 + 2 * 10 * 30)
    six = plan(Wish(calls=1000, ip=6, ptime_ms=10), FIGURES)
    assert (six.packets_s, six.media_bits_s) == (200_000, 200_000 * (80 + 60) * 8)


@pytest.mark.parametrize(("codec", "payload"), [("PCMU", 160), ("PCMA", 160), ("G722", 160), ("L16", 640)])
def test_each_codecs_payload(codec: str, payload: int):
    found = plan(Wish(calls=1, codec=codec), FIGURES)
    assert found.media_bits_s == 2 * 50 * (payload + 40) * 8


def test_a_legs_share_of_a_core_by_hand():
    """0.5 / 500 for the network and 0.3 / 500 for the rest; G.722: twice the network, and 40 µs for 50 packets. With
    Triton 2 µs a frame, at 16 kHz 3, for the network."""
    core = FIGURES.cores["light"]
    assert leg_share(Wish(1), FIGURES, core, remote=False) == pytest.approx(0.0016)
    assert leg_share(Wish(1), FIGURES, core, remote=True) == pytest.approx(0.0006 + 0.0002)
    assert leg_share(Wish(1, "G722"), FIGURES, core, remote=True) == pytest.approx(0.0006 + 0.0003 + 0.002)
    assert leg_share(Wish(1, "G722"), FIGURES, core, remote=False) == pytest.approx(0.0026 + 0.002)
    assert leg_share(Wish(1, ptime_ms=10), FIGURES, core, remote=False) == pytest.approx(0.001 + 0.0012)


def test_gpus_are_planned_when_measured_or_given():
    """2,000 legs on GPUs of 1,000, of which 20 % stay free: 2.5. With Triton a core holds 0.64 / 0.0008."""
    measured = plan(Wish(calls=1000), WITH_GPU)
    assert (measured.gpus, measured.legs_a_worker, measured.triton_bits_s) == (3, 800, 2000 * 128_000)
    assert "a GPU (torch-bf16), as measured" in measured.gpu_reason
    assert any("bare network" in text for text in measured.assumptions)
    assert "talking to Triton" in plan_text.to_text(Wish(calls=1000), measured, WITH_GPU)
    given_one = plan(Wish(calls=1000, streams_per_gpu=2500), FIGURES)
    assert given_one.gpus == 1 and "given by you, not measured" in given_one.gpu_reason
    assert plan(Wish(calls=1000, gpu=False), WITH_GPU).gpus == 0
    assert plan(Wish(calls=1000, codec="G722"), WITH_GPU).gpus == 0


@pytest.mark.parametrize(
    ("wish", "gateways"),
    [
        (Wish(calls=10_000, host_cores=12, call_s=1e9), 5),  # 50 workers, 10 a machine
        (Wish(calls=10_000, host_cores=64, call_s=25.0), 4),  # 400 set-ups a second
        (Wish(calls=50_000, host_cores=1024, call_s=1e9), 4),  # 100,001 pairs of ports
    ],
)
def test_what_splits_a_gateway(wish: Wish, gateways: int):
    assert plan(wish, FIGURES).gateways == gateways


@given(wishes, st.integers(1, 100_000))
def test_more_calls_never_take_less(wish: Wish, more: int):
    few, many = plan(wish, FIGURES), plan(replace(wish, calls=wish.calls + more), FIGURES)
    for name in ("workers", "gateways", "gateway_cores", "packets_s", "media_bits_s", "ports", "gpus", "setups_s"):
        assert getattr(few, name) <= getattr(many, name), name


@given(wishes)
def test_every_leg_has_a_place(wish: Wish):
    found = plan(wish, FIGURES)
    assert found.workers * found.legs_a_worker >= found.legs == 2 * wish.calls
    assert found.legs_a_worker % 2 == 0
    assert found.gateways * (wish.host_cores - 2) >= found.workers
    assert found.ports >= 2 * found.legs
    assert found.ethernet_bits_s > found.media_bits_s > found.legs * CODECS[wish.codec][1]
    assert json.loads(json.dumps(plan_text.to_json(wish, found, FIGURES)))["plan"]["legs"] == found.legs
    assert all(text in plan_text.to_text(wish, found, FIGURES) for text in found.assumptions)


@given(wishes, st.floats(0, 0.9))
def test_more_headroom_never_takes_less(wish: Wish, headroom: float):
    low, high = sorted((wish.headroom, headroom))
    few, many = (plan(replace(wish, headroom=at), FIGURES) for at in (low, high))
    assert few.workers <= many.workers and few.gpus <= many.gpus


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(1, codec="opus"), "found none of PCMU"),
        (Wish(1, ptime_ms=25), "expected one of 10, 20"),
        (Wish(1, model="huge"), "loadtest capacity --parts denoise --model huge --renew"),
        (Wish(1, host_cores=2), "expected more than 2"),
    ],
)
def test_what_cannot_be_planned_says_what_to_change(wish: Wish, said: str):
    with pytest.raises(CallerError, match=said):
        plan(wish, FIGURES)


def test_the_figures_that_come_along_plan_every_codec():
    figures = capacity.read()
    for model in figures.cores:
        for codec in CODECS:
            for calls in (100, 100_000):
                assert plan(Wish(calls, codec, model=model), figures).workers > 0


def test_figures_are_read_back_as_written_and_bad_ones_refused(tmp_path):
    path = tmp_path / "figures.json"
    capacity.write(WITH_GPU, path)
    assert capacity.read(path) == WITH_GPU
    path.write_text('{"cores": 1}')
    with pytest.raises(ConfigError, match="loadtest capacity --renew"):
        capacity.read(path)
    with pytest.raises(ConfigError, match="No such file"):
        capacity.read(tmp_path / "none.json")


def test_a_gpu_is_not_planned_with_a_way_to_triton_that_nobody_measured():
    narrow = msgspec.structs.replace(FIGURES, triton=Client({"8000": 2.0}, 512, SOURCE))
    assert plan(Wish(calls=10, streams_per_gpu=1000), narrow).gpus
    with pytest.raises(CallerError, match=r"16000 Hz: not measured; python -m loadtest triton --rate 16000"):
        plan(Wish(calls=10, codec="G722", streams_per_gpu=1000), narrow)
