"""What the recipe does with calibration inputs: observe before planning, repair after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx_scsp import __version__
from onnx_scsp.calibration import CalibrationData
from onnx_scsp.compensate import REPAIRS, Job, LayerFit, prepare_aftermath
from onnx_scsp.config import TRYING, PruneConfig
from onnx_scsp.couple import Coupling
from onnx_scsp.errors import ConfigError
from onnx_scsp.graph.constants import Constants
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.patch import Patch, apply_patch
from onnx_scsp.graph.view import view
from onnx_scsp.invented import invent
from onnx_scsp.observe import LEVELS_AFTER, Evidence, gather_evidence
from onnx_scsp.observe.kept import place_of, read_evidence, write_evidence
from onnx_scsp.observe.statistics import Batch, length_of
from onnx_scsp.types import IntArray, PrunePlan

Progress = Callable[[str, int, int], None]
LARGEST_BATCH = 64
_BATCH_BYTES = 1 << 28
"""About what all activations of one batch may take."""


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """Calibration inputs that can be gone through again and again.

    Attributes:
        data: The inputs.
        size: Samples per batch.
        samples: How many there are.
        invented: Whether they are synthetic.
    """

    data: CalibrationData
    size: int
    samples: int
    invented: bool

    def __iter__(self) -> Iterator[Batch]:
        return self.data.batches(self.size)


def passes(
    coupling: Coupling, data: CalibrationData | None, options: PruneConfig | Mapping[str, Any]
) -> Passes | None:
    """Inputs to work with: the given ones, or synthetic ones where the options allow that.

    Args:
        coupling: The model.
        data: Calibration inputs, if there are any.
        options: The configuration, or the one that a plan records.

    Returns:
        The inputs, in batches that suit the size of the model's activations; or None.

    Raises:
        ConfigError: There are no samples in the data.
    """
    is_invented = data is None
    if data is None:
        if isinstance(options, PruneConfig):
            is_wanted, seed = options.synthetic and options.wants_data, options.seed
        else:
            is_wanted = options.get("synthetic") is True and _needs_inputs(options)
            seed = int(options.get("seed", 0))
        data = invent(coupling, seed) if is_wanted else None
    return None if data is None else _in_batches(coupling, data, is_invented)


def _in_batches(coupling: Coupling, data: CalibrationData, is_invented: bool) -> Passes:
    per_sample = 4 * coupling.elements / coupling.batch
    size = int(min(max(_BATCH_BYTES / max(per_sample, 1.0), 1), LARGEST_BATCH))
    samples = data.n_samples
    if samples is None:
        samples = sum(length_of(batch) for batch in data.batches(size))
    if not samples:
        raise ConfigError(f"{data.where} holds no samples")
    return Passes(data, size, samples, is_invented)


def observer(
    coupling: Coupling,
    inputs: Passes,
    config: PruneConfig,
    *,
    threads: int,
    progress: Progress,
    cache: Path | None = None,
) -> Callable[[Sequence[IntArray]], Evidence]:
    """Observes pools of units when the planner asks; what the cache holds is not observed again."""
    measured = config.target != "ratio"  # else every group's width is given
    repair = config.resolved(has_data=True).compensate
    looks = measured and config.second_look and repair in REPAIRS
    by_channel = REPAIRS[repair].by_channel if looks else None
    # what criteria read of single units is not kept
    folder = None if config.wants_activity else cache
    identity = {
        "version": __version__,
        "model": coupling.map.model_sha256,
        "samples": "" if folder is None else inputs.data.fingerprint(),
        "batch": inputs.size,
        "measured": measured,
        "after": by_channel,
        "seed": config.seed,
        "threads": threads,
    }

    def observe(pools: Sequence[IntArray]) -> Evidence:
        kept = None if folder is None else place_of(folder, identity, pools)
        found = None if kept is None else read_evidence(kept, pools)
        if found is None:
            after = None
            if by_channel is not None:
                after = prepare_aftermath(
                    coupling,
                    inputs,
                    inputs.samples,
                    len(pools) * len(LEVELS_AFTER),
                    invented=inputs.invented,
                    by_channel=by_channel,
                    seed=config.seed,
                    threads=threads,
                )
            found = gather_evidence(
                coupling,
                pools,
                inputs,
                inputs.samples,
                measured=measured,
                after=after,
                detailed=config.wants_activity,
                ranked=config.wants_ranks,
                tried=config.method == TRYING,
                seed=config.seed,
                threads=threads,
                progress=progress,
            )
            if kept is not None:
                write_evidence(kept, found)
        return found

    return observe


def needs_repair(config: Mapping[str, Any]) -> bool:
    """Whether a plan with these options wants its cut repaired."""
    return config.get("compensate") in REPAIRS


def _needs_inputs(config: Mapping[str, Any]) -> bool:
    """Whether that repair works from sample inputs."""
    found = REPAIRS.get(str(config.get("compensate")))
    return found is not None and found.needs_inputs


@dataclass(frozen=True, slots=True, eq=False)
class Repaired:
    """A model whose constants make up for a cut that comes next.

    Attributes:
        model: The model, under its old hash.
        plan: The plan, which names the constants.
        fits: What happened to each layer.
    """

    model: Model
    plan: PrunePlan
    fits: tuple[LayerFit, ...]


def repair(
    coupling: Coupling, plan: PrunePlan, inputs: Passes | None, *, threads: int, progress: Progress
) -> Repaired:
    """Gives constants new values that make up for a plan's cut.

    Args:
        coupling: The model.
        plan: The plan.
        inputs: Calibration inputs, where there are any.
        threads: Threads of the runtime.
        progress: Called with (what, done, total).

    Returns:
        The model with new constants, not yet cut.

    Raises:
        ConfigError: The plan's repair needs inputs and there are none.
    """
    name = str(plan.config["compensate"])
    if inputs is None and REPAIRS[name].needs_inputs:
        raise ConfigError(
            "the plan repairs its cut on sample inputs; give them with --calib, or set its "
            "'compensate' to none"
        )
    job = Job(
        coupling,
        plan,
        () if inputs is None else inputs,
        0 if inputs is None else inputs.samples,
        int(plan.config.get("seed", 0)),
        threads,
        progress,
    )
    found = REPAIRS[name].run(job)
    source = coupling.model
    proto = apply_patch(source, coupling.walk.constants, Patch(tensors=found.weights))
    model = Model(proto, source.path, source.sha256, source.external_files)
    return Repaired(model, replace(plan, refit=tuple(found.weights)), found.fits)


def with_values(coupling: Coupling, model: Model) -> Coupling:
    """The same coupling for a model that differs in the values of constants alone."""
    graph = view(model.proto)
    walk = replace(coupling.walk, graph=graph, constants=Constants(model, graph))
    return replace(coupling, model=model, walk=walk)
