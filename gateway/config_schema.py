"""What the annotations of `gateway.config` allow: whether a value fits, and how to say what would."""

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal

from msgspec import Meta


def found(value: object) -> str:
    """A value as an error shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, dict):
        return "a section"
    return "a list" if isinstance(value, list) else str(value)[:60]


def expected(hint: Any) -> str:
    """What values a field takes, in words."""
    if typing.get_origin(hint) is Annotated:
        base, *metas = typing.get_args(hint)
        return expected(base) + "".join(_range(meta) for meta in metas if isinstance(meta, Meta))
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if is_union(hint):
        return " or ".join(expected(kind) for kind in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "a list of texts" if typing.get_args(hint)[0] is str else "a list"
    if typing.get_origin(hint) is dict:
        return "a section with a name for each entry"
    if dataclasses.is_dataclass(hint):
        return "a section with keys such as " + ", ".join(field.name for field in dataclasses.fields(hint)[:3])
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text", types.NoneType: "null"}[hint]


def is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of the annotation's type and in its range."""
    if typing.get_origin(hint) is Annotated:
        base, *metas = typing.get_args(hint)
        return fits(value, base) and all(_in_range(value, meta) for meta in metas if isinstance(meta, Meta))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if is_union(hint):
        return any(fits(value, kind) for kind in typing.get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _in_range(value: Any, meta: Meta) -> bool:
    return (
        (meta.ge is None or value >= meta.ge)
        and (meta.gt is None or value > meta.gt)
        and (meta.le is None or value <= meta.le)
    )


def _range(meta: Meta) -> str:
    low = f" from {meta.ge:g}" if meta.ge is not None else f" above {meta.gt:g}" if meta.gt is not None else ""
    if meta.le is None:
        return low
    return low + (" and up" if meta.gt is not None else "") + f" to {meta.le:g}"


def takes_float(hint: Any) -> bool:
    """Whether a whole number is to become a float."""
    return hint is float or (typing.get_origin(hint) is Annotated and typing.get_args(hint)[0] is float)


def takes_text(hint: Any) -> bool:
    """Whether a text needs no reading to fit."""
    if is_union(hint):
        return any(takes_text(kind) for kind in typing.get_args(hint))
    return hint is str or typing.get_origin(hint) is Literal


def paths(kind: type, prefix: str = "") -> list[str]:
    """Every key's path, sections with user-chosen names left out."""
    found_paths = []
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            found_paths += paths(typing.cast(type, hint), f"{prefix}{name}.")
        elif typing.get_origin(hint) is not dict:
            found_paths.append(prefix + name)
    return found_paths
