"""Files that change while the gateway runs; its clock stands until it is moved."""

import logging

import pytest

from gateway.control.renewal import LOOK_S, Renewed
from gateway.errors import ConfigError


class Watched:
    """Two files that must say the same."""

    def __init__(self, folder) -> None:
        self.now, self.reads, self.during = 0.0, 0, None
        self.paths = (folder / "a", folder / "b")
        self.write("old", "old")
        self.renewed = Renewed(tuple(map(str, self.paths)), self.read, lambda: self.now)

    def write(self, *texts: str) -> None:
        for path, text in zip(self.paths, texts, strict=False):
            path.write_text(text)

    def read(self) -> str:
        self.reads += 1
        first, second = [path.read_text() for path in self.paths]
        if self.during is not None:
            self.during()
        if first != second:
            raise ConfigError(f"{first} is not {second}")
        return first

    def later(self) -> str:
        self.now += LOOK_S
        return self.renewed.look()


@pytest.fixture
def watched(tmp_path) -> Watched:
    return Watched(tmp_path)


def test_what_cannot_be_used_at_the_start_stops_it(tmp_path):
    def fail() -> None:
        raise ConfigError("no")

    with pytest.raises(ConfigError):
        Renewed((str(tmp_path / "nowhere"),), fail)


def test_files_are_read_again_when_they_have_changed_and_not_looked_at_all_the_time(watched):
    watched.write("newer", "newer")
    watched.now = LOOK_S - 0.1
    assert watched.renewed.look() == "old" and not watched.renewed.due
    watched.now = LOOK_S
    assert watched.renewed.due and watched.renewed.look() == "newer"
    assert [watched.later() for _ in range(5)] == ["newer"] * 5 and watched.reads == 2


async def test_an_event_loop_gets_the_same(watched):
    watched.write("newer", "newer")
    assert await watched.renewed.current() == "old"
    watched.now = LOOK_S
    assert await watched.renewed.current() == "newer"


def test_files_that_cannot_be_used_are_named_once_and_the_old_ones_hold_until_they_can(watched, caplog):
    caplog.set_level(logging.WARNING)
    watched.write("half")
    assert [watched.later() for _ in range(5)] == ["old"] * 5 and watched.reads == 2
    assert [record.error for record in caplog.records] == ["half is not old"]
    watched.write("half", "half")
    assert watched.later() == "half"
    watched.paths[0].unlink()
    assert watched.later() == "half" and "No such file" in caplog.records[1].error


def test_a_link_that_is_turned_to_another_file_is_a_change(tmp_path, watched):
    (tmp_path / "renewed").write_text("old")
    watched.paths[1].unlink()
    watched.paths[1].symlink_to(tmp_path / "renewed")
    watched.later()
    assert watched.reads == 2


def test_files_that_change_while_they_are_read_are_read_again(watched):
    watched.write("newer", "newer")
    watched.during = lambda: watched.write("newest", "newest")
    assert watched.later() == "old"
    watched.during = None
    assert watched.later() == "newest"
