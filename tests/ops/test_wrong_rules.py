"""A wrong rule ships nothing: every rule of the table is damaged, and each damage must be noticed.

A saboteur wraps a rule and loses or invents something: members, ties, freezes, the order of labels.
What comes of pruning a case of that rule has to be an error, or a file that equals its independent
twin. At least one saboteur has to be noticed for each rule.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import independent_twin
import numpy as np
import onnx
import pytest
from ops.case import Case, is_runnable
from ops.cases import CASES

from onnx_scsp.config import PruneConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import InternalError, ScspError
from onnx_scsp.graph.load import from_proto
from onnx_scsp.ops import RULES, OpRule
from onnx_scsp.ops.site import Labelled, Site
from onnx_scsp.pipeline import prune

Saboteur = Callable[[OpRule], OpRule]
CONFIG = PruneConfig(target="ratio", value=0.5, align=1, compensate="none")
MOST_CASES = 4
NOTICED, HARMLESS, UNCHANGED, SHIPPED = "noticed", "harmless", "unchanged", "shipped"


def losing(fact: str) -> Saboteur:
    """Runs the rule and forgets the facts of one kind that it stated."""

    def sabotage(rule: OpRule) -> OpRule:
        def couple(site: Site) -> None:
            facts = getattr(site.facts, fact)
            before = len(facts)
            rule.couple(site)
            del facts[before:]

        return dataclasses.replace(rule, couple=couple)

    return sabotage


def emitting(change: Callable[[Site, Labelled], np.ndarray]) -> Saboteur:
    """Runs the rule and changes the labels of its outputs."""

    def sabotage(rule: OpRule) -> OpRule:
        def couple(site: Site) -> None:
            rule.couple(site)
            for index, name in enumerate(site.node.outputs):
                if name in site.facts.activations:
                    site.emit(change(site, site.facts.activations[name]), index)

        return dataclasses.replace(rule, couple=couple)

    return sabotage


def rolled(site: Site, x: Labelled) -> np.ndarray:
    return np.roll(x.labels, 1, axis=max(x.varying, default=0))


def unrelated(site: Site, x: Labelled) -> np.ndarray:
    return site.fresh(x.labels.size).reshape(x.labels.shape)


def passing_through(rule: OpRule) -> OpRule:
    """States nothing, and hands labels on along the longest axis that fits."""

    def couple(site: Site) -> None:
        for index, name in enumerate(site.node.outputs):
            if name:
                site.emit(_borrowed(site, site.out_shape(index)), index)

    return dataclasses.replace(rule, couple=couple)


def _borrowed(site: Site, shape: tuple[int, ...]) -> np.ndarray:
    """Labels of an input for as many channels, wherever they lie in the output."""
    known = [site.facts.activations[n] for n in site.node.inputs if n in site.facts.activations]
    for x in known:
        if len(x.varying) == 1:
            size = x.shape[x.varying[0]]
            places = [axis for axis in range(len(shape)) if shape[axis] == size]
            if x.varying[0] in places or places:
                axis = x.varying[0] if x.varying[0] in places else places[0]
                return x.labels.reshape([size if a == axis else 1 for a in range(len(shape))])
    return known[0].labels.reshape(-1)[:1].reshape((1,) * len(shape))


def without_mending(rule: OpRule) -> OpRule:
    return dataclasses.replace(rule, mend=None)


SABOTEURS: dict[str, Saboteur] = {
    "forgets members": losing("members"),
    "forgets equalities": losing("equalities"),
    "forgets ties": losing("ties"),
    "forgets reductions": losing("reductions"),
    "forgets balances": losing("balances"),
    "forgets freezes": losing("freezes"),
    "rolls its labels": emitting(rolled),
    "invents labels": emitting(unrelated),
    "passes everything": passing_through,
    "mends nothing": without_mending,
}
CASE_OF: dict[tuple[str, str], list[Case]] = {}
for _case in CASES:
    CASE_OF.setdefault((_case.domain, _case.op_type), []).append(_case)


def outcome(case: Case, key: tuple[str, str], name: str) -> str:
    """What becomes of one case under a damaged rule."""
    damaged = SABOTEURS[name](RULES[key])
    wrong = {**RULES, key: damaged}
    try:
        same = _same(true_coupling(case.name), find_coupling(from_proto(case.build()), rules=wrong))
    except Exception:  # the analysis itself stumbles over the damage, in any way
        return NOTICED
    if same and damaged.mend is RULES[key].mend:
        return UNCHANGED
    with tempfile.TemporaryDirectory() as folder:
        source, output, plan = (Path(folder) / n for n in ("in.onnx", "out.onnx", "plan.json"))
        onnx.save(case.build(), str(source))
        try:
            prune(source, output, CONFIG, plan_out=plan, rules=wrong)
        except (ScspError, InternalError, ValueError, IndexError):
            return SHIPPED if output.exists() else NOTICED
        is_true = independent_twin.compare(source, output, plan).error <= 1e-4
    return HARMLESS if is_true else SHIPPED


@cache
def true_coupling(case: str) -> Coupling:
    model = next(c for c in CASES if c.name == case).build()
    return find_coupling(from_proto(model))


def _same(a: Coupling, b: Coupling) -> bool:
    """Whether two analyses agree in every label and every member."""
    return (
        a.activations.keys() == b.activations.keys()
        and all(np.array_equal(a.activations[n], b.activations[n]) for n in a.activations)
        and _members(a) == _members(b)
        and _reductions(a) == _reductions(b)
    )


def _reductions(coupling: Coupling) -> list[object]:
    return [
        (group.id, r.value, r.axis, r.use, r.units.tolist())
        for group in coupling.map.groups
        for r in group.reductions
    ]


def _members(coupling: Coupling) -> list[object]:
    return [
        (group.n_units, group.profile.tolist(), m.tensor, m.axis, m.role, m.uses, m.units.tolist())
        for group in coupling.map.groups
        for m in group.members
    ]


@pytest.mark.parametrize("key", sorted(CASE_OF), ids=lambda key: ".".join(filter(None, key)))
def test_no_damage_to_a_rule_ships_a_wrong_file(key: tuple[str, str]) -> None:
    if not all(is_runnable(case) for case in CASE_OF[key][:MOST_CASES]):
        pytest.skip(f"the installed onnx or onnxruntime lacks {key[1]}")
    found = {
        (case.name, name): outcome(case, key, name)
        for case in CASE_OF[key][:MOST_CASES]
        for name in SABOTEURS
        if name != "mends nothing" or RULES[key].mend is not None
    }
    assert [place for place, what in found.items() if what == SHIPPED] == []
    assert NOTICED in found.values(), found
