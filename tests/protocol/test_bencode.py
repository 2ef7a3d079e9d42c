import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.protocol import bencode

VALUES = st.recursive(
    st.integers(-(10**18), 10**18) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_decodes_to_the_same(value: bencode.Value) -> None:
    assert bencode.decode(bencode.encode(value)) == value


@given(st.binary(max_size=200))
def test_any_byte_string_survives_decoding_and_encoding(raw: bytes) -> None:
    wire = b"%d:%s" % (len(raw), raw)
    assert bencode.encode(bencode.decode(wire)) == wire


@given(st.binary(max_size=200) | st.text("dlie0123456789:-ab", max_size=200).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_a_peer_error(data: bytes) -> None:
    try:
        bencode.decode(data)
    except PeerError as error:
        assert str(error)


@given(VALUES, st.data())
def test_a_truncated_value_is_refused(value: bencode.Value, data: st.DataObject) -> None:
    wire = bencode.encode(value)
    with pytest.raises(bencode.BencodeError):
        bencode.decode(wire[: data.draw(st.integers(0, len(wire) - 1))])


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "missing"),
        (b"i03e", "bad integer"),
        (b"i-0e", "bad integer"),
        (b"ie", "bad integer"),
        (b"i-e", "bad integer"),
        (b"i" + b"9" * 30 + b"e", "bad integer"),
        (b"i 1e", "bad integer"),
        (b"03:abc", "bad string length"),
        (b"5:abc", "cut off"),
        (b"99999999999999:a", "bad string length"),
        (b"3", "bad string length"),
        (b"di1e1:ae", "key is no string"),
        (b"d1:ae", "starts no value"),
        (b"l", "missing"),
        (b"i1ei2e", "too many"),
        (b"x", "starts no value"),
    ],
)
def test_a_broken_value_is_named(wire: bytes, reason: str) -> None:
    with pytest.raises(bencode.BencodeError, match=reason):
        bencode.decode(wire)


def test_deep_nesting_is_refused_without_recursing_into_it() -> None:
    allowed = b"l" * bencode.MAX_DEPTH + b"e" * bencode.MAX_DEPTH
    assert bencode.encode(bencode.decode(allowed)) == allowed
    with pytest.raises(bencode.BencodeError, match="nested deeper"):
        bencode.decode(b"l" * 60000)


def test_more_bytes_than_a_datagram_holds_are_refused() -> None:
    with pytest.raises(bencode.BencodeError, match="more than"):
        bencode.decode(b"70000:" + b"a" * 70000)


def test_dictionaries_are_read_unsorted_and_written_sorted() -> None:
    assert bencode.encode(bencode.decode(b"d1:b1:x1:ai-7ee")) == b"d1:ai-7e1:b1:xe"


def test_floats_tuples_and_stray_surrogates_are_written_as_what_bencode_has() -> None:
    assert bencode.encode({"a": (1.5, True, b"\xff", "\ud800")}) == b"d1:al3:1.5i1e1:\xff1:?ee"


def test_a_type_that_bencode_lacks_is_our_fault() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        bencode.encode([None])
