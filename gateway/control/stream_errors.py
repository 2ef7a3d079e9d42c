"""What a client of a stream did wrong, or must wait for, with the gRPC status that says so.

gRPC ends the stream with it, a multiplexed stream ends the one call, HTTP answers with the status that fits.
"""

from gateway.errors import CallerError, GatewayError
from gateway.leases import LoadLimitError, OutOfSlotsError


class StreamError(CallerError):
    """Ends a stream."""

    def __init__(self, status: str, message: str) -> None:
        """status: a name of grpc.StatusCode; message: what to change."""
        super().__init__(message)
        self.status = status


def as_stream_error(error: GatewayError) -> StreamError:
    """What any of our errors means to the client of a stream."""
    if isinstance(error, StreamError):
        return error
    if isinstance(error, LoadLimitError | OutOfSlotsError):
        return StreamError("RESOURCE_EXHAUSTED", f"{error}: try again later, or at another gateway")
    return StreamError("INVALID_ARGUMENT" if isinstance(error, CallerError) else "INTERNAL", str(error))
