"""All checks in order."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_scsp.config import VerifyConfig
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.shapes import input_specs
from onnx_scsp.graph.view import view
from onnx_scsp.proof.ahead import Ahead
from onnx_scsp.proof.compare import difference
from onnx_scsp.proof.oracles import check_oracles
from onnx_scsp.proof.places import check_places
from onnx_scsp.proof.refit import check_only_values, put_back
from onnx_scsp.proof.samples import in_batches
from onnx_scsp.proof.structure import (
    check_interface,
    check_runs,
    check_structure,
    run_original,
)
from onnx_scsp.types import AnyArray, Check, PrunePlan, VerifyReport


def verify_files(
    a: Model,
    b: Model,
    plan: PrunePlan | None = None,
    *,
    config: VerifyConfig | None = None,
    data: Mapping[str, AnyArray] | None = None,
    macs: tuple[int, int] | None = None,
    repaired: Model | None = None,
    ahead: Ahead | None = None,
) -> VerifyReport:
    """Checks a result against its original.

    Args:
        a: The original, loaded from its file.
        b: The result, loaded from its file.
        plan: The plan that led from a to b; without it the two oracles are skipped.
        config: Tolerances and seeds.
        data: Inputs for the fidelity figures, first axis the sample; where None, the one or two
            random ones of the checks: they tell whether outputs are related at all, and no more.
        macs: MACs of the result as planned and as measured.
        repaired: The original with the values that the repair gave its constants, where that is at
            hand; else they are taken from the result, entry by entry.
        ahead: What `look_ahead` and `look_further` give for the same model, data and settings.

    Returns:
        The checks; fidelity figures are reported and always pass.

    Raises:
        PlanError: The plan was made for another model, or names places that it does not have.
    """
    config = config or VerifyConfig()
    if plan is not None and plan.model_sha256 != a.sha256:
        raise PlanError(
            f"the plan was made for model {plan.model_sha256[:12]}..., the first file is "
            f"{a.sha256[:12]}..."
        )
    graph = view(a.proto)
    constants = Constants(a, graph)
    if plan is not None:
        check_places(graph, constants, plan)
    specs = input_specs(a, graph, constants, config.input_shapes)
    checks = [check_structure(a, b), check_interface(a, b)]
    look = None if data is None else in_batches(data, specs)
    if ahead is not None:
        original = ahead.original.result()
    else:
        original = run_original(a, specs, config.seed, config.threads, look)
    runs = check_runs(original, b, specs, config.seed, config.threads, look)
    checks += runs.checks
    if plan is not None and all(check.passed for check in checks):
        dense = repaired or (put_back(a, b, plan) if plan.refit else a)
        if dense is not a:
            checks.append(check_only_values(a, dense, plan))
        known = ahead.known(plan) if ahead is not None and dense is a else None
        checks += check_oracles(dense, b, plan, specs, config, known)
    if macs is not None:
        planned, measured = macs
        same = abs(planned - measured) <= max(1, round(1e-6 * planned))
        detail = f"planned {planned}, measured {measured}"
        checks.append(Check("macs", same, float(measured), float(planned), detail))
    if all(check.passed for check in checks):
        checks += _fidelity(runs.outputs, "random inputs" if data is None else "given inputs")
    return VerifyReport(tuple(checks))


def _fidelity(outputs: tuple[dict[str, AnyArray], ...], source: str) -> list[Check]:
    first, second = outputs
    found = difference(first, second)
    checks = [
        Check("largest output difference", True, found.largest, None, f"relative, {source}"),
        Check("mean output difference", True, found.mean, None, f"relative, {source}"),
    ]
    if found.agreement is not None:
        checks.append(Check("top-1 agreement", True, found.agreement, None, source))
    return checks
