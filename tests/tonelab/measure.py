"""From a case and what the far phone heard to figures, by section of the table."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.tonelab import compare
from tests.tonelab.calls import PAYLOAD_TYPE, Packet
from tests.tonelab.cases import Case
from tests.tonelab.judges import Judge, kept
from tests.tonelab.levels import FRAME, PACKET, RATE_HZ, Floats, decode, encode, sounding

Figures = dict[str, object]
"""Column to value: a number, a pair (got, of), a tuple of words, or None where it does not apply."""
REMOVED_DB = -3.0
"""Noise in pauses that is at most so much quieter was left alone."""


class Heard(NamedTuple):
    """One direction of a call, by time of its content."""

    before: bytes
    """Payload that was sent; lost packets are silence."""
    after: bytes
    """Payload that came, without the constant delay; cut to the same length."""
    came: npt.NDArray[np.bool_]
    """bool [bytes]: whose packets came."""
    missing: int
    """Packets that were sent and did not come."""


class Event(NamedTuple):
    """What the gateway says it found."""

    kind: str
    value: str
    begin_ms: float


def heard(case: Case, sent: Floats, packets: Sequence[Packet], delay: int) -> Heard:
    """Put packets in order. delay: samples by which content lies behind in them."""
    payload = bytearray(encode(sent, case.law))
    silence = encode(np.zeros(PACKET, np.float32), case.law)
    gone = case.gone if case.gone is not None else np.zeros(len(payload) // PACKET, np.bool_)
    for number in np.flatnonzero(gone[: len(payload) // PACKET]):
        payload[number * PACKET : (number + 1) * PACKET] = silence
    after = bytearray(silence * (len(payload) // PACKET))
    came = np.zeros(len(after), np.bool_)
    for packet in packets:
        at = packet.timestamp
        if packet.payload_type == PAYLOAD_TYPE[case.law] and 0 <= at <= len(after) - len(packet.payload):
            after[at : at + len(packet.payload)] = packet.payload
            came[at : at + len(packet.payload)] = True
    missing = int((~came[::PACKET] & ~gone[: len(came) // PACKET]).sum())
    size = len(after) - delay
    return Heard(bytes(payload[:size]), bytes(after[delay:]), came[delay:], missing)


def figures(case: Case, there: Heard, back: Heard | None, events: list[Event] | None) -> Figures:
    """All that applies to the case's section."""
    pair = decode(there.before, case.law), decode(there.after, case.law)
    clean = case.clean[: len(pair[0])]
    out: Figures = {"missing": there.missing, "false": _false(case, events)}
    maker = {"dtmf": _dtmf, "progress": _tone, "fax": _fax, "beeps": _beeps, "music": _music, "speech": _speech}
    return out | maker[case.section](case, clean, *pair, there, back, events)


def _false(case: Case, events: list[Event] | None) -> tuple[str, ...] | None:
    """Events of kinds that are not in the signal; a wrong digit, too."""
    if events is None:
        return None
    wrong = [f"{event.kind} {event.value}".strip() for event in events if event.kind not in case.kinds]
    digits = "".join(event.value for event in events if event.kind == "dtmf")
    return (*wrong, *["dtmf twice or wrong"] * (len(digits) - kept(case.digits, digits) if "dtmf" in case.kinds else 0))


def _dtmf(case: Case, clean, before, after, there, back, events) -> Figures:
    out: Figures = {}
    for judge in case.judges:
        got = [_judged(judge, before, after, segment) for segment in case.segments]
        out[judge.name] = None if judge.missing() else (sum(g for g, _ in got), sum(of for _, of in got))
    moved = compare.edges(clean, before, after)
    reported = None if events is None else "".join(event.value for event in events if event.kind == "dtmf")
    return out | {
        "level": _level(case, clean, before, after),
        "onset": None if case.noisy else float(moved.onsets.max(initial=0.0)),
        "edges": None if case.noisy else _widest(moved),
        "reported": None if reported is None or not case.digits else (kept(case.digits, reported), len(case.digits)),
    }


def _judged(judge: Judge, before: Floats, after: Floats, segment: tuple[int, int]) -> tuple[int, int]:
    """Digits heard after of those heard before."""
    if judge.missing():
        return 0, 0
    first, then = (_says(judge, pcm[slice(*segment)].tobytes()) for pcm in (before, after))
    return kept(first, then), len(first)


@lru_cache(maxsize=2048)
def _says(judge: Judge, pcm: bytes) -> str:
    """What a judge hears in float32 samples; the same sound is often asked about again."""
    return judge.hear(np.frombuffer(pcm, np.float32)).strip()


def _level(case: Case, clean: Floats, before: Floats, after: Floats) -> float:
    if case.noisy:
        return compare.tone_change_db(clean, before, after)
    return compare.change_db(before, after, compare.inside(clean))


def _widest(moved: compare.Edges) -> float:
    return float(np.abs(np.concatenate([moved.onsets, moved.ends])).max(initial=0.0))


def _tone(case: Case, clean, before, after, there, back, events) -> Figures:
    moved = compare.edges(clean, before, after)
    values = [event.value for event in events or () if event.kind == "progress"]
    return {
        "level": _level(case, clean, before, after),
        "worst": compare.worst_db(before, after, compare.inside(clean)),
        "onset": float(moved.onsets.max(initial=0.0)),
        "edges": _widest(moved),
        "reported": None if events is None else (int(any(case.named in value for value in values)), 1),
        "values": values,
    }


def _fax(case: Case, clean, before, after, there, back, events) -> Figures:
    judge, segment = case.judges[0], case.segments[0]
    out: Figures = {"judge": None}
    if not judge.missing():
        first, then = (_says(judge, pcm[slice(*segment)].tobytes()) for pcm in (before, after))
        out["judge"] = (int(first == then), 1) if first else None  # no judge knows this signal
        out["heard"] = (first if len(first) < 30 else f"{first[:27]}…",) if first else None
    inside, begin = compare.inside(clean), int(np.flatnonzero(clean)[0])
    turns = [compare.reversals(pcm[: case.tail]) for pcm in (before, after)]
    return out | {
        "level": _level(case, clean, before, after),
        "worst": None if case.noisy else compare.worst_db(before, after, inside),
        "onset": None
        if case.noisy
        else float(compare.edges(clean[: case.tail], before, after).onsets.max(initial=0.0)),
        "reversals": (_turned(*turns), len(turns[0])) if "reversals" in case.row or "reversed" in case.row else None,
        "identical": _identical(there, begin, case.tail),
        "identical back": None if back is None else _identical(back, begin, case.tail),
        "reported": None if events is None else tuple(sorted({f"{e.value}" for e in events if e.kind == "fax"})),
    }


def _turned(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> int:
    """Reversals within a millisecond of where they were."""
    return sum(1 for at in before if len(after) and np.abs(after - at).min() <= 1.0)


def _identical(way: Heard, begin: int, tail: int) -> float:
    """ms from the signal's beginning until the payload is the sender's for good; infinite when the tail is not."""
    first = compare.first_identical(way.before, way.after, way.came)
    return max(first - begin, 0) * 1000 / RATE_HZ if way.came.any() and first <= tail else float("inf")


def _beeps(case: Case, clean, before, after, there, back, events) -> Figures:
    return {
        "level": _level(case, clean, before, after),
        "latched": (int(_identical(there, 0, case.tail + RATE_HZ) < np.inf), 1),
        "reported": None if events is None else tuple(sorted({f"{e.kind} {e.value}" for e in events})),
    }


def _music(case: Case, clean, before, after, there, back, events) -> Figures:
    begins = int(np.flatnonzero(clean)[0])
    found = compare.music(before, after, begins, case.settled)
    on = None if events is None else [event for event in events if event.kind == "music"]
    return {
        "loudness": found.loudness_db,
        "within": found.within,
        "worst before": found.worst_before_db,
        "distance": found.distance_db,
        "reported": None if on is None else (int(bool(on)), 1),
        "after": None if not on else on[0].begin_ms - begins * 1000 / RATE_HZ,
    }


def _speech(case: Case, clean, before, after, there, back, events) -> Figures:
    talking = sounding(clean)
    near = np.convolve(talking, np.ones(11), "same") > 0
    settled = np.arange(len(talking)) >= 2 * RATE_HZ // FRAME
    loud = compare.inside(clean, 2) & settled
    left = _left_alone(before, after, ~near & settled) if case.noisy else None
    return {
        "pauses": compare.change_db(before, after, ~near & settled) if case.noisy else None,
        "speech": compare.tone_change_db(clean, before, after)
        if case.noisy
        else compare.change_db(before, after, loud),
        "left alone": left,
    }


def _left_alone(before: Floats, after: Floats, pauses: npt.NDArray[np.bool_]) -> float:
    """Share of the pauses' 100 ms whose noise is still there."""
    marks = np.flatnonzero(pauses[: len(pauses) // 10 * 10].reshape(-1, 10).all(axis=1))
    changes = [
        compare.change_db(before[at * 800 : at * 800 + 800], after[at * 800 : at * 800 + 800], np.ones(10, np.bool_))
        for at in marks
    ]  # fmt: skip
    return float(np.mean([change > REMOVED_DB for change in changes])) if changes else float("nan")


def reported(reports: Sequence[object], tag_end: str = "-a") -> list[Event] | None:
    """What replies to NG's `query` say was found in the stream of the party whose tag ends so, in order of time.

    None when they say nothing of it: a gateway without detectors.
    """
    parties = [
        party for report in reports if isinstance(report, dict)
        for tag, party in report.get("tags", {}).items() if tag.endswith(tag_end)
    ]  # fmt: skip
    lists = [found for party in parties for found in _event_lists(party)]
    events = {_event(item) for found in lists for item in found}
    return sorted(events, key=lambda event: event.begin_ms) if lists else None


def dry_share(reports: Sequence[object], tag_end: str = "-a") -> float | None:
    """Share of the frames of a party's stream that were not denoised, as the last reply says."""
    last = reports[-1] if reports else None
    if not isinstance(last, dict):
        return None
    for tag, party in last.get("tags", {}).items():
        if tag.endswith(tag_end):
            told = party["medias"][0]["streams"][0]["denoise"]
            frames = told["frames wet"] + told["frames dry"]
            return told["frames dry"] / frames if frames else None
    return None


def _event_lists(value: object) -> Iterator[list]:
    """Every list under a key that speaks of events, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if re.search(r"events$", str(key)) and isinstance(inner, list):
                yield inner
            else:
                yield from _event_lists(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _event_lists(inner)


def _event(item: dict) -> Event:
    begin = next((float(item[key]) for key in ("begin_ms", "begin ms", "begin") if key in item), 0.0)
    return Event(str(item.get("kind", "")), str(item.get("value", "")), begin)
