"""The rings: every slot gets back what it heard, in order, and nothing of anybody else's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.detect.sines import CHUNK, HOP
from gateway.detect.sound import BLOCK_FRAMES, Sound

SLOT = np.array([2])


@given(st.lists(st.tuples(st.integers(1, 2), st.booleans()), min_size=1, max_size=30))
def test_a_stream_is_what_came_since_the_last_gap(packets: list[tuple[int, bool]]):
    """The model keeps lists; a packet is one or two frames, after a gap or not."""
    sound, stream, kept, count = Sound(4), np.zeros(0), np.zeros(0), 0
    for frames, gap in packets:
        if gap:
            sound.interrupt(SLOT)
            kept, stream = kept[: len(kept) // CHUNK * CHUNK], np.zeros(0)
        frames = frames if len(kept) % CHUNK == 0 else 1
        pcm = np.arange(count + 1, count + 1 + frames * HOP, dtype=np.float32)
        count += frames * HOP
        kept, stream = np.concatenate([kept, pcm]), np.concatenate([stream, pcm])
        full = sound.add(SLOT, pcm[None])
        assert full[0] == (len(kept) % CHUNK == 0)
        if full[0]:
            assert (sound.last(SLOT, 480)[0] == np.pad(kept, (480, 0))[-480:]).all()
            assert (sound.stream(SLOT, 336)[0] == np.pad(stream, (336, 0))[-336:]).all()
            assert np.isclose(sound.energy(SLOT)[0], np.square(kept[-CHUNK:]).sum(), rtol=1e-5)
    assert not sound.stream(np.array([0, 1, 3]), 336).any()


def test_a_reset_slot_has_heard_silence():
    sound = Sound(2)
    slots = np.arange(2)
    for _ in range(BLOCK_FRAMES * HOP // CHUNK):
        sound.add(slots, np.ones((2, CHUNK), np.float32))
    assert (sound.energies(slots) == HOP).all()
    sound.reset(np.array([1]))
    assert sound.last(np.array([0]), 480).all() and not sound.last(np.array([1]), 480).any()
    assert not sound.energies(np.array([1])).any() and sound.frames.tolist() == [BLOCK_FRAMES, 0]
