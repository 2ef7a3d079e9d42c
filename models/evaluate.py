"""Measures the exported graphs against other suppressors: `python -m models.evaluate [--quick] [--cards]`.

Prints a Markdown table a rate, writes models/evaluation.json, and with --cards the figures into the graphs' cards.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models import metrics, systems, testset
from models.export import FOLDER, card_path, write_card

COLUMNS = {
    "pesq": "PESQ", "dnsmos": "DNSMOS OVRL", "stoi": "STOI", "si_sdr_db": "SI-SDR, dB",
    "pause_reduction_db": "noise in pauses falls by, dB", "speech_gain_db": "speech level, dB",
}  # fmt: skip
Figures = dict[str, dict[str, float]]


def speech_figures(folder: Path, rate: int, count: int) -> Figures:
    """Mean figures of every system over the noisy test clips."""
    clips, figures = testset.speech_in_noise(folder, rate, count), {}
    with tqdm(total=count * len(systems.SYSTEMS), desc=f"{rate} Hz", mininterval=2) as bar:
        for name, suppress in systems.SYSTEMS.items():
            rows = []
            for output, noisy, clean, pauses in zip(
                suppress(clips.noisy, rate), clips.noisy, clips.clean, clips.pauses, strict=True
            ):
                rows.append(metrics.judge(output, noisy, clean, pauses, rate))
                bar.update()
            figures[name] = {key: round(float(np.mean([r[key] for r in rows])), 3) for key in COLUMNS}
    return figures


def level_change(before: np.ndarray, after: np.ndarray) -> float:
    """Median over clips of the change of level, in dB."""
    change = 10 * np.log10((np.square(after).mean(axis=1) + 1e-12) / (np.square(before).mean(axis=1) + 1e-12))
    return round(float(np.median(change)), 2)


def passing_figures(folder: Path, rate: int) -> dict[str, float]:
    """What happens to audio that should pass: clean speech, music, tones; and to music that should not."""
    clips = testset.speech_in_noise(folder, rate, 12, seed=9)
    clean = np.stack([testset.line(c, rate) for c in clips.clean])
    cleaned = systems.ours(clean, rate)
    others = testset.music_and_tones(folder, rate)
    gains = [metrics.speech_gain(o, c) for o, c in zip(cleaned, clean, strict=True)]
    scores = [metrics.pesq_score(o, c, rate) for o, c in zip(cleaned, clean, strict=True)]
    return {
        "clean_speech_gain_db": round(float(np.mean(gains)), 2),
        "clean_speech_pesq": round(float(np.mean(scores)), 2),
        "music_kept_gain_db": level_change(others["music"], systems.ours(others["music"], rate)),
        "music_suppressed_gain_db": level_change(
            others["music"], systems.ours(others["music"], rate, keep_music=False)
        ),
        "tones_gain_db": level_change(others["tones"], systems.ours(others["tones"], rate)),
    }


def table(rate: int, figures: Figures) -> str:
    lines = [f"| {rate // 1000} kHz | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, row in figures.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:.2f}" for key in COLUMNS) + " |")
    return "\n".join(lines)


def into_card(rate: int, figures: Figures, passing: dict[str, float]) -> None:
    card = json.loads(card_path(rate).read_text())
    quality = {"test": "held-out voices and noises, 0 to 15 dB", "noisy": figures["noisy"], **figures["ours, level 80"]}
    card["quality"] = {**quality, **passing}
    write_card(rate, card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rate", type=int, choices=(8000, 16000), action="append")
    parser.add_argument("--quick", action="store_true", help="a fifth of the clips")
    parser.add_argument("--cards", action="store_true", help="write the figures into the cards")
    parser.add_argument("--output", type=Path, default=FOLDER / "evaluation.json")
    args = parser.parse_args()
    count = 12 if args.quick else 60
    results = json.loads(args.output.read_text()) if args.output.exists() else {}
    for rate in args.rate or (8000, 16000):
        figures, passing = speech_figures(args.data, rate, count), passing_figures(args.data, rate)
        results[str(rate)] = {"clips": count, "systems": figures, "passing": passing}
        print(table(rate, figures), json.dumps(passing), sep="\n\n", end="\n\n", flush=True)
        args.output.write_text(json.dumps(results, indent=2) + "\n")
        if args.cards:
            into_card(rate, figures, passing)


if __name__ == "__main__":
    main()
