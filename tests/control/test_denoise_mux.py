"""Many calls over one stream: what a client that floods or does not read does to itself, and to its other calls."""

import pytest

from gateway._pb import denoise_pb2 as pb
from gateway.control import denoise_mux
from gateway.control.denoise_mux import Mux
from gateway.control.stream_account import Account
from gateway.control.stream_session import STALL_S
from tests.control.stream_desk import BAD, BEGIN, SECOND, FakeDesk, audio, spoil


class Muxed:
    """A mux, and what its client says."""

    def __init__(self, **grpc) -> None:
        self.desk, self.account, self.failed = FakeDesk(**grpc), Account("acme"), []
        self.mux = Mux(self.desk, self.account, lambda: self.failed.append(True))

    def say(self, stream_id: int, *requests: pb.DenoiseRequest, end: bool = False) -> None:
        asked = [pb.MuxedRequest(stream_id=stream_id, request=each) for each in requests]
        if end:
            asked.append(pb.MuxedRequest(stream_id=stream_id, end=True))
        self.mux.handle(pb.DenoiseMuxRequest(requests=asked))

    def errors(self) -> dict[int, int]:
        """Codes by call, once all is read."""
        response = self.mux.take()
        self.mux.written()
        return {each.stream_id: each.error.code for each in response.responses if each.HasField("error")}


def test_a_call_that_floods_ends_and_the_others_go_on():
    muxed = Muxed(max_message_bytes=SECOND)
    muxed.say(1, BEGIN)
    muxed.say(2, BEGIN)
    most = 0
    for _ in range(20):
        muxed.say(2, audio(SECOND))
        most = max(most, *(each.stream.waiting_bytes for each in muxed.desk.sessions if each.stream))
        if len(muxed.desk.sessions) < 2:
            break
    assert muxed.errors() == {2: denoise_mux.CODES["RESOURCE_EXHAUSTED"]} and most <= 3 * SECOND
    assert muxed.account.streams == 1 and not muxed.failed
    muxed.say(1, audio(320))
    muxed.desk.fakes.answer(0.0)
    assert [each.stream_id for each in muxed.mux.take().responses] == [1]


def test_all_calls_together_have_a_limit_and_it_is_those_ahead_that_end(monkeypatch):
    monkeypatch.setattr(denoise_mux, "FLOOD_MESSAGES", 8)
    muxed = Muxed(max_message_bytes=SECOND)
    muxed.say(0, BEGIN)
    for stream_id in range(1, 31):
        muxed.say(stream_id, BEGIN, audio(3 * SECOND))
        muxed.say(0, audio(320))
        assert not muxed.mux.full
    assert sum(each.stream.waiting_bytes for each in muxed.desk.sessions) <= (31 + 8 + 1) * SECOND
    errors = muxed.errors()
    assert set(errors.values()) == {denoise_mux.CODES["RESOURCE_EXHAUSTED"]} and 0 not in errors
    assert muxed.account.streams == 31 - len(errors) >= 4 and not muxed.failed


def test_what_has_gone_in_does_not_count_against_the_limit_of_all_calls(monkeypatch):
    monkeypatch.setattr(denoise_mux, "FLOOD_MESSAGES", 1)
    muxed = Muxed(max_message_bytes=SECOND)
    muxed.say(1, BEGIN)
    for _ in range(100):
        muxed.desk.now += 0.02
        muxed.say(1, audio(320))
        muxed.desk.fakes.answer(muxed.desk.now)
    muxed.say(1, *[audio(SECOND // 2)] * 3)
    assert muxed.errors() == {} and muxed.account.streams == 1


def test_an_upload_that_flow_control_slows_is_no_flood():
    muxed = Muxed(max_message_bytes=4096)
    muxed.say(1, BEGIN)
    while not muxed.mux.full:
        muxed.say(1, audio(4096))
    assert muxed.errors() == {} and muxed.account.streams == 1


def test_a_call_that_is_not_read_gives_its_row_back_while_the_writer_hangs():
    muxed = Muxed(queue_ms=100)
    muxed.say(1, BEGIN)
    muxed.mux.take()  # and its write does not come to an end
    muxed.say(1, audio(3200), end=True)
    muxed.desk.fakes.answer(0.0)
    assert not muxed.desk.fakes.open_legs and not muxed.desk.sessions and not muxed.account.streams


def test_the_whole_stream_ends_when_nothing_is_taken():
    muxed = Muxed()
    muxed.say(1, BEGIN)
    muxed.mux.take()
    for _ in range(round(STALL_S) + 1):
        muxed.say(2, BEGIN, end=True)
        muxed.desk.wait(1.0)
    assert muxed.failed and muxed.mux.failure.status == "RESOURCE_EXHAUSTED"
    muxed.mux.close()
    assert not muxed.desk.sessions and not muxed.desk.watched and not muxed.account.streams


def test_a_client_that_has_read_everything_may_be_silent_until_the_idle_timeout():
    muxed = Muxed(idle_timeout_s=60.0)
    muxed.say(1, BEGIN, audio(320))
    muxed.desk.fakes.answer(0.0)
    assert muxed.errors() == {}
    muxed.desk.wait(59.5)
    assert not muxed.failed and muxed.account.streams == 1
    muxed.desk.wait(1.0)
    assert muxed.mux.failure.status == "DEADLINE_EXCEEDED"


def test_errors_that_nobody_reads_end_the_whole_stream(monkeypatch):
    monkeypatch.setattr(denoise_mux, "MAX_ERRORS", 3)
    muxed = Muxed()
    for number in range(4):
        muxed.say(number, audio(320))
    assert muxed.failed and muxed.mux.failure.status == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("method", ["handle", "take", "end"])
def test_a_fault_of_ours_ends_its_own_call(monkeypatch, method):
    spoil(monkeypatch, method)
    muxed = Muxed()
    muxed.say(1, BAD)
    muxed.say(2, BEGIN)
    muxed.say(1, audio(320))
    muxed.mux.end()
    assert muxed.errors() == {1: denoise_mux.CODES["INTERNAL"]}
    muxed.desk.fakes.answer(0.0)
    muxed.errors()
    assert muxed.desk.ended == {"INTERNAL": 1, "OK": 1} and muxed.mux.finished and not muxed.failed
