"""Two tasks that make a conversation: one reads what a client sends, the other writes what it gets."""

import asyncio
from collections.abc import Coroutine
from typing import Any

Work = Coroutine[Any, Any, object]


async def converse(reading: Work, writing: Work, failed: asyncio.Event) -> None:
    """Read and write until all is written, or the stream has failed, also while a write hangs."""
    reader, writer, failing = (asyncio.ensure_future(work) for work in (reading, writing, failed.wait()))
    try:
        await asyncio.wait((writer, failing), return_when=asyncio.FIRST_COMPLETED)
        if writer.done() and not failed.is_set():
            writer.result()
    finally:
        for task in (reader, writer, failing):
            task.cancel()
        await asyncio.gather(reader, writer, failing, return_exceptions=True)
