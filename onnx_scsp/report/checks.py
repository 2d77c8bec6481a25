"""Verification reports."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from onnx_scsp.types import Check, VerifyReport


def report_json(report: VerifyReport) -> dict[str, Any]:
    """`passed` and the list of checks."""
    return {"passed": bool(report), "checks": checks_json(report)}


def checks_json(report: VerifyReport) -> list[dict[str, Any]]:
    """One record per check."""
    return [
        {
            "name": check.name,
            "passed": check.passed,
            "value": check.value,
            "limit": check.limit,
            "detail": check.detail,
        }
        for check in report.checks
    ]


def report_table(report: VerifyReport) -> Table:
    """Checks with figures."""
    table = Table(title="Checks", title_justify="left")
    for name, justify in (("check", "left"), ("", "left"), ("value", "right"), ("limit", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("what", overflow="fold")
    for check in report.checks:
        table.add_row(
            check.name, _verdict(check), _figure(check.value), _figure(check.limit), check.detail
        )
    return table


def _verdict(check: Check) -> str:
    if not check.passed:
        return "[red]FAILED[/red]"
    return "[green]ok[/green]"


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.3g}"
