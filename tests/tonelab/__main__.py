"""python -m tests.tonelab: the tone and music laboratory."""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from loadtest.ng import NgError
from tests.tonelab import judges, lab, material, report
from tests.tonelab.calls import ROOT
from tests.tonelab.cases import SECTIONS

ABOUT = """\
Plays every signal of the telephone network through a running gateway, as real calls in real time, and compares what
the far phone hears with what was sent. Each row three times: with the detectors (denoise-bypass=auto), without them
(denoise-bypass=off), and with denoise=off. Decoders from elsewhere judge: spandsp, multimon-ng, minimodem.

  python -m tests.tonelab --quick                    a minute: some of everything
  python -m tests.tonelab                            all of it
  python -m tests.tonelab --only dtmf,fax            some sections
  python -m tests.tonelab talkoff --hours 10         hours of speech straight into the detectors, faster than real time
"""


def main() -> int:
    """Run the laboratory, print the table; 1 when it could not run."""
    if sys.argv[1:2] == ["talkoff"]:
        from tests.tonelab import talkoff

        return talkoff.main(sys.argv[2:])
    options = _options()
    lacking = judges.missing() + material.lacking()
    for sentence in lacking:
        print(f"tonelab: {sentence}", file=sys.stderr)
    planned = lab.trials(options.only, options.quick)
    seconds = lab.real_time_s(planned, options.calls)
    try:
        with tqdm(total=round(seconds), unit="s", desc=f"{len(planned)} calls", disable=None) as bar:
            notes = lab.run(planned, options.calls, options.checkout, bar.update)
    except NgError as fault:
        print(f"tonelab: {fault}", file=sys.stderr)
        return 1
    table = report.rows(planned)
    print(report.markdown(table, [*lacking, *notes]))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = {"notes": [*lacking, *notes], "rows": report.plain(table), "calls": report.details(planned)}
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tonelab", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer levels, countries and pieces")
    parser.add_argument("--only", type=_sections, default=SECTIONS, metavar="LIST", help=f"of: {','.join(SECTIONS)}")
    parser.add_argument("--calls", type=int, default=60, help="calls at a time (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table and every call's figures")
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, metavar="FOLDER", help="run the gateway of another checkout, to compare"
    )
    return parser.parse_args()


def _sections(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(SECTIONS)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
