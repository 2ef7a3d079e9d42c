"""Measures the models against other suppressors on speech and noise that training never heard.

  python -m models.rivals fetch                        once: the comparison engines, the recogniser, English test speech
  python -m models.evaluate --quick                    a rough answer in about five minutes
  python -m models.evaluate                            everything; goes on where an interrupted run stopped
  python -m models.evaluate --rate 8000 --systems standard,RNNoise,noisy
  python -m models.evaluate --targets                  what the standard models must reach, and how far they are
  python -m models.evaluate --cards                    writes our figures into the cards beside the graphs

Tables go to the screen and to out/evaluation/report.md, figures to models/evaluation.json, the plot to
docs/quality-against-cost.png, sound for the listening page to out/evaluation/<rate>/. What was measured once is kept in
out/evaluation/cache, by system version and clip.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models import heldout, rivals
from models.evaluation import figures, measure, report, systems, targets, testset
from models.evaluation.figures import Results
from models.evaluation.measure import Store
from models.evaluation.testset import Clip
from models.files import replacing
from models.runtime import cpu_name

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out" / "evaluation"
FIGURES = ROOT / "models" / "evaluation.json"
PLOT = ROOT / "docs" / "quality-against-cost.png"


class EvaluationError(Exception):
    """The evaluation cannot run as asked; the message says what to do."""


def chosen(wanted: str | None, rate: int) -> dict[str, systems.System]:
    """The systems to measure at a rate, `noisy` and RNNoise always, since the others are told against them."""
    if wanted is None:
        names = list(systems.SYSTEMS)
    else:
        names = [*dict.fromkeys(["noisy", *(name.strip() for name in wanted.split(","))])]
    absent = systems.absent()
    if wanted is None and absent:
        raise EvaluationError("\n".join([
            "These comparison engines are not here:",
            *(f"  {name}: {reason}" for name, reason in absent.items()),
            "Fetch them with `python -m models.rivals fetch`, or name the systems to measure with --systems.",
        ]))  # fmt: skip
    if unknown := [name for name in names if name not in systems.SYSTEMS]:
        why = "; ".join(absent.get(name, f"{name} is no system") for name in unknown)
        raise EvaluationError(f"{why}. Known here: {', '.join(systems.SYSTEMS)}")
    return {name: systems.SYSTEMS[name] for name in names if rate in systems.SYSTEMS[name].rates}


def tests_path(rate: int, quick: bool) -> Path:
    """Where the test set lies; a quick run makes only its own clips unless all are there."""
    whole = OUT / str(rate) / "testset.npz"
    return whole.with_name("quick.npz") if quick and not whole.exists() else whole


def positions(tests: testset.ClipSet, quick: bool) -> list[int]:
    return [i for i, clip in enumerate(tests.clips) if clip.turn == 0 or not quick]


def costs(found: dict[str, systems.System], rate: int, kept: dict[str, float], skip: bool) -> dict[str, float]:
    """Streams a core of each system, measured now; where that is skipped, as last measured."""
    if skip:
        return {name: kept[name] for name in found if name in kept}
    print(f"Measuring cost at {rate} Hz; other work on this machine makes it look higher", file=sys.stderr)
    return {name: system.streams(rate) for name, system in found.items() if name != "noisy"}


def results(rate: int, args: argparse.Namespace, kept: dict[str, Any]) -> Results:
    """Measures what the cache lacks, and gathers everything about the chosen systems."""
    found, path = chosen(args.systems, rate), tests_path(rate, args.quick)
    tests = testset.build(args.data, rate, path, turns=1 if path.stem == "quick" else 3)
    known = {name: s["streams_per_core"] for name, s in kept.get("systems", {}).items() if s.get("streams_per_core")}
    streams = costs(found, rate, known, args.no_cost)
    stores = {
        name: Store(OUT / "cache" / str(rate), name, measure.fingerprint(name, s.version, s.suppress, rate))
        for name, s in found.items()
    }
    wanted = positions(tests, args.quick)
    if not args.offline:
        measure.run(stores, tests, path, wanted, args.workers)
    rows = {name: rows_of(store, tests, wanted) for name, store in stores.items()}
    return shared([tests.clips[i] for i in wanted], rows, rate, streams)


def shared(
    clips: list[Clip], rows: dict[str, dict[str, figures.Figures]], rate: int, streams: dict[str, float]
) -> Results:
    """The clips that every system was measured on, so that figures compare even before all is measured.

    A system with less than three quarters of the clips that the fullest has is left out.
    """
    most = max(map(len, rows.values()))
    kept = {name: r for name, r in rows.items() if len(r) >= 0.75 * most and len(r)}
    for name in rows.keys() - kept.keys():
        print(f"{name}: only {len(rows[name])} of {len(clips)} clips measured so far, left out", file=sys.stderr)
    common = [clip for clip in clips if all(clip.id in r for r in kept.values())]
    if len(common) < len(clips):
        print(f"{len(common)} of {len(clips)} clips are measured on all systems shown", file=sys.stderr)
    return Results(rate, common, kept, streams)


def rows_of(store: Store, tests: testset.ClipSet, wanted: list[int]) -> dict[str, figures.Figures]:
    of = {tests.clips[i].id: tests.clips[i].digest for i in wanted}
    return {name: store.figures[digest] for name, digest in of.items() if digest in store.figures}


def about(rate: int, quick: bool, found: Results) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": cpu_name(),
        "quick": quick,
        "test_set": testset.VERSION,
        "versions": {name: measure.version_at(systems.SYSTEMS[name].version, rate) for name in found.rows},
    }


def write_index(found: Results, tests_path: Path) -> None:
    """Original and clean sound of the clips to hear, and index.json that lists them with their figures."""
    read = testset.read(tests_path)
    assert read is not None
    tests, folder, entries = read[1], tests_path.parent, []
    hear = [c for c in measure.chosen_to_hear(tests.clips) if (folder / c).exists()]
    for i, clip in enumerate(tests.clips):
        if clip.id not in hear:
            continue
        measure.write_wav(folder / clip.id / "clean.wav", testset.to_float(tests.clean[i]), tests.rate)
        scores = {
            measure.file_name(name): {"name": name, **{k: round(rows[clip.id][k], 3) for k in ("pesq", "ovrl")}}
            for name, rows in found.rows.items()
            if clip.id in rows
        }
        entries.append({
            "id": clip.id, "noise": clip.noise, "condition": clip.condition, "snr": clip.snr_db, "voice": clip.voice,
            "line": clip.line, "systems": scores,
        })  # fmt: skip
    (folder / "index.json").write_text(json.dumps({"rate": tests.rate, "clips": entries}, indent=1) + "\n")


def into_cards(rate: int, measured: dict[str, Any]) -> None:
    """Writes our models' figures into the cards beside their graphs."""
    unmeasured = ("differences", "streams_per_core")
    for name in systems.our_models():
        if name not in measured["systems"]:
            continue
        path = systems.graph_path(name, rate).with_suffix(".json")
        card = json.loads(path.read_text())
        figures_ = {k: v for k, v in measured["systems"][name].items() if k not in unmeasured}
        noisy = {k: measured["systems"]["noisy"][k] for k in report.COMPARED}
        card["quality"] = {"test": "python -m models.evaluate", "date": measured["date"], "noisy": noisy, **figures_}
        with replacing(path) as part:
            part.write_text(json.dumps(card, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, default=heldout.default_data(), help="folder of recordings (default: %(default)s)")
    add("--rate", type=int, choices=(8000, 16000), action="append", help="only this rate; may be given twice")
    add("--quick", action="store_true", help="about a sixth of the clips")
    add("--systems", metavar="A,B", help="only these; `noisy` is always measured (default: all, and all must be here)")
    add("--workers", type=int, default=2, help="processes side by side (default: %(default)s)")
    add("--no-cost", action="store_true", help="keep the streams a core that were measured last")
    add("--offline", action="store_true", help="measure nothing new, only report what the cache holds")
    add("--targets", action="store_true", help="print only what the standard models must reach")
    add("--cards", action="store_true", help="write the figures of our models into their cards")
    add("--output", type=Path, help=f"figures as JSON (default: {FIGURES}; nowhere when --systems names some)")
    return parser.parse_args()


def earlier(path: Path) -> dict[str, Any]:
    """Figures of an earlier run by rate, as far as they belong to the present test set."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return {rate: kept for rate, kept in found.items() if kept.get("test_set") == testset.VERSION}


def main() -> int:
    args = parse()
    output = args.output or (FIGURES if args.systems is None else None)
    before = earlier(output or FIGURES)
    measured, reports = {}, []
    try:
        for rate in args.rate or (8000, 16000):
            kept = before.get(str(rate), {})
            found = results(rate, args, kept)
            measured[str(rate)] = report.as_json(found, facts := about(rate, args.quick, found))
            reports.append(report.text(found, facts))
            print(targets.tables(found) if args.targets else reports[-1], flush=True)
            write_index(found, tests_path(rate, args.quick))
            if args.cards:
                into_cards(rate, measured[str(rate)])
    except (EvaluationError, heldout.HeldOutError, rivals.RivalError, ModuleNotFoundError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    (OUT / "report.md").write_text("# Evaluation\n\n" + "\n".join(reports))
    if output is not None:
        output.write_text(json.dumps({**before, **measured}, indent=1) + "\n")
    if output is not None and output.resolve() == FIGURES:
        report.plot({**before, **measured}, {*systems.our_models(), "standard (level 100)"}, PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
