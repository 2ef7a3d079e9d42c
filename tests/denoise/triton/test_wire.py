"""Requests hold what was submitted, and no answer is believed that does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2

from gateway.denoise.triton import WIRE, wire

HOP = 80


def part(slots, frames: int, counts=None, seed: int = 0) -> wire.Part:
    pcm = np.random.default_rng(seed).uniform(-1, 1, (len(slots), frames, HOP)).astype(np.float32)
    counts = np.full(len(slots), frames) if counts is None else np.array(counts)
    return wire.Part(np.array(slots), pcm, counts, np.ones((len(slots), 2), np.float32))


def echo(batch: wire.Batch, batch_id: int = 7, epoch: int = 3):
    """The answer of a server that changes nothing."""
    message = service_pb2.ModelInferResponse()
    for name, value in (
        ("BATCH", np.array([[batch_id, epoch, *np.repeat(batch.slots, batch.counts)]])), ("PCM", batch.pcm[None]),
        ("PROB", np.full((1, len(batch.pcm), 4), 0.25, np.float32)),
    ):  # fmt: skip
        message.outputs.add(name=name, datatype=wire.OUTPUTS[name][0], shape=value.shape)
        message.raw_output_contents.append(value.astype(wire.OUTPUTS[name][1]).tobytes())
    return message


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3)), min_size=1, max_size=8, unique_by=lambda x: x[0]),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_every_part_gets_its_own_frames_back(rows):
    parts = [part([s for s, _ in each], 3, [c for _, c in each], seed) for seed, each in enumerate(rows)]
    batch = wire.merge(parts)
    assert len(np.unique(batch.slots)) == len(batch.slots) and batch.counts.sum() == len(batch.pcm)
    for each, result in zip(parts, wire.answer(echo(batch), 7, batch).results, strict=True):
        heard = np.arange(3) < each.counts[:, None]
        np.testing.assert_allclose(result.frames[heard], each.frames[heard], atol=1 / 32768)


def test_later_frames_of_a_slot_follow_its_earlier_ones():
    first, second = part([3, 1], 2, seed=1), part([3], 1, seed=2)
    batch = wire.merge([first, second])
    assert batch.slots.tolist() == [1, 3] and batch.counts.tolist() == [2, 3]
    np.testing.assert_array_equal(batch.pcm[2:4], wire.to_int16(first.frames[0]))
    np.testing.assert_array_equal(batch.pcm[4], wire.to_int16(second.frames[0, 0]))


def test_what_is_too_loud_is_clipped_and_does_not_wrap():
    assert wire.to_int16(np.array([1.5, -1.5, 1.0], np.float32)).tolist() == [32767, -32768, 32767]


def test_a_request_says_its_sequence_and_version():
    batch = wire.merge([part([1, 2], 2)])
    message = wire.request(("light_8k", "2"), (99, True), 7, (5, 1000), batch, np.array([True, False]))
    assert (message.model_name, message.model_version) == ("light_8k", "2")
    assert message.parameters["sequence_id"].int64_param == 99 and message.parameters["sequence_start"].bool_param
    sizes = [len(raw) for raw in message.raw_input_contents]
    assert sizes == [24, 8, 8, 4 * HOP * 2, 16, 2]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m: m.raw_output_contents.__setitem__(1, m.raw_output_contents[1][:-2]), "bytes"),
        (lambda m: m.raw_output_contents.__setitem__(1, m.raw_output_contents[1] + b"xx"), "bytes"),
        (lambda m: m.outputs[1].shape.__setitem__(1, 3), "PCM is"),
        (lambda m: setattr(m.outputs[1], "datatype", "FP32"), "PCM is FP32"),
        (lambda m: setattr(m.outputs[2], "name", "ODDS"), "PROB is missing"),
        (lambda m: m.raw_output_contents.pop(), "no content"),
        (lambda m: m.raw_output_contents.__setitem__(0, np.array([8, 3, 1, 1, 2, 2]).tobytes()), "batch 8"),
        (lambda m: m.raw_output_contents.__setitem__(0, np.array([7, 3, 1, 2, 1, 2]).tobytes()), "other slots"),
        (lambda m: m.raw_output_contents.__setitem__(0, np.array([7, 3, 2, 2, 1, 1]).tobytes()), "other slots"),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_refused(spoil, reason):
    batch = wire.merge([part([1, 2], 2)])
    message = echo(batch)
    spoil(message)
    with pytest.raises(wire.BadAnswerError, match=reason):
        wire.answer(message, 7, batch)


@given(st.binary(max_size=400))
def test_garbage_is_refused_whatever_it_is(noise):
    batch = wire.merge([part([1], 1)])
    message = echo(batch)
    for index in range(len(wire.OUTPUTS)):
        message.raw_output_contents[index] = noise
    with pytest.raises(wire.BadAnswerError):
        wire.answer(message, 7, batch)


def config(**changes):
    parameters = {"wire": "2", "rate": "8000", "hop": "80", "delay": "80"} | changes
    found = model_config_pb2.ModelConfig(name="light_8k")
    for name, value in parameters.items():
        found.parameters[name].string_value = value
    for name in wire.TYPES:
        found.input.add(name=name, dims=[-1, HOP] if name == "PCM" else [-1])
    return found


def test_a_model_must_say_what_is_wanted():
    wanted = wire.Wanted(WIRE, 8000, 80, 80)
    assert wire.mismatch(config(), wanted) == ""
    assert "has rate 16000, expected 8000" in wire.mismatch(config(rate="16000"), wanted)
    assert "has wire 9, expected 2" in wire.mismatch(config(wire="9"), wanted)
    assert "export-triton" in wire.mismatch(model_config_pb2.ModelConfig(name="resnet"), wanted)
    other = config()
    other.input[3].dims[1] = 160
    assert "not what denoise-gateway export-triton writes" in wire.mismatch(other, wanted)
