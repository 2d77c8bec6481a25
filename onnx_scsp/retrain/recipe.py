"""The recipe: restore BatchNormalization, train softly, cut, train on, fold, prove, write."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_scsp.calibrated import observer, passes
from onnx_scsp.calibration import CalibrationData, open_calibration
from onnx_scsp.config import NEEDS_DATA, PruneConfig, VerifyConfig
from onnx_scsp.couple import Coupling, find_coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.figures import Clock
from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import check_outputs
from onnx_scsp.graph.save import save as save_proto
from onnx_scsp.graph.view import view
from onnx_scsp.measure.store import machine_for
from onnx_scsp.ops import RULES, RuleTable, approximating
from onnx_scsp.pipeline import planned_macs, prune
from onnx_scsp.plan import read_plan
from onnx_scsp.retrain.back import write_back
from onnx_scsp.retrain.checkpoint import Checkpoint
from onnx_scsp.retrain.fabric import make_fabric
from onnx_scsp.retrain.feed import Feed, open_feed
from onnx_scsp.retrain.finish import Ending, finish
from onnx_scsp.retrain.lift import Lifted, lift
from onnx_scsp.retrain.measure import Gauge, recalibrate
from onnx_scsp.retrain.options import RetrainConfig, epochs_after_cut, parse_augment
from onnx_scsp.retrain.planning import (
    Planner,
    Remembered,
    on_model,
    planned_shares,
    silent,
    soft_config,
    with_hash,
)
from onnx_scsp.retrain.result import RetrainResult
from onnx_scsp.retrain.runfolder import (
    CUT,
    DENSE,
    EVIDENCE,
    PLAN,
    SOFT,
    check_identity,
    identity,
    open_folder,
)
from onnx_scsp.retrain.schedules import SCHEDULES, Schedule
from onnx_scsp.retrain.scores import SCORES
from onnx_scsp.retrain.slots import Slotted, restore_batch_norm
from onnx_scsp.retrain.targets import check_targets, comparable_values, make_objective
from onnx_scsp.retrain.trainer import Setting, Stage, StageTrainer, Trained, Watch
from onnx_scsp.surgery.operate import check_plan
from onnx_scsp.types import IntArray, PrunePlan

SAMPLES = 1024
"""Training samples that plans, repairs and restored BatchNormalizations look at."""
_BATCH = 64


def _silent(_record: Mapping[str, Any]) -> None:
    """Records that nobody watches."""


def soft_retrain(
    model: Model | str | os.PathLike[str],
    output: str | os.PathLike[str],
    data: CalibrationData,
    config: RetrainConfig | None = None,
    *,
    budget: PruneConfig | None = None,
    plan: PrunePlan | None = None,
    labels: IntArray | None = None,
    loss: Callable[..., Any] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    plan_out: str | os.PathLike[str] | None = None,
    verify_config: VerifyConfig | None = None,
    schedules: Mapping[str, Schedule] = SCHEDULES,
    watch: Watch = _silent,
) -> RetrainResult | None:
    """Trains a network while its channels go, cuts it, proves the result, writes it.

    Under `torchrun` every process calls this with the same arguments and a run folder that all of
    them see.

    Args:
        model: Input file, or the model loaded from it.
        output: Output file; it appears only when every check has passed.
        data: Training samples (`onnx_scsp.open_calibration`).
        config: How to train.
        budget: What may remain, and the planner's options; its method and compensation, where they
            are not `auto`, take the place of the schedule's.
        plan: A plan for `model` to carry out, in place of a budget.
        labels: One class per sample.
        loss: A loss of (outputs by name, labels), in place of `config.loss`.
        run_dir: Folder of checkpoints and logs; `<output>.run` where None.
        resume: Go on with the run in that folder.
        plan_out: Where to write the plan.
        verify_config: Tolerances, seeds and input shapes of the checks.
        schedules: The table of schedules.
        watch: Called with the record of every epoch.

    Returns:
        Figures, checks, records; None on processes other than the first.

    Raises:
        ScspError: Any of its children, with one sentence; nothing is written then.
    """
    clock = Clock()
    config, checking = config or RetrainConfig(), verify_config or VerifyConfig()
    if config.method not in schedules:
        raise ConfigError(
            f"--method '{config.method}' is unknown; use one of {', '.join(schedules)}"
        )
    schedule = schedules[config.method]
    original = model if isinstance(model, Model) else load(model)
    out = Path(output)
    check_outputs(original, out, None if plan_out is None else Path(plan_out))
    check_targets(config, labels, loss)
    fabric = make_fabric(config)
    folder = Path(run_dir) if run_dir is not None else out.with_name(f"{out.name}.run")
    start = open_folder(folder, resume=resume) if fabric.global_rank == 0 or resume else None
    feed = open_feed(data, labels)
    budget = budget or PruneConfig()
    if budget.target == "latency":
        raise ConfigError("retraining takes a budget of MACs, parameters or a ratio")
    name_of_run = identity(original, config, budget, plan, feed, checking.threads)
    if start is not None:
        check_identity(start, name_of_run, folder)
    fabric.barrier()
    train, held = feed.split(config.held_out, config.seed)
    config = _fitting(config, len(train), fabric.world_size)
    clock.lap("read")
    teacher = lift(original).to(fabric.device)
    teacher.requires_grad_(False)
    teacher.eval()
    objective = make_objective(config, original, teacher, train, loss)
    setting = Setting(
        config=config,
        schedule=schedule,
        fabric=fabric,
        train=train,
        augment=parse_augment(config.augment),
        objective=objective,
        teacher=teacher,
        gauge=Gauge(held, objective.scores or objective.outputs[0], config.batch, fabric,
                    lambda feeds: teacher.run(feeds)),
        folder=folder,
        updates=len(train) // config.batch,
        identity=name_of_run,
        watch=watch if fabric.global_rank == 0 else _silent,
        shares=lambda coupling, found: planned_shares(coupling, found, planned_macs),
    )  # fmt: skip
    run = _Run(original, setting, checking, budget, plan, _slots(original, config, train))
    return run.carry_out(start, out, plan_out, clock)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One run: the original, how to train, what to cut."""

    original: Model
    setting: Setting
    checking: VerifyConfig
    budget: PruneConfig
    plan: PrunePlan | None
    slots: Slotted | None

    def carry_out(
        self,
        start: Checkpoint | None,
        out: Path,
        plan_out: str | os.PathLike[str] | None,
        clock: Clock,
    ) -> RetrainResult | None:
        setting, folder = self.setting, self.setting.folder
        dense = self._dense()
        shapes = self.checking.input_shapes
        ignore = self.budget.ignore if self.plan is None else _ignored(self.plan)
        rules = self._rules()
        coupling = find_coupling(dense, rules=rules, ignore=ignore, input_shapes=shapes)
        first = find_coupling(self.original, rules=rules, ignore=ignore, input_shapes=shapes)
        if self.plan is not None:
            check_plan(first, self.plan, same_graph=False)
        after = epochs_after_cut(setting.config, setting.schedule.settle)
        soft_epochs = setting.config.epochs - after
        features = comparable_values(dense) if setting.objective.feature_weight else []
        records = [dict(record) for record in start.state["records"]] if start else []
        trained: Trained | None = None
        clock.lap("prepare")
        if start is None or start.state["stage"] == 0:
            if soft_epochs:
                planner = self._planner(coupling)
                stage = Stage(0, dense, coupling, 0, soft_epochs, planner)
                trained = StageTrainer(setting, stage, records, list(features)).run(start)
            if setting.fabric.global_rank == 0:
                self._cut(dense, coupling, trained)
            start = None
        clock.lap("soft epochs and cut")
        setting.fabric.barrier()
        cut, plan = load(folder / CUT), read_plan(folder / PLAN)
        if after:
            left = planned_shares(coupling, plan, planned_macs)
            small = find_coupling(cut, input_shapes=shapes)
            stage = Stage(1, cut, small, soft_epochs, after, None, left)
            trained = StageTrainer(setting, stage, records, list(features)).run(start)
        assert trained is not None
        clock.lap("epochs after the cut")
        network = trained.lifted if after else self._calibrated(cut)
        before = setting.gauge(lambda feeds: setting.teacher.run(feeds))
        found = setting.gauge(lambda feeds: network.run(feeds))
        if setting.fabric.global_rank:
            setting.fabric.barrier()
            return None
        ending = Ending(
            original=first,
            cut=cut,
            lifted=network.cpu(),
            slots=self.slots,
            plan=with_hash(on_model(plan, first), self.original),
            target=("", 0.0) if self.plan is not None else (self.budget.target, self.budget.value),
            inputs=setting.train.take(np.arange(min(_BATCH, len(setting.train))))[0],
            metric=(setting.gauge.name, before, found),
            records=tuple(trained.records),
        )
        result = finish(ending, out, plan_out, folder, self.checking, clock)
        setting.fabric.barrier()
        return result

    def _rules(self) -> RuleTable:
        approximate = self.budget.approximate
        if self.plan is not None:
            approximate = bool(self.plan.config.get("approximate", False))
        return approximating(RULES) if approximate else RULES

    def _dense(self) -> Model:
        """The network that is trained softly: as loaded, or with BatchNormalization restored."""
        if self.slots is None:
            return self.original
        path = self.setting.folder / DENSE
        if self.setting.fabric.global_rank == 0:
            save_proto(self.slots.model.proto, self.original, path)
        self.setting.fabric.barrier()
        return load(path)

    def _planner(self, coupling: Coupling) -> Planner:
        setting, budget = self.setting, self.budget
        select = budget.method if budget.method != "auto" else setting.schedule.select
        compensate = (
            budget.compensate if budget.compensate != "auto" else setting.schedule.compensate
        )
        config = soft_config(budget, select, compensate, has_data=True)
        threads = self.checking.threads
        if self.plan is not None:
            fixed = on_model(self.plan, coupling)
            return Planner(coupling, config, select, setting.train, fixed=fixed)
        inputs, budgets = None, None
        if select in NEEDS_DATA["method"]:
            inputs = passes(coupling, self._samples(), config)
        elif config.target != "ratio":
            given = passes(coupling, self._samples(), config)
            assert given is not None
            budgets = Remembered(
                observer(
                    coupling,
                    given,
                    replace(config, method="l2") if select in SCORES else config,
                    threads=threads,
                    progress=silent,
                    cache=setting.folder / EVIDENCE,
                )
            )
        machine = machine_for(config.align, None, threads)
        return Planner(coupling, config, select, setting.train, budgets, inputs, threads, machine)

    def _cut(self, dense: Model, coupling: Coupling, trained: Trained | None) -> None:
        """Carries the plan of the moment out on the weights of the moment, with all its proofs."""
        folder, source, plan = self.setting.folder, dense, None
        if trained is not None:
            assert trained.plan is not None
            made = write_back(dense, trained.lifted)
            save_proto(made.proto, dense, folder / SOFT)
            source = load(folder / SOFT)
            plan = with_hash(trained.plan, source)
        elif self.plan is not None:
            plan = with_hash(on_model(self.plan, coupling), source)
        config = self._hard_config()
        looks = plan is None or plan.config.get("compensate") in NEEDS_DATA["compensate"]
        assert source.path is not None
        prune(
            source.path,
            folder / CUT,
            config,
            plan=plan,
            plan_out=folder / PLAN,
            verify_config=self.checking,
            calibration=self._samples() if looks else None,
        )

    def _hard_config(self) -> PruneConfig:
        """Options of a cut that comes first."""
        schedule, budget = self.setting.schedule, self.budget
        method = budget.method if budget.method != "auto" else schedule.select
        if method not in {"auto", *NEEDS_DATA["method"]} and budget.method == "auto":
            compensate = schedule.compensate if budget.compensate == "auto" else budget.compensate
        else:
            compensate = budget.compensate
        config = replace(budget, method=method, compensate=compensate, synthetic=False)
        return config.resolved(has_data=True)

    def _calibrated(self, cut: Model) -> Lifted:
        """The cut network where no epochs follow: only its running statistics are measured anew."""
        setting = self.setting
        network = lift(cut).to(setting.fabric.device)
        recalibrate(
            network, setting.train, setting.config.batch, setting.config.seed, setting.fabric
        )
        return network.eval()

    def _samples(self) -> CalibrationData:
        """Some training samples, for plans and repairs."""
        return open_calibration(_some(self.setting.train, self.setting.config.seed), self.original)


def _ignored(plan: PrunePlan) -> tuple[str, ...]:
    return tuple(plan.config.get("ignore", ()))


def _some(train: Feed, seed: int) -> dict[str, Any]:
    count = min(SAMPLES, len(train))
    places = np.random.default_rng(seed).permutation(len(train))[:count]
    return train.take(np.sort(places))[0]


def _fitting(config: RetrainConfig, count: int, world: int) -> RetrainConfig:
    """A batch that is not larger than the samples there are."""
    if count >= config.batch:
        return config
    parts = world * config.accumulate
    if count < parts:
        raise ConfigError(f"{count} training samples do not fill one batch of {parts} parts")
    return replace(config, batch=count // parts * parts)


def _slots(original: Model, config: RetrainConfig, train: Feed) -> Slotted | None:
    """Restores folded BatchNormalizations where that is wanted."""
    ops = {node.op_type for node in view(original.proto).nodes}
    wanted = config.norm == "slots" or (
        config.norm == "auto" and "Conv" in ops and "BatchNormalization" not in ops
    )
    if not wanted:
        return None
    arrays = _some(train, config.seed)
    count = len(next(iter(arrays.values())))
    batches = [
        {name: array[start : start + _BATCH] for name, array in arrays.items()}
        for start in range(0, count, _BATCH)
    ]
    return restore_batch_norm(original, batches)
