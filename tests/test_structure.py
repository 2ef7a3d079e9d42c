"""The shape of the code: imports go one way, files and functions stay small."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES, FUNCTION_LINES = 400, 45

CONFIG = ("config", "config_file", "config_rules", "config_schema", "config_text")
CALLS = ("calls", "call", "call_report", "legs", "leg_table", "leases", "parties", "negotiation")
PLAN = ("plan", "plan_text", "capacity")
ROOTS = ("app", "cli", "__main__", "serve_grpc", "preflight", "banner", "file")
"""Where everything is put together: these may import anything, and nothing below may import them."""
MAY_IMPORT = {
    "errors": (),
    "protocol": ("errors",),
    "config": ("errors",),
    "messages": (),
    "measure": (),
    "outage": (),
    "plan": ("errors",),
    "log": ("config",),
    "denoise": ("config", "errors", "protocol"),
    "detect": ("messages", "denoise", "errors", "protocol"),
    "media": ("messages", "denoise", "detect", "config", "errors", "protocol"),
    "metrics": ("messages",),
    "calls": ("messages", "config", "errors", "protocol"),
    "_pb": (),
    "client": ("_pb", "errors"),
    "control": ("calls", "messages", "metrics", "measure", "denoise", "config", "errors", "protocol", "_pb"),
}
"""control → calls → messages ← media → denoise, detect; each layer may import itself."""

GATEWAY = sorted(path for path in (ROOT / "gateway").rglob("*.py") if not path.name.startswith("denoise_pb2"))
ALL = [
    path
    for folder in ("gateway", "models", "loadtest")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.name.startswith("denoise_pb2")
]  # generated


def layer(module: str) -> str:
    """The layer of a module's path below `gateway`."""
    name = module.split(".")[0]
    groups = {"config": CONFIG, "calls": CALLS, "plan": PLAN}
    return next((group for group, names in groups.items() if name in names), name)


def imports(path: Path) -> Iterator[str]:
    """Modules of our own that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield from (f"gateway.{alias.name}" for alias in node.names) if module == "gateway" else (module,)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", GATEWAY, ids=name)
def test_imports_go_one_way(path):
    own = layer(path.relative_to(ROOT / "gateway").with_suffix("").parts[0])
    foreign = [module for module in imports(path) if module.split(".")[0] in ("loadtest", "models", "tests")]
    assert not foreign, f"gateway stands alone: {foreign}"
    if own in (*ROOTS, "__init__"):
        return
    used = {layer(module.removeprefix("gateway.")) for module in imports(path) if module.startswith("gateway.")}
    assert used <= {own, *MAY_IMPORT.get(own, ())}, f"{own} imports {used - {own, *MAY_IMPORT.get(own, ())}}"


def test_every_layer_is_ruled_and_every_rule_has_a_layer():
    layers = {layer(path.relative_to(ROOT / "gateway").with_suffix("").parts[0]) for path in GATEWAY}
    assert set(MAY_IMPORT) | set(ROOTS) == layers - {"__init__"}, "say above what the new file may import"


@pytest.mark.parametrize("path", ALL, ids=name)
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= FILE_LINES
    long = {
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("path", ALL, ids=name)
def test_every_file_says_what_it_is_for(path):
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))
