"""Where a graph's time goes, operator by operator: `python -m models.profile [--model standard --rate 8000]`.

A graph runs on one thread over a batch of streams, once with ONNX Runtime's profiler and once without. Each operator
counts with the shortest time it ever took, since other work on the machine only adds to it. `--compare a.onnx b.onnx`
sets two graphs side by side; `--unfused` sets a graph beside itself as it was written, without the runtime's fusing
and reordering. Needs only numpy and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime import GraphOptimizationLevel as Level

FOLDER = Path(__file__).parent
FRAME_S = 0.01


@dataclass(frozen=True, slots=True)
class Profile:
    """Times of one graph, in microseconds a frame and stream."""

    name: str
    operators: dict[str, tuple[int, float]]
    """Kind of operator -> (how many there are, their time together)."""
    whole: float
    """A frame without the profiler."""

    @property
    def summed(self) -> float:
        return sum(spent for _, spent in self.operators.values())


class Runner:
    """One session, fed the same noise and its own state."""

    def __init__(self, graph: Path, batch: int, level: Level, profile: Path | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = level
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        hop, width = (self.session.get_inputs()[i].shape[1] for i in (0, 1))
        pcm = np.random.default_rng(0).standard_normal((batch, hop)).astype(np.float32) * 0.05
        control = np.tile(np.array([[0.0, 1.0]], np.float32), (batch, 1))
        self.feed = {"pcm": pcm, "control": control, "state": np.zeros((batch, width), np.float32)}

    def best_s(self, seconds: float) -> float:
        """Shortest time of a frame of the whole batch."""
        best, until = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < until:
            start = time.perf_counter()
            self.feed["state"] = self.session.run(None, self.feed)[1]
            best = min(best, time.perf_counter() - start)
        return best


def profile(graph: Path, batch: int, seconds: float, level: Level = Level.ORT_ENABLE_ALL, note: str = "") -> Profile:
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(graph, batch, level, Path(folder) / "profile")
        runner.best_s(seconds)
        events = json.loads(Path(runner.session.end_profiling()).read_text())
    whole = Runner(graph, batch, level).best_s(seconds) / batch * 1e6
    return Profile(graph.stem + note, by_operator(events, batch), whole)


def by_operator(events: list[dict], batch: int) -> dict[str, tuple[int, float]]:
    """Sums each node's shortest time by kind, longest first."""
    shortest: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["args"]["node_index"]
            shortest[key] = min(shortest.get(key, float("inf")), event["dur"])
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), spent in shortest.items():
        kinds[kind].append(spent / batch)
    sums = {kind: (len(times), sum(times)) for kind, times in kinds.items()}
    return dict(sorted(sums.items(), key=lambda item: -item[1][1]))


def table(p: Profile) -> str:
    lines = [f"{p.name}", f"{'operator':32}{'count':>6}{'µs':>9}{'share':>8}"]
    for kind, (count, spent) in p.operators.items():
        lines.append(f"{kind:32}{count:6}{spent:9.3f}{spent / p.summed:8.1%}")
    lines.append(f"{'all operators':32}{sum(c for c, _ in p.operators.values()):6}{p.summed:9.3f}")
    return "\n".join([*lines, *totals(p)])


def totals(p: Profile) -> list[str]:
    return [
        f"{'a frame, not profiled':38}{p.whole:9.3f}",
        f"{'streams a core':38}{FRAME_S * 1e6 / p.whole:9.0f}",
    ]


def comparison(a: Profile, b: Profile) -> str:
    lines = [f"{'operator':32}{a.name:>24}{b.name:>24}{'gained, µs':>12}"]
    pairs = [(kind, *(p.operators.get(kind, (0, 0.0)) for p in (a, b))) for kind in a.operators | b.operators]
    for kind, (count, spent), (other_count, other) in sorted(pairs, key=lambda pair: pair[2][1] - pair[1][1]):
        lines.append(f"{kind:32}{count:12}{spent:12.3f}{other_count:12}{other:12.3f}{spent - other:12.3f}")
    for what, x, y in (("all operators", a.summed, b.summed), ("a frame, not profiled", a.whole, b.whole)):
        lines.append(f"{what:32}{x:24.3f}{y:24.3f}{x - y:12.3f}")
    before, after = (FRAME_S * 1e6 / p.whole for p in (a, b))
    lines.append(f"{'streams a core':32}{before:24.0f}{after:24.0f}{after - before:12.0f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="standard")
    parser.add_argument("--rate", type=int, choices=(8000, 16000), default=8000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0, help="of running, with the profiler and without")
    parser.add_argument("--unfused", action="store_true", help="compare with the graph as it was written")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="two graphs")
    args = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, {args.batch} streams, one thread; µs are a frame and stream\n")
    graph = FOLDER / f"{args.model}_{args.rate // 1000}k.onnx"
    if args.compare:
        print(comparison(*(profile(path, args.batch, args.seconds) for path in args.compare)))
    elif args.unfused:
        written = profile(graph, args.batch, args.seconds, Level.ORT_DISABLE_ALL, ", unfused")
        print(comparison(written, profile(graph, args.batch, args.seconds)))
    else:
        print(table(profile(graph, args.batch, args.seconds)))


if __name__ == "__main__":
    main()
