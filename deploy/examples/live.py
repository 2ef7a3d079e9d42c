"""Live audio, 20 ms at a time as from a microphone, with a change of the level in mid-stream: how long does it take?

`python live.py noisy.wav [TARGET]` plays the file's first ten seconds in real time.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import soundfile

from gateway.client import DenoiseClient

FRAME_S = 0.02


async def microphone(audio: bytes, size: int, sent: list[float]) -> AsyncIterator[bytes]:
    begun = time.monotonic()
    for number, at in enumerate(range(0, len(audio), size)):
        await asyncio.sleep(max(0.0, begun + number * FRAME_S - time.monotonic()))
        sent.append(time.monotonic())
        yield audio[at : at + size]


async def main() -> None:
    target = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:50051"
    with soundfile.SoundFile(sys.argv[1]) as file:
        rate, audio = file.samplerate, file.read(10 * file.samplerate, "int16", always_2d=True)[:, 0].tobytes()
    size, sent, trips, got = int(rate * FRAME_S) * 2, [], [], 0
    async with DenoiseClient(target) as client:
        stream = client.stream(microphone(audio, size, sent), rate, label="microphone")
        async for piece in stream:
            got += len(piece)
            frame = got // size - 1
            if 0 <= frame < len(sent):
                trips.append(time.monotonic() - sent[frame])
            if len(trips) == 250:
                await stream.change(level=100)
    trips.sort()
    p50_ms, p99_ms = (1000 * trips[int(len(trips) * share)] for share in (0.5, 0.99))
    print(f"{len(trips)} answers; round trip p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms; {stream.delay} samples behind")
    print(stream.summary)


if __name__ == "__main__":
    asyncio.run(main())
