"""The gRPC service: a thin shell around `stream_session`.

Each stream has a reader, which hands requests to the session, and a writer, which gives out what is ready, all of it
in one message. The writer is never waited for: what a client does not read is counted, and ends its stream.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
import grpc.aio

from gateway._pb import denoise_pb2 as pb
from gateway._pb import denoise_pb2_grpc as pb_grpc
from gateway.control.conversation import converse
from gateway.control.denoise_mux import Mux
from gateway.control.stream_account import Account, Accounts
from gateway.control.stream_coding import RATES_HZ, choose
from gateway.control.stream_errors import StreamError, as_stream_error
from gateway.control.stream_session import ENCODING, Desk, Session

Context = grpc.aio.ServicerContext[Any, Any]
FULL_LOOK_S = 0.02
"""How often a reader looks whether there is room again; live streams always have it."""


class DenoiseService(pb_grpc.DenoiseServiceServicer):
    """`denoise.v1.DenoiseService`."""

    def __init__(self, desk: Desk, accounts: Accounts) -> None:
        self._desk, self._accounts = desk, accounts

    async def DenoiseStream(  # type: ignore[override]  # noqa: N802  # the generated base class knows no aio
        self, request_iterator: AsyncIterator[pb.DenoiseRequest], context: Context
    ) -> None:
        """See proto/denoise.proto."""
        account = await self._admit(context)
        ready, failed = asyncio.Event(), asyncio.Event()
        try:
            session = Session(self._desk, account, ready.set, failed.set)
        except StreamError as error:
            await refuse(context, error)
        status = "CANCELLED"
        try:
            await begin(context)
            work = read(context, session), write(context, session, ready)
            await converse(*work, failed, lambda error: session.fail(broken(error)))
            status = "OK" if session.failure is None else session.failure.status
        finally:
            session.close(status)
        if session.failure is not None:
            await refuse(context, session.failure)

    async def DenoiseMux(  # type: ignore[override]  # noqa: N802  # the same
        self, request_iterator: AsyncIterator[pb.DenoiseMuxRequest], context: Context
    ) -> None:
        """See proto/denoise.proto."""
        failed = asyncio.Event()
        mux = Mux(self._desk, await self._admit(context), failed.set)
        try:
            await begin(context)
            work = read(context, mux), write_mux(context, mux)
            await converse(*work, failed, lambda error: mux.fail(broken(error)))
        finally:
            mux.close()
        if mux.failure is not None:
            await refuse(context, mux.failure)

    async def GetInfo(  # noqa: N802  # the name is the service's
        self, request: pb.GetInfoRequest, context: Context
    ) -> pb.GetInfoResponse:
        """See proto/denoise.proto."""
        account = await self._admit(context)
        config, rates = self._desk.config.grpc, []
        try:
            for rate_hz in RATES_HZ:
                coding = choose(rate_hz, "S16LE")
                delay = self._desk.delay(coding.engine_rate_hz) * (rate_hz // coding.engine_rate_hz)
                rates.append(pb.Rate(sample_rate_hz=rate_hz, delay_samples=delay + coding.resampling))
        except StreamError as error:
            await refuse(context, error)
        return pb.GetInfoResponse(
            models=self._desk.models(), rates=rates, encodings=list(ENCODING), max_streams=account.max_streams,
            max_message_bytes=config.max_message_bytes, queue_ms=config.queue_ms,
            idle_timeout_s=round(config.idle_timeout_s), streams=len(self._desk.sessions),
        )  # fmt: skip

    async def _admit(self, context: Context) -> Account:
        """Whose call it is; ends the call when nobody's."""
        metadata = dict(context.invocation_metadata() or ())
        try:
            if self._desk.draining:
                raise StreamError("UNAVAILABLE", "the gateway is shutting down: connect to another")
            authorization = metadata.get("authorization")
            return await self._accounts.of(str(authorization) if authorization is not None else None)
        except Exception as error:
            await refuse(context, as_stream_error(error))


async def begin(context: Context) -> None:
    """Send headers first: a status cannot be sent while a message that was to bring them is still on its way."""
    await context.send_initial_metadata(())


async def read(context: Context, client: Session | Mux) -> None:
    """Requests, until the client closes its side; raises what is wrong with one."""
    while True:
        request: Any = await context.read()
        if request is grpc.aio.EOF:
            client.end()
            return
        client.handle(request)
        while client.full:
            client.heard()  # it is we who do not read
            await asyncio.sleep(FULL_LOOK_S)


async def write(context: Context, session: Session, ready: asyncio.Event) -> None:
    """Responses, to the summary."""
    while not session.finished:
        await ready.wait()
        ready.clear()
        for response in session.take():
            await context.write(response)
        session.written()


async def write_mux(context: Context, mux: Mux) -> None:
    """Responses of all calls, to the end of the last."""
    while not mux.finished:
        await mux.ready.wait()
        mux.ready.clear()
        response = mux.take()
        if response.responses:
            await context.write(response)
        mux.written()


def broken(error: Exception) -> StreamError:
    """What an exception in a reader or writer means: the client is gone, it sent what is no message, or a fault of
    ours."""
    if isinstance(error, grpc.RpcError | grpc.aio.BaseError | asyncio.InvalidStateError):
        return StreamError("CANCELLED", "the client is gone")
    return as_stream_error(error)


async def refuse(context: Context, error: StreamError) -> NoReturn:
    """End the call with the error's status."""
    await context.abort(grpc.StatusCode[error.status], str(error))
