"""The command `denoise-gateway`: serve, file, check-config, plan, export-triton.

What a user did wrong is one line on stderr and exit code 2. Everything heavy is imported by the command that needs it,
so that `--help` and `check-config` answer at once.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from gateway.config import ENGINE_KINDS, Config
from gateway.config_file import load
from gateway.detect.detection import CLOCK_HZ, Detection
from gateway.errors import CallerError, GatewayError

FAULT, USAGE_ERROR = 1, 2
SIGNALS_SHOWN = 20

HELP = """\
Takes the noise out of phone calls. Beside a SIP proxy it hands out media ports over rtpengine's NG protocol, and cleans
the audio of all calls at once with one neural network; hold music, DTMF and fax are left alone.
"""
EXAMPLES = """\
examples:
  denoise-gateway serve                                start on the defaults (NG 127.0.0.1:2223, admin 127.0.0.1:8080)
  denoise-gateway serve --config gateway.yaml          start as the file says
  denoise-gateway check-config gateway.yaml            say what is wrong with the file, or what it changes
  denoise-gateway file noisy.wav clean.wav             denoise a recording as a call would be
  denoise-gateway plan --calls 10000 --codec PCMU      cores, GPUs, ports and bandwidth for so many calls
  denoise-gateway export-triton repository             write the models for NVIDIA Triton

An environment variable overrides a single key: DENOISE_GATEWAY_MEDIA__PORT_MIN=20000 sets media.port_min.
Exit codes: 0 done; 1 stopped by a fault, or a recording is denoised only in part; 2 something you can put right: one
line on stderr says what.
"""
SERVE_EPILOG = """\
It checks descriptors, socket buffers, ports and models, says what to raise, and then prints the lines that connect
Kamailio. SIGTERM drains: no new calls, and the end when the last has ended or after calls.drain_timeout_s; a second
SIGTERM stops at once.

examples:
  denoise-gateway serve
  DENOISE_GATEWAY_INTERFACES__DEFAULT__ADVERTISE=198.51.100.7 denoise-gateway serve      behind NAT
  denoise-gateway serve --config gateway.yaml 2> >(jq .)                                 logs are JSON lines
"""
FILE_EPILOG = """\
The recording goes through the same packets, codec and engine as a call; the engine's delay is taken out, so IN and OUT
have the same length, sampling rate, channels and sample type. L16 keeps 16 bits and frequencies up to 8 kHz (up to
4 kHz when IN has at most 8 kHz sampling rate); the other codecs show what a phone would hear. When the engine fails on
the way, OUT is written all the same, stderr says which part of it is not denoised, and the exit code is 1.

examples:
  denoise-gateway file noisy.wav clean.wav
  denoise-gateway file noisy.flac clean.flac --level 50          at most 15 dB less noise
  denoise-gateway file noisy.wav phone.wav --codec PCMU          as a G.711 phone would hear it
  denoise-gateway file noisy.wav clean.wav --music suppress      music counts as noise
  denoise-gateway file noisy.wav clean.wav --bypass off          the network alone, without detectors
  denoise-gateway file noisy.wav clean.wav --engine rnnoise      another engine, to compare
  denoise-gateway file noisy.wav clean.wav --model own.yaml      a model of your own (docs/models.md)
"""
CHECK_EPILOG = """\
Prints OK and the keys that differ from their defaults (environment included), or the first thing that is wrong.
deploy/config.example.yaml explains every key. A running gateway keeps what it was started with, and one that is told
to restart takes no new calls until the last has ended or calls.drain_timeout_s is over: rather start another beside it,
point the proxy to that, and drain the old one (docs/operations.md, "Upgrading").

example:
  denoise-gateway check-config gateway.yaml
"""
PLAN_EPILOG = """\
It calculates from measured figures: those that come with the gateway, or yours (--figures; python -m loadtest
capacity --renew measures this machine). What was not measured is assumed, and the plan says so. Without a measured GPU
the network is planned on the gateways' cores, unless --streams-per-gpu says what one carries (docs/scaling.md).

examples:
  denoise-gateway plan --calls 10000
  denoise-gateway plan --calls 500 --codec G722 --model standard
  denoise-gateway plan --calls 100000 --streams-per-gpu 50000 --cores 64
  denoise-gateway plan --calls 10000 --json | jq .plan.gateway_cores
"""


EXPORT_EPILOG = """\
Writes each model at both rates: config.pbtxt, and a version with the network and the Python backend's model.py. The
state of all calls stays on the device, a row a slot; a media worker is one sequence. Then start a server on the folder,
and set engine.kind to triton and engine.endpoints (docs/triton.md). Triton's Python needs onnxruntime, for GPUs
onnxruntime-gpu; with --runtime torch it needs torch instead.

examples:
  denoise-gateway export-triton repository                                   light and standard, for CPUs
  denoise-gateway export-triton repository --device gpu --gpus 0,1 --rows 100000
  denoise-gateway export-triton repository --runtime torch --device gpu      torch with CUDA graphs, in bfloat16
  denoise-gateway export-triton repository --model standard --version 2      beside version 1, with the same options
  deploy/triton/local.sh repository --grpc-port 8001                         the real server, without Docker or GPU
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except GatewayError as error:
        print(f"denoise-gateway: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:
        # Whoever read the output has enough, as `head` has. At its end Python would flush into the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 130


def serve(options: argparse.Namespace) -> int:
    """Check the host, say where everything is, and run until a signal."""
    from gateway import app, banner, log, preflight

    config = load(options.config, os.environ)
    log.setup(config.log)
    preflight.raise_descriptor_limit()
    findings = preflight.check(config, preflight.look())
    for finding in findings:
        print(f"denoise-gateway: {'' if finding.fatal else 'warning: '}{finding.text}", file=sys.stderr)
    if any(finding.fatal for finding in findings):
        return USAGE_ERROR

    def on_ready(listening: app.Listening) -> None:
        app.log_ready(listening)
        print(banner.text(config, listening), flush=True)

    return app.serve(config, on_ready)


def file(options: argparse.Namespace) -> int:
    """Denoise a recording and say what changed."""
    import soundfile
    from tqdm import tqdm

    from gateway.file import denoise_file

    config = load(options.config, os.environ)
    level = config.denoise.level if options.level is None else options.level
    music = options.music or config.denoise.music
    engine = config.engine
    if options.model and options.engine not in (None, "ort", "triton"):
        raise CallerError(f"--model {options.model}: engine {options.engine} has no models; leave one of the two out")
    if options.engine or options.model:
        engine = replace(engine, kind=options.engine or "ort", model=options.model or engine.model)
    bypass = options.bypass or config.denoise.bypass
    denoise = replace(config.denoise, denoise="both", level=level, music=music, bypass=bypass)
    config = replace(config, engine=engine, denoise=denoise)
    try:
        seconds = soundfile.info(options.input).duration
    except (soundfile.LibsndfileError, OSError):
        seconds = None  # reading it will say why
    with tqdm(total=seconds, unit="s", unit_scale=True, disable=None, leave=False) as bar:
        report = denoise_file(options.input, options.output, config, options.codec, bar.update)
    print(f"{options.output}: {report.seconds:.1f} s, {report.seconds / max(report.took_s, 1e-9):.0f} times real time")
    if report.pauses_db == report.pauses_db:
        print(f"noise in the pauses: {report.pauses_db + 0.0:.1f} dB less")
    for line in signal_lines(report.signals):
        print(line)
    if not report.outage.stretches:
        return 0
    print(f"denoise-gateway: {options.output} is written, but {report.outage.text(report.seconds)}", file=sys.stderr)
    return FAULT


def signal_lines(signals: Sequence[Detection]) -> list[str]:
    """What was heard in a recording and left alone, for a person to read; the end of a sound takes its beginning's
    place."""
    lines = {}
    for heard in signals:
        until = f" to {heard.end / CLOCK_HZ:.2f}" if heard.end >= 0 else ""
        channel = f" (channel {heard.slot // 2 + 1})" if heard.slot else ""
        name = f"{heard.kind} {heard.value}".strip()
        lines[heard.slot, heard.kind, heard.begin] = f"{name} from {heard.begin / CLOCK_HZ:.2f}{until} s{channel}"
    shown = [f"left alone: {line}" for line in list(lines.values())[:SIGNALS_SHOWN]]
    return [*shown, f"and {len(lines) - SIGNALS_SHOWN} more"] if len(lines) > SIGNALS_SHOWN else shown


def check_config(options: argparse.Namespace) -> int:
    """Say whether a file is right, and what it changes."""
    from gateway import config_text

    config: Config = load(options.config, os.environ)
    changed = config_text.differences(config)
    print(f"OK, {len(changed)} keys differ from the defaults" + (":" if changed else ""))
    for line in changed:
        print(f"  {line}")
    return 0


def plan(options: argparse.Namespace) -> int:
    """Say what so many calls take."""
    import json

    from gateway import capacity, plan_text
    from gateway import plan as planner

    figures = capacity.read(options.figures or capacity.FILE)
    wish = planner.Wish(
        calls=options.calls,
        codec=options.codec,
        ptime_ms=options.ptime,
        model=options.model,
        ip=options.ip,
        headroom=options.headroom / 100,
        call_s=float(options.call_seconds),
        host_cores=options.cores,
        streams_per_gpu=options.streams_per_gpu,
        gpu=not options.cpu_only,
    )
    found = planner.plan(wish, figures)
    if options.json:
        print(json.dumps(plan_text.to_json(wish, found, figures), indent=2))
    else:
        print(plan_text.to_text(wish, found, figures))
    return 0


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number of the command line, from `least` to `most`."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from {least} to {most}")
        return int(text)

    return number


def export_triton(options: argparse.Namespace) -> int:
    """Write a model repository."""
    from gateway.denoise.triton.export import Precision, Repository, write

    models = tuple(dict.fromkeys(options.model or ("light", "standard")))
    if options.device == "gpu" and options.runtime == "onnx" and options.precision == "card":
        raise CallerError("--precision card: GPUs have none of the int8 products; expected float32 or bfloat16")
    on_gpu: Precision = "bfloat16" if options.runtime == "torch" else "float32"
    precision: Precision = options.precision or (on_gpu if options.device == "gpu" else "card")
    gpus, rows, version = options.gpus, options.rows, options.version
    repository = Repository(models, options.device, gpus, rows, version, precision, options.runtime)
    for place in write(options.folder, repository):
        print(f"{place}: version {version}, {rows} rows on the {options.device} with {options.runtime}, {precision}")
    return 0


def gpu_list(text: str) -> tuple[int, ...]:
    """`0,1`"""
    if not all(part.isascii() and part.isdigit() and len(part) < 4 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected numbers of GPUs such as 0 or 0,1")
    return tuple(int(part) for part in text.split(","))


def level(text: str) -> int:
    """A denoise level of the command line."""
    if not text.isascii() or not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 0 to 100")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _OneLine(prog="denoise-gateway", description=HELP, epilog=EXAMPLES, formatter_class=_Raw)
    parser.add_argument("--version", action="version", version=f"denoise-gateway {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = _command(commands, "serve", serve, "run the gateway", SERVE_EPILOG)
    command.add_argument("--config", metavar="FILE", type=Path, help="YAML; without it, all defaults")

    command = _command(commands, "file", file, "denoise a recording", FILE_EPILOG)
    command.add_argument("input", metavar="IN", type=Path, help="WAV, FLAC, … at any rate, with any channels")
    command.add_argument("output", metavar="OUT", type=Path, help="written; may be IN")
    command.add_argument("--level", type=level, metavar="0..100", help="limit of attenuation, 0.3 dB a step; 100: none")
    command.add_argument("--codec", choices=("L16", "PCMU", "PCMA", "G722"), default="L16", help="of the call (L16)")
    command.add_argument("--music", choices=("pass", "suppress"), help="keep music, or take it for noise")
    command.add_argument("--bypass", choices=("auto", "off"), help="leave signals alone that are heard, or nothing")
    command.add_argument("--engine", choices=ENGINE_KINDS, help="what denoises (ort, our networks and your own)")
    command.add_argument(
        "--model", metavar="NAME", help="of engine ort: standard, light, …, or the YAML card of your own"
    )
    command.add_argument("--config", metavar="FILE", type=Path, help="YAML: its engine and denoise sections are used")

    command = _command(commands, "check-config", check_config, "check a configuration file", CHECK_EPILOG)
    command.add_argument("config", metavar="FILE", type=Path, help="the file to check")

    _plan_options(_command(commands, "plan", plan, "cores, GPUs, ports and bandwidth for so many calls", PLAN_EPILOG))
    command = _command(commands, "export-triton", export_triton, "write a model repository for Triton", EXPORT_EPILOG)
    command.add_argument("folder", metavar="DIR", type=Path, help="made where it is missing; other models in it stay")
    command.add_argument(
        "--model", action="append", metavar="NAME", help="of models/; may be repeated (light, standard)"
    )
    command.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where it runs (cpu)")
    command.add_argument("--gpus", type=gpu_list, default=(0,), metavar="N,N", help="an instance on each (0)")
    command.add_argument(
        "--rows", type=whole(1, 1_000_000), default=8192, metavar="N", help="slots of all workers of an instance (8192)"
    )
    command.add_argument(
        "--precision",
        choices=("card", "float32", "bfloat16"),
        help="of products; card: as in models/ (CPU: card; GPU: float32, with torch bfloat16)",
    )
    command.add_argument(
        "--runtime", choices=("onnx", "torch"), default="onnx", help="what Triton's Python runs the network in (onnx)"
    )
    command.add_argument("--version", type=whole(1, 1_000_000), default=1, metavar="N", help="of the models (1)")
    return parser


def _plan_options(command: argparse.ArgumentParser) -> None:
    from gateway.plan import CODECS, PTIMES_MS

    command.add_argument(
        "--calls", metavar="N", type=whole(1, 10_000_000), required=True, help="at once, two legs each"
    )
    command.add_argument("--codec", choices=tuple(CODECS), default="PCMU", help="of the calls (PCMU; L16 at 16 kHz)")
    command.add_argument("--ptime", metavar="MS", choices=PTIMES_MS, type=int, default=20, help="of a packet (20)")
    command.add_argument("--model", default="light", metavar="NAME", help="engine.model (light)")
    command.add_argument("--ip", choices=(4, 6), type=int, default=4, help="version of IP (4)")
    command.add_argument("--headroom", metavar="PERCENT", type=whole(0, 90), default=20, help="that stays free (20)")
    command.add_argument("--call-seconds", metavar="S", type=whole(1, 86400), default=180, help="a call's mean (180)")
    command.add_argument("--cores", metavar="N", type=whole(3, 1024), default=32, help="of a machine (32)")
    command.add_argument(
        "--streams-per-gpu", metavar="N", type=whole(1, 10_000_000), help="what a GPU of yours carries"
    )
    command.add_argument("--cpu-only", action="store_true", help="no GPUs, measured or not")
    command.add_argument("--figures", metavar="FILE", type=Path, help="JSON of figures measured elsewhere")
    command.add_argument("--json", action="store_true", help="for programs")


def _command(
    commands: "argparse._SubParsersAction[_OneLine]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    epilog: str,
) -> argparse.ArgumentParser:
    description = summary[0].upper() + summary[1:] + "."
    command = commands.add_parser(name, help=summary, description=description, epilog=epilog, formatter_class=_Raw)
    command.set_defaults(run=run)
    return command


def _version() -> str:
    try:
        return metadata.version("denoise-gateway")
    except metadata.PackageNotFoundError:
        return "(not installed)"


class _Raw(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the examples."""


class _OneLine(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is."""

    def error(self, message: str) -> None:  # type: ignore[override]  # exits
        self.exit(USAGE_ERROR, f"{self.prog}: {message}; {self.prog} --help explains\n")
