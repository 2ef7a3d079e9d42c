"""What files say, read again when they change: certificates and tokens are renewed while calls go on."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.errors import ConfigError

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Files are not looked at again sooner, whoever asks."""
T = TypeVar("T")
Stamp = tuple[tuple[int, int, int] | None, ...]


class Renewed(Generic[T]):
    """The last good content of some files. Any thread may look."""

    def __init__(
        self, paths: tuple[str, ...], read: Callable[[], T], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Reads at once; read raises ConfigError when the files cannot be used, here too."""
        self._paths, self._read, self._clock = paths, read, clock
        self._looking = threading.Lock()
        self._good = stamp(paths)
        self._bad: Stamp | None = None
        self.value = read()
        self._looked_s = clock()

    @property
    def due(self) -> bool:
        """Whether `look` would touch the files."""
        return self._clock() - self._looked_s >= LOOK_S

    def look(self) -> T:
        """What the files say now; what they said before, while they cannot be used or another thread looks."""
        if self.due and self._looking.acquire(blocking=False):
            try:
                self._looked_s = self._clock()
                self._renew()
            finally:
                self._looking.release()
        return self.value

    async def current(self) -> T:
        """The same, for an event loop that must not wait for files."""
        return await asyncio.to_thread(self.look) if self.due else self.value

    def _renew(self) -> None:
        found = stamp(self._paths)
        if found in (self._good, self._bad):
            return
        try:
            value = self._read()
        except (ConfigError, OSError) as error:
            self._bad = found
            log.warning("changed files are not used, what they said before is", extra={"error": str(error)})
            return
        if stamp(self._paths) == found:  # else they are being written
            self._good, self._bad, self.value = found, None, value
            log.info("files read again", extra={"files": self._paths})


def stamp(paths: tuple[str, ...]) -> Stamp:
    """Something else whenever a file, or what a symbolic link to it means, has changed."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_ctime_ns
