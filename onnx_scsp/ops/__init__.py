"""Knowledge: one rule per operator family, assembled in one explicit table."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from onnx_scsp.errors import InternalError
from onnx_scsp.ops import (
    branch,
    contrib,
    conv,
    einsum,
    indexing,
    layout,
    linear,
    norm,
    pointwise,
    pool,
    quantised,
    recurrent,
    reduce,
    sampling,
    slicing,
)
from onnx_scsp.ops.rule import OpRule, RuleTable

__all__ = ["RULES", "OpRule", "RuleTable", "approximating", "rule_table"]


def rule_table(rules: Iterable[OpRule]) -> RuleTable:
    """Indexes rules by (domain, operator).

    Args:
        rules: The rules.

    Returns:
        A read-only table.

    Raises:
        InternalError: Two rules claim one operator.
    """
    table: dict[tuple[str, str], OpRule] = {}
    for rule in rules:
        for op_type in rule.ops:
            key = (rule.domain, op_type)
            if key in table:
                raise InternalError(f"two rules for operator {op_type}")
            table[key] = rule
    return MappingProxyType(table)


RULES: RuleTable = rule_table(
    (
        *conv.RULES,
        *linear.RULES,
        *norm.RULES,
        *pointwise.RULES,
        *layout.RULES,
        *slicing.RULES,
        *pool.RULES,
        *reduce.RULES,
        *branch.RULES,
        *sampling.RULES,
        *indexing.RULES,
        *einsum.RULES,
        *recurrent.RULES,
        *contrib.RULES,
        *quantised.RULES,
        *quantised.MICROSOFT_RULES,
    )
)
"""The operators that the package knows. Extend a copy: `RULES | rule_table((my_rule,))`."""


def approximating(rules: RuleTable) -> RuleTable:
    """The same table, with rules that cut what normalises over channels.

    Args:
        rules: A table; where it departs from the package's own, it stays as it is.

    Returns:
        A read-only table.
    """
    families = (norm, pool, reduce)
    looser = rule_table(rule for family in families for rule in family.APPROXIMATE_RULES)
    own = {key: rule for key, rule in looser.items() if rules.get(key) is RULES[key]}
    return MappingProxyType({**rules, **own})
