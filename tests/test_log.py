"""Logging: a line an event, whatever peers put into it."""

import json
import logging

import pytest

from gateway import log
from gateway.config import LogConfig


@pytest.fixture
def lines(capsys):
    """What a logger set up by `log.setup` writes, line by line."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err.splitlines()
    root.handlers[:], root.level = before[0], before[1]
    logging.captureWarnings(False)


def test_a_json_line_has_time_level_logger_message_call_id_and_fields(lines):
    log.setup(LogConfig())
    logging.getLogger("gateway.x").warning("engine %s", "late", extra={"rows": 3, "call_id": "a@b"})
    (line,) = map(json.loads, lines())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "gateway.x",
        "message": "engine late",
        "call_id": "a@b",
        "rows": 3,
    }


def test_time_is_utc_with_milliseconds():
    record = logging.makeLogRecord({"created": 1700000000.0625, "msg": "x"})
    assert json.loads(log.JsonFormatter().format(record))["time"] == "2023-11-14T22:13:20.062Z"


def test_what_json_does_not_know_is_shown_as_text(lines):
    log.setup(LogConfig())
    logging.getLogger("x").error(
        "odd",
        extra={
            "peer": {
                1,
            },
            "level": "own",
            "raw": b"\xff",
            "nan": float("nan"),
        },
    )
    (line,) = map(json.loads, lines())
    assert (line["peer"], line["level_"], line["level"]) == ("{1}", "own", "error")


def test_a_fault_of_ours_carries_its_traceback_in_one_line(lines):
    log.setup(LogConfig())
    try:
        raise KeyError("slot")
    except KeyError:
        logging.getLogger("x").exception("failed")
    (line,) = map(json.loads, lines())
    assert "KeyError: 'slot'" in line["error"]


@pytest.mark.parametrize("kind", ["json", "text"])
def test_a_peer_cannot_begin_a_line_of_its_own(lines, kind):
    log.setup(LogConfig(format=kind))
    evil = 'x\n{"level": "error"}\r\x1b[2J\u2028'
    logging.getLogger("x").info("call %s ended", evil, extra={"call_id": evil})
    (line,) = lines()
    assert line.isprintable()


def test_text_is_for_people(lines):
    log.setup(LogConfig(format="text"))
    logging.getLogger("gateway.x").info("größer", extra={"call_id": "a"})
    (line,) = lines()
    assert line.split("Z ", 1)[1] == "INFO gateway.x größer call_id='a'"


def test_what_lies_below_the_level_is_left_out(lines):
    log.setup(LogConfig(level="warning"))
    logging.getLogger("x").info("quiet")
    assert lines() == []
