"""The demo: its measurements on known material, and one real call."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from loadtest import demo
from loadtest.material import FRAME, RATE_HZ


def arrivals(sequences: list[int]) -> list[demo.Arrival]:
    return [demo.Arrival(number & 0xFFFF, bytes([0x80 + i]) * FRAME, float(i)) for i, number in enumerate(sequences)]


def test_packets_are_put_in_order_across_the_wrap_and_gaps_are_silent():
    heard, came = demo.assemble(arrivals([65535, 65537, 65536, 65539, 65539]), packets=5)
    assert came == {0: 0.0, 2: 1.0, 1: 2.0, 4: 3.0}
    frames = heard.reshape(5, FRAME)
    assert not frames[3].any()
    assert all(frames[i].all() for i in (0, 1, 2, 4))
    assert frames[1][0] < frames[2][0], "0x82 is quieter than 0x81"


def test_a_packet_from_before_the_first_does_not_count():
    _, came = demo.assemble(arrivals([100, 99]), packets=3)
    assert came == {0: 0.0}


@pytest.mark.parametrize("delay", [0, 80, 203])
def test_the_contents_delay_is_found(delay):
    sound = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    assert demo.content_delay(sound, np.concatenate([np.zeros(delay, np.float32), sound])[:8000]) == delay


def test_figures_are_those_of_a_known_change():
    rng = np.random.default_rng(0)
    talking = np.repeat([0.0, 0.0, 1.0, 0.0, 1.0, 0.0], RATE_HZ)
    clean = (rng.normal(0, 0.1, len(talking)) * talking).astype(np.float32)
    noise = rng.normal(0, 0.01, len(talking)).astype(np.float32)
    heard = np.concatenate([np.zeros(80, np.float32), clean + noise * 0.1])[: len(clean)]
    packets = len(clean) // FRAME
    sent_s = [i * 0.02 for i in range(packets)]
    came = {i: i * 0.02 + 0.003 for i in range(packets) if i != 7}
    figures = demo.measure(clean, clean + noise, heard, sent_s, came)
    assert figures.noise_in_pauses_db == pytest.approx(-20.0, abs=0.2)
    assert figures.speech_level_db == pytest.approx(0.0, abs=0.1)
    assert figures.algorithm_ms == 10.0
    assert figures.transit_p50_ms == pytest.approx(3.0)
    assert (figures.packets_sent, figures.packets_lost) == (packets, 1)


def test_a_call_through_a_real_gateway_comes_out_clean(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "loadtest.demo", "--out", str(tmp_path), "--json"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    assert figures["packets_lost"] == 0
    assert figures["noise_in_pauses_db"] < -10
    assert abs(figures["speech_level_db"]) < 2
    assert figures["algorithm_ms"] == pytest.approx(10.0, abs=1.0)
    for name in ("before.wav", "after.wav"):
        assert soundfile.info(tmp_path / name).frames == figures["packets_sent"] * FRAME
    assert (tmp_path / "spectrograms.png").read_bytes().startswith(b"\x89PNG")
