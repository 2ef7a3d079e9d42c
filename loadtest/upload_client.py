"""Uploads as fast as they go, in a process of its own: `python -m loadtest.upload_client TARGET UPLOADS`.

Ends at a line on stdin, and prints how many seconds of audio a second came back.
"""

import asyncio
import sys
import time
from collections.abc import Iterator

from gateway.client import DenoiseClient
from loadtest.material import Material

PIECE_S = 0.1
BYTES_PER_S = 8000


def endless(audio: bytes) -> Iterator[bytes]:
    """Audio of one upload, PCMU."""
    size = round(BYTES_PER_S * PIECE_S)
    while True:
        for at in range(0, len(audio), size):
            yield audio[at : at + size]


async def upload(client: DenoiseClient, audio: bytes, counts: list[int], number: int) -> None:
    """One upload; it never ends."""
    async for piece in client.stream(endless(audio), 8000, encoding="mulaw"):
        counts[number] += len(piece)


async def main() -> None:
    """Send until told to stop; a line on stdout says that all is ready."""
    target, uploads = sys.argv[1], int(sys.argv[2])
    audio = bytes(Material().pcmu(0, 1000))
    counts = [0] * uploads
    print("ready", flush=True)
    async with DenoiseClient(target) as client:
        begun = time.monotonic()
        tasks = [asyncio.ensure_future(upload(client, audio, counts, number)) for number in range(uploads)]
        await asyncio.to_thread(sys.stdin.readline)
        print(sum(counts) / BYTES_PER_S / (time.monotonic() - begun))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
