"""Call progress: every tone of every plan gets its name, is held through its pauses, and speech is not held."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.detect import plans
from gateway.detect.detection import Detection
from gateway.detect.progress import Progress
from gateway.detect.sines import CHUNK, PAST, Floats, Screen
from tests.detect.talkoff import count
from tests.tonelab import signals

GARBAGE = np.array([np.nan, np.inf, -np.inf, 1e-42, 3e38, -3e38, 1e15, 7.0, 0.0], np.float32)
SHORT = {"420/40,0/1960", "425/40,0/1960", "425/50,0/1000"}
"""Call-waiting tones of Austria, Hungary and Brazil: too short to be known from speech. They go dry on trial alone."""
TONES = sorted({(tone.kind, tone.text) for tone in plans.TONES if tone.text not in SHORT and tone.kind != "sit"})


def line(pcm: Floats, before_ms: float = 303.0, after_ms: float = 1500.0) -> Floats:
    return signals.through_g711(signals.around(pcm, before_ms, after_ms))


def listen(pcm: Floats) -> tuple[list[Detection], list[bool]]:
    """What was reported, and for each 10 ms whether the stream was held behind it."""
    detector, screen, slot, found, held = Progress(1), Screen(), np.array([0]), [], []
    for at in range(0, len(pcm) - CHUNK + 1, CHUNK):
        stream = np.pad(pcm, (PAST, 0))[None, at : at + PAST + CHUNK]
        sight = screen.see(stream)
        if (sight.power[0] > 1e-6 and sight.tonal[0] > 0.9) or detector.active[0]:
            found += detector.hear(slot, stream, sight, slot + at)
        held += [bool(detector.holds[0])] * 2
    return found, held


def voice(seconds: float, pitch_hz: float = 130.0, seed: int = 0) -> Floats:
    """Something like vowels: harmonics of a pitch that never stays, at -20 dBm0."""
    rng, count_ = np.random.default_rng(seed), signals.samples(seconds * 1000)
    drift = np.interp(np.arange(count_), np.arange(0, count_ + 800, 800), rng.normal(0, 0.06, count_ // 800 + 1))
    phase = 2 * np.pi * np.cumsum(pitch_hz * np.exp(drift)) / 8000
    tones = [np.sin(n * phase) / (1 + ((n * pitch_hz - 500) / 300) ** 2) for n in range(1, 20)]
    return signals.at_level(np.sum(tones, axis=0).astype(np.float32), -20.0)


@pytest.mark.parametrize(("kind", "text"), TONES, ids=lambda value: str(value))
def test_every_tone_of_every_plan_is_named(kind: str, text: str):
    cycle_ms = sum(ms for _, ms in plans.parse(text) if ms < np.inf)
    seconds = min(max(2.2 * cycle_ms / 1000, 2.5), 12.0)
    found, _ = listen(line(signals.progress(text, seconds, -15.0)))
    names = [one.value for one in found if one.kind == "progress"]
    assert names and len(names) == len(found)
    kinds, _, codes = names[0].partition(" ")
    countries = {tone.country for tone in plans.TONES if tone.text == text and tone.kind == kind}
    assert kind in kinds.split("/")
    assert countries & set(codes.split(",")) or "+" in codes


@pytest.mark.parametrize("text", ["425", "350+440", "480+620", "950"])
@pytest.mark.parametrize("before_ms", [300.0, 306.3, 313.0])
def test_a_tone_is_held_within_60_ms(text: str, before_ms: float):
    _, held = listen(line(signals.progress(text, 1.0, -15.0), before_ms))
    assert held.index(True) * 10 - before_ms <= 60


@pytest.mark.parametrize("text", ["413+438", "400*25", "400*50", "425*24", "400*16"])
def test_a_beating_tone_is_held_within_160_ms_and_stays_held(text: str):
    _, held = listen(line(signals.progress(text, 1.0, -15.0), 300.0))
    begin = held.index(True)
    assert begin <= 46 and all(held[begin:129])


@pytest.mark.parametrize(
    "text",
    [
        "440+480/2000,0/4000",
        "425/1000,0/4000",
        "400+450/400,0/200,400+450/400,0/2000",
        "400*25/400,0/200,400*25/400,0/2000",
    ],
)
def test_ringback_is_held_through_its_pauses_and_let_go_after_the_last(text: str):
    pauses = [ms for sound, ms in plans.parse(text) if sound == "0"]
    bursts = [ms for sound, ms in plans.parse(text) if sound != "0"]
    cycle_ms = sum(pauses) + sum(bursts)
    pcm = line(signals.progress(text, 2 * cycle_ms / 1000 - pauses[-1] / 1000, -15.0), 300.0, 8000.0)
    found, held = listen(pcm)
    first, last = held.index(True), len(held) - held[::-1].index(True)
    assert all(held[first:last])
    over_ms = 300 + 2 * cycle_ms - pauses[-1]
    assert over_ms + max(pauses) <= last * 10 <= over_ms + 1.1 * max(pauses) + 200
    assert len(found) == 1 and found[0].value.startswith("ringback")


def test_an_answer_in_the_pause_ends_the_hold_at_once():
    ring = signals.progress("440+480/2000,0/4000", 9.0, -15.0)
    _, held = listen(line(signals.join(ring, voice(2.0)), 300.0))
    assert all(held[50:925]) and not any(held[936:])


def test_an_answer_in_the_tone_ends_the_hold_at_once():
    ring = signals.progress("440+480/2000,0/4000", 7.0, -15.0)
    _, held = listen(line(signals.join(ring, voice(2.0)), 300.0))
    assert all(held[50:725]) and not any(held[736:])


def test_a_tone_with_noise_20_db_below_is_named():
    found, _ = listen(line(signals.with_noise(signals.progress("350+440", 3.0, -15.0), 22.0)))
    assert [one.value.split()[0] for one in found] == ["dial"]


@pytest.mark.parametrize("kind", ["IC", "VC", "RO", "NC", "E.180"])
def test_special_information_is_one_sound_without_a_gap(kind: str):
    found, held = listen(line(signals.sit(kind), 300.0))
    assert [(one.kind, one.value) for one in found] == [("progress", "sit")]
    first, last = held.index(True), len(held) - held[::-1].index(True)
    assert first <= 36 and last >= 30 + 88 and all(held[first:last])


@pytest.mark.parametrize(("hz", "ms"), [(1000.0, 400.0), (880.0, 600.0), (1750.0, 500.0), (600.0, 1000.0)])
def test_a_beep_is_held_and_reported_as_a_tone(hz: float, ms: float):
    found, held = listen(line(signals.sine(hz, ms)))
    assert held.count(True) * 10 >= ms - 280
    (one,) = found
    assert one.kind == "tone" and abs(float(one.value) - hz) <= 2
    assert abs(one.begin - 303 * 8) <= 160 and abs(one.end - one.begin - ms * 8) <= 240


def test_a_digit_is_no_progress():
    found, held = listen(line(signals.dtmf("159D", 400, 100)))
    assert found == [] and not any(held)


@pytest.mark.parametrize("pitch_hz", [85.0, 106.0, 130.0, 212.0, 218.0])
def test_a_voice_is_not_held(pitch_hz: float):
    _, held = listen(line(voice(10.0, pitch_hz, seed=int(pitch_hz))))
    assert np.mean(held) < 0.002


def test_a_sung_note_on_the_frequency_of_a_plan_with_its_overtones_is_not_held():
    note = signals.sine(425.0, 1500.0, -15.0) + signals.sine(850.0, 1500.0, -30.0)
    _, held = listen(line(note))
    assert not any(held)


def test_a_reset_forgets_a_pause():
    pcm = line(signals.progress("440+480/2000,0/4000", 3.0, -15.0))
    detector, slot, screen = Progress(1), np.array([0]), Screen()
    for at in range(0, 21600, 160):
        stream = np.pad(pcm, (PAST, 0))[None, at : at + PAST + CHUNK]
        detector.hear(slot, stream, screen.see(stream), slot + at)
    assert detector.holds[0]
    detector.reset(slot)
    assert not detector.holds[0] and not detector.active[0]


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1))
def test_garbage_never_raises_and_never_reaches_a_neighbour(seed: int):
    rng = np.random.default_rng(seed)
    good = line(signals.progress("480+620/250,0/250", 0.8), after_ms=300.0)
    bad = rng.uniform(-1, 1, (4, len(good))).astype(np.float32)
    bad[1] = np.resize(signals.progress("400*25", 1.0), len(good))
    bad[2] = np.resize(signals.progress("350+440", 1.0), len(good))
    spots = rng.integers(0, len(good), (4, 30))
    np.put_along_axis(bad, spots, rng.choice(GARBAGE, spots.shape), axis=1)
    rows = np.insert(bad, 2, good, axis=0)
    with np.errstate(all="ignore"):
        found = count([Progress(5)], rows).detections
    mine = [one._replace(slot=0) for one in found if one.slot == 2]
    alone = count([Progress(1)], good[None]).detections
    assert [one[:5] for one in mine] == [one[:5] for one in alone] != []
