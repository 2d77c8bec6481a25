"""An operator rule: all that the package knows about one operator family, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnx_scsp.ops.mend import Mend
from onnx_scsp.ops.site import Site


@dataclass(frozen=True, slots=True)
class OpRule:
    """Knowledge about one or more operators.

    Attributes:
        ops: Operator names that share the rule.
        couple: Maps input labels to output labels and states facts (see `Site`).
        mend: Repairs attributes and shape constants after a cut, or None where none spell channel
            numbers (see `Mend`).
        note: One sentence for the generated operator table.
        domain: Operator domain, '' for the default one.
    """

    ops: tuple[str, ...]
    couple: Callable[[Site], None]
    note: str
    mend: Callable[[Mend], None] | None = None
    domain: str = ""


def rule_of(rules: tuple[OpRule, ...], op_type: str) -> OpRule:
    """The rule of an operator among those of its family, for operators that follow it."""
    return next(rule for rule in rules if op_type in rule.ops)


RuleTable = Mapping[tuple[str, str], OpRule]
"""(domain, operator) -> rule."""
