"""One media process and the socket to it: starting it, telling it, hearing it. No decisions here; see `workers`.

Commands go over a `Link`: the event loop never waits for a worker.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.config import Config
from gateway.control.link import Link, reap, widen
from gateway.messages import Command, Event, encoder, events

ROOT = Path(__file__).resolve().parents[2]
MAX_COMMAND_BYTES = 60_000
"""A worker reads no more than 64 KiB of a command."""


class WorkerLink:
    """A running media process."""

    def __init__(
        self,
        config: Config,
        on_event: Callable[["WorkerLink", Event], None],
        on_lost: Callable[["WorkerLink", str], None],
    ) -> None:
        """Start the process; raises OSError. on_lost is called once, from the event loop, with the reason."""
        self._on_event = on_event
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            widen(theirs)
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "gateway.media", "--control-fd", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    env=worker_environment(),
                    start_new_session=True,  # a terminal's Ctrl-C is the control plane's to act on
                )
            except OSError:
                ours.close()
                raise
        self._link = Link(ours, self._heard, lambda reason: on_lost(self, reason))
        self._link.send(msgspec.json.encode(config))

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def waiting(self) -> int:
        """Commands that have not gone."""
        return self._link.waiting

    def send(self, command: Command, sockets: tuple[socket.socket, ...] = ()) -> None:
        """Tell the worker something; never waits. Raises ValueError for what cannot be written, or is too long."""
        message = encoder.encode(command)
        if len(message) > MAX_COMMAND_BYTES:
            raise ValueError(f"{len(message)} bytes are more than {MAX_COMMAND_BYTES}")
        self._link.send(message, sockets)

    def _heard(self, message: bytes, descriptors: list[int]) -> None:
        try:
            event = events.decode(message)
        except msgspec.DecodeError as error:
            self._link.lose(f"it sent what is no event: {error}")
        else:
            self._on_event(self, event)

    def close(self) -> None:
        """Let go of the process; it ends when it sees its socket closed. See `reap`."""
        self._link.close()

    async def reap(self, patience_s: float) -> int:
        """Wait for the process to end, kill it after patience_s; returns its exit status."""
        return await reap(self.process, patience_s)


def worker_environment() -> dict[str, str]:
    """The environment of a media process: it finds this package, its libraries use one thread, and glibc keeps freed
    memory, since the arrays of a batch are as large as those of the last and their pages would fault in anew."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    memory = {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
    return {**memory, **os.environ, "PYTHONPATH": path, **threads}
