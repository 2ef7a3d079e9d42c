"""A session and its client, with neither gRPC nor a media plane: who is slow, and who does not read."""

import pytest

from gateway.config import Config, EngineConfig
from gateway.control.stream_account import Account
from gateway.control.stream_session import STALL_S, Desk, Session
from tests.control.stream_desk import BAD, BEGIN, FakeDesk, audio, spoil


def begun(desk: FakeDesk) -> tuple[Session, list[bool]]:
    failed: list[bool] = []
    session = Session(desk, Account("acme"), lambda: None, lambda: failed.append(True))
    session.handle(BEGIN)
    return session, failed


def spoken(desk: FakeDesk, session: Session) -> None:
    session.handle(audio(320))
    desk.fakes.answer(desk.now)


def test_a_client_that_has_read_everything_may_be_silent_until_the_idle_timeout():
    desk = FakeDesk(idle_timeout_s=60.0)
    session, failed = begun(desk)
    spoken(desk, session)
    session.take()
    session.written()
    desk.wait(59.5)
    assert not failed and not session.stream.unread_s
    desk.wait(1.0)
    assert session.failure.status == "DEADLINE_EXCEEDED"


def test_what_comes_after_a_silence_is_not_unread_since_its_beginning():
    desk = FakeDesk()
    session, failed = begun(desk)
    session.take()
    session.written()
    desk.wait(STALL_S + 5)
    spoken(desk, session)
    desk.wait(STALL_S - 1)
    assert not failed


@pytest.mark.parametrize("end", [False, True])
def test_a_client_that_takes_nothing_is_ended_also_when_only_the_tail_is_left(end):
    desk = FakeDesk()
    session, failed = begun(desk)
    spoken(desk, session)
    if end:
        session.end()
        desk.fakes.answer(desk.now)
    session.take()
    assert session.finished is end
    desk.wait(STALL_S - 1)
    assert not failed
    desk.wait(2)
    assert failed and session.failure.status == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("kind", "models"),
    [("ort", ["standard"]), ("triton", ["standard"]), ("speex", ["speex"]), ("passthrough", ["passthrough"])],
)
def test_a_network_goes_by_its_name_wherever_it_runs(kind, models):
    desk = Desk(Config(engine=EngineConfig(kind=kind, model="standard")), legs=None, delays=dict)
    assert desk.models() == models


def test_a_fault_in_what_all_streams_share_ends_only_the_stream_that_it_is_of(monkeypatch, caplog):
    desk = FakeDesk(idle_timeout_s=60.0)
    sessions = [Session(desk, Account("acme"), lambda: None, lambda: None) for _ in range(20)]
    for number, session in enumerate(sessions):
        session.handle(BAD if number == 10 else BEGIN)
    spoil(monkeypatch, "tick")
    desk.wait(0.1)
    assert [each.failure.status for each in sessions if each.failure] == ["INTERNAL"] and sessions[10].failure
    monkeypatch.undo()
    desk.wait(60.0)
    assert [each.failure.status for each in sessions].count("DEADLINE_EXCEEDED") == 19


def test_a_fault_with_what_comes_back_ends_the_stream_and_is_logged_once(monkeypatch, caplog):
    desk = FakeDesk()
    session, failed = begun(desk)
    monkeypatch.setattr(session.stream, "receive", lambda datagram, now: [][1])
    session.handle(audio(3200))
    assert len(desk.fakes.open_legs[0].sent) > 1
    desk.fakes.answer(desk.now)
    assert session.failure.status == "INTERNAL" and failed == [True]
    assert [record.message for record in caplog.records if record.exc_info] == ["a stream failed"]
