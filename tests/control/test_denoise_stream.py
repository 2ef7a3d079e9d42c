"""The reader and the writer of a stream: a client that sends as fast as it may, and faults of ours."""

import asyncio

import grpc.aio
import pytest

from gateway._pb import denoise_pb2 as pb
from gateway.config import GrpcConfig
from gateway.control import denoise_stream
from gateway.control.denoise_mux import Mux
from gateway.control.denoise_stream import DenoiseService
from gateway.control.stream_account import Account, Accounts
from gateway.control.stream_session import Session
from tests.control.stream_desk import BAD, BEGIN, SECOND, FakeDesk, audio, spoil


class Sends:
    """A context whose client has sent all this."""

    def __init__(self, *requests) -> None:
        self._requests = iter([*requests, grpc.aio.EOF])
        self.status: tuple[str, str] | None = None

    async def read(self):
        return next(self._requests)

    async def write(self, response) -> None: ...

    def invocation_metadata(self) -> tuple:
        return ()

    async def send_initial_metadata(self, metadata) -> None: ...

    async def abort(self, code: grpc.StatusCode, details: str):
        self.status = code.name, details
        raise grpc.aio.AbortError


def muxed(*requests) -> pb.DenoiseMuxRequest:
    return pb.DenoiseMuxRequest(requests=[pb.MuxedRequest(stream_id=1, request=each) for each in requests])


@pytest.mark.parametrize("kind", ["stream", "mux"])
async def test_a_client_that_is_not_read_from_is_not_silent(kind, monkeypatch):
    monkeypatch.setattr(denoise_stream, "FULL_LOOK_S", 0.0)
    desk = FakeDesk(idle_timeout_s=2.0)
    if kind == "stream":
        client = Session(desk, Account("acme"), lambda: None, lambda: None)
        context = Sends(BEGIN, audio(20 * SECOND))
    else:
        client = Mux(desk, Account("acme"), lambda: None)
        context = Sends(muxed(BEGIN, audio(20 * SECOND)))
    reading = asyncio.ensure_future(denoise_stream.read(context, client))
    for _ in range(50):
        for _ in range(5):
            await asyncio.sleep(0)
        desk.wait(0.1)
        client.take()
        client.written()
    assert client.full and client.failure is None and len(desk.sessions) == 1
    reading.cancel()


@pytest.mark.parametrize("method", ["handle", "take", "written"])
@pytest.mark.parametrize("kind", ["stream", "mux"])
async def test_a_fault_of_ours_is_internal_and_logged_once_and_other_streams_go_on(kind, method, monkeypatch, caplog):
    spoil(monkeypatch, method)
    desk = FakeDesk()
    other = Session(desk, Account("acme"), lambda: None, lambda: None)
    other.handle(BEGIN)
    service = DenoiseService(desk, Accounts(GrpcConfig()))
    if kind == "stream":
        context = Sends(BAD, audio(320))
        serving = service.DenoiseStream(None, context)
    else:
        context = Sends(muxed(BAD, audio(320)))
        serving = service.DenoiseMux(None, context)
    if kind == "mux" and method != "written":  # its calls are answered one by one
        await asyncio.wait_for(serving, 5)
        assert context.status is None
    else:
        with pytest.raises(grpc.aio.AbortError):
            await asyncio.wait_for(serving, 5)
        assert context.status == ("INTERNAL", "a fault of the gateway: see its log")
    assert desk.ended == {"INTERNAL": 1} and desk.sessions == {other}
    (fault,) = [record for record in caplog.records if record.exc_info]
    assert "list index out of range" in caplog.text and fault.message == "a stream failed"
    other.handle(audio(320))
    desk.fakes.answer(desk.now)
    assert [response.WhichOneof("message") for response in other.take()] == ["started", "audio"]


async def test_an_account_that_cannot_be_looked_up_for_a_fault_of_ours_is_internal(monkeypatch):
    accounts, context = Accounts(GrpcConfig()), Sends()

    async def of(authorization: str | None):
        raise AttributeError("'NoneType' object has no attribute 'key'")

    monkeypatch.setattr(accounts, "of", of)
    with pytest.raises(grpc.aio.AbortError):
        await DenoiseService(FakeDesk(), accounts).DenoiseStream(None, context)
    assert context.status == ("INTERNAL", "a fault of the gateway: see its log")
