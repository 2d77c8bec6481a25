"""The plan of an epoch: the ordinary planner on the weights of the moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from onnx_scsp.blas import one_blas_thread
from onnx_scsp.calibrated import Passes, observer, with_values
from onnx_scsp.config import NEEDS_DATA, PruneConfig
from onnx_scsp.couple import Coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.model import Model
from onnx_scsp.observe import Evidence
from onnx_scsp.plan import METHODS, Choices, plan_cuts
from onnx_scsp.plan.planner import Observer
from onnx_scsp.retrain.back import write_back
from onnx_scsp.retrain.feed import Feed
from onnx_scsp.retrain.lift import Lifted
from onnx_scsp.retrain.scores import (
    NEEDS_CLASSES,
    SCORES,
    ClassMeans,
    observed_values,
    scored_method,
)
from onnx_scsp.retrain.soften import kept_by_group
from onnx_scsp.retrain.student import as_tensors
from onnx_scsp.timing.table import MachineTable
from onnx_scsp.types import GroupCut, IntArray, PrunePlan

CLASS_SAMPLES = 2048
"""Samples that class means are taken over."""
_BATCH = 64


class Remembered:
    """What inputs say, observed at the first question and then known."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._found: Evidence | None = None

    def __call__(self, pools: Sequence[IntArray]) -> Evidence:
        """Evidence on pools of units; these depend on the graph, so they never change."""
        if self._found is None:
            self._found = self._observe(pools)
        return self._found


@dataclass(frozen=True, slots=True, eq=False)
class Planner:
    """Makes plans for one network while its weights change.

    Attributes:
        coupling: The network's groups, found once.
        config: Budget, method and options of the planner.
        select: Method of the planner, or a name of `scores.SCORES`.
        feed: Training samples, for scores that need classes.
        budgets: What inputs say about the network before training, asked once: budgets are spread
            by measured damage, as `prune` does with inputs. None spreads them by weights alone.
        inputs: Calibration inputs for methods that choose by them; they look anew every epoch.
        threads: Threads of the runtime.
        machine: Widths at which the runtime is fast, for `align` = `auto`.
        fixed: A plan that stands, whatever the weights.
    """

    coupling: Coupling
    config: PruneConfig
    select: str
    feed: Feed
    budgets: Observer | None = None
    inputs: Passes | None = None
    threads: int = 2
    machine: MachineTable | None = None
    fixed: PrunePlan | None = None

    @one_blas_thread()
    def __call__(self, lifted: Lifted) -> PrunePlan:
        """The plan for the weights of the moment.

        Raises:
            ConfigError: The score needs labels and there are none.
            BudgetError: The budget cannot be reached.
        """
        if self.fixed is not None:
            return self.fixed
        model = write_back(self.coupling.model, lifted)
        coupling = with_values(self.coupling, model)
        config, choices = self.config, Choices()
        if self.select in SCORES:
            values = {n: t.detach().cpu().numpy() for n, t in lifted.constants.items()}
            means = self._class_means(lifted) if self.select in NEEDS_CLASSES else {}
            found = SCORES[self.select](self.coupling, values, means)
            method = scored_method(self.select, found)
            choices = Choices(methods={**METHODS, method.name: method})
        observe = self.budgets
        if self.inputs is not None:
            observe = observer(coupling, self.inputs, config, threads=self.threads, progress=silent)
        if observe is None and config.compensate in NEEDS_DATA["compensate"]:
            # the repair is for the cut; choosing by weights alone needs no inputs
            plan = plan_cuts(
                coupling,
                replace(config, compensate="none"),
                choices=choices,
                machine=self.machine,
            )
            return replace(plan, config=config.as_dict())
        return plan_cuts(coupling, config, choices=choices, observe=observe, machine=self.machine)

    @torch.no_grad()
    def _class_means(self, lifted: Lifted) -> ClassMeans:
        if self.feed.labels is None:
            raise ConfigError(f"the score {self.select} tells classes apart; give --labels")
        names = observed_values(self.coupling)
        classes = int(self.feed.labels.max()) + 1
        sums = {name: np.zeros(0) for name in names}
        counts = np.zeros(classes)
        was_training = lifted.training
        lifted.eval()
        device = next(iter(lifted.parameters())).device
        count = min(len(self.feed), CLASS_SAMPLES)
        for start in range(0, count, _BATCH):
            arrays, labels = self.feed.take(np.arange(start, min(start + _BATCH, count)))
            assert labels is not None
            feeds, _ = as_tensors(arrays, None, device)
            found = lifted.run(feeds, taps=names)
            hot = np.eye(classes)[labels]
            counts += hot.sum(0)
            for name in names:
                value = found[name]
                largest = value.flatten(2).amax(2) if value.ndim > 2 else value
                part = hot.T @ largest.double().cpu().numpy()
                sums[name] = sums[name] + part if sums[name].size else part
        lifted.train(was_training)
        seen = counts > 0
        return {name: total[seen] / counts[seen, None] for name, total in sums.items()}


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def soft_config(
    budget: PruneConfig, select: str, compensate: str, *, has_data: bool
) -> PruneConfig:
    """The planner's options while weights are soft: scores of ours go by the name of a method."""
    method = select
    if select in SCORES:
        resolved = replace(budget, method="l2", compensate=compensate)
        return replace(resolved.resolved(has_data=has_data), method=select)
    config = replace(budget, method=method, compensate=compensate)
    if compensate == "merge":
        config = replace(config, merge_threshold=0.0)
    return config.resolved(has_data=has_data)


def planned_shares(coupling: Coupling, plan: PrunePlan, macs: Callable[..., int]) -> dict[str, Any]:
    """What a plan would leave: share of the MACs, survivors by group, who they are (1 stays)."""
    kept = kept_by_group(coupling, plan)
    return {
        "macs": round(macs(coupling, plan) / max(coupling.macs, 1), 6),
        "survivors": {group: int(mask.sum()) for group, mask in kept.items()},
        "kept": {group: "".join("01"[int(bit)] for bit in mask) for group, mask in kept.items()},
    }


def plan_to_state(plan: PrunePlan | None) -> dict[str, Any] | None:
    """What a plan decides, for a checkpoint."""
    if plan is None:
        return None
    cuts = [
        {
            "group": cut.group,
            "n_units": cut.n_units,
            "keep": list(cut.keep),
            "absorbed_by": {str(k): v for k, v in cut.absorbed_by.items()},
            "scales": {str(k): v for k, v in cut.scales.items()},
            "score": cut.score,
            "criterion": cut.criterion,
        }
        for cut in plan.cuts
    ]
    return {"schema": plan.schema, "cuts": cuts, "timing": dict(plan.timing)}


def plan_from_state(state: Mapping[str, Any], coupling: Coupling, config: PruneConfig) -> PrunePlan:
    """The plan that `plan_to_state` took down."""
    return PrunePlan(
        schema=state["schema"],
        model_sha256=coupling.map.model_sha256,
        config=config.as_dict(),
        cuts=tuple(
            GroupCut(
                group=cut["group"],
                n_units=cut["n_units"],
                keep=tuple(cut["keep"]),
                absorbed_by={int(k): int(v) for k, v in cut["absorbed_by"].items()},
                scales={int(k): float(v) for k, v in cut["scales"].items()},
                score=cut["score"],
                criterion=cut["criterion"],
            )
            for cut in state["cuts"]
        ),
        groups=coupling.map.groups,
        frozen=coupling.map.frozen,
        timing=state["timing"],
    )


def on_model(plan: PrunePlan, coupling: Coupling) -> PrunePlan:
    """A plan in the words of another file of the same network (BatchNormalization restored or not).

    Raises:
        ConfigError: The two files do not have the same groups.
    """
    groups = {group.id: group for group in coupling.map.groups}
    for cut in plan.cuts:
        if cut.group not in groups or groups[cut.group].n_units != cut.n_units:
            raise ConfigError(f"the plan's group {cut.group} is not a group of the network")
    return replace(
        plan,
        model_sha256=coupling.map.model_sha256,
        groups=coupling.map.groups,
        frozen=coupling.map.frozen,
    )


def with_hash(plan: PrunePlan, model: Model) -> PrunePlan:
    """The plan under the hash of another file of the same graph."""
    return replace(plan, model_sha256=model.sha256)
