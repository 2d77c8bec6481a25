"""Widens or undoes what does not pay, by measurement.

A cut group is suspect where the layers that its units lie on take, after the cut, no less than 95 %
of what they took before, by the runtime's profile. Suspects are first widened together, each to the
next width that the machine table calls good (to its full width where there is none); then, the
worst first, one by one: to the next good width, and undone. A change stays where it makes the whole
model faster beyond the noise.

Units come back by what they carry (producer times reader energy), the strongest first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.describe import unit_tables
from onnx_scsp.measure.compare import Comparison
from onnx_scsp.plan.counts import Progress
from onnx_scsp.plan.widths import axes_by_group, pool_widths
from onnx_scsp.timing import LayerTimes, MachineTable
from onnx_scsp.types import ChannelGroup, GroupCut, PrunePlan

_PAYS = 0.95
_GAIN = 0.01
"""A change counts as faster from here on, however quiet the machine."""
_MOST = 12
"""Measurements at most."""


@dataclass(frozen=True, slots=True)
class Change:
    """One group that was widened.

    Attributes:
        group: Its id.
        before: Units that the plan kept.
        after: Units that stay now.
        ratio_before: The model's latency ratio before.
        ratio_after: And with the change.
    """

    group: str
    before: int
    after: int
    ratio_before: float
    ratio_after: float


Measure = Callable[[PrunePlan], Comparison]
Profile = Callable[[PrunePlan], LayerTimes]


class Widener:
    """One plan on its way to widths that pay.

    Attributes:
        plan: The plan as it is now.
        seen: Its measurement.
        changes: What was widened.
    """

    def __init__(
        self,
        coupling: Coupling,
        plan: PrunePlan,
        machine: MachineTable,
        measure: Measure,
        progress: Progress = lambda _what, _done, _total: None,
    ) -> None:
        self._coupling, self._machine = coupling, machine
        self._measure, self._progress = measure, progress
        self._left = _MOST
        self._groups = {group.id: group for group in coupling.map.groups}
        self._axes = axes_by_group(coupling)
        self.plan, self.changes = plan, list[Change]()
        self.seen = self._measured(plan)

    def run(self, before: LayerTimes, profile: Profile) -> None:
        """Goes through the suspects.

        Args:
            before: Times of the original's layers.
            profile: Times of the layers under a plan.
        """
        suspects = self._suspects(before, profile(self.plan))
        if len(suspects) > 1:
            self._try({group: self._next_good(group) for group in suspects})
        for group in suspects:
            kept = {cut.group: len(cut.keep) for cut in self.plan.cuts}
            if group not in kept:
                continue
            good = self._next_good(group)
            self._try({group: good})
            if good < self._groups[group].n_units:
                self._try({group: self._groups[group].n_units})

    def _measured(self, plan: PrunePlan) -> Comparison:
        self._left -= 1
        self._progress("timing widths", _MOST - self._left, _MOST)
        return self._measure(plan)

    def _suspects(self, before: LayerTimes, after: LayerTimes) -> list[str]:
        """Cut groups that gain next to nothing, those that lose most first."""
        nodes = _nodes_of_groups(self._coupling)
        found = []
        for cut in self.plan.cuts:
            was = sum(before.ms.get(node, 0.0) for node in nodes.get(cut.group, ()))
            now = sum(after.ms.get(node, 0.0) for node in nodes.get(cut.group, ()))
            if was and now >= _PAYS * was:
                found.append((was - now, cut.group))
        return [group for _, group in sorted(found)]

    def _next_good(self, group_id: str) -> int:
        """The next width at which the runtime is fast, above the present one."""
        group = self._groups[group_id]
        kept = next((len(c.keep) for c in self.plan.cuts if c.group == group_id), group.n_units)
        if group.profile.max() > 0:
            return group.n_units
        units = np.arange(group.n_units) + self._coupling.offsets[group_id]
        widths = pool_widths(
            self._axes[group_id],
            self._machine,
            units,
            alone=True,
            relaxed=False,
        )
        counts = widths.counts if widths is not None and widths.counts is not None else ()
        return min((count for count in counts if count > kept), default=group.n_units)

    def _try(self, targets: Mapping[str, int]) -> None:
        """Keeps a change that makes the model faster."""
        if self._left <= 0:
            return
        plan = self.plan
        for group, count in targets.items():
            plan = widened(self._coupling, plan, group, count)
        if plan == self.plan:
            return
        seen = self._measured(plan)
        needed = max(_GAIN, min(seen.noise, self.seen.noise) / 2)
        if seen.ratio > self.seen.ratio * (1.0 - needed):
            return
        was = {cut.group: len(cut.keep) for cut in self.plan.cuts}
        self.changes.extend(
            Change(group, was[group], count, self.seen.ratio, seen.ratio)
            for group, count in targets.items()
            if group in was
        )
        self.plan, self.seen = plan, seen

    @property
    def record(self) -> dict[str, Any]:
        """What the plan says about it."""
        return {
            "ratio": round(self.seen.ratio, 4),
            "noise": round(self.seen.noise, 4),
            "changes": [
                {
                    "group": change.group,
                    "before": change.before,
                    "after": change.after,
                    "ratio_before": round(change.ratio_before, 4),
                    "ratio_after": round(change.ratio_after, 4),
                }
                for change in self.changes
            ],
        }


def widened(coupling: Coupling, plan: PrunePlan, group_id: str, count: int) -> PrunePlan:
    """A plan that keeps more of one group.

    Args:
        coupling: The model.
        plan: The plan.
        group_id: The group.
        count: Units that shall stay; a smaller number than now changes nothing.

    Returns:
        The plan; without a cut of this group where all of it stays.
    """
    group = next(group for group in coupling.map.groups if group.id == group_id)
    cuts = []
    for cut in plan.cuts:
        if cut.group != group_id or count <= len(cut.keep):
            cuts.append(cut)
        elif count < group.n_units:
            cuts.append(_wider(coupling, group, cut, count))
    return replace(plan, cuts=tuple(cuts))


def _wider(coupling: Coupling, group: ChannelGroup, cut: GroupCut, count: int) -> GroupCut:
    constants = coupling.walk.constants
    energy = np.zeros(group.n_units)
    for table in unit_tables(group, coupling.map.chains, constants.real, constants.code_tensors):
        energy[table.units] = table.energy
    gone = np.setdiff1d(np.arange(group.n_units), cut.keep)
    back = gone[np.argsort(-energy[gone], kind="stable")][: count - len(cut.keep)]
    keep = sorted({*cut.keep, *back.tolist()})
    taken = {r: s for r, s in cut.absorbed_by.items() if r not in keep}
    still_gone = np.setdiff1d(np.arange(group.n_units), keep)
    lost = [unit for unit in still_gone.tolist() if unit not in taken]
    whole = float(energy.sum())
    return replace(
        cut,
        keep=tuple(keep),
        absorbed_by=taken,
        scales={r: v for r, v in cut.scales.items() if r in taken},
        score=round(float(energy[lost].sum()) / whole, 6) if whole > 0 else 0.0,
    )


def _nodes_of_groups(coupling: Coupling) -> dict[str, set[str]]:
    """Group -> nodes that cost MACs and hold some of its units."""
    owner = np.full(coupling.n_units + 1, -1)
    for place, group in enumerate(coupling.map.groups):
        first = coupling.offsets[group.id]
        owner[first : first + group.n_units] = place
    found: dict[str, set[str]] = {}
    for term in coupling.costs:
        for vector in term.vectors:
            for place in np.unique(owner[vector]).tolist():
                if place >= 0:
                    found.setdefault(coupling.map.groups[place].id, set()).add(term.node)
    return found
