"""Tone plans of 42 countries: what each network's dial, ringback, busy, congestion and call-waiting tones sound like.

Frequencies and cadences are facts of ITU-T E.180 Supplement 2 ("Various tones used in national networks", published as
a list in Operational Bulletin 781, 2003), of national standards where these are newer (BT SIN 350 for the United
Kingdom, Telcordia GR-506 for North America, AS/CA S002 for Australia, TNA 102 for New Zealand, IDA TS PSTN 1 for
Singapore, GOST 45.223 for Russia), and, where an administration reported none, of what its public switches are set to.
What the tones mean is E.182. The special information tone is the same everywhere (E.180 clause 7).

A tone is written as its steps: frequencies, a slash, milliseconds; steps follow each other and repeat. `+` joins
frequencies sounding together, `*` modulates one by another, 0 is silence, no duration is for ever.
"""

from dataclasses import dataclass
from functools import cached_property

MODULATION = 0.9
"""Depth of `*`, where a network does not say."""
KINDS = ("dial", "ringback", "busy", "congestion", "call-waiting", "sit")
"""In the order of which a name is made when one tone has several meanings."""
SIT_HZ = ((890.0, 1005.0), (1350.0, 1450.0), (1750.0, 1850.0))
"""The three tones of special information, with all of E.180's tolerance (±50 Hz) and North America's variants."""
BEATING_HZ = 30.0
"""Lines closer than this are no pair to the ear, but one tone that beats."""
SIT_MS = (230.0, 420.0)
"""How long each lasts: 330 ± 70 ms in E.180, 276 or 380 ms in North America."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What is heard at one moment of a tone."""

    text: str
    """As written in the plan."""
    hz: tuple[float, ...]
    """Its lines, rising: a modulated tone has three."""
    modulated: bool


@dataclass(frozen=True)
class Tone:
    """One tone of one network."""

    country: str
    kind: str
    steps: tuple[tuple[str, float], ...]
    """Sound and milliseconds, infinite for a continuous tone; the sound "0" is a pause."""

    @property
    def text(self) -> str:
        """As it was written."""
        return ",".join(sound if ms == float("inf") else f"{sound}/{ms:g}" for sound, ms in self.steps)

    @cached_property
    def sounds(self) -> frozenset[str]:
        """What is heard in it, pauses aside."""
        return frozenset(sound for sound, _ in self.steps if sound != "0")

    @cached_property
    def bursts(self) -> tuple[tuple[float, float], ...]:
        """Milliseconds of sound and of the pause behind it, in order, of one cycle."""
        bursts: list[tuple[float, float]] = []
        for sound, ms in self.steps:
            if sound != "0":
                bursts.append((ms, 0.0))
            elif bursts:
                bursts[-1] = (bursts[-1][0], bursts[-1][1] + ms)
        return tuple(bursts)


COUNTRIES = {
    "at": "Austria", "au": "Australia", "be": "Belgium", "bg": "Bulgaria", "br": "Brazil", "ch": "Switzerland",
    "cl": "Chile", "cn": "China", "cz": "Czechia", "de": "Germany", "dk": "Denmark", "ee": "Estonia", "es": "Spain",
    "fi": "Finland", "fr": "France", "gr": "Greece", "hk": "Hong Kong", "hu": "Hungary", "id": "Indonesia",
    "il": "Israel", "in": "India", "it": "Italy", "jp": "Japan", "kr": "Korea", "lt": "Lithuania", "mx": "Mexico",
    "my": "Malaysia", "nl": "Netherlands", "no": "Norway", "nz": "New Zealand", "ph": "Philippines", "pl": "Poland",
    "pt": "Portugal", "ru": "Russia", "se": "Sweden", "sg": "Singapore", "th": "Thailand", "tw": "Taiwan",
    "uk": "United Kingdom", "us": "United States and Canada", "ve": "Venezuela", "za": "South Africa",
}  # fmt: skip

_DIAL = """
420: at
413+438: au
425: be bg br ch de dk ee es fi hu id lt mx my nl no ph pl pt ru se sg ve
400: cl jp nz
450: cn
440: fr
414: il
400*25: in
400*50: th
400*33: za
350+440: hk kr tw uk us
425/330,0/330,425/660,0/660: cz
425/200,0/300,425/700,0/800: gr
425/200,0/200,425/600,0/1000: it
"""
_RINGBACK = """
420/1000,0/5000: at
413+438/400,0/200,413+438/400,0/2000: au
400+450/400,0/200,400+450/400,0/2000: au nz uk
425/1000,0/3000: be
425/1000,0/4000: bg br ch cz de dk ee fi gr id it lt mx nl no pl ru ve
425/1000,0/5000: pt se
425/1500,0/3000: es
425/1250,0/3750: hu
425/400,0/200,425/400,0/2000: my
400/1000,0/3000: cl
450/1000,0/4000: cn
440/1500,0/3500: fr
414/1000,0/3000: il
400*25/400,0/200,400*25/400,0/2000: in
400*16/1000,0/2000: jp
425+480/1000,0/4000: ph
425*24/400,0/200,425*24/400,0/2000: sg
420/1000,0/5000: th
400*33/400,0/200,400*33/400,0/2000: za
440+480/400,0/200,440+480/400,0/3000: hk
440+480/1000,0/2000: kr tw
440+480/2000,0/4000: us
"""
_BUSY = """
420/400,0/400: at
425/375,0/375: au
425/500,0/500: be bg ch dk id it my nl no pl pt ve
425/250,0/250: br mx se
425/200,0/200: es
425/300,0/300: ee fi gr hu
425/330,0/330: cz
425/350,0/350: lt ru
425/480,0/480: de
425/750,0/750: sg
400/500,0/500: cl jp nz th za
400/375,0/375: uk
400/750,0/750: in
450/350,0/350: cn
440/500,0/500: fr
414/500,0/500: il
480+620/500,0/500: hk kr ph tw us
"""
_CONGESTION = """
420/200,0/200: at
425/375,0/375: au
425/167,0/167: be
425/250,0/250: bg id mx nl sg ve
425/250,0/250,425/750,0/250: br
425/200,0/200: ch dk ee fi gr it lt no pt
425/165,0/165: cz
425/240,0/240: de
425/200,0/200,425/200,0/200,425/200,0/600: es
425/300,0/300: hu
425/500,0/500: my pl
425/175,0/175: ru
425/250,0/750: se
400/200,0/200: cl
400/250,0/250: in nz za
400/300,0/300: th
400/500,0/500: jp
400/400,0/350,400/225,0/525: uk
450/700,0/700: cn
440/250,0/250: fr
414/250,0/250: il
480+620/250,0/250: hk ph tw us
480+620/300,0/200: kr
"""
_CALL_WAITING = """
420/40,0/1960: at
425/40,0/1960: hu
425/200,0/200,425/200,0/4400: au
1400/175,0/175,1400/175,0/3500: be
425/150,0/150,425/150,0/4000: bg lt pl
425/150,0/150,425/150,0/8000: fi gr
425/150,0/150,425/150,0/10000: id
425/50,0/1000: br
425/200,0/200,425/200,0/4000: ch
425/330,0/9000: cz
425/200,0/200,425/200,0/5000: de
425/200,0/600,425/200,0/3000: dk
425/175,0/175,425/175,0/3500: es
425/400,0/100,425/250,0/100,425/150,0/14000: it
425/200,0/600,425/200,0/10000: mx no
425/500,0/9500: nl
425/200,0/5000: ru
425/200,0/500,425/200,0/9100: se
400/250,0/8750: cl
450/400,0/4000: cn
440/300,0/10000: fr ph pt us
414/100,0/100,414/100,0/100,414/600,0/3000: il
400/200,0/100,400/200,0/7500: in
400*16/500,0/8000: jp
400/200,0/3000: nz
425*24/300,0/200,425*24/300,0/3200: sg
350+440/250,0/250,350+440/250,0/3250: tw
400/100,0/4000: uk
400+450/300,0/6000: ve
400*33/250,0/250: za
"""
_SIT = "950/330,1400/330,1800/330,0/1000: " + " ".join(COUNTRIES)


def parse(text: str) -> tuple[tuple[str, float], ...]:
    """`440+480/2000,0/4000` -> its steps."""
    pairs = (step.partition("/") for step in text.split(","))
    return tuple((sound, float(ms) if ms else float("inf")) for sound, _, ms in pairs)


def sound_of(text: str) -> Sound:
    """`400*25` -> the lines that are heard."""
    carrier, _, modulation = text.partition("*")
    hz = sorted(float(part) for part in carrier.split("+"))
    if modulation:
        hz = [hz[0] - float(modulation), hz[0], hz[0] + float(modulation)]
    return Sound(text, tuple(hz), bool(modulation))


def _tones() -> tuple[Tone, ...]:
    tables = (_DIAL, _RINGBACK, _BUSY, _CONGESTION, _CALL_WAITING, _SIT)
    tones = []
    for kind, table in zip(KINDS, tables, strict=True):
        for line in table.strip().splitlines():
            text, _, countries = line.partition(":")
            tones += [Tone(country, kind, parse(text)) for country in countries.split()]
    return tuple(tones)


TONES = _tones()
"""Every tone of every country."""
SOUNDS = tuple(
    sound_of(text) for text in sorted({sound for tone in TONES if tone.kind != "sit" for sound in tone.sounds})
)
"""Every sound of a tone but those of special information, whose frequencies may be anywhere in `SIT_HZ`."""

TOLERANCE, TOLERANCE_MS = 0.1, 25.0
"""A burst or pause may differ from the plan's by the sum of both (E.180 clause 3 grants networks 10 %)."""
_ALIKE = 0.02
"""Tones whose times fit this much worse than the best one's share its name."""
_CODES = 4
"""Countries that a name lists at most."""


def misfit(tone: Tone, bursts: list[tuple[float, float]], sounding_ms: float | None = None) -> float | None:
    """How far what was heard is from a tone: the largest relative difference of any time, or None if it is not it.

    bursts: milliseconds of sound and pause, complete; sounding_ms: of a last burst whose pause is not over yet.
    """
    heard: list[tuple[float, float | None]] = [*bursts]
    if sounding_ms is not None:
        heard.append((sounding_ms, None))
    misfits = [_misfit(tone.bursts[turn:] + tone.bursts[:turn], heard) for turn in range(len(tone.bursts))]
    return min((value for value in misfits if value is not None), default=None)


def _misfit(cycle: tuple[tuple[float, float], ...], heard: list[tuple[float, float | None]]) -> float | None:
    worst = 0.0
    for number, burst in enumerate(heard):
        for ms, wanted in zip(burst, cycle[number % len(cycle)], strict=True):
            if ms is None:
                continue
            if wanted == float("inf") or abs(ms - wanted) > TOLERANCE * wanted + TOLERANCE_MS:
                return None
            worst = max(worst, abs(ms - wanted) / max(wanted, TOLERANCE_MS))
    return worst


def name(tones: list[tuple[float, Tone]]) -> str:
    """`ringback us` of tones with their misfits; several meanings and countries are listed, the best fits alone."""
    best = min(worse for worse, _ in tones) + _ALIKE
    chosen = [tone for worse, tone in tones if worse <= best]
    kinds = "/".join(kind for kind in KINDS if any(tone.kind == kind for tone in chosen))
    codes = sorted({tone.country for tone in chosen})
    more = len(codes) - _CODES + 1
    return f"{kinds} " + ",".join(codes if len(codes) <= _CODES else [*codes[: _CODES - 1], f"+{more}"])


def sounds_at(hz: tuple[float, ...], tolerance: float = 0.015) -> tuple[Sound, ...]:
    """The sounds that steady lines may be, the nearest first; neither special information nor what beats slowly."""
    misses = (
        (max(abs(line / wanted - 1) for line, wanted in zip(hz, sound.hz, strict=True)), sound)
        for sound in SOUNDS
        if len(sound.hz) == len(hz) and not sound.modulated and (len(hz) == 1 or sound.hz[1] - sound.hz[0] > BEATING_HZ)
    )
    return tuple(sound for miss, sound in sorted((m for m in misses if m[0] <= tolerance), key=lambda m: m[0]))


def sit_part(hz: tuple[float, ...]) -> int | None:
    """Which tone of special information this is, 0, 1 or 2, or None."""
    return next((n for n, (low, high) in enumerate(SIT_HZ) if len(hz) == 1 and low <= hz[0] <= high), None)
