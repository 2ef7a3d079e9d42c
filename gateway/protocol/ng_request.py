"""What an NG request asks for, made out of its dictionary in all the spellings that proxies send. See `ng`.

Kamailio 5.6 and OpenSIPS take the script's flag string apart themselves: `replace-*`, `rtcp-mux-*`, transports and
`direction` become keys, other `key=value` words become top-level keys, all the rest goes into the list `flags`. Newer
Kamailio hands the string over as it is, in `rtpp-flags`; rtpengine then does the same work, and so does `_words` here.
Keys and flags are compared in lower case with hyphens.
Source: src/modules/rtpengine/rtpengine.c of Kamailio 5.6, modules/rtpengine/rtpengine.c of OpenSIPS,
docs/ng_control_protocol.md, daemon/call_flags.c and daemon/control_ng_flags_parser.c of rtpengine.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.errors import CallerError


@dataclass(frozen=True, slots=True)
class Controls:
    """Denoise controls of one request; None: not said."""

    denoise: str | None = None
    """`on` or `off` for the audio received from this party, `both` or `none` for the call."""
    level: int | None = None
    """0..100, the limit of attenuation."""
    music: str | None = None
    """`pass` or `suppress`."""
    model: str | None = None
    bypass: str | None = None
    """`auto`, `on` or `off`."""


@dataclass(frozen=True, slots=True)
class Request:
    """One NG request; None or empty: not said."""

    cookie: bytes
    encoding: str
    """`bencode` or `json`: the reply's too."""
    command: str
    """Lower case, with spaces: `offer`, `start recording`, …"""
    call_id: str | None = None
    from_tag: str | None = None
    to_tag: str | None = None
    via_branch: str | None = None
    label: str | None = None
    sdp: str | None = None
    received_from: str | None = None
    """Numeric address that the proxy saw the signalling come from."""
    flags: frozenset[str] = frozenset()
    """`trust-address`, `asymmetric`, `media-handover`, `new-branch`, `strict-source`, … and unknown words."""
    replace: frozenset[str] = frozenset()
    """`origin`, `session-connection`, `username`, `session-name`, `zero-address`, …"""
    rtcp_mux: frozenset[str] = frozenset()
    """`offer`, `require`, `demux`, `accept`, `reject`."""
    ice: str | None = None
    """Lower case: `remove`, `force`, `default`, `optional`, `force-relay`."""
    dtls: str | None = None
    """Lower case: `off`, `passive`, …"""
    transport_protocol: str | None = None
    """Upper case: `RTP/AVP`, …"""
    sdes: tuple[str, ...] = ()
    """Lower case: `off`, `no-aes_cm_128_hmac_sha1_80`, …"""
    codec: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Codec names by what to do with them: `transcode`, `mask`, `strip`, `offer`, `except`, …"""
    direction: tuple[str, ...] = ()
    """Interface names: towards the sender of the SDP, then towards its receiver; none, one or both."""
    media_address: str | None = None
    """Numeric address to write into the SDP."""
    address_family: str | None = None
    """`IP4` or `IP6`."""
    tos: int | None = None
    """0..255."""
    delete_delay_s: float | None = None
    controls: Controls = Controls()
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other keys, as decoded."""


class WrongValueError(CallerError):
    """A key's value cannot be: says key, value and what would be right."""


def build(cookie: bytes, encoding: str, message: Mapping[str, object]) -> Request:
    """The request in a decoded dictionary. Raises WrongValueError."""
    draft = _Draft()
    for key in sorted(message, key=lambda key: normal(key) != "rtpp-flags"):  # what is said openly overrides it
        draft.take(normal(key), message[key])
    return draft.finish(cookie, encoding)


def normal(word: str) -> str:
    """Lower case, hyphens for spaces and underscores."""
    return word.strip().lower().replace(" ", "-").replace("_", "-")


_SIMPLE = {
    "call-id": "call_id",
    "from-tag": "from_tag",
    "to-tag": "to_tag",
    "via-branch": "via_branch",
    "label": "label",
    "from-label": "label",
    "sdp": "sdp",
}
_PROXY_WORDS = {"via-branch", "call-id", "from-tag", "to-tag", "sdp", "command", "received-from", "rtpp-flags", "flags"}
"""Keys that a flag string cannot set: the proxy resolves them, and sends the outcome as a key of its own."""
_LISTS = {"flags", "replace", "rtcp-mux", "sdes", "direction"}
_PREFIXES = ("replace", "rtcp-mux", "sdes")
_CODEC_LISTS = ("transcode", "mask", "strip", "offer", "accept", "except", "consume", "ignore", "set")
_CODEC_WORD = re.compile(rf"codec-({'|'.join(_CODEC_LISTS)})(?:-(.+))?", re.IGNORECASE | re.DOTALL)
_TRANSPORT = {  # bits: 1 SRTP, 2 feedback, 4 DTLS
    "RTP/AVP": 0,
    "RTP/SAVP": 1,
    "RTP/AVPF": 2,
    "RTP/SAVPF": 3,
    "UDP/TLS/RTP/SAVP": 4,
    "UDP/TLS/RTP/SAVPF": 6,
}
_TRANSPORT_NAMES = {bits: name for name, bits in _TRANSPORT.items()} | {
    5: "UDP/TLS/RTP/SAVP",
    7: "UDP/TLS/RTP/SAVPF",
}
_TRANSPORT_WORDS: dict[str, Callable[[int], int]] = {
    "RTP": lambda bits: bits & ~1,
    "AVP": lambda bits: bits & ~2,
    "SRTP": lambda bits: bits | 1,
    "AVPF": lambda bits: bits | 2,
    "DTLS": lambda bits: bits | 4,
}
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Draft:
    """A request under construction."""

    def __init__(self) -> None:
        self.command: str | None = None
        self.texts: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {name: [] for name in _LISTS}
        self.codec: dict[str, list[str]] = {}
        self.interfaces: dict[int, str] = {}
        self.transport: int | None = None
        self.transport_name: str | None = None
        self.numbers: dict[str, int] = {}
        self.controls: dict[str, str | int] = {}
        self.extra: dict[str, object] = {}

    def take(self, key: str, value: object) -> None:
        """One key of the dictionary, or one `key=value` of a flag string. An empty string says nothing."""
        if value == "":
            return
        if key in _SIMPLE:
            self.texts[_SIMPLE[key]] = _text(key, value)
        elif key == "rtpp-flags":
            self._words(_text(key, value))
        elif key == "flags":
            for word in _strings(key, value):
                self._word(word)
        elif key == "direction":
            self.lists[key] = _strings(key, value) if isinstance(value, list) else self.lists[key] + [_text(key, value)]
        elif key in _LISTS:
            self.lists[key] += map(normal, _strings(key, value))
        elif key in ("codec", "codecs"):
            self._codecs(value)
        elif key.startswith("denoise"):
            self._control(key, value)
        else:
            self._option(key, value)

    def _option(self, key: str, value: object) -> None:
        match key:
            case "command":
                self.command = normal(_text(key, value)).replace("-", " ")
            case "ice" | "dtls":
                self.texts[key] = normal(_text(key, value))
            case "transport-protocol":
                self.transport_name = _text(key, value).upper()
            case "received-from":
                parts = " ".join(_strings(key, value)).split()  # OpenSIPS sends none where there is no SIP message
                if parts:
                    self.texts["received_from"] = _address(key, parts[-1:])
            case "media-address":
                self.texts["media_address"] = _address(key, [_text(key, value)])
            case "address-family":
                self.texts["address_family"] = _choice(key, _text(key, value).upper(), "IP4", "IP6")
            case "from-interface" | "to-interface":
                self.interfaces[int(key == "to-interface")] = _text(key, value)
            case "tos":
                if str(value) != "-1":  # Kamailio's "leave it as it is"
                    self.numbers[key] = _number(key, value, 255)
            case "delete-delay":
                self.numbers[key] = _number(key, value, 86400)
            case _:
                self.extra[key] = value

    def _words(self, text: str) -> None:
        """A flag string as it stands in the proxy's script."""
        for token in _tokens(text):
            key, equals, value = token.partition("=")
            name = normal(key)
            if not equals and name in ("internal", "external"):
                self.lists["direction"].append(name)
            elif value.startswith("[") and value.endswith("]"):
                self._assign(key, value[1:-1].split())
            else:
                self._word(token)

    def _word(self, word: str) -> None:
        """One flag, or one `key=value`."""
        key, equals, value = word.partition("=")
        if equals:
            self._assign(key, value)
        elif word.upper() in _TRANSPORT:
            self.transport = _TRANSPORT[word.upper()]
        elif word in _TRANSPORT_WORDS:
            self.transport = _TRANSPORT_WORDS[word](self.transport or 0)
        elif not self._prefixed(word):
            self.lists["flags"].append(normal(word))

    def _assign(self, key: str, value: str | list[str]) -> None:
        """`key=value` or `key=[value value]` of a flag string."""
        if normal(key) in _PROXY_WORDS:
            return
        found = _CODEC_WORD.fullmatch(key)
        kind = found[1].lower() if found and not found[2] else "transcode" if key.lower() == "transcode" else None
        if kind:
            self.codec.setdefault(kind, []).extend(map(_unescaped, _strings(key, value)))
        else:
            self.take(normal(key), value)

    def _prefixed(self, word: str) -> bool:
        """Flags that stand for an item of a list: `replace-origin`, `SDES-off`, `codec-mask-opus`, `transcode-PCMU`."""
        found = _CODEC_WORD.fullmatch(word) or re.fullmatch(r"(transcode)-(.+)", word, re.IGNORECASE | re.DOTALL)
        if found and found[2]:
            self.codec.setdefault(found[1].lower(), []).append(_unescaped(found[2]))
            return True
        for prefix in _PREFIXES:
            if normal(word).startswith(prefix + "-"):
                self.lists[prefix].append(normal(word)[len(prefix) + 1 :])
                return True
        return False

    def _codecs(self, value: object) -> None:
        if not isinstance(value, Mapping):
            raise WrongValueError(f"codec must be a dictionary of lists, not {_shown(value)}")
        for kind, names in value.items():
            self.codec.setdefault(normal(_text("codec", kind)), []).extend(_strings("codec", names))

    def _control(self, key: str, value: object) -> None:
        text = _text(key, value)
        match key:
            case "denoise":
                self.controls["denoise"] = _choice(key, normal(text), "on", "off", "both", "none")
            case "denoise-level":
                self.controls["level"] = _number(key, value, 100)
            case "denoise-music":
                self.controls["music"] = _choice(key, normal(text), "pass", "suppress")
            case "denoise-bypass":
                self.controls["bypass"] = _choice(key, normal(text), "auto", "on", "off")
            case "denoise-model":
                if not _MODEL.fullmatch(text):
                    raise WrongValueError(f"{key} must be a model's name, not {_shown(text)}")
                self.controls["model"] = text
            case _:
                raise WrongValueError(f"{_shown(key)} is no control; denoise, -level, -music, -model, -bypass are")

    def finish(self, cookie: bytes, encoding: str) -> Request:
        if not self.command:
            raise WrongValueError("the key command is missing")
        transport = None if self.transport is None else _TRANSPORT_NAMES[self.transport]
        return Request(
            cookie=cookie,
            encoding=encoding,
            command=self.command,
            **self.texts,
            flags=frozenset(self.lists["flags"]),
            replace=frozenset(self.lists["replace"]),
            rtcp_mux=frozenset(self.lists["rtcp-mux"]),
            sdes=tuple(self.lists["sdes"]),
            transport_protocol=self.transport_name or transport,
            codec={kind: tuple(names) for kind, names in self.codec.items()},
            direction=self._direction(),
            tos=self.numbers.get("tos"),
            delete_delay_s=self.numbers.get("delete-delay"),
            controls=Controls(**self.controls),  # type: ignore[arg-type]  # each was checked for its key
            extra=self.extra,
        )

    def _direction(self) -> tuple[str, ...]:
        names = self.lists["direction"]
        if len(names) > 2:
            raise WrongValueError(f"direction takes two interface names, not {len(names)}")
        if not self.interfaces:
            return tuple(names)
        named = dict(enumerate(names)) | self.interfaces
        if 0 not in named:
            raise WrongValueError("to-interface needs from-interface beside it")
        return tuple(named[index] for index in sorted(named))


def _tokens(text: str) -> Iterator[str]:
    """Words of a flag string; `key=[…]` is one, with its blanks and inner brackets."""
    held: list[str] = []
    depth = 0
    for word in text.split():
        if not held and not word.partition("=")[2].startswith("["):
            yield word
            continue
        held.append(word)
        depth += word.count("[") - word.count("]")
        if depth <= 0:
            yield " ".join(held)
            held, depth = [], 0
    yield from held


def _text(key: str, value: object) -> str:
    """A string, or an integer as one. All but the SDP must be clean UTF-8: they go into logs and messages."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise WrongValueError(f"{key} must be a string, not {_shown(value)}")
    if key != "sdp" and _SURROGATE.search(value):
        raise WrongValueError(f"{key} must be UTF-8, not {_shown(value)}")
    return value


def _strings(key: str, value: object) -> list[str]:
    """A list of strings; a lone string may hold several, with commas."""
    if isinstance(value, list):
        return [_text(key, item) for item in value]
    return [item for item in _text(key, value).split(",") if item]


def _number(key: str, value: object, highest: int) -> int:
    text = _text(key, value).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= highest):
        raise WrongValueError(f"{key} must be a whole number 0..{highest}, not {_shown(value)}")
    return int(text)


def _choice(key: str, text: str, *choices: str) -> str:
    if text not in choices:
        raise WrongValueError(f"{key} must be {', '.join(choices[:-1])} or {choices[-1]}, not {_shown(text)}")
    return text


def _address(key: str, parts: list[str]) -> str:
    """The numeric address, without a zone: Python takes a zone of any length and any characters."""
    try:
        address = ipaddress.ip_address("".join(parts).strip("[]"))
        if "%" in str(address):
            raise ValueError("a zone")
        return str(address)
    except ValueError:
        raise WrongValueError(f"{key} must be a numeric address, not {_shown(' '.join(parts))}") from None


def _unescaped(text: str) -> str:
    """`--` stands for `=` and `..` for a space inside codec flags."""
    return text.replace("--", "=").replace("..", " ")


def _shown(value: object) -> str:
    return ascii(value)[:60]
