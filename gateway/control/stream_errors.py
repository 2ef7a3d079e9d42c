"""What a client of a stream did wrong, or must wait for, with the gRPC status that says so.

gRPC ends the stream with it, a multiplexed stream ends the one call, HTTP answers with the status that fits.
"""

import logging

from gateway.errors import CallerError
from gateway.leases import LoadLimitError, OutOfSlotsError

log = logging.getLogger(__name__)


class StreamError(CallerError):
    """Ends a stream."""

    def __init__(self, status: str, message: str) -> None:
        """status: a name of grpc.StatusCode; message: what to change."""
        super().__init__(message)
        self.status = status


def as_stream_error(error: Exception) -> StreamError:
    """What an exception means to the client of a stream. What no caller has done is a fault of ours: the log says it
    all, the client learns that there is one."""
    if isinstance(error, StreamError):
        return error
    if isinstance(error, LoadLimitError | OutOfSlotsError):
        return StreamError("RESOURCE_EXHAUSTED", f"{error}: try again later, or at another gateway")
    if isinstance(error, CallerError):
        return StreamError("INVALID_ARGUMENT", str(error))
    log.error("a stream failed", exc_info=error)
    return StreamError("INTERNAL", "a fault of the gateway: see its log")
