"""Two tasks that make a conversation: one reads what a client sends, the other writes what it gets."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Work = Coroutine[Any, Any, object]


async def converse(reading: Work, writing: Work, failed: asyncio.Event, broke: Callable[[Exception], None]) -> None:
    """Read and write until all is written, or the stream has failed, also while a write hangs.

    broke: is given what either of them raises; it fails the stream.
    """

    async def watched(work: Work) -> None:
        try:
            await work
        except Exception as error:
            broke(error)

    reader, writer = (asyncio.ensure_future(watched(work)) for work in (reading, writing))
    failing = asyncio.ensure_future(failed.wait())
    try:
        await asyncio.wait((writer, failing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reader, writer, failing):
            task.cancel()
        await asyncio.gather(reader, writer, failing, return_exceptions=True)
