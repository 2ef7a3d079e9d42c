"""What holds of the fax detector whatever it hears: no leg is harmed by another, by rubbish or by time that jumps."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.detect.fax import Fax
from tests.detect.false_latch import listen
from tests.detect.test_fax import SIGNALS, rows
from tests.tonelab import signals
from tests.tonelab.signals import fsk, sine


def told(heard, slot: int) -> list:
    return [found[1:] for found in heard.detections if found.slot == slot]


def test_a_slot_does_not_hear_its_neighbours():
    pcm = rows(*(make() for make in SIGNALS.values()))
    slots = np.random.default_rng(1).permutation(40)[: len(pcm)]
    together, alone = (
        listen(Fax(40), pcm, slots=slots),
        [listen(Fax(40), pcm[[row]], slots=[7]) for row in range(len(pcm))],
    )
    for row, slot in enumerate(slots.tolist()):
        assert told(together, slot) == told(alone[row], 7)
        assert (together.holds[row] == alone[row].holds[0]).all()


@st.composite
def rubbish(draw):
    """A second of whatever a decoder might give in the worst case, float32."""
    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["nan", "inf", "huge", "tiny", "noise", "clicks", "tone with holes"]))
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(8000)
    hole = rng.random(8000) < 0.05
    out = {
        "nan": np.where(hole, np.nan, sine(2100, 1000)),
        "inf": np.where(hole, np.inf * np.sign(noise), fsk([0, 1] * 150, 300, 1650, 1850)),
        "huge": np.clip(noise, -3, 3) * 1e38,
        "tiny": noise * 1e-42,
        "noise": noise,
        "clicks": np.where(hole, noise, 0),
        "tone with holes": np.where(np.repeat(rng.random(100) < 0.5, 80), 0, sine(1100, 1000)),
    }[kind]
    return out.astype(np.float32)


@settings(max_examples=15)
@given(st.lists(rubbish(), min_size=1, max_size=3), st.sampled_from([80, 160]))
def test_rubbish_on_one_leg_harms_no_other(garbage, chunk):
    good = [signals.around(signals.v21_preamble(600), 200, 200), signals.around(signals.tty("GA"), 100, 0)]
    good = [np.pad(pcm[:8000], (0, max(0, 8000 - len(pcm)))) for pcm in good]
    alone = listen(Fax(8), np.stack(good), slots=[2, 5], chunk=chunk)
    fax = Fax(8)
    heard = listen(fax, np.stack([*good, *garbage]), slots=[2, 5, 0, 3, 7][: 2 + len(garbage)], chunk=chunk)
    assert fax.latched[[2, 5]].all()
    for slot in (2, 5):
        assert told(heard, slot) == told(alone, slot)
    untouched = [slot for slot in range(8) if slot not in [2, 5, 0, 3, 7][: 2 + len(garbage)]]
    assert not (fax.latched | fax.active | fax.holds)[untouched].any()


@settings(max_examples=12)
@given(st.sampled_from(sorted(SIGNALS)), st.lists(st.integers(-2000, 200000), max_size=60), st.integers(0, 2**32 - 1))
def test_any_jump_of_time_is_survived(name, jumps, seed):
    pcm, fax = rows(SIGNALS[name]()), Fax(1)
    rng, begin = np.random.default_rng(seed), 0
    for jump in jumps:
        at = int(rng.integers(0, pcm.shape[1] // 160 - 3)) * 160
        listen(fax, pcm[:, at : at + 480], begin=begin)
        begin = max(0, begin + jump)
    fax.reset(np.array([0]))
    listen(fax, pcm)
    assert fax.latched.all()
