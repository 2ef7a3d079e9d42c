"""The table: one row for each group of cases under each treatment, as Markdown for a person and JSON for a program."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tests.tonelab.lab import SETTINGS, Trial
from tests.tonelab.measure import Figures

Value = object


class Column(NamedTuple):
    """How a figure of many calls becomes one, and how it is written."""

    title: str
    fold: Callable[[Sequence], Value]
    show: Callable[[Value], str]


def _sum(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(got for got, _ in pairs), sum(of for _, of in pairs)


def _extreme(values: Sequence[float]) -> float:
    """The one farthest from zero."""
    return max((value for value in values if not math.isnan(value)), key=abs, default=math.nan)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _smallest(values: Sequence[float]) -> float:
    return min((value for value in values if not math.isnan(value)), default=math.nan)


def _words(values: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for words in values for word in words))


def _all_words(values: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(word for words in values for word in words)


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _pair(value: tuple[int, int]) -> str:
    return f"{value[0]}/{value[1]}" if value[1] else "–"


def _decibel(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}"


def _ms(value: float) -> str:
    return "gone" if abs(value) >= 99 else f"{value:.1f}"


def _from(value: tuple[float, float]) -> str:
    return (
        "never" if math.isinf(value[0]) else f"{value[0]:.0f}…{'never' if math.isinf(value[1]) else f'{value[1]:.0f}'}"
    )


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(words[:6]) + (f" and {len(words) - 6} more" if len(words) > 6 else "") or "none"


def _count(words: tuple[str, ...]) -> str:
    return str(len(words)) + (f" ({_list(tuple(dict.fromkeys(words)))})" if words else "")


def _number(value: float) -> str:
    return f"{value:.0f}"


def _found(values: Sequence[tuple]) -> tuple:
    """Either how many of how many, or which."""
    return _sum(values) if all(value and isinstance(value[0], int) for value in values) else _words(values)


def _show_found(value: tuple) -> str:
    return _pair(value) if value and isinstance(value[0], int) else _list(value)


DIGITS_A, DIGITS_B = "spandsp's DTMF receiver", "multimon-ng"
COLUMNS = {
    DIGITS_A: Column("digits (spandsp)", _sum, _pair),
    DIGITS_B: Column("digits (multimon-ng)", _sum, _pair),
    "events": Column("RFC 4733 packets", _sum, _pair),
    "comfort noise": Column("comfort noise packets", _sum, _pair),
    "invented": Column("packets more than sent", sum, _number),
    "judge": Column("heard as at the input", _sum, _pair),
    "heard": Column("the judge hears", _words, _list),
    "pages": Column("pages whole", _sum, _pair),
    "wrong lines": Column("wrong lines", sum, _number),
    "outcome": Column("T.30 outcome", _words, _list),
    "seconds": Column("s", max, _number),
    "level": Column("level, dB", _extreme, _decibel),
    "worst": Column("worst 20 ms, dB", _smallest, _decibel),
    "onset": Column("onset, ms", _extreme, _ms),
    "edges": Column("edges, ms", _extreme, _ms),
    "reversals": Column("reversals", _sum, _pair),
    "identical": Column("payload identical from, ms", _range, _from),
    "identical back": Column("and back from, ms", _range, _from),
    "latched": Column("latched", _sum, _pair),
    "loudness": Column("loudness, dB", _extreme, _decibel),
    "within": Column("time within 1 dB", _mean, _share),
    "worst before": Column("before that, dB", _smallest, _decibel),
    "distance": Column("spectral distance, dB", _mean, _decibel),
    "pauses": Column("noise in pauses, dB", _mean, _decibel),
    "speech": Column("speech, dB", _mean, _decibel),
    "left alone": Column("noisy pauses", _mean, _share),
    "dry": Column("left alone", _mean, _share),
    "reported": Column("reported", _found, _show_found),
    "after": Column("reported after, ms", max, _number),
    "false": Column("false", _all_words, _count),
    "missing": Column("packets lost", sum, _number),
}  # fmt: skip
TITLES = {
    "dtmf": "DTMF in band", "events": "Telephone-events and comfort noise", "progress": "Call progress",
    "fax": "Fax, modem, text telephone", "page": "Fax pages", "beeps": "Answering machines", "music": "Music",
    "speech": "Speech",
}  # fmt: skip


def rows(planned: Iterable[Trial]) -> list[dict]:
    """One dictionary a row: section, row, treatment, calls, and the folded figures of its columns."""
    grouped: dict[tuple[str, str, str], list[Figures]] = {}
    for trial in planned:
        grouped.setdefault((trial.section, trial.row, trial.treatment), []).append(trial.figures or {})
    return [
        {"section": section, "row": row, "treatment": treatment, "calls": len(found), "figures": _folded(found)}
        for (section, row, treatment), found in grouped.items()
    ]


def _folded(found: list[Figures]) -> Figures:
    known = {name: [each[name] for each in found if each.get(name) is not None] for name in COLUMNS}
    return {name: COLUMNS[name].fold(values) for name, values in known.items() if values}


def markdown(table: list[dict], notes: Sequence[str] = ()) -> str:
    """The whole table, a part for each section with the columns that it has."""
    parts = []
    for section in dict.fromkeys(row["section"] for row in table):
        own = [row for row in table if row["section"] == section]
        names = [name for name in COLUMNS if any(name in row["figures"] for row in own)]
        head = ["signal", "treatment", "calls", *(COLUMNS[name].title for name in names)]
        lines = [f"### {TITLES.get(section, section)}", "", _line(head), _line("---" for _ in head)]
        for row in _in_order(own):
            cells = [COLUMNS[name].show(row["figures"][name]) if name in row["figures"] else "–" for name in names]
            lines.append(_line([row["row"], SETTINGS[row["treatment"]][0], str(row["calls"]), *cells]))
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *(f"- {note}" for note in notes)]) + "\n"


def _in_order(own: list[dict]) -> list[dict]:
    """The three treatments of a signal one below the other."""
    order = list(dict.fromkeys(row["row"] for row in own))
    return sorted(own, key=lambda row: (order.index(row["row"]), list(SETTINGS).index(row["treatment"])))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def details(planned: Iterable[Trial]) -> list[dict]:
    """Every call on its own, for the JSON; what is no number in JSON is null."""
    return [
        {"section": t.section, "row": t.row, "name": t.name, "treatment": t.treatment, "figures": plain(t.figures)}
        for t in planned
    ]  # fmt: skip


def plain(value: object) -> object:
    """The same without infinities and NaN."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
