"""The configuration in words: the commented example file, and what differs from the defaults.

The docstring under each field of `gateway.config` is the only place where a key is explained; the example is made from
there (`python -m gateway.config_text > deploy/config.example.yaml`), and a test holds the two equal.
"""

import ast
import dataclasses
import inspect
import json
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

import gateway.config
from gateway.config import Config
from gateway.config_schema import expected, takes_text

HEAD = """\
# Configuration of denoise-gateway: every key with its default.
#
#     denoise-gateway check-config FILE      says what is wrong with it, or what it changes
#     denoise-gateway serve --config FILE
#
# Keys that you leave out keep their defaults. An environment variable overrides a single key; two underscores divide
# the levels, commas the items of a list: DENOISE_GATEWAY_MEDIA__PORT_MIN=20000
"""


def example() -> str:
    """The commented YAML file with every default written out."""
    docs, default = _docs(), Config()
    lines = [HEAD]
    for field in dataclasses.fields(default):
        section = getattr(default, field.name)
        kind = type(section) if field.name != "interfaces" else gateway.config.InterfaceConfig
        lines += [*_comment(docs[kind.__name__, ""], ""), f"{field.name}:"]
        if field.name == "interfaces":
            for name, interface in section.items():
                lines += [f"  {name}:", *_section(docs, interface, "    ")]
        else:
            lines += _section(docs, section, "  ")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def differences(config: Config) -> list[str]:
    """The keys that differ from their defaults, as `path: value`."""
    default = dict(_leaves(dataclasses.asdict(Config()), ""))
    return [f"{path}: {text}" for path, text in _leaves(dataclasses.asdict(config), "") if default.get(path) != text]


def _section(docs: dict[tuple[str, str], str], section: Any, indent: str) -> Iterator[str]:
    hints = typing.get_type_hints(type(section), include_extras=True)
    for field in dataclasses.fields(section):
        doc = docs[type(section).__name__, field.name]
        hint = hints[field.name]
        right = "" if takes_text(hint) or typing.get_origin(hint) is tuple else f" ({expected(hint)})"
        yield from _comment(doc + right, indent)
        yield f"{indent}{field.name}: {_yaml(getattr(section, field.name))}"


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(" ".join(text.split()), 116 - len(indent))]


def _yaml(value: object) -> str:
    """A value on one line; JSON is YAML, and plain words need no quotes."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    if isinstance(value, str) and value and ":" not in value:
        return value
    return json.dumps(value)


def _leaves(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, _yaml(value)


def _docs() -> dict[tuple[str, str], str]:
    """The docstrings of `gateway.config`, by class and field; a class's own has the field ''."""
    docs = {}
    for node in ast.parse(inspect.getsource(gateway.config)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        docs[node.name, ""] = ast.get_docstring(node) or ""
        for field, doc in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr):
                docs[node.name, field.target.id] = str(ast.literal_eval(doc.value))
    return docs


if __name__ == "__main__":
    print(example(), end="")
