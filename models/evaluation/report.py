"""Evaluation's tables in Markdown, its JSON, and the plot of quality against cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.evaluation import targets
from models.evaluation.figures import REFERENCES, Choice, Results, at_snr, noisy, of_class, of_condition, of_part
from models.evaluation.noises import CLASSES
from models.evaluation.testset import CONDITIONS, SNRS_DB

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPEECH = {
    "pesq": "PESQ", "ovrl": "DNSMOS OVRL", "sig": "SIG", "bak": "BAK", "p808": "P.808", "stoi": "STOI",
    "si_sdr_db": "SI-SDR, dB", "pause_reduction_db": "noise in pauses falls by, dB",
    "speech_gain_db": "speech level, dB",
}  # fmt: skip
COMPARED = ("pesq", "ovrl", "stoi", "si_sdr_db")
DIGITS = {"stoi": 3}
Cell = Callable[[str], float]


def number(value: float, digits: int = 2) -> str:
    return "–" if value != value else "–" if value == float("inf") else f"{value:,.{digits}f}"


def markdown(corner: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join(lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows])


def main_table(r: Results) -> str:
    """One row a system: everything over the noisy clips, clean speech, word errors, cost."""
    columns = [*SPEECH.values(), "clean in: PESQ", "clean in: level, dB", "word errors, %", "streams a core"]
    rows = []
    for name in r.rows:
        cells = [number(r.mean(name, key), DIGITS.get(key, 2)) for key in SPEECH]
        cells += [number(r.mean(name, key, of_part("clean"))) for key in ("pesq", "speech_gain_db")]
        rows.append((name, [*cells, number(r.word_errors(name), 1), number(r.streams.get(name, float("nan")), 0)]))
    return markdown(f"{r.rate // 1000} kHz", columns, rows)


def difference_table(r: Results) -> str:
    """Differences against no suppressor and against RNNoise, each with its 95 % interval."""
    others = [o for o in REFERENCES if o in r.rows]
    columns = [f"{SPEECH[key]} − {other}" for other in others for key in ("pesq", "ovrl", "stoi")]
    columns += [f"word errors − {other}, points" for other in others]
    rows = []
    for name in r.rows:
        cells = []
        for other in others:
            for key, digits in (("pesq", 2), ("ovrl", 2), ("stoi", 3)):
                cells.append("" if name == other else r.difference(name, other, key).text(digits))
        for other in others:
            cells.append("" if name == other else r.word_error_difference(name, other).text(1))
        rows.append((name, cells))
    return markdown("difference (95 % interval)", columns, rows)


def grid(r: Results, corner: str, key: str, choices: dict[str, Choice]) -> str:
    digits = DIGITS.get(key, 2)
    rows = [(name, [number(r.mean(name, key, c), digits) for c in choices.values()]) for name in r.rows]
    return markdown(corner, list(choices), rows)


def snr_tables(r: Results) -> list[str]:
    by_snr = {f"{snr} dB": at_snr(snr) for snr in SNRS_DB}
    tables = [grid(r, f"{SPEECH[key]} by ratio of speech to noise", key, by_snr) for key in ("pesq", "stoi", "ovrl")]
    levels = (*SNRS_DB, None)
    rows = [(name, [number(r.word_errors(name, snr), 1) for snr in levels]) for name in r.rows]
    return [*tables, markdown("word errors, %", [f"{s} dB" for s in SNRS_DB] + ["clean"], rows)]


def passing_table(r: Results) -> str:
    """What happens to audio that should pass, and to music that should not."""
    columns = ["hold music: level, dB", "hold music to be taken out: level, dB", "signalling tones: level, dB"]
    kinds = (("level_db", "music"), ("suppressed_db", "music"), ("level_db", "tones"))
    rows = []
    for name in r.rows:
        measured = {key for row in r.rows[name].values() for key in row}
        rows.append((name, [number(r.mean(name, key, of_part(p))) if key in measured else "–" for key, p in kinds]))
    return markdown("not speech", columns, rows)


def text(r: Results, about: dict[str, Any]) -> str:
    """The whole report of a rate."""
    classes = {kind: of_class(kind) for kind in CLASSES}
    damage = {condition: of_condition(condition) for condition in CONDITIONS}
    parts = [
        f"## {r.rate // 1000} kHz",
        note(r, about),
        main_table(r),
        difference_table(r),
        *snr_tables(r),
        grid(r, "PESQ by noise", "pesq", classes),
        grid(r, "DNSMOS OVRL by noise", "ovrl", classes),
    ]
    if any(clip.part == "conditions" for clip in r.clips):
        parts += [grid(r, f"{SPEECH[key]} by damage, 10 dB", key, damage) for key in ("pesq", "ovrl")]
    parts.append(passing_table(r))
    if "standard" in r.rows and "noisy" in r.rows:
        parts.append(targets.tables(r))
    return "\n\n".join(parts) + "\n"


def note(r: Results, about: dict[str, Any]) -> str:
    counts = {part: sum(1 for c in r.clips if c.part == part) for part in ("noisy", "clean", "conditions", "words")}
    lines = "G.711" if r.rate == 8000 else "G.722 and Opus"
    return (
        f"{counts['noisy']} noisy clips of 10 s (eight kinds of noise, {', '.join(map(str, SNRS_DB))} dB), "
        f"{counts['clean']} clean, {counts['conditions']} damaged, {counts['words']} of English passages, "
        f"through {lines}; voices and noises that training refuses. {about['cpu']}, one thread, {about['date']}. "
        "Word errors: Whisper base, three readers."
    )


def as_json(r: Results, about: dict[str, Any]) -> dict[str, Any]:
    """Everything the tables say, and the intervals of all differences, as plain numbers."""
    systems = {name: system_json(r, name) for name in r.rows}
    goals = [
        {"what": t.what, "measured": round(t.measured, 4), "goal": t.goal, "reached": t.reached}
        for t in (targets.targets(r) if "standard" in r.rows and "noisy" in r.rows else ())
    ]
    clips = {part: sum(1 for c in r.clips if c.part == part) for part in sorted({c.part for c in r.clips})}
    return {**about, "clips": clips, "systems": systems, "targets": goals}


def system_json(r: Results, name: str) -> dict[str, Any]:
    measured = {key for row in r.rows[name].values() for key in row}
    return {
        **{key: plain(r.mean(name, key)) for key in SPEECH},
        "word_error_percent": plain(r.word_errors(name)),
        "streams_per_core": plain(r.streams.get(name, float("nan")), 0),
        "clean_speech": {key: plain(r.mean(name, key, of_part("clean"))) for key in ("pesq", "stoi", "speech_gain_db")},
        "music_kept_db": plain(r.mean(name, "level_db", of_part("music"))),
        "tones_db": plain(r.mean(name, "level_db", of_part("tones"))),
        **({"music_suppressed_db": plain(r.mean(name, "suppressed_db", of_part("music")))}
           if "suppressed_db" in measured else {}),
        "by_snr_db": {
            str(s): {**{k: plain(r.mean(name, k, at_snr(s))) for k in COMPARED},
                     "word_error_percent": plain(r.word_errors(name, s))} for s in SNRS_DB
        },
        "clean_word_error_percent": plain(r.word_errors(name, None)),
        "by_noise": {k: {f: plain(r.mean(name, f, of_class(k))) for f in COMPARED} for k in CLASSES},
        "by_condition": {k: {f: plain(r.mean(name, f, of_condition(k))) for f in COMPARED} for k in CONDITIONS},
        "differences": {o: differences(r, name, o) for o in REFERENCES if o in r.rows and o != name},
    }  # fmt: skip


def differences(r: Results, name: str, other: str) -> dict[str, list[float | None]]:
    """figure -> [difference, lower and upper end of its 95 % interval]."""
    found = {key: r.difference(name, other, key, noisy) for key in (*COMPARED, "sig", "bak", "p808")}
    found["word_error_points"] = r.word_error_difference(name, other)
    return {key: [plain(d.value), plain(d.low), plain(d.high)] for key, d in found.items()}


def plain(value: float, digits: int = 4) -> float | None:
    return None if value != value or value == float("inf") else round(value, digits)


def plot(measured: dict[str, dict[str, Any]], ours: set[str], path: Path) -> None:
    """Quality against cost from the JSON of the rates measured: PESQ and DNSMOS over streams a core."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid_ = pyplot.subplots(len(measured), 2, figsize=(11, 4.6 * len(measured)), squeeze=False)
    rates = sorted(measured.items(), key=lambda item: int(item[0]))
    for axes, (rate, about) in zip(grid_, rates, strict=True):
        for ax, key, label in zip(axes, ("pesq", "ovrl"), (pesq_label(int(rate)), "DNSMOS OVRL"), strict=True):
            panel(ax, about["systems"], key, ours)
            ax.set_ylabel(label)
            ax.set_title(f"{int(rate) // 1000} kHz", loc="left", fontsize=11, fontweight="bold")
    figure.tight_layout()  # before the labels, which are placed by pixels
    for axes, (_, about) in zip(grid_, rates, strict=True):
        for ax, key in zip(axes, ("pesq", "ovrl"), strict=True):
            label_points(ax, placed(about["systems"], key), ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def pesq_label(rate: int) -> str:
    return "PESQ, narrowband" if rate == 8000 else "PESQ, wideband"


def placed(systems: dict[str, Any], key: str) -> dict[str, tuple[float, float]]:
    """Where each system stands: (streams a core, quality)."""
    return {n: (s["streams_per_core"], s[key]) for n, s in systems.items() if s["streams_per_core"] and n != "noisy"}


def panel(ax: Axes, systems: dict[str, Any], key: str, ours: set[str]) -> None:
    points = placed(systems, key)
    ax.set_xscale("log")
    for name, (x, y) in points.items():
        mine = name in ours
        ax.scatter(x, y, s=58 if mine else 38, color="#0b6e4f" if mine else "#8a8f98", zorder=3, linewidths=0)
    if "noisy" in systems:
        ax.axhline(systems["noisy"][key], color="#c0392b", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        ax.annotate("noisy input", (0.995, systems["noisy"][key]), xycoords=("axes fraction", "data"), fontsize=8,
                    ha="right", va="bottom", color="#c0392b", xytext=(0, 2), textcoords="offset points")  # fmt: skip
    if points:
        xs, ys = zip(*points.values(), strict=True)
        ax.set_xlim(min(xs) / 2.2, max(xs) * 2.8)
        low = min([*ys, systems.get("noisy", {}).get(key, min(ys))])
        ax.set_ylim(low - 0.08 * (max(ys) - low + 0.1), max(ys) + 0.12 * (max(ys) - low + 0.1))
    ax.grid(True, which="major", color="#e3e5e8", linewidth=0.8, zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("streams in real time on one core (more is cheaper)")
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")


OFFSETS = ((7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top"),
           (6, 6, "left", "bottom"), (-6, 6, "right", "bottom"), (6, -6, "left", "top"), (-6, -6, "right", "top"),
           (0, 16, "center", "bottom"), (0, -16, "center", "top"), (14, 14, "left", "bottom"),
           (14, -14, "left", "top"))  # fmt: skip
"""Where a label may stand beside its point, best first: points right, points up, and its own alignment."""


def label_points(ax: Axes, points: dict[str, tuple[float, float]], ours: set[str]) -> None:
    """Labels every point where the label covers least of other labels and points."""
    from matplotlib.transforms import Bbox

    ax.figure.canvas.draw()
    renderer = ax.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # Agg's canvas has one
    dots = [ax.transData.transform(p) for p in points.values()]
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in dots]
    for name, point in sorted(points.items(), key=lambda item: item[0] not in ours):
        best = None
        for dx, dy, ha, va in OFFSETS:
            style = {"color": "#0b6e4f", "fontweight": "bold"} if name in ours else {"color": "#3c4048"}
            text_ = ax.annotate(
                name, point, xytext=(dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=8.5, **style
            )
            box = text_.get_window_extent(renderer)
            cost = sum(overlap(box, other) for other in taken) + 1e3 * (not within(box, ax.bbox))
            if best is None or cost < best[0]:
                if best:
                    best[1].remove()
                best = (cost, text_, box)
            else:
                text_.remove()
            if cost == 0:
                break
        if best:
            taken.append(best[2])


def overlap(a: Any, b: Any) -> float:
    """Shared area of two boxes in square pixels."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(width, 0) * max(height, 0))


def within(a: Any, b: Any) -> bool:
    return bool(a.x0 >= b.x0 and a.x1 <= b.x1 and a.y0 >= b.y0 and a.y1 <= b.y1)
