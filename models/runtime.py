"""ONNX Runtime as a media process runs it, for everything here that opens a graph; and the CPU it ran on."""

from __future__ import annotations

from pathlib import Path

import onnxruntime


def session(model: bytes | str) -> onnxruntime.InferenceSession:
    """A graph (its bytes or its path) on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
