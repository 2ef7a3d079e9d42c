"""The rows of a gRPC process, which another process keeps."""

import socket

import pytest

from gateway.control.grpc_link import CloseStream, OpenStream
from gateway.control.grpc_process import FarRows
from gateway.control.stream_rows import Treatment
from gateway.leases import LoadLimitError

TREATMENT = Treatment(True, 80, "pass", "auto")


class Rows(FarRows):
    """What was said of them, and whose sockets those were."""

    def __init__(self, most: int) -> None:
        self.said, self.kept = [], []
        super().__init__(lambda message, along: self.said.append(message) or self.kept.append(along), most)

    def begin(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ours:
            return self.open(theirs, "stream", (), TREATMENT, lambda error: None), theirs


def test_no_more_rows_are_asked_for_than_all_media_processes_have():
    rows = Rows(most=2)
    first, _ = rows.begin()
    rows.begin()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, pytest.raises(LoadLimitError, match=r"media\.slots"):
        rows.open(theirs, "stream", (), TREATMENT, lambda error: None)
    assert theirs.fileno() == -1 and len(rows.said) == 2
    rows.close(first)
    rows.begin()
    assert [type(message) for message in rows.said] == [OpenStream, OpenStream, CloseStream, OpenStream]
    for each in filter(None, rows.kept):
        each.close()
