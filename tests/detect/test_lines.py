"""Lines out of 32 ms, beating ones out of 100 ms, and the filter that follows them."""

import numpy as np
import pytest

from gateway.detect.lines import LOOK, SLOW_SAMPLES, Notch, Slow, pair, single
from gateway.detect.plans import sound_of
from gateway.detect.sines import Floats
from tests.tonelab import signals


def windows(pcm: Floats, size: int = LOOK) -> Floats:
    return np.stack([pcm[at : at + size] for at in range(0, len(pcm) - size, 333)])


@pytest.mark.parametrize(("hz", "lag"), [(414.0, 4), (425.0, 4), (950.0, 1), (1400.0, 1), (2100.0, 1)])
def test_a_line_in_noise_is_measured_to_2_hz(hz: float, lag: int):
    found = single(windows(signals.with_noise(signals.sine(hz, 1000.0), 20.0)), lag)
    assert np.abs(found.hz - hz).max() < 2.0
    assert np.allclose(found.rest, 0.01, atol=0.005)


@pytest.mark.parametrize("text", ["350+440", "480+620", "400+450", "440+480"])
def test_two_lines_are_told_apart_in_g711(text: str):
    sound = sound_of(text)
    found = pair(windows(signals.through_g711(signals.progress(text, 1.0))), 4)
    assert np.abs(found.hz - sound.hz).max() < 2.5
    assert np.abs(10 * np.log10(found.power[:, 1] / found.power[:, 0])).max() < 1.5
    assert found.rest.max() < 0.001


@pytest.mark.parametrize("text", ["400*16", "400*25", "400*33", "400*50", "425*24", "413+438", "440+480"])
@pytest.mark.parametrize("error", [1.0, 1.01])
def test_100_ms_tell_which_plan_beats(text: str, error: float):
    sound, slow = sound_of(text), Slow()
    carrier = f"{sound.hz[1] * error:g}*{text.partition('*')[2]}" if sound.modulated else None
    mistuned = "+".join(f"{hz * error:g}" for hz in sound.hz)
    pcm = signals.with_noise(signals.progress(carrier or mistuned, 1.0), 22.0)
    assert {slow.match(one).text for one in windows(pcm, SLOW_SAMPLES)} == {text}


def test_a_steady_tone_and_a_wavering_one_do_not_beat():
    slow, time = Slow(), np.arange(8000) / 8000
    vibrato = np.sin(2 * np.pi * 400 * time + 2.0 * np.sin(2 * np.pi * 6 * time)).astype(np.float32)
    trill = np.sin(2 * np.pi * 400 * time + 0.8 * np.sin(2 * np.pi * 25 * time)).astype(np.float32)
    for pcm in (signals.sine(400.0, 1000.0), vibrato, trill):
        assert all(slow.match(one) is None for one in windows(pcm, SLOW_SAMPLES))


def test_garbage_is_no_beat():
    assert Slow().match(np.full(SLOW_SAMPLES, np.nan, np.float32)) is None


def test_the_filter_leaves_nothing_of_its_lines_and_much_of_others():
    notch, slots = Notch(2), np.array([0, 1])
    notch.tune(0, (425.0,))
    notch.tune(1, (350.0, 440.0))
    rest = {}
    for text in ("425", "350+440", "620"):
        stream = np.stack([signals.progress(text, 0.042)] * 2)
        rest[text] = notch.rest(slots, stream, 1, np.square(stream[:, -80:]).mean(axis=1))
    assert rest["425"][0] < 1e-4 and rest["350+440"][1] < 1e-4
    assert rest["350+440"][0] > 0.01 and (rest["620"] > 0.1).all()
