"""The command `python -m loadtest`."""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from loadtest import report
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
A stage holds when no packet of its measured seconds is lost, nothing was left dry for lack of time, and the 99th
percentile of the added delay (10 ms of it algorithmic) is within the limit. It is invalid, and no result, when the
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
  python -m loadtest grpc --streams 100 --frame-ms 20 --uploads 20 live streams beside uploads

Exit codes: 0 measured; 1 the gateway did not start or broke; 2 wrong usage.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def streams(options: argparse.Namespace) -> int:
    """The stages over gRPC."""
    chosen = ((options.streams, options.frame_ms, options.mux),) if options.streams else STAGES
    print(HEAD)
    try:
        stages = []
        for number, frame_ms, mux in chosen:
            stages.append(measure(number, frame_ms, mux, options.seconds or 10, options.uploads))
            print(stages[-1].line(), flush=True)
    except (PeerError, RuntimeError) as fault:
        print(f"loadtest: {fault}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps([asdict(stage) for stage in stages], indent=2) + "\n")
    return 0


def capacity(options: argparse.Namespace) -> int:
    """The stages over RTP."""
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
    if options.json:
        options.json.write_text(json.dumps(report.to_json(run.report), indent=2) + "\n")
    return status


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
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
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
    command.add_argument(
        "--uploads", type=int, default=0, metavar="N", help="so many uploads beside, as fast as they go"
    )
    command.add_argument("--seconds", type=_seconds, metavar="S", help="measured seconds of a stage (10)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


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
