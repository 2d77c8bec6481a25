"""Every operator of the table against onnxruntime, over its attributes and operator sets."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from onnx_scsp.retrain.lift import OPERATORS, lift  # noqa: E402
from retrain import cases_layers, cases_layout, cases_pointwise, cases_quantised  # noqa: E402
from retrain.lift_case import Case  # noqa: E402

CASES = [
    *cases_pointwise.CASES,
    *cases_layers.CASES,
    *cases_layout.CASES,
    *cases_quantised.CASES,
]
TOLERANCE = 1e-4


def computed(case: Case) -> dict[str, np.ndarray]:
    lifted = lift(case.model())
    inputs = {name: torch.from_numpy(np.array(x)) for name, x in case.feeds().items()}
    with torch.no_grad():
        return {name: value.numpy() for name, value in lifted.run(inputs).items()}


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected magnitude."""
    same = (found == expected) | ((found != found) & (expected != expected))
    a, b = found.astype(np.float64), expected.astype(np.float64)
    scale = max(np.abs(b[np.isfinite(b)]).max(initial=0.0), 1e-6)
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0.0, np.abs(a - b)).max(initial=0.0) / scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_operator_computes_what_onnxruntime_does(case: Case) -> None:
    expected, found = case.expected(), computed(case)
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert apart(found[name], array) <= TOLERANCE


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.op not in ("NonZero", "Compress", "Range")], ids=str
)
def test_the_operator_stays_on_the_device_of_its_operands(case: Case) -> None:
    """On torch's device without memory; what lies on another one cannot be mixed with it."""
    lifted = lift(case.model()).to("meta")
    host = OPERATORS[case.domain, case.op].host
    if any(f"x{place}" in case.feeds() for place in host):
        pytest.skip("a size is data")
    inputs = {name: torch.from_numpy(np.array(x)).to("meta") for name, x in case.feeds().items()}
    assert {value.device.type for value in lifted.run(inputs).values()} <= {"meta"}


def test_every_operator_of_the_table_has_a_case() -> None:
    assert set(OPERATORS) - {(case.domain, case.op) for case in CASES} == set()


def test_the_comparison_notices_a_small_difference() -> None:
    assert apart(np.array([1.0, 2.0]), np.array([1.0, 2.001])) > TOLERANCE
