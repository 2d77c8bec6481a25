"""The frozen records that stages hand to each other.

Vocabulary: a *unit* is a set of channel slots, anywhere in the network, that can only be removed
together; a *group* is a set of units that some producer makes side by side on one axis. Arrays in
records are read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]


class Role(str, Enum):
    """What a tensor's axis does with the units along it."""

    MAKES = "makes"  # the filter axis of a producer
    SCALES = "scales"  # one entry per channel: bias, normalisation, slope, depthwise filter
    READS = "reads"  # the input axis of a consumer


class FreezeReason(str, Enum):
    """Why channels must stay."""

    GRAPH_INPUT = "GRAPH_INPUT"
    GRAPH_OUTPUT = "GRAPH_OUTPUT"
    NO_RULE = "NO_RULE"
    MIXES_CHANNELS = "MIXES_CHANNELS"
    BROADCAST = "BROADCAST"
    NOT_CHANNEL_AXIS = "NOT_CHANNEL_AXIS"
    UNKNOWN_SHAPE = "UNKNOWN_SHAPE"
    DYNAMIC_VALUE = "DYNAMIC_VALUE"
    COMPUTED_WEIGHT = "COMPUTED_WEIGHT"
    SHARED_WEIGHT = "SHARED_WEIGHT"
    SUBGRAPH = "SUBGRAPH"
    NO_PRODUCER = "NO_PRODUCER"
    SINGLE_UNIT = "SINGLE_UNIT"
    IGNORED = "IGNORED"


def read_only(array: AnyArray) -> AnyArray:
    """Returns `array` with writing switched off (the same object)."""
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class Frozen:
    """One reason why a layer's channels stay.

    Attributes:
        reason: The kind of obstacle.
        node: The node that blocks.
        detail: One sentence on what that node does with the channels.
        layers: Names of the producing nodes whose filters it blocks.
    """

    reason: FreezeReason
    node: str
    detail: str
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One axis of one constant tensor that carries units of a group.

    Attributes:
        tensor: Name of the initializer (or constant) in the file as loaded.
        axis: The axis there.
        role: What the axis does.
        units: int array of shape (axis length,); the group's unit that owns each entry, -1 for
            entries that are not of this group. Of shape (G, axis length) where the G equal parts
            of axis `across` own other entries each (the filters of a grouped convolution read
            other channels in every group).
        uses: `node:input` places that see this cut, only where other uses of the same tensor are
            cut otherwise (the tensor is then copied per use); empty means every use.
        across: The axis whose parts the rows of 2-D `units` belong to, -1 for 1-D `units`.
    """

    tensor: str
    axis: int
    role: Role
    units: IntArray
    uses: tuple[str, ...] = ()
    across: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A node that runs over channels of a group without a weight: a mean, a maximum, a product.

    What goes counts as zero there, or (`restricted`) does not count. No unit of the group can take
    over another.

    Attributes:
        value: Name of the activation.
        axis: The axis that the node runs over.
        units: int array of shape (axis length,); the group's unit that owns each entry, -1 for
            entries that are not of this group.
        use: The `node:input` place that reads the activation.
        restricted: Whether the node runs over what stays alone (`--approximate`).
    """

    value: str
    axis: int
    units: IntArray
    use: str
    restricted: bool = False

    @property
    def at(self) -> tuple[int, int]:
        """Index of the node that `use` names, and which of its inputs."""
        node, place = self.use.split(":")
        return int(node), int(place)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroup:
    """Units that are made side by side, and every tensor axis they occur on.

    Attributes:
        id: Stable name within one model, `g00`, `g01`, ...
        n_units: How many units.
        profile: int array (n_units,); units of equal profile occur equally often in every tensor
            and activation, and are interchangeable: only they have comparable feature vectors.
        members: Tensor axes, in graph order.
        layers: Names of the nodes that make the units, in graph order.
        homogeneous: Whether every operator between makers and readers commutes with a positive
            factor (ReLU does, Sigmoid does not), so that scaled merging is meaningful.
        macs: MACs per sample of the nodes that touch the group (groups overlap).
        reductions: Nodes that run over the group's channels without a weight, in graph order.
    """

    id: str
    n_units: int
    profile: IntArray
    members: tuple[Member, ...]
    layers: tuple[str, ...]
    homogeneous: bool
    macs: int
    reductions: tuple[Reduction, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """A producer with the normalisation and activation that follow it directly.

    Attributes:
        node: Name of the producing node (Conv, Gemm, ...).
        op_type: Its operator.
        weight: Source name of its weight tensor.
        makes_axis: Axis of the filters in `weight`, -1 where the axis is not that of the source.
        bias: Source name of its bias, or "".
        norm: Name of the BatchNormalization that is its only reader, or "".
        norm_tensors: Source names of (scale, shift, mean, variance), or ().
        epsilon: The normalisation's epsilon.
        activation: Operator of the activation that follows, or "".
    """

    node: str
    op_type: str
    weight: str
    makes_axis: int
    bias: str
    norm: str
    norm_tensors: tuple[str, ...]
    epsilon: float
    activation: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One node that makes channels or filters them one by one.

    Attributes:
        node: Its name.
        op_type: Its operator.
        channels: Entries of its filter axis.
        free: How many of them belong to a prunable group.
        macs: Its MACs per run.
        groups: Ids of the groups its filters belong to.
    """

    node: str
    op_type: str
    channels: int
    free: int
    macs: int
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupMap:
    """Everything that coupling found in one model.

    Attributes:
        model_sha256: Hash of the model the map belongs to.
        groups: The prunable groups, in graph order.
        frozen: Reasons for whatever is not prunable.
        chains: Conv-BN-activation chains, in graph order.
        layers: The nodes behind the chains, with sizes, in graph order.
        ops_without_rule: Operator names that have no rule, sorted.
        macs: MACs per run at the concrete input shapes.
        floor_macs: MACs that remain with as few units as leave no tensor axis, no activation and no
            group empty.
        params: Elements of the float constants.
    """

    model_sha256: str
    groups: tuple[ChannelGroup, ...]
    frozen: tuple[Frozen, ...]
    chains: tuple[Chain, ...]
    layers: tuple[Layer, ...]
    ops_without_rule: tuple[str, ...]
    macs: int
    floor_macs: int
    params: int

    def macs_at_stake(self, frozen: Frozen) -> int:
        """MACs of the layers whose filters an obstacle blocks."""
        return sum(layer.macs for layer in self.layers if layer.node in frozen.layers)


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Clusters of one set of comparable units.

    Attributes:
        labels: int (n,), cluster of each unit, 0..k-1.
        k: Number of clusters.
        eigenvalues: float64 (n,) of the normalised Laplacian, ascending.
        components: Connected components of the affinity graph.
    """

    labels: IntArray
    k: int
    eigenvalues: FloatArray
    components: int


@dataclass(frozen=True, slots=True)
class GroupCut:
    """What a plan does to one group.

    Attributes:
        group: The group's id.
        n_units: Units before the cut.
        keep: Units that stay, ascending.
        absorbed_by: Removed unit -> the kept unit that takes over its readers.
        scales: Removed unit -> factor on its reader slices when they are taken over.
        score: Estimated share of the group's signal that is lost, 0..1.
        criterion: Whose choice won, where several were tried.
    """

    group: str
    n_units: int
    keep: tuple[int, ...]
    absorbed_by: Mapping[int, int] = field(default_factory=dict)
    scales: Mapping[int, float] = field(default_factory=dict)
    score: float = 0.0
    criterion: str = ""


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """The cuts, for one model. `members` and `frozen` make the file readable on its own.

    Attributes:
        schema: Version of the file format.
        model_sha256: Hash of the model.
        config: The options that led here.
        cuts: What happens to each group that is cut.
        groups: All groups.
        frozen: Why the rest stays.
        refit: Constants that took new values, beside the cut, to repair what it lost.
        timing: What was decided by timings, and by which; empty where nothing was.
    """

    schema: int
    model_sha256: str
    config: Mapping[str, Any]
    cuts: tuple[GroupCut, ...]
    groups: tuple[ChannelGroup, ...]
    frozen: tuple[Frozen, ...]
    refit: tuple[str, ...] = ()
    timing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cost:
    """Size of a model: multiply-accumulates per sample, float constants, bytes on disk."""

    macs: int
    params: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Check:
    """One verified statement.

    Attributes:
        name: Short name, stable.
        passed: Whether it holds.
        value: The measured figure, or None where there is none.
        limit: What it is held against, or None.
        detail: One sentence.
    """

    name: str
    passed: bool
    value: float | None = None
    limit: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Checks in the order they ran; true when all of them passed."""

    checks: tuple[Check, ...]

    def __bool__(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)
