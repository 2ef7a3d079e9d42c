"""The command `python -m loadtest`."""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from gateway.config import EngineConfig
from loadtest import beside, codecs, gpu, renew, report
from loadtest.capacity import PARTS, Capacity, Options, to_stderr
from loadtest.ng import NgError
from loadtest.peers import PeerError
from loadtest.streams import HEAD, STAGES, measure

DESCRIPTION = """\
How many legs does one media core hold? Starts the gateway as a black box with its media worker on one core, places
calls over NG like a SIP proxy, sends speech and noise in real time from the other core, and matches every packet that
comes back. A leg is one received stream of 50 packets a second (PCMU, 20 ms); a two-party call has two.
"""
EPILOG = """\
A stage holds when no packet of its measured seconds is lost, nothing was left dry for lack of time, detectors took
hardly any of it for a signal to leave alone, and the 99th percentile of the added delay (10 ms of it algorithmic) is
within the limit. It is invalid, and no result, when the
generator itself was above 80 % of its core or sent more than 2 ms late at p99. Leave the machine alone while it runs;
as root, what is measured and what measures it also go before other programs.

parts:
  denoise    the most denoised legs, delay at 50 legs, memory at 1,000, 20 legs against `denoise-gateway file`
  setups     100 call set-ups a second beside 300 denoised legs
  relay      the most legs with denoise=off, and the same for Debian's rtpengine without its kernel module

examples:
  python -m loadtest capacity --json capacity.json          everything; about ten minutes
  python -m loadtest capacity --quick                       the ladder only, five seconds a stage, no halving
  python -m loadtest capacity --parts denoise --legs 700    one stage
  DENOISE_GATEWAY_MEDIA__BATCH_INTERVAL_MS=4 python -m loadtest capacity --parts denoise

Exit codes: 0 measured; 1 the gateway did not start or broke; 2 wrong usage.
"""
GPU_DESCRIPTION = """\
How many streams does a GPU hold? Times a step of our networks (10 ms of every stream) against the rows of its batch,
through PyTorch (bf16 and fp32, CUDA graphs) and through ONNX Runtime with IO binding. State stays on the device; a step
is timed from 16-bit audio in the host's memory to 16-bit audio in the host's memory.
"""
GPU_EPILOG = """\
It needs an environment of its own, where onnxruntime-gpu takes the place of onnxruntime:

  python3 -m venv gpu
  gpu/bin/pip install -e '.[gpu]'
  gpu/bin/pip uninstall -y onnxruntime && gpu/bin/pip install onnxruntime-gpu      # one replaces the other
  gpu/bin/python -m loadtest gpu --renew --json gpu.json

examples:
  python -m loadtest gpu --models standard_8k --paths torch-bf16
  python -m loadtest gpu --device cpu --quick       a dry run of the same code; says nothing about a GPU

Exit codes: 0 measured; 1 no such device, or a package is missing; 2 wrong usage.
"""
RENEW = "write what was measured into gateway/capacity.json, for `denoise-gateway plan`"

UPLOADS_MOVE_MS = 2.0
GRPC_DESCRIPTION = """\
How many real-time streams does the gateway carry over gRPC? Starts it with one control process and one media process,
and a client in a process of its own; prints the round trip of frames beside the algorithmic delay, and what each
process took of a core.
"""
GRPC_EPILOG = """\
A stage holds when nothing is lost and the 99th percentile of the round trip is at most 35 ms. The client speaks just
enough HTTP/2 by itself: grpc.aio would take as much of the machine as the server.

examples:
  python -m loadtest grpc                                          80 streams of 10 ms, 300 of 60 ms, 300 multiplexed
  python -m loadtest grpc --streams 100 --frame-ms 20              one stage
  python -m loadtest grpc --streams 300 --frame-ms 20 --mux        the same over one DenoiseMux
  python -m loadtest grpc --streams 100 --frame-ms 20 --mux --uploads 20   the same without and with uploads, in turn
  python -m loadtest grpc --calls 200 --uploads 20                         calls over RTP without and with uploads

Uploads go as fast as they may, from a process of their own; what they move the p99 by is the median of all rounds.

Exit codes: 0 measured; 1 the gateway did not start or broke; 2 wrong usage.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    status: int = options.run(options)
    return status


def streams(options: argparse.Namespace) -> int:
    """The stages over gRPC, or one beside uploads."""
    found: list[beside.Measured] = []
    print(beside.HEAD if options.calls else HEAD)
    try:
        for stage in _stages(options):
            found.append(stage)
            print(stage.line(), flush=True)
    except (PeerError, NgError, RuntimeError) as fault:
        print(f"loadtest: {fault}", file=sys.stderr)
        return 1
    if options.uploads:
        print(beside.verdict(found, UPLOADS_MOVE_MS))
    if options.json:
        options.json.write_text(json.dumps([asdict(stage) for stage in found], indent=2) + "\n")
    return 0


def _stages(options: argparse.Namespace) -> Iterator[Any]:
    seconds = options.seconds or 10
    if options.calls:
        one: Callable[[int], beside.Measured] = partial(beside.calls, options.calls, seconds)
    elif options.streams or options.uploads:
        one = partial(
            measure, options.streams or 100, options.frame_ms, options.mux, seconds, served_by=options.processes
        )
    else:
        yield from (
            measure(number, frame_ms, mux, seconds, served_by=options.processes) for number, frame_ms, mux in STAGES
        )
        return
    yield from beside.alternate(one, options.uploads, options.rounds) if options.uploads else (one(0),)


def capacity(options: argparse.Namespace) -> int:
    """Legs that one media core holds."""
    try:
        run = Capacity(_options(options), to_stderr)
    except RuntimeError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    status = 0
    try:
        run.run()
    except (PeerError, NgError) as fault:
        print(f"loadtest: {fault}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    print(report.to_text(run.report))
    found = report.to_json(run.report)
    _write(options.json, found)
    if options.renew and not status:
        model = options.model or EngineConfig().model
        renewed: list[str] = []
        renew.renew(lambda figures: renew.calls(figures, found, model, renewed))
        to_stderr(f"renewed: {', '.join(renewed) or 'nothing, for nothing held'}")
    return status


def on_gpu(options: argparse.Namespace) -> int:
    """Streams that a GPU holds."""
    wanted = gpu.Options(
        device=options.device,
        models=options.models,
        paths=options.paths,
        rows=gpu.QUICK_ROWS if options.quick else gpu.ROWS,
        steps=30 if options.quick else 300,
        limit_ms=options.limit_ms,
    )
    if options.renew and options.device == "cpu":
        print("loadtest: --renew is for GPUs: a dry run on a processor is not written down", file=sys.stderr)
        return 2
    try:
        found = gpu.run(wanted, to_stderr)
    except gpu.GpuError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    print(gpu.to_text(found))
    _write(options.json, gpu.to_json(found))
    if options.renew:
        renew.renew(lambda figures: renew.gpus(figures, found))
    return 0


def on_triton(options: argparse.Namespace) -> int:
    """What Triton adds to a batch, or what a server carries."""
    from loadtest import clients, triton

    try:
        if options.endpoint:
            rows = min(options.slots or (64,))
            wish = clients.Wish(options.endpoint, options.model, options.rate, options.clients, rows, options.rounds,
                                options.limit_ms)  # fmt: skip
            best = triton.as_worker(clients.climb, wish, print)
            print(f"{best.streams if best else 0} streams within {options.limit_ms:g} ms")
            return 0
        sizes = options.slots or (64, 256, 512)
        largest = triton.report(options.model, options.rate, sizes, options.rounds, options.runtime, options.json)
        if options.renew:
            client_ms = largest.client_cpu
            renew.renew(lambda figures: renew.triton(figures, options.rate, largest.slots, client_ms))
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    return 0


def codec_cost(options: argparse.Namespace) -> int:
    """What a packet costs each codec."""
    found = codecs.microseconds()
    print("| codec / Hz | µs a packet of 20 ms, decoded and encoded |\n|---|---|")
    for name, cost in found.items():
        print(f"| {name} | {cost:.2f} |")
    if options.renew:
        renew.renew(lambda figures: renew.codecs(figures, found))
    return 0


def written(options: argparse.Namespace) -> int:
    """Figures of a run that has ended."""
    try:
        found = json.loads(options.report.read_text())
        found["machine"]["date"] = date.fromtimestamp(options.report.stat().st_mtime).isoformat()
        renewed: list[str] = []
        renew.renew(lambda figures: renew.calls(figures, found, options.model, renewed))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"loadtest: {options.report} is no JSON of `loadtest capacity`: {error}", file=sys.stderr)
        return 2
    to_stderr(f"renewed: {', '.join(renewed) or 'nothing, for nothing held'}")
    return 0


def _write(path: Path | None, found: object) -> None:
    if path:
        path.write_text(json.dumps(found, indent=2) + "\n")


def _options(found: argparse.Namespace) -> Options:
    seconds = found.seconds or (5 if found.quick else 10)
    return Options(
        parts=found.parts,
        legs=found.legs,
        seconds=seconds,
        limit_ms=found.limit_ms,
        peer=found.peer,
        engine=found.engine,
        model=found.model,
        quick=found.quick,
        minutes=found.minutes,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description="Load generator of denoise-gateway.")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    command = commands.add_parser(
        "capacity",
        help="the most legs that one media core holds",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=capacity)
    command.add_argument("--legs", type=_legs, metavar="N", help="only this stage, in each part")
    command.add_argument("--seconds", type=_seconds, metavar="S", help="measured seconds of a stage (10)")
    command.add_argument("--limit-ms", type=float, default=20.0, metavar="MS", help="p99 of the added delay (20)")
    command.add_argument("--quick", action="store_true", help="shorter and coarser")
    command.add_argument("--parts", type=_parts, default=frozenset(PARTS), metavar="LIST", help=",".join(PARTS))
    command.add_argument("--peer", choices=("rtpengine", "none"), default="rtpengine", help="what relay is compared to")
    command.add_argument("--engine", choices=("ort", "passthrough"), default="ort", help="engine.kind (ort)")
    command.add_argument("--model", help="engine.model (the gateway's default)")
    command.add_argument("--minutes", type=float, default=15.0, help="begin no stage after so long (15)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    command.add_argument("--renew", action="store_true", help=RENEW)
    command.set_defaults(run=capacity)
    _gpu_parser(commands)
    command = commands.add_parser(
        "codecs", help="what a packet costs each codec", description="Processor time of codecs, without calls."
    )
    command.add_argument("--renew", action="store_true", help=RENEW)
    command.set_defaults(run=codec_cost)
    command = commands.add_parser(
        "renew", help="write the JSON of an earlier capacity run into gateway/capacity.json", description=RENEW
    )
    command.add_argument("report", type=Path, metavar="FILE", help="what `capacity --json` wrote")
    command.add_argument("--model", default=EngineConfig().model, help="that it ran with (the gateway's default)")
    command.set_defaults(run=written)
    _triton_parser(commands)
    _grpc_parser(commands)
    return parser


def _gpu_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "gpu",
        help="streams that a GPU holds",
        description=GPU_DESCRIPTION,
        epilog=GPU_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run (cuda)")
    command.add_argument(
        "--models", type=_some(gpu.MODELS), default=gpu.MODELS, metavar="LIST", help=",".join(gpu.MODELS)
    )
    command.add_argument("--paths", type=_some(gpu.PATHS), default=gpu.PATHS, metavar="LIST", help=",".join(gpu.PATHS))
    command.add_argument("--quick", action="store_true", help="two small batches, thirty steps each")
    command.add_argument("--limit-ms", type=float, default=8.0, metavar="MS", help="p99 of a step (8)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    command.add_argument("--renew", action="store_true", help=RENEW)
    command.set_defaults(run=on_gpu)


def _grpc_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "grpc",
        help="real-time streams over gRPC, and their round trip",
        description=GRPC_DESCRIPTION,
        epilog=GRPC_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=streams)
    command.add_argument("--streams", type=int, metavar="N", help="only this stage")
    command.add_argument("--frame-ms", type=int, choices=range(10, 61, 10), default=10, metavar="MS", help="10 to 60")
    command.add_argument("--mux", action="store_true", help="all streams over one DenoiseMux")
    command.add_argument("--calls", type=int, metavar="N", help="legs of calls over RTP instead of streams")
    command.add_argument(
        "--uploads", type=int, default=0, metavar="N", help="without and with so many uploads beside, in turn"
    )
    command.add_argument("--processes", type=int, default=1, metavar="N", help="grpc.processes of the gateway (1)")
    command.add_argument("--rounds", type=int, default=3, metavar="N", help="how often, with --uploads (3)")
    command.add_argument("--seconds", type=_seconds, metavar="S", help="measured seconds of a stage (10)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def _triton_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "triton",
        help="what NVIDIA Triton on this machine's CPU adds to a batch, and what any Triton carries",
        description="Starts the real tritonserver (deploy/triton/local.sh) and measures batches there and embedded; "
        "with --endpoint, how many streams a server that runs already carries for several clients.",
        epilog="examples:\n  python -m loadtest triton --model standard_fp32 --slots 64,512\n"
        "  python -m loadtest triton --runtime torch              fetches torch for the server (0.2 GB or more)\n"
        "  python -m loadtest triton --endpoint 10.0.0.9:8001 --clients 8 --slots 512 --model standard",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--model", default="light", metavar="NAME", help="of models/ (light)")
    command.add_argument("--rate", type=int, choices=(8000, 16000), default=8000, help="Hz (8000)")
    command.add_argument(
        "--slots", type=_sizes, metavar="N,N", help="batches (64,256,512); with --endpoint, a client's first (64)"
    )
    command.add_argument("--rounds", type=_seconds, default=300, metavar="N", help="of each batch (300)")
    what = command.add_mutually_exclusive_group()
    what.add_argument("--endpoint", metavar="HOST:PORT", help="gRPC of a server that runs; climb until it is slow")
    what.add_argument("--renew", action="store_true", help=RENEW)
    command.add_argument("--clients", type=int, default=4, metavar="N", help="with --endpoint: processes (4)")
    command.add_argument("--limit-ms", type=float, default=10.0, metavar="MS", help="with --endpoint: p99 (10)")
    command.add_argument(
        "--runtime", choices=("onnx", "torch"), default="onnx", help="what the server runs the network in (onnx)"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    command.set_defaults(run=on_triton)


def _some(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def chosen(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if not set(names) <= set(known):
            raise argparse.ArgumentTypeError(f"found {text!r}, expected some of {','.join(known)}")
        return names

    return chosen


def _sizes(text: str) -> tuple[int, ...]:
    if not all(part.isdigit() and 0 < int(part) <= 4096 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected numbers of slots from 1 to 4096, such as 64,512")
    return tuple(int(part) for part in text.split(","))


def _legs(text: str) -> int:
    if not text.isdigit() or not 2 <= int(text) <= 5000 or int(text) % 2:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected an even number from 2 to 5000: a call has two legs")
    return int(text)


def _seconds(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 600:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected whole seconds from 1 to 600")
    return int(text)


def _parts(text: str) -> frozenset[str]:
    chosen = frozenset(text.split(","))
    if not chosen <= set(PARTS):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected some of {','.join(PARTS)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
