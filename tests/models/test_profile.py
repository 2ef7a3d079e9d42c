"""The profiler accounts for every operator once, and sets two graphs side by side."""

from pathlib import Path

import pytest

from models.profile import Level, Profile, by_operator, comparison, main, profile, table

GRAPH = Path(__file__).parents[2] / "models" / "standard_8k.onnx"


def event(kind: str, node: int, spent: int) -> dict:
    return {"cat": "Node", "name": f"{kind}_kernel_time", "dur": spent, "args": {"op_name": kind, "node_index": node}}


def test_a_node_counts_with_its_shortest_time_and_the_dearest_kind_comes_first():
    events = [event("Add", 0, 9), event("MatMul", 1, 40), event("Add", 0, 4), event("Add", 2, 6)]
    other = {"cat": "Session", "name": "model_run", "dur": 1000, "args": {}}
    assert list(by_operator([*events, other], batch=2).items()) == [("MatMul", (1, 20.0)), ("Add", (2, 5.0))]


def test_a_real_graph_is_accounted_for():
    p = profile(GRAPH, batch=16, seconds=0.2)
    assert p.operators["MatMulIntegerToFloat"][0] > 1
    assert p.summed > 0 and p.whole > 0
    assert "streams a core" in table(p)


def test_fusing_leaves_fewer_operators():
    written, fused = (profile(GRAPH, 4, 0.1, level) for level in (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL))
    assert sum(count for count, _ in fused.operators.values()) < sum(count for count, _ in written.operators.values())


def test_a_comparison_names_what_only_one_graph_has():
    before = Profile("before", {"Mul": (2, 3.0)}, 4.0)
    after = Profile("after", {"QuickGelu": (1, 1.0)}, 2.0)
    lines = comparison(before, after).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["Mul", "QuickGelu"]
    assert lines[-1].split()[-3:] == ["2500", "5000", "2500"]


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["profile", "--batch", "4", "--seconds", "0.1"])
    main()
    assert "MatMul" in capsys.readouterr().out
