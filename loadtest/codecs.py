"""What a codec costs: processor time to decode and encode a packet, in batches like those of the media plane."""

import time

import numpy as np

from gateway.media.codecs import Codec, build

ROWS, PACKET_FRAMES = 64, 2


def microseconds(rounds: int = 200) -> dict[str, float]:
    """µs of a 20 ms packet, decoded and encoded, by name and clock of PCM (`L16/16000`): the best tenth of all rounds,
    since other work on the machine only adds time."""
    return {f"{name}/{codec.rate}": _measured(codec, rounds) for (name, _), codec in build(ROWS).items()}


def _measured(codec: Codec, rounds: int) -> float:
    rng, slots = np.random.default_rng(0), np.arange(ROWS)
    pcm = (rng.standard_normal((ROWS, PACKET_FRAMES * codec.rate // 100)) * 0.1).astype(np.float32)
    payload = codec.encode(slots, pcm)
    took = np.empty(rounds)
    for i in range(rounds):
        start = time.process_time()
        codec.encode(slots, codec.decode(slots, payload))
        took[i] = time.process_time() - start
    return round(float(np.percentile(took, 10)) / ROWS * 1e6, 2)
