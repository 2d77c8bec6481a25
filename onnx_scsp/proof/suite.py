"""All checks in order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from onnx_scsp.config import VerifyConfig
from onnx_scsp.errors import PlanError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import InferenceSession, run_session
from onnx_scsp.graph.shapes import InputSpec, input_specs
from onnx_scsp.graph.view import view
from onnx_scsp.proof.compare import difference
from onnx_scsp.proof.oracles import check_oracles
from onnx_scsp.proof.places import check_places
from onnx_scsp.proof.refit import check_only_values, put_back
from onnx_scsp.proof.structure import check_interface, check_runs, check_structure
from onnx_scsp.types import AnyArray, Check, PrunePlan, VerifyReport

_LARGEST_BATCH = 64


def verify_files(
    a: Model,
    b: Model,
    plan: PrunePlan | None = None,
    *,
    config: VerifyConfig | None = None,
    data: Mapping[str, AnyArray] | None = None,
    macs: tuple[int, int] | None = None,
    repaired: Model | None = None,
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
    look = None if data is None else partial(_in_batches, feeds=data, specs=specs)
    runs = check_runs(a, b, specs, config.seed, config.threads, look)
    checks += runs.checks
    if plan is not None and all(check.passed for check in checks):
        dense = repaired or (put_back(a, b, plan) if plan.refit else a)
        if dense is not a:
            checks.append(check_only_values(a, dense, plan))
        checks += check_oracles(dense, b, plan, specs, config)
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


def _in_batches(
    session: InferenceSession,
    feeds: Mapping[str, AnyArray],
    specs: tuple[InputSpec, ...],
) -> dict[str, AnyArray]:
    """Runs all samples through; a model of fixed batch sees as many whole batches as fit."""
    given = [spec for spec in specs if spec.name in feeds]
    sampled = [spec for spec in given if _has_samples(spec, feeds[spec.name])]
    fixed = [spec.shape[0] for spec in sampled if not spec.dynamic[0]]
    size = min(fixed, default=_LARGEST_BATCH)
    count = min((len(feeds[spec.name]) for spec in sampled), default=size)
    starts = range(0, max(count - size + 1, 1) if fixed else count, size)
    names = {spec.name for spec in sampled}
    outputs: list[dict[str, AnyArray]] = []
    for start in starts:
        part = {
            name: array[start : start + size] if name in names else array
            for name, array in feeds.items()
        }
        outputs.append(run_session(session, part))
    return {name: _joined(outputs, name) for name in outputs[0]}


def _has_samples(spec: InputSpec, array: AnyArray) -> bool:
    """Whether axis 0 runs over samples; an input that only fills its fixed shape goes in whole."""
    return array.ndim > 0 and (spec.dynamic[0] or len(array) > spec.shape[0])


def _joined(runs: list[dict[str, AnyArray]], name: str) -> AnyArray:
    """One output over all batches, samples along axis 0."""
    return np.concatenate([np.atleast_1d(run[name]) for run in runs])
