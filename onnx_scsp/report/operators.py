"""The operator table, generated from the rules."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from onnx_scsp.ops import RuleTable


def operators_json(rules: RuleTable) -> dict[str, Any]:
    """One record per operator."""
    return {
        "operators": [
            {"domain": domain, "op": op, "note": rule.note, "mended": rule.mend is not None}
            for (domain, op), rule in sorted(rules.items())
        ]
    }


def operators_table(rules: RuleTable) -> Table:
    """Operators by rule."""
    table = Table(title="Operators with a rule", title_justify="left")
    table.add_column("operators", overflow="fold", max_width=60)
    table.add_column("what the rule says", overflow="fold")
    table.add_column("repaired after a cut")
    seen: set[int] = set()
    for rule in rules.values():
        if id(rule) not in seen:
            seen.add(id(rule))
            table.add_row(" ".join(rule.ops), rule.note, "yes" if rule.mend else "")
    return table
