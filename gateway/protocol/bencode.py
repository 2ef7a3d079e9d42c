"""Bencode, the wire format of the NG control protocol: bytes in, plain Python values out, and back.

Strings become `str` with surrogateescape, so that bytes which are no UTF-8 (a display name in an SDP, say) come out of
`encode` exactly as they went into `decode`. Every input is bounded in size, depth and digits. Dictionaries may come
unsorted, as Kamailio sends them; a repeated key keeps its last value.
Source: BEP 3 (bittorrent.org/beps/bep_0003.html), and `docs/ng_control_protocol.md` of sipwise/rtpengine for its use.
"""

from collections.abc import Mapping

from gateway.errors import PeerError

Value = int | str | list["Value"] | dict[str, "Value"]

MAX_BYTES = 65536
"""More than any UDP datagram holds."""
MAX_DEPTH = 20
"""Deepest nesting of lists and dictionaries; rtpengine's own replies reach 7."""
_INT_DIGITS = 19
_LENGTH_DIGITS = 5


class BencodeError(PeerError):
    """The bytes are no bencode that we take; the message gives the offset."""


def decode(data: bytes) -> Value:
    """The one value that `data` holds. Raises BencodeError for anything else, trailing bytes included."""
    if len(data) > MAX_BYTES:
        raise BencodeError(f"{len(data)} bytes are more than {MAX_BYTES}")
    value, end = _value(data, 0, MAX_DEPTH)
    if end != len(data):
        raise BencodeError(f"{len(data) - end} bytes too many after the value, at {end}")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    first = data[at : at + 1]
    if first.isdigit():
        return _string(data, at)
    if first == b"i":
        return _integer(data, at)
    if first in (b"d", b"l"):
        if depth == 0:
            raise BencodeError(f"nested deeper than {MAX_DEPTH}, at {at}")
        return _dict(data, at + 1, depth - 1) if first == b"d" else _list(data, at + 1, depth - 1)
    raise BencodeError(f"{'a value is missing' if not first else f'{first!r} starts no value'}, at {at}")


def _string(data: bytes, at: int) -> tuple[str, int]:
    colon = data.find(b":", at, at + _LENGTH_DIGITS + 1)
    digits = data[at:colon]
    if colon < 0 or not digits.isdigit() or (digits[0] == 0x30 and len(digits) > 1):
        raise BencodeError(f"bad string length, at {at}")
    end = colon + 1 + int(digits)
    if end > len(data):
        raise BencodeError(f"string of {int(digits)} bytes is cut off, at {at}")
    return data[colon + 1 : end].decode("utf-8", "surrogateescape"), end


def _integer(data: bytes, at: int) -> tuple[int, int]:
    end = data.find(b"e", at + 1, at + _INT_DIGITS + 3)
    text = data[at + 1 : end]
    digits = text[1:] if text[:1] == b"-" else text
    if end < 0 or not digits.isdigit() or (digits[0] == 0x30 and len(text) > 1):
        raise BencodeError(f"bad integer, at {at}")
    return int(text), end + 1


def _list(data: bytes, at: int, depth: int) -> tuple[list[Value], int]:
    items: list[Value] = []
    while data[at : at + 1] != b"e":
        item, at = _value(data, at, depth)
        items.append(item)
    return items, at + 1


def _dict(data: bytes, at: int, depth: int) -> tuple[dict[str, Value], int]:
    items: dict[str, Value] = {}
    while data[at : at + 1] != b"e":
        if not data[at : at + 1].isdigit():
            raise BencodeError(f"a dictionary key is no string, at {at}")
        key, at = _string(data, at)
        items[key], at = _value(data, at, depth)
    return items, at + 1


def encode(value: object) -> bytes:
    """The bencode of a tree of Mapping (str keys, written sorted), list, tuple, str, bytes, int and bool (0 or 1).

    A float is written as a string, as bencode has none. Raises TypeError for any other type: that fault is ours.
    """
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: object, parts: list[bytes]) -> None:
    match value:
        case str():
            raw = to_bytes(value)
            parts += (b"%d:" % len(raw), raw)
        case bytes():
            parts += (b"%d:" % len(value), value)
        case int():
            parts.append(b"i%de" % value)
        case float():
            _write(repr(value), parts)
        case Mapping():
            parts.append(b"d")
            for key in sorted(value, key=to_bytes):
                _write(key, parts)
                _write(value[key], parts)
            parts.append(b"e")
        case list() | tuple():
            parts.append(b"l")
            for item in value:
                _write(item, parts)
            parts.append(b"e")
        case _:
            raise TypeError(f"bencode has no {type(value).__name__}")


def to_bytes(text: str) -> bytes:
    """UTF-8 that gives back what surrogateescape took in; a stray surrogate (from JSON's \\ud800) becomes `?`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
