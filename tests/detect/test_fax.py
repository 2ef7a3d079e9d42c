"""Faxes, modems and text telephones are latched, and nothing else is."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from gateway.detect.fax import Fax
from tests.detect.false_latch import count, listen, load
from tests.tonelab import signals, spandsp
from tests.tonelab.signals import fsk, join, serial, silence, sine

AUDIO = Path(__file__).parents[1] / "audio"
ASTERISK = Path("/usr/share/asterisk")
CM = [*[1] * 10, *[0] * 6, *[1] * 4, *serial([0x81, 0x05])]
"""Call menu of V.8, or joint menu where the answerer sends it."""


def edt(text: str, dbm0: float = -13.0):
    """V.18 annex C: 7 bits, even parity, two stop bits at 110 Bd, on V.21's low channel."""
    codes = [code | (code.bit_count() & 1) << 7 for code in text.encode("ascii")]
    return fsk([*[1] * 33, *serial(codes, 8, 2), *[1] * 33], 110.0, 980.0, 1180.0, dbm0)


SIGNALS = {
    "cng": lambda dbm0=-13.0: signals.cng(4.5, dbm0),
    "v25-calling": lambda dbm0=-13.0: signals.cadence((1300.0,), (600, 1700), 3.2, dbm0),
    "ced": lambda dbm0=-13.0: signals.ced(2600, dbm0),
    "ans-reversed": lambda dbm0=-13.0: signals.ans_reversed(2600, dbm0),
    "ansam": lambda dbm0=-13.0: signals.ansam(2600, dbm0, reversed_phase=False),
    "ansam-reversed": lambda dbm0=-13.0: signals.ansam(2600, dbm0),
    "bell-answer": lambda dbm0=-13.0: signals.answer_2225(2500, dbm0),
    "v22": lambda dbm0=-13.0: signals.v22_ones(2500, dbm0),
    "v22 with guard": lambda dbm0=-13.0: signals.v22_ones(2500, dbm0, guard=True),
    "v21": lambda dbm0=-13.0: signals.v21_preamble(850, dbm0),
    "v8-ci": lambda dbm0=-13.0: signals.v8_ci(2.1, dbm0),
    "v8-cm": lambda dbm0=-13.0: fsk(CM * 4, 300.0, 980.0, 1180.0, dbm0),
    "v8-jm": lambda dbm0=-13.0: fsk(CM * 4, 300.0, 1650.0, 1850.0, dbm0),
    "tty": lambda dbm0=-13.0: signals.tty("HELLO GA", dbm0),
    "tty at 50 Bd": lambda dbm0=-13.0: signals.tty("HELLO GA", dbm0, 50.0),
    "edt": lambda dbm0=-13.0: edt("HELLO GA", dbm0),
    "bell-103": lambda dbm0=-13.0: signals.bell_103("Hello, world 123", dbm0),
    "bell-103 answering": lambda dbm0=-13.0: signals.bell_103("Hello, world 123", dbm0, answering=True),
}
"""By the name that is reported, and a remark."""


def rows(*parts, before_ms=503.0):
    """Signals of one length, between silences; the first sample lies off the grid of frames."""
    framed = [signals.around(part, before_ms, 900) for part in parts]
    size = -(-max(map(len, framed)) // 480) * 480
    return np.stack([np.pad(part, (0, size - len(part))) for part in framed]).astype(np.float32)


def hear(*parts, **how):
    """All signals at once through a detector of their own; returns it and what it heard."""
    fax = Fax(len(parts))
    return fax, listen(fax, rows(*parts), **how)


def latches(*parts, **how) -> list:
    """bool [signals]"""
    return hear(*parts, **how)[0].latched.tolist()


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_is_latched_and_called_by_its_name(name):
    fax, heard = hear(SIGNALS[name]())
    assert fax.latched.all()
    last = heard.detections[-1]
    assert (last.kind, last.value, last.slot) == ("fax", name.split()[0], 0)
    assert last.begin / 8 == pytest.approx(503, abs=25)
    assert last.level_dbm0 == pytest.approx(-13, abs=0.8)


@pytest.mark.parametrize("dbm0", [-6, -20, -43])
@pytest.mark.parametrize("name", SIGNALS)
def test_level_noise_and_coding_do_not_hide_a_signal(name, dbm0):
    clean = SIGNALS[name](dbm0)
    noisy = [signals.with_noise(clean, 20, seed) for seed in range(3)]
    lines = [signals.through_g711(pcm, law) for pcm in (clean, *noisy) for law in ("PCMU", "PCMA")]
    assert all(latches(clean, *noisy, *lines))


@pytest.mark.parametrize("chunk", [80, 160, 240, 480])
@pytest.mark.parametrize("name", SIGNALS)
def test_the_size_of_packets_does_not_matter(name, chunk):
    fax, heard = hear(SIGNALS[name](), chunk=chunk)
    assert fax.latched.all()
    assert heard.detections[-1].value == name.split()[0]


@pytest.mark.parametrize("name", [name for name in SIGNALS if not name.startswith(("tty", "edt", "v8"))])
@pytest.mark.parametrize("conceal", ["missing", "repeated", "silent"])
def test_one_lost_packet_in_a_hundred_does_not_hide_a_signal(name, conceal):
    pcm = rows(*[SIGNALS[name]()] * 40)
    lost = np.random.default_rng(5).random((len(pcm), pcm.shape[1] // 160)) < 0.01
    lost[:, 0] = False
    for row, packet in np.argwhere(lost).tolist():
        at = packet * 160
        pcm[row, at : at + 160] = pcm[row, at - 160 : at] if conceal == "repeated" else 0.0
    fax = Fax(len(pcm))
    listen(fax, pcm, lost=lost if conceal == "missing" else None)
    assert lost.any(axis=1).sum() > 15
    assert fax.latched.sum() >= (38 if conceal == "silent" else 40)


def test_text_with_a_lost_packet_is_known_by_what_follows():
    pcm = rows(signals.tty("HELLO THERE GA"))
    lost = np.zeros((1, pcm.shape[1] // 160), bool)
    lost[0, [45, 52]] = True
    fax = Fax(1)
    listen(fax, pcm, lost=lost)
    assert fax.latched.all()


@pytest.mark.parametrize(("hz", "make", "within"), [
    (1100, lambda hz: signals.cadence((hz,), (500, 3000), 4.5), 38),
    (1300, lambda hz: signals.cadence((hz,), (600, 1700), 3.2), 15),
    (2100, lambda hz: sine(hz, 2600), 15),
    (2225, lambda hz: sine(hz, 2600), 10),
])  # fmt: skip
def test_tones_count_within_their_tolerance_and_not_beyond(hz, make, within):
    good = [make(hz + sign * share * within) for sign in (-1, 1) for share in (0.5, 1)]
    assert all(latches(*good))
    beyond = max(7.0, 0.2 * within)
    bad = [make(hz - within - beyond), *([] if hz == 2225 else [make(hz + within + beyond)])]
    assert not any(latches(*bad))


def test_keying_off_its_frequencies_or_its_speed_is_not_latched():
    bits = [0, 1, 1, 1, 1, 1, 1, 0] * 40
    at = [fsk(bits, 300.0, 1650.0 + off, 1850.0 + off) for off in (-12, 12)]
    assert all(latches(*at))
    off = [fsk(bits, 300.0, 1650.0 + off, 1850.0 + off) for off in (-40, 40)]
    speed = [fsk(bits, baud, 1650.0, 1850.0) for baud in (200.0, 400.0, 220.0)]
    assert not any(latches(*off, *speed))


@pytest.mark.parametrize(("on_ms", "off_ms", "counts"), [
    (425, 2550, True), (575, 3450, True), (500, 3000, True),
    (360, 3000, False), (640, 3000, False), (500, 2400, False), (500, 3600, False), (500, 500, False),
])  # fmt: skip
def test_cng_counts_by_its_rhythm(on_ms, off_ms, counts):
    assert latches(signals.cadence((1100,), (on_ms, off_ms), (2 * on_ms + off_ms + 100) / 1000)) == [counts]


def test_one_burst_of_cng_may_be_a_beep_and_two_are_a_fax():
    fax, heard = hear(sine(1100, 500))
    assert not fax.latched.any()
    assert not heard.detections
    assert heard.holds.any()


def test_a_burst_cut_by_the_beginning_of_the_call_counts_as_one():
    assert latches(join(sine(1100, 200), silence(3000), sine(1100, 500))) == [True]


def test_a_fax_that_sends_no_packets_in_its_pauses_is_heard():
    pcm = rows(signals.cng(4.5))
    lost = np.zeros((1, pcm.shape[1] // 160), bool)
    lost[0, 55:190] = True
    fax = Fax(1)
    listen(fax, pcm, lost=lost)
    assert fax.latched.all()


@pytest.mark.parametrize("name", SIGNALS)
def test_a_plausible_signal_is_held_within_60_ms_and_let_go_after_it(name):
    _, heard = hear(SIGNALS[name]())
    since = np.flatnonzero(heard.holds[0])[0] * 20 + 20 - 503
    first_bits = {"v8-ci": 60, "v8-cm": 60, "v8-jm": 60, "edt": 300}
    assert since <= 80 + first_bits.get(name, 0)
    assert not heard.holds[0, -30:].any()


def test_a_preamble_needs_200_ms_and_an_answer_1500():
    assert latches(signals.v21_preamble(170), signals.ced(1400), signals.answer_2225(1400)) == [False] * 3


def test_text_needs_three_characters():
    assert latches(signals.tty("A"), signals.tty("AB")) == [False, True]


def test_typing_with_the_carrier_off_between_letters_is_text():
    assert latches(join(*(join(signals.tty(letter), silence(700)) for letter in "GA"))) == [True]


def test_a_reversal_makes_the_name():
    _, heard = hear(signals.ansam(3000))
    assert [(found.value, found.end > 0) for found in heard.detections] == [
        ("ansam", False),
        ("ansam-reversed", True),
    ]
    assert heard.detections[-1].end / 8 == pytest.approx(3503, abs=25)


@pytest.mark.parametrize("ms", [150, 300, 450, 600, 900, 1200])
def test_no_beep_is_latched(ms):
    beeps = [sine(hz, ms, dbm0) for hz in (*range(300, 2225, 50), 1062, 2085, 2115, 2225, 2250) for dbm0 in (-6, -25)]
    lines = [signals.through_g711(beep) for beep in beeps]
    assert not any(latches(*beeps, *lines))


def test_repeated_beeps_on_the_frequencies_of_fax_are_not_latched():
    beeps = [
        join(*[join(sine(hz, on), silence(off))] * 5)
        for hz in (1000, 1100, 1300, 1400, 2100, 2225)
        for on, off in ((250, 250), (400, 10), (430, 20), (500, 500), (500, 1000), (250, 3000), (1000, 3000))
    ]
    assert not any(latches(*beeps))


@pytest.mark.parametrize("plan", [
    "350+440", "425", "440+480/2000,0/4000", "480+620/500,0/500", "400+450/400,0/200,400+450/400,0/2000",
    "400*25/1000,0/1000", "425/1000,0/4000", "!950/330,!1400/330,!1800/330,0/1000", "1400/500,0/15000",
    "1004", "1400", "1800", "1650", "1850/100,1650/100", "2000/400,0/200", "1400+1800", "1650+1850", "980+1180",
])  # fmt: skip
def test_no_tone_of_the_network_is_latched(plan):
    assert not any(latches(signals.progress(plan, 9), signals.progress(plan, 9, -30)))


def test_no_digits_are_latched():
    digits = "0123456789ABCD*#" * 3
    assert not any(latches(*(signals.dtmf(digits, on, off) for on, off in ((40, 40), (70, 30), (100, 100), (500, 50)))))


def flute(hz: float, seconds: float, vibrato_cents: float, tremolo: float):
    """A note whose overtones lie beyond the line: one sine, moved at 5.5 Hz, with a soft beginning and end."""
    t = np.arange(int(seconds * 8000)) / 8000
    swing = np.sin(2 * np.pi * 5.5 * t)
    pitch = hz * 2 ** (vibrato_cents / 1200 * swing)
    gain = (1 + tremolo * swing) * np.clip(np.minimum(t, seconds - t) / 0.04, 0, 1)
    return (0.2 * gain * np.sin(2 * np.pi * np.cumsum(pitch) / 8000)).astype(np.float32)


def test_a_held_note_is_not_latched():
    steady = [flute(hz, 1.4, 0, 0) for hz in (1108.7, 2093, 2100, 2217.5)]
    played = [flute(hz, 5, cents, 0.1) for hz in (1108.7, 2093, 2100, 2217.5) for cents in (8, 15, 30)]
    assert not any(latches(*steady, *played))


def test_notes_struck_again_every_450_ms_are_not_latched():
    rng = np.random.default_rng(3)
    struck = [
        join(*(sine(2100, 450, cycles=rng.random()) * np.exp(-np.arange(3600) / 1600) for _ in range(6)))
        for _ in range(40)
    ]
    assert not any(latches(*struck))


def test_trills_and_warbles_are_not_latched():
    trills = [fsk([1, 0] * 100, baud, *pair) for baud in (8, 12, 20, 30) for pair in ((1650, 1850), (980, 1180))]
    warbles = [fsk([1, 0] * 80, baud, 1400, 1800) for baud in (10, 20, 22.7, 40, 45.45, 50)]
    assert not any(latches(*trills, *warbles))


@pytest.mark.parametrize("name", ["clean_8k.wav", "noisy_8k.wav"])
def test_speech_is_neither_latched_nor_held(name):
    fax = Fax(4)
    heard = count(fax, load(AUDIO / name), streams=4)
    assert not fax.latched.any()
    assert heard.held < 0.002


@pytest.mark.parametrize("folder", ["moh", "sounds/en_US_f_Allison"])
def test_hold_music_and_prompts_are_not_latched(folder):
    files = sorted((ASTERISK / folder).glob("*.wav"))[:40]
    if not files:
        pytest.skip(f"{ASTERISK / folder} is not there (Debian: asterisk-moh-opsound-wav, asterisk-core-sounds-en-wav)")
    sound = np.concatenate([load(file)[: 30 * 8000] for file in files])
    fax = Fax(40)
    count(fax, sound, streams=40)
    assert not fax.latched.any()


def needs_spandsp():
    if spandsp.library() is None:
        pytest.skip(f"libspandsp is not installed (Debian: apt-get install {spandsp.PACKAGE})")


@pytest.mark.parametrize("kind", spandsp.MADE)
def test_tones_of_another_maker_are_latched(kind):
    needs_spandsp()
    fax, heard = hear(spandsp.made_connect_tone(kind, 8))
    assert fax.latched.all()
    assert heard.detections[-1].value == {"ans": "ced"}.get(kind, kind)


@pytest.mark.parametrize(("calling", "names"), [(True, {"cng"}), (False, {"ced", "v21"})])
def test_a_fax_machine_of_another_maker_is_latched(calling, names, tmp_path):
    needs_spandsp()
    machine = spandsp.FaxMachine(calling, tmp_path / "page.tif")
    fax, heard = hear(join(*(machine.speak() for _ in range(450))))
    machine.close()
    assert fax.latched.all()
    assert {found.value for found in heard.detections} == names


@pytest.mark.parametrize("mode", [1, 2])
def test_a_text_telephone_of_another_maker_is_latched(mode):
    needs_spandsp()
    fax, heard = hear(typed(mode, "HELLO THERE GA", 3.0))
    assert fax.latched.all()
    assert [found.value for found in heard.detections] == ["tty"]


def typed(mode: int, text: str, seconds: float):
    """Text of spandsp's V.18 sender; mode: 1 is Baudot at 45.45 Bd, 2 at 50."""
    lib = spandsp.library()
    take = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)(lambda *_: None)
    lib.v18_init.restype = ctypes.c_void_p
    lib.v18_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, type(take), ctypes.c_void_p]
    lib.v18_tx.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
    state = ctypes.c_void_p(lib.v18_init(None, 1, mode, take, None))
    lib.v18_put(state, text.encode("ascii"), len(text))
    out, made = np.zeros(round(seconds * 8000), np.int16), 0
    while made < len(out) and (sent := lib.v18_tx(state, out[made:].ctypes.data, min(160, len(out) - made))) > 0:
        made += sent
    lib.v18_free(state)
    return out[:made].astype(np.float32) / 32768


def test_text_after_a_long_tone_is_heard():
    assert all(latches(join(sine(1400, 3000), signals.tty("HELLO GA")), join(sine(980, 3000), edt("HELLO GA"))))


def test_a_latch_stays_until_the_slot_is_reset():
    fax = Fax(2)
    pcm = rows(SIGNALS["cng"](), SIGNALS["tty"]())
    listen(fax, pcm)
    listen(fax, np.zeros((2, 80000), np.float32), begin=pcm.shape[1])
    assert fax.latched.tolist() == [True, True]
    fax.reset(np.array([0]))
    assert fax.latched.tolist() == [False, True]
    assert not fax.active.any()


def test_a_reset_forgets_half_a_signal():
    fax = Fax(1)
    halves = [rows(sine(1100, 500)), rows(join(silence(1600), sine(1100, 500)))]
    listen(fax, halves[0])
    listen(fax, halves[1], begin=halves[0].shape[1])
    assert fax.latched.all()
    fax.reset(np.array([0]))
    listen(fax, halves[0])
    fax.reset(np.array([0]))
    listen(fax, halves[1], begin=halves[0].shape[1])
    assert not fax.latched.any()
