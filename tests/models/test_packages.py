"""Recordings come out of packages, whatever else is in them, and land where they belong."""

import io
import subprocess
import zipfile
from pathlib import Path

import pytest

from models import packages
from models.packages import PackageError, recordings, unpack, wanted


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def found(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_wheel_gives_its_sounds_and_those_in_its_archives(tmp_path: Path):
    wheel, into = tmp_path / "keys-1-py3-none-any.whl", tmp_path / "out"
    inner = zipped({"sound/step.WAV": b"step", "map.bsp": b"no"})
    wheel.write_bytes(zipped({"keys/a.wav": b"a", "keys/code.py": b"no", "data/pak0.pk3": inner}))
    into.mkdir()
    unpack(wheel, into)
    assert found(into) == {"keys/a.wav", "data/pak0.pk3/sound/step.WAV"}
    assert (into / "data/pak0.pk3/sound/step.WAV").read_bytes() == b"step"


def test_a_debian_package_is_read_without_being_installed(tmp_path: Path):
    tree, into = tmp_path / "tree", tmp_path / "out"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: game\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: none\n"
    )
    (tree / "usr/share/game").mkdir(parents=True)
    (tree / "usr/share/game/door.ogg").write_bytes(b"door")
    (tree / "usr/share/game/door.png").write_bytes(b"no")
    package = tmp_path / "game_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, package], check=True, capture_output=True)
    into.mkdir()
    unpack(package, into)
    assert found(into) == {"usr/share/game/door.ogg"}


def test_a_name_cannot_leave_the_folder(tmp_path: Path):
    wheel, into = tmp_path / "evil-1-py3-none-any.whl", tmp_path / "deep" / "out"
    wheel.write_bytes(zipped({"../../outside.wav": b"x", "/etc/absolute.wav": b"y"}))
    into.mkdir(parents=True)
    unpack(wheel, into)
    assert found(tmp_path) == {"evil-1-py3-none-any.whl", "deep/out/outside.wav", "deep/out/etc/absolute.wav"}


def test_a_broken_package_is_an_error(tmp_path: Path):
    package = tmp_path / "broken.deb"
    package.write_bytes(b"no archive")
    with pytest.raises(PackageError, match=r"broken\.deb"):
        unpack(package, tmp_path)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    for name in wanted():
        (tmp_path / name).mkdir()
    for name in (
        "tuxpaint-stamps-default/animals/bear.ogg",
        "tuxpaint-stamps-default/animals/bear_desc_fr.ogg",
        "tuxpaint-stamps-default/animals/bear_desc.ogg",
        "ktuberling-data/sounds/da/eye.ogg",
        "wesnoth-1.16-data/core/sounds/thud.ogg",
        "wesnoth-1.16-data/core/music/theme.ogg",
        "megaglest-data/factions/units/guard/sounds/yes.wav",
        "keyboardsounds/profiles/ink/1.wav",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_voices_and_noises_are_told_apart_by_their_paths(unpacked: Path):
    heard = {(r.path.name, r.voice) for r in recordings(unpacked)}
    assert heard == {
        ("bear.ogg", None),
        ("bear_desc_fr.ogg", "tuxpaint_fr"),
        ("eye.ogg", "ktuberling_da"),
        ("thud.ogg", None),
        ("1.wav", None),
    }


def test_a_missing_package_is_named_with_the_command_that_brings_it(unpacked: Path):
    (unpacked / "festvox-ru").rmdir()
    with pytest.raises(PackageError, match=r"festvox-ru: python -m models\.packages"):
        list(recordings(unpacked))


def test_every_package_has_one_role_at_least():
    assert set(packages.SPOKEN_ONLY) <= set(packages.VOICES)
    assert len(set(packages.EFFECTS)) == len(packages.EFFECTS)
