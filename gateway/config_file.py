"""Reads the configuration: a YAML file, then environment variables for single keys, then the checks.

Whatever is wrong stops the start with one `ConfigError`, which names the key's full path (or the variable), what was
found there and what would be right. Types and ranges come from the annotations in `gateway.config`; what an annotation
cannot say (addresses, networks, keys that depend on each other) is in `gateway.config_rules`.
"""

import dataclasses
import difflib
import re
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from gateway.config import Config
from gateway.config_rules import check
from gateway.config_schema import expected, fits, found, is_union, paths, takes_float, takes_text
from gateway.errors import ConfigError

ENV_PREFIX = "DENOISE_GATEWAY_"
Tree = dict[str, Any]


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration from a file (None: the defaults) and the environment.

    A variable `DENOISE_GATEWAY_<SECTION>__<KEY>` overrides one key. Raises ConfigError.
    """
    tree = read_yaml(path) if path else {}
    variables = override(tree, environ)
    reader = Reader(Config, path.name if path else "", variables)
    config = typing.cast(Config, reader.section(tree, Config, ""))
    try:
        check(config)
    except ConfigError as error:
        key = str(error).split(":", 1)[0]
        raise ConfigError(reader.place(key) + str(error)[len(key) :]) from None
    return config


def read_yaml(path: Path) -> Tree:
    """The file as nested dictionaries; ConfigError when it is no YAML mapping or cannot be read."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found {found(tree)}, expected sections such as 'media:' with indented keys")
    return tree


class EnvText(str):
    """A value from the environment: its type is decided by the key it is for."""


def override(tree: Tree, environ: Mapping[str, str]) -> dict[str, str]:
    """Write the environment's keys into the tree. Returns the variable's name by key path.

    Only names with a double underscore are ours: Kubernetes sets `DENOISE_GATEWAY_SERVICE_HOST` and the like for a
    service of this name. A known key spelled with a single one is refused, lest it be ignored silently.
    """
    single = {path.upper().replace(".", "_"): path for path in paths(Config)}
    variables = {}
    for name in sorted(environ):
        key = name.removeprefix(ENV_PREFIX)
        if key == name or "__" not in key:
            if key != name and key in single:
                right = ENV_PREFIX + single[key].upper().replace(".", "__")
                raise ConfigError(f"{name}: levels are divided by two underscores; did you mean {right}?")
            continue
        path = [part.lower() for part in key.split("__")]
        _put(tree, path, EnvText(environ[name]), name)
        variables[".".join(path)] = name
    return variables


class Reader:
    """Turns the tree into dataclasses, and knows where each value came from."""

    def __init__(self, root: type, file: str, variables: dict[str, str] | None = None) -> None:
        """root: the outermost dataclass; file: its name; variables: by key path, those that replaced a key."""
        self.root = root
        self.file = file
        self.variables = variables or {}

    def place(self, path: str) -> str:
        """Where a key was set: variable or file, then its path."""
        origin = self.variables.get(path) or self.file
        return f"{origin}: {path}" if origin else path

    def fail(self, path: str, value: object, hint: Any) -> NoReturn:
        raise ConfigError(f"{self.place(path)}: found {found(value)}, expected {expected(hint)}")

    def section(self, value: object, kind: type, path: str) -> object:
        """A dataclass; keys left out take their defaults, `section:` with nothing below is all defaults.

        Raises ConfigError for what does not fit, and for a key without default that is left out.
        """
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self.fail(path, value, kind)
        hints = typing.get_type_hints(kind, include_extras=True)
        for key in value:
            if key not in hints:
                self.unknown(f"{path}.{key}".lstrip("."), str(key), list(hints))
        values = {key: self.value(item, hints[key], f"{path}.{key}".lstrip(".")) for key, item in value.items()}
        for field in dataclasses.fields(kind):
            if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
                missing = f"{path}.{field.name}".lstrip(".")
                raise ConfigError(f"{self.place(missing)}: missing, expected {expected(hints[field.name])}")
        return kind(**values)

    def unknown(self, path: str, key: str, names: list[str]) -> NoReturn:
        origin = next((name for at, name in self.variables.items() if at == path or at.startswith(path + ".")), None)
        place = f"{origin}: {path}" if origin else self.place(path)
        if near := difflib.get_close_matches(key.lower().replace("-", "_"), names, 1, 0.6):
            raise ConfigError(f"{place}: unknown key; did you mean {near[0]}?")
        if elsewhere := [full for full in paths(self.root) if full.rpartition(".")[2] == key]:
            raise ConfigError(f"{place}: unknown key here; did you mean {' or '.join(elsewhere)}?")
        raise ConfigError(f"{place}: unknown key; the keys here are {', '.join(names)}")

    def value(self, value: object, hint: Any, path: str) -> object:
        """One value against its annotation."""
        origin = typing.get_origin(hint)
        if dataclasses.is_dataclass(hint):
            return self.section(value, typing.cast(type, hint), path)
        if origin is dict:
            return self.named(value, hint, path)
        if isinstance(value, EnvText):
            value = _parse_env(value, hint)
        if origin is tuple:
            return self.items(value, hint, path)
        if not fits(value, hint):
            self.fail(path, value, hint)
        return float(value) if isinstance(value, int) and takes_float(hint) else value

    def named(self, value: object, hint: Any, path: str) -> object:
        """A section whose keys the user chooses (the interfaces)."""
        if not isinstance(value, dict) or not value:
            self.fail(path, value, hint)
        kind = typing.get_args(hint)[1]
        return {str(name): self.value(item, kind, f"{path}.{name}") for name, item in value.items()}

    def items(self, value: object, hint: Any, path: str) -> tuple[object, ...]:
        """A list; a single text counts as a list of one."""
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            self.fail(path, value, hint)
        kind = typing.get_args(hint)[0]
        return tuple(self.value(item, kind, f"{path}[{index}]") for index, item in enumerate(items))


def _parse_env(text: str, hint: Any) -> object:
    if typing.get_origin(hint) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    if takes_text(hint) and not (is_union(hint) and text in ("null", "")):
        return str(text)
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return str(text)


def _put(tree: Tree, path: list[str], value: EnvText, name: str) -> None:
    for part in path[:-1]:
        if tree.get(part) is None:
            tree[part] = {}
        if not isinstance(tree[part], dict):
            raise ConfigError(f"{name}: {part} is {found(tree[part])}, not a section")
        tree = tree[part]
    tree[path[-1]] = value


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values, so that `bypass: on` is text and `1:30` no number; a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} given twice", key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+\.[0-9]*$|^[-+]?[0-9]+(\.[0-9]*)?e[-+]?[0-9]+$"),
    list("-+0123456789"),
)
