"""The training loop: epochs of plan, softening, updates, measuring, checkpoint.

A `Stage` is a stretch of epochs on one graph: the dense network while its weights are soft, the cut
one afterwards. Whatever a stage does is a function of its start, the options and its place (stage,
epoch, update), so that a run that goes on from a checkpoint computes what it would have computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from onnx_scsp.couple import Coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.model import Model
from onnx_scsp.retrain.checkpoint import (
    Checkpoint,
    optimiser_tensors,
    restore_optimiser,
    write_checkpoint,
)
from onnx_scsp.retrain.feed import Feed, augmented, epoch_order
from onnx_scsp.retrain.journal import Board, write_records
from onnx_scsp.retrain.lift import Lifted, lift
from onnx_scsp.retrain.losses import Objective
from onnx_scsp.retrain.measure import Gauge, recalibrate
from onnx_scsp.retrain.optimise import Average, make_optimiser, rate_at, set_rate
from onnx_scsp.retrain.options import Augment, RetrainConfig
from onnx_scsp.retrain.penalties import Penalty, make_penalty
from onnx_scsp.retrain.planning import Planner, plan_from_state, plan_to_state
from onnx_scsp.retrain.schedules import Schedule
from onnx_scsp.retrain.soften import Softener, cut_mask, make_softener
from onnx_scsp.retrain.student import (
    Student,
    as_tensors,
    borrowed,
    floating,
    freeze_unreached,
    load_values,
    silenced,
)
from onnx_scsp.types import PrunePlan

Watch = Callable[[Mapping[str, Any]], None]
"""Called with the record of every finished epoch."""
_TORCH_SEED = 4


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What all stages of a run share.

    Attributes:
        config: Options.
        schedule: Who is softened and how.
        fabric: Devices and processes.
        train: Samples to learn from.
        augment: What happens to them.
        objective: The loss.
        teacher: The original network, where it is a target or a reference.
        gauge: Measures networks.
        folder: Where checkpoints and logs go.
        updates: Updates per epoch.
        identity: What a checkpoint has to agree with.
        watch: Told about finished epochs.
        shares: Plan of a stage -> what it leaves, for the records.
    """

    config: RetrainConfig
    schedule: Schedule
    fabric: Fabric
    train: Feed
    augment: Augment
    objective: Objective
    teacher: Lifted
    gauge: Gauge
    folder: Path
    updates: int
    identity: Mapping[str, Any]
    watch: Watch
    shares: Callable[[Coupling, PrunePlan], dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A stretch of epochs on one graph.

    Attributes:
        number: 0, 1.
        model: The graph with the weights to start from.
        coupling: Its groups.
        first: Number of its first epoch in the run.
        epochs: How many epochs.
        planner: Makes the plan of every epoch; None after the cut.
        left: What the cut left, for the records after it.
    """

    number: int
    model: Model
    coupling: Coupling
    first: int
    epochs: int
    planner: Planner | None
    left: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The end of a stage: the network (moving averages put in) and the plan of the moment."""

    lifted: Lifted
    plan: PrunePlan | None
    records: list[dict[str, Any]]


class StageTrainer:
    """Trains one stage."""

    def __init__(
        self, setting: Setting, stage: Stage, records: list[dict[str, Any]], features: list[str]
    ) -> None:
        self.setting, self.stage, self.records = setting, stage, records
        self.board = Board(setting.folder) if setting.fabric.global_rank == 0 else None
        self.lifted = lift(stage.model).to(setting.fabric.device)
        self.features = features
        self.student = Student(self.lifted, features)
        self._probe()
        optimiser = make_optimiser(self.student.parameters(), setting.config)
        self.module, self.optimiser = setting.fabric.setup(self.student, optimiser)
        self.raw_optimiser = optimiser
        decay = setting.config.ema
        self.average = Average(floating(self.lifted), decay) if decay else None
        self.plan: PrunePlan | None = None
        self.best: dict[str, Tensor] = {}
        self.best_metric, self.best_epoch = -math.inf, stage.first
        self.loss_sum = 0.0

    def run(self, start: Checkpoint | None = None) -> Trained:
        """Trains to the end of the stage, from a checkpoint of it where there is one."""
        epoch, update = self._restored(start) if start is not None else (self.stage.first, 0)
        if start is None and self.stage.planner is not None:
            self.plan = self._planned()
        last = self.stage.first + self.stage.epochs
        while epoch < last and not self._stops(epoch):
            self._epoch(epoch, update)
            epoch, update = epoch + 1, 0
            self._checkpoint(epoch, 0)
        if self.board is not None:
            self.board.close()
        if self.best:
            load_values(self.lifted, self.best)
        elif self.average is not None:
            load_values(self.lifted, self.average.tensors)
        self.lifted.eval()
        return Trained(self.lifted, self.plan, self.records)

    # ---- one epoch ------------------------------------------------------------------------------

    def _epoch(self, epoch: int, first_update: int) -> None:
        setting, stage = self.setting, self.stage
        softener, per_update = self._softening(epoch, first_update)
        penalty = make_penalty(
            setting.config.penalty, stage.coupling, self.plan, self.lifted.constants
        )
        order = epoch_order(len(setting.train), setting.config.seed, epoch)
        self.student.train()
        for update in range(first_update, setting.updates):
            self._update(epoch, update, order, penalty)
            if per_update < 1.0:
                self._soften(softener, per_update)
            every = setting.config.checkpoint_steps
            if every and (update + 1) % every == 0 and update + 1 < setting.updates:
                self._checkpoint(epoch, update + 1)
        self._finish(epoch)

    def _softening(self, epoch: int, first_update: int) -> tuple[Softener, float]:
        """Softens at the start of an epoch; returns what is to be done after every update."""
        if self.stage.planner is None or self.plan is None:
            return Softener(), 1.0
        schedule = self.setting.schedule
        softener = make_softener(
            self.stage.coupling, self.plan, schedule.slices, self.lifted.constants
        )
        left = schedule.factor(epoch - self.stage.first, self.stage.epochs)
        if schedule.continuous:
            return softener, left ** (1.0 / self.setting.updates)
        if first_update == 0:
            self._soften(softener, left)
        return softener, 1.0

    def _soften(self, softener: Softener, left: float) -> None:
        softener.apply(self.lifted.constants, left)
        if self.average is not None:
            softener.apply(self.average.tensors, left)

    def _update(self, epoch: int, update: int, order: Any, penalty: Penalty | None) -> None:
        setting = self.setting
        config, fabric = setting.config, setting.fabric
        number = epoch * setting.updates + update
        set_rate(self.raw_optimiser, rate_at(number, config.epochs * setting.updates, config))
        torch.manual_seed(_seed(config.seed, number, fabric.global_rank))
        size = config.batch
        arrays, labels = setting.train.take(order[update * size : (update + 1) * size])
        arrays = augmented(arrays, setting.augment, config.seed, epoch, update)
        for part in range(config.accumulate):
            rows = _share(len(next(iter(arrays.values()))), part, config.accumulate, fabric)
            feeds, truth = as_tensors(
                {name: array[rows] for name, array in arrays.items()},
                None if labels is None else labels[rows],
                fabric.device,
            )
            with fabric.no_backward_sync(self.module, enabled=part + 1 < config.accumulate):
                loss = self._loss(feeds, truth, penalty)
                fabric.backward(loss / config.accumulate)
            self.loss_sum += float(loss.detach()) / config.accumulate
        if not math.isfinite(self.loss_sum):
            raise ConfigError(
                f"the loss is no longer finite in epoch {epoch + 1}, update {update + 1}; "
                "lower --rate, or set --clip 1"
            )
        if config.clip:
            fabric.clip_gradients(self.module, self.optimiser, max_norm=config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.average is not None:
            self.average.update(floating(self.lifted), number)

    def _loss(
        self, feeds: dict[str, Tensor], truth: Tensor | None, penalty: Penalty | None
    ) -> Tensor:
        setting = self.setting
        loss = setting.objective(self.module(feeds), self._taught(feeds), truth)
        if penalty is not None:
            loss = loss + setting.config.penalty_weight * penalty()
        return loss

    @torch.no_grad()
    def _taught(self, feeds: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        if not self.setting.objective.needs_teacher:
            return None
        with self.setting.fabric.autocast():
            return self.setting.teacher.run(feeds, taps=tuple(self.features))

    def _finish(self, epoch: int) -> None:
        """Measures, plans anew, and writes the record of the epoch."""
        setting, stage = self.setting, self.stage
        self.student.eval()
        self._agree()
        averaged = self.average.tensors if self.average is not None else None
        total = torch.tensor(self.loss_sum / max(setting.updates, 1), dtype=torch.float64)
        loss = setting.fabric.all_reduce(total, reduce_op="mean")
        record: dict[str, Any] = {"epoch": epoch + 1, "stage": stage.number}
        record["loss"] = float(loss)
        record["rate"] = float(self.raw_optimiser.param_groups[0]["lr"])
        with borrowed(self.lifted, averaged):
            metric = setting.gauge(self.student)
            record["metric"] = metric
            if stage.planner is not None:
                self.plan = self._planned()
                record["metric_cut"] = self._as_cut(self.plan)
                record |= setting.shares(stage.coupling, self.plan)
            else:
                record["metric_cut"] = metric
                record |= stage.left
            if metric is not None and metric > self.best_metric:
                self.best_metric, self.best_epoch = metric, epoch
                if setting.config.patience and stage.planner is None:
                    self.best = {n: t.detach().clone() for n, t in floating(self.lifted).items()}
        self.loss_sum = 0.0
        self.records.append(record)
        setting.watch(record)
        if self.board is not None:
            self.board.add(record)

    def _agree(self) -> None:
        """Running statistics are each process's own; all go on with those of the first."""
        if self.setting.fabric.world_size == 1:
            return
        own = [t for t in floating(self.lifted).values() if not isinstance(t, nn.Parameter)]
        for tensor in own + list(self.average.tensors.values() if self.average else ()):
            torch.distributed.broadcast(tensor, 0)

    def _as_cut(self, plan: PrunePlan) -> float | None:
        """The metric that the cut would have now, without training after it."""
        setting, constants = self.setting, self.lifted.constants
        with silenced(self.lifted, cut_mask(self.stage.coupling, plan, constants)):
            config = setting.config
            recalibrate(self.lifted, setting.train, config.batch, config.seed, setting.fabric)
            return setting.gauge(self.student)

    def _stops(self, epoch: int) -> bool:
        """Whether the metric has stood still long enough; soft stages always run to their end."""
        patience = self.setting.config.patience
        if not patience or self.stage.planner is not None or epoch == self.stage.first:
            return False
        return epoch - 1 - self.best_epoch >= patience

    def _planned(self) -> PrunePlan:
        """The first process plans, the others follow."""
        assert self.stage.planner is not None
        fabric, plan = self.setting.fabric, None
        if fabric.global_rank == 0:
            plan = self.stage.planner(self.lifted)
        if fabric.world_size > 1:
            state = fabric.broadcast(plan_to_state(plan))
            assert state is not None
            plan = plan_from_state(state, self.stage.coupling, self.stage.planner.config)
        assert plan is not None
        return plan

    # ---- coming and going -----------------------------------------------------------------------

    def _probe(self) -> None:
        """Two samples tell which activations can be compared and which weights the loss reaches."""
        setting = self.setting
        count = min(2, len(setting.train))
        feeds, labels = as_tensors(*setting.train.take(np.arange(count)), setting.fabric.device)
        self.student.eval()
        if self.features:
            with torch.no_grad():
                mine, theirs = self.student(feeds), setting.teacher.run(feeds, taps=self.features)
            self.features[:] = [n for n in self.features if mine[n].shape == theirs[n].shape]
            self.student.taps = tuple(self.features)
        freeze_unreached(self.student, setting.objective, feeds, self._taught(feeds), labels)

    def _checkpoint(self, epoch: int, update: int) -> None:
        fabric = self.setting.fabric
        if fabric.global_rank == 0:
            state = {
                "identity": dict(self.setting.identity),
                "stage": self.stage.number,
                "epoch": epoch,
                "update": update,
                "loss_sum": self.loss_sum,
                "best": [self.best_metric if self.best else None, self.best_epoch],
                "plan": plan_to_state(self.plan),
                "records": self.records,
            }
            tensors = {f"net.{n}": t for n, t in floating(self.lifted).items()}
            tensors |= optimiser_tensors(self.raw_optimiser)
            if self.average is not None:
                tensors |= {f"ema.{n}": t for n, t in self.average.tensors.items()}
            tensors |= {f"best.{n}": t for n, t in self.best.items()}
            write_checkpoint(Checkpoint(state, tensors), self.setting.folder)
            write_records(self.records, self.setting.folder)
        fabric.barrier()

    def _restored(self, start: Checkpoint) -> tuple[int, int]:
        state = start.state
        load_values(self.lifted, start.part("net"))
        restore_optimiser(self.raw_optimiser, start.part("opt"))
        if self.average is not None:
            for name, tensor in start.part("ema").items():
                self.average.tensors[name].copy_(tensor)
        device = self.setting.fabric.device
        self.best = {name: tensor.to(device) for name, tensor in start.part("best").items()}
        metric, self.best_epoch = state["best"]
        self.best_metric = -math.inf if metric is None else metric
        self.loss_sum = state["loss_sum"]
        if state["plan"] is not None and self.stage.planner is not None:
            planner = self.stage.planner
            self.plan = planner.fixed or plan_from_state(
                state["plan"], self.stage.coupling, planner.config
            )
        if self.setting.fabric.global_rank == 0:
            # the kill may have come between the checkpoint and the logs
            write_records(self.records, self.setting.folder)
        return state["epoch"], state["update"]


def _seed(seed: int, number: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, _TORCH_SEED, number, rank]).generate_state(1)[0])


def _share(count: int, part: int, parts: int, fabric: Fabric) -> slice:
    """The rows of one part of a batch on one process."""
    size = count // (parts * fabric.world_size)
    place = part * fabric.world_size + fabric.global_rank
    return slice(place * size, (place + 1) * size)
