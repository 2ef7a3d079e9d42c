"""The laboratory's programme: which signals are played, grouped into the rows of its table.

A case is what one call carries. Cases of one row differ in level, twist, country and the like; the table gives their
sum or their worst.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.tonelab import judges, material, signals, spandsp
from tests.tonelab.judges import Judge
from tests.tonelab.levels import PACKET, RATE_HZ, Floats, Law, at_level, lost, with_noise
from tests.tonelab.plans import PLANS, TONES

ALL_DIGITS = "0123456789ABCD*#"
MARGIN_MS = 200.0
LEVELS_DBM0 = tuple(range(0, -37, -3))
DTMF_ROWS = (
    ("0 to −36 dBm0, twist −8 to +4 dB, ±0.7 %", (-8, -4, 0, 2, 4), (-0.7, 0.0, 0.7), (50, 50)),
    ("edges: twist −10 to +6 dB, ±1.5 %", (-10, -8, 0, 4, 6), (-1.5, 1.5), (50, 50)),
    ("40 ms on, 40 ms off", (0,), (0.0,), (40, 40)),
)
"""Row, twists in dB, errors of both frequencies in per cent, on and off in ms (ITU-T Q.24 and somewhat beyond)."""
DTMF_JUDGES = (judges.SPANDSP_DTMF, judges.MULTIMON_DTMF)
FAX_TAIL_S = 4.0
"""Noisy speech after a fax signal: it shows whether the call has latched."""
NOISES = (("pink", 10), ("babble", 10), ("car", 5), ("hum", 10), ("white", 20))
"""Under speech, and by how many dB."""
SECTIONS = ("dtmf", "events", "progress", "fax", "page", "beeps", "music", "speech")


@dataclass(frozen=True, slots=True)
class Case:
    """What one call carries."""

    section: str
    row: str
    name: str
    sent: Floats
    clean: Floats
    """The signal alone, without noise and other sounds; as long as `sent`."""
    law: Law = "PCMU"
    gone: npt.NDArray[np.bool_] | None = None
    """bool [packets]: lost before the gateway."""
    back: Floats | None = None
    """What the other party says."""
    segments: tuple[tuple[int, int], ...] = ()
    """Samples, from and to: each is judged on its own."""
    digits: str = ""
    judges: tuple[Judge, ...] = ()
    kinds: frozenset[str] = frozenset()
    """Events that may be reported."""
    named: str = ""
    """What a call-progress tone is to be reported as."""
    settled: int = 0
    """Sample from which on music must be whole."""
    tail: int = 0
    """Sample at which what follows the signal begins."""
    noisy: bool = False
    """Noise is over the signal, or a part of it is lost: levels are those of what is left of it."""

    @property
    def seconds(self) -> float:
        return len(self.sent) / RATE_HZ


def programme(sections: tuple[str, ...] = SECTIONS, quick: bool = False) -> list[Case]:
    """All cases of these sections; quick: a few of every kind."""
    makers = {
        "dtmf": dtmf, "events": lambda quick: iter(()), "page": lambda quick: iter(()), "progress": progress,
        "fax": fax, "beeps": beeps, "music": music, "speech": speech,
    }  # fmt: skip
    return [case for section in sections for case in makers[section](quick)]


def _padded(pcm: Floats) -> Floats:
    """To whole packets."""
    return np.concatenate([pcm, np.zeros(-len(pcm) % PACKET, np.float32)])


def _digits(row: str, name: str, parts: list[Floats], digits: str, **more) -> Case:
    """Segments, each with its margins; the digits of all of them."""
    pcm = _padded(np.concatenate(parts))
    segments = tuple(itertools.pairwise(np.cumsum([0, *map(len, parts)]).tolist()))
    given = {"sent": pcm, "clean": pcm, "kinds": frozenset({"dtmf"}), "judges": DTMF_JUDGES} | more
    return Case("dtmf", row, name, segments=segments, digits=digits, **given)


def _keyed(twists: Sequence[float], errors: Sequence[float], ms: tuple[float, float], dbm0: float) -> list[Floats]:
    """All digits with every twist and error."""
    return [
        signals.around(signals.dtmf(ALL_DIGITS, *ms, dbm0, twist, error), MARGIN_MS, MARGIN_MS)
        for twist, error in itertools.product(twists, errors)
    ]


def dtmf(quick: bool) -> Iterator[Case]:
    """Levels, twists, frequency errors and lengths of Q.24; then what is no digit; then the conditions of a line."""
    for dbm0 in (0, -18, -36) if quick else LEVELS_DBM0:
        for row, twists, errors, ms in DTMF_ROWS:
            parts = _keyed(twists[::2] if quick else twists, errors[::2] if quick else errors, ms, dbm0)
            yield _digits(row, f"{dbm0} dBm0", parts, ALL_DIGITS * len(parts))
    for row, errors, ms in (("23 ms: no digits", (0.0,), (23, 60)), ("±3.5 %: no digits", (-3.5, 3.5), (50, 50))):
        for dbm0 in (-10,) if quick else (-3, -10, -25):
            yield _digits(row, f"{dbm0} dBm0", _keyed((0,), errors, ms, dbm0), "", kinds=frozenset({"tone"}))
    yield from _dtmf_on_lines(
        2 if quick else 10, ("white",) if quick else ("white", "babble"), (20,) if quick else (20, 15, 10)
    )


def _dtmf_on_lines(times: int, noises: Sequence[str], snrs: Sequence[float]) -> Iterator[Case]:
    """Noise, loss, another law, speech before, another generator."""
    plain = _keyed((0,), (0,), (60, 60), -10)[0]
    parts, digits = [plain] * times, ALL_DIGITS * times
    yield _digits("PCMA", "pcma", parts, digits, law="PCMA")
    clean = _padded(np.concatenate(parts))
    for kind, snr in itertools.product(noises, snrs):
        sent = with_noise(clean, snr, noise=material.noise(kind))
        yield _digits(f"noise {snr} dB below", f"{kind} {snr} dB", parts, digits, sent=sent, noisy=True)
    gone = lost(len(clean) // PACKET, 0.01, seed=1)
    yield _digits("1 % of packets lost", "loss", parts, digits, gone=gone, noisy=True)
    said = material.speech(2.0, seed=5)
    alone = _padded(np.concatenate([np.concatenate([0 * said, plain])] * times))
    yield _digits("right after speech", "after speech", [np.concatenate([said, plain])] * times, digits, clean=alone)
    if spandsp.library() is not None:
        made = signals.around(spandsp.dtmf_tones(ALL_DIGITS), MARGIN_MS, MARGIN_MS)
        yield _digits("made by spandsp, 50/55 ms", "spandsp", [made], ALL_DIGITS)


def progress(quick: bool) -> Iterator[Case]:
    """Every tone of every plan, call waiting and special information tones."""
    for country in ("us", "gb", "de", "in") if quick else PLANS:
        for tone, plan in zip(TONES, PLANS[country], strict=True):
            pcm = signals.progress(plan, 6.0 if quick else 11.0)
            yield _progress_case(tone, f"{country} {tone}", pcm, tone.replace("-", ""))
    for kind in ("IC",) if quick else ("IC", "VC", "RO", "NC", "E.180"):
        yield _progress_case("special information", f"SIT {kind}", signals.sit(kind), "sit")
    pcm = signals.call_waiting(3.0 if quick else 11.0)
    yield _progress_case("call waiting", "call waiting", pcm, "call-waiting")


def _progress_case(row: str, name: str, tone: Floats, named: str) -> Case:
    pcm = _padded(signals.around(tone, 500, 1500))
    return Case("progress", row, name, pcm, pcm, named=named, kinds=frozenset({"progress", "tone"}))


def _fax_signals(quick: bool) -> dict[str, Floats]:
    few = {
        "CNG": signals.cng(4.5),
        "CED": signals.ced(),
        "ANSam, reversals": signals.ansam(),
        "V.21 channel 2": signals.v21_preamble(1500),
        "Bell 103 answer": signals.answer_2225(),
        "TTY": signals.tty("HELLO GA 123 BYE SK"),
    }
    more = {
        "ANS, reversals": signals.ans_reversed(),
        "ANSam": signals.ansam(reversed_phase=False),
        "V.8 CI": signals.v8_ci(4.0),
        "V.21 channel 1": signals.v21_preamble(1500, channel=1),
        "V.22 unscrambled 1": signals.v22_ones(),
        "V.22 with guard tone": signals.v22_ones(guard=True),
        "Bell 103 data, caller": signals.bell_103("Hello, world 123"),
        "Bell 103 data, answerer": signals.bell_103("Hello, world 123", answering=True),
    }
    kinds = spandsp.MADE if spandsp.library() is not None else ()
    made = {f"{kind}, made by spandsp": spandsp.made_connect_tone(kind, 5.0) for kind in kinds}
    return few if quick else few | more | made


def fax(quick: bool) -> Iterator[Case]:
    """Signals of fax and modems, loud and quiet, clean and noisy; noisy speech behind them, and from the far side."""
    conditions = ((-13, None),) if quick else ((-13, None), (-30, None), (-20, 20))
    for (name, tone), (dbm0, snr) in itertools.product(_fax_signals(quick).items(), conditions):
        row = name if snr is None else f"{name}; noise {snr} dB below"
        yield _fax_case(row, f"{name} {dbm0} dBm0", at_level(tone, dbm0), snr)


def _fax_case(row: str, name: str, tone: Floats, snr: float | None) -> Case:
    alone = _padded(signals.around(tone))
    tail = _padded(with_noise(material.speech(FAX_TAIL_S, seed=7), 10, seed=3))
    sent = np.concatenate([alone if snr is None else with_noise(alone, snr, seed=4), tail])
    back = _padded(with_noise(material.speech(len(sent) / RATE_HZ, seed=8), 10, seed=5))
    judge = judges.SPANDSP_TONES
    if name.startswith("TTY"):
        judge = judges.MINIMODEM_TTY
    elif "data" in name:
        judge = judges.MINIMODEM_300_ANSWER
    return Case(
        "fax", row, name, sent, np.concatenate([alone, 0 * tail]), back=back, segments=((0, len(alone)),),
        judges=(judge,), tail=len(alone), noisy=snr is not None, kinds=frozenset({"fax", "tone"}),
    )  # fmt: skip


def beeps(quick: bool) -> Iterator[Case]:
    """Answering machines: a greeting, a beep, and a message over noise."""
    names = list(signals.BEEPS)[:: 3 if quick else 1]
    for name in names:
        beep = signals.around(signals.progress(signals.BEEPS[name], 1.2), 300, 300)
        greeting, message = material.speech(2.0, seed=11), with_noise(material.speech(FAX_TAIL_S, seed=12), 10, seed=6)
        sent = _padded(np.concatenate([greeting, beep, message]))
        clean = np.zeros(len(sent), np.float32)
        clean[len(greeting) : len(greeting) + len(beep)] = beep
        yield Case("beeps", "beeps of answering machines", name, sent, clean, tail=len(greeting) + len(beep),
                   kinds=frozenset({"tone", "progress"}))  # fmt: skip


def music(quick: bool) -> Iterator[Case]:
    """Hold music, orchestra, voices over music, music under an announcement, and in another law."""
    seconds = 8.0 if quick else 30.0
    kinds = frozenset({"music", "tone", "progress"})
    begins = RATE_HZ // 2
    pieces = [
        ("hold music (Debian)", *one)
        for one in material.excerpts(material.hold_music()[: 2 if quick else None], seconds)
    ]
    pieces += [
        ("orchestra (Wesnoth)", *one)
        for one in material.excerpts(material.other_music()[:: 8 if quick else 3], seconds)
    ]
    for row, name, pcm in pieces:
        sent = _padded(np.concatenate([np.zeros(begins, np.float32), pcm]))
        yield Case("music", row, name, sent, sent, kinds=kinds, settled=begins + RATE_HZ)
    for number, (_, name, pcm) in enumerate(pieces[: 1 if quick else 6]):
        voice = at_level(material.speech(len(pcm) / RATE_HZ, seed=20 + number), -18)[: len(pcm)]
        for row, below_db in (("announcement over music, −6 dB", 6.0), ("announcement and music, 0 dB", 0.0)):
            mixed = np.clip(voice + pcm[: len(voice)] * 10 ** (-below_db / 20), -1, 1).astype(np.float32)
            sent = _padded(np.concatenate([np.zeros(begins, np.float32), mixed]))
            yield Case("music", row, name, sent, sent, kinds=kinds, settled=begins + 2 * RATE_HZ)


def speech(quick: bool) -> Iterator[Case]:
    """Speech alone, in noise, and over a café's music: it must be denoised, and nothing may be found in it."""
    seconds = 10.0 if quick else 30.0
    tunes = [pcm for _, pcm in material.excerpts(material.other_music()[2:4], seconds)]
    for seed in range(1 if quick else 4):
        said = _padded(material.speech(seconds, seed=30 + seed))
        yield Case("speech", "clean", f"clean {seed}", said, said)
        for kind, snr in NOISES[: 2 if quick else None]:
            sent = with_noise(said, snr, noise=material.noise(kind))
            yield Case("speech", f"{kind} noise, {snr} dB", f"{kind} {seed}", sent, said, noisy=True)
        if tunes:
            sent = with_noise(said, 15, noise=tunes[seed % len(tunes)])
            yield Case("speech", "over café music, 15 dB", f"café {seed}", sent, said, noisy=True)
