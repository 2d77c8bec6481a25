"""The coverage page's list of failures."""

from __future__ import annotations

from tools.coverage.failures import failures


def test_a_failure_names_no_folder_of_the_machine_and_keeps_node_names() -> None:
    record = {
        "network": "net",
        "variant": "ts",
        "outcome": "wrong",
        "error": "Load model from /a/b.c/scratch_1/onnxsim.onnx failed:Node (/features/Gemm) | x",
    }
    lines = failures({("net", "ts", "onnxsim"): record})
    (line,) = [line for line in lines if line.startswith("- net")]
    assert "Load model from onnxsim.onnx failed:Node (/features/Gemm) / x" in line


def test_what_worked_is_counted_and_not_listed() -> None:
    fine = {"network": "net", "variant": "ts", "outcome": "ok"}
    assert "### onnx_scsp: 0 of 1" in failures({("net", "ts", "ours"): fine})
