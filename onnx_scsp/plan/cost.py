"""What a model costs when each pool keeps k units: sums of products of linear counts.

    count(axis) = fixed + sum_pool multiplicity(axis, pool) k(pool)
    MACs        = sum_node coefficient(node) prod_axis count(axis)
    params      = untouched + sum_tensor other(tensor) prod_axis count(axis)

Units of one pool (one group, one profile) occur equally often on every axis, which makes counts
linear in k.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix

from onnx_scsp.couple import Coupling, unmergeable
from onnx_scsp.plan.widths import Widths, axes_by_group, pool_widths
from onnx_scsp.timing import MachineTable
from onnx_scsp.types import BoolArray, FloatArray, IntArray, Member, Role


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Comparable units of one group, the atom of the allocation.

    Attributes:
        group: Group id.
        profile: Profile number within the group.
        units: int (n,), the group's unit numbers.
        global_units: int (n,), the same, numbered over the network.
        step: Allowed counts are multiples of this (and n itself) where `widths` names none.
        floor: Smallest allowed count; 0 where the group's other pools may stay alone.
        n_readers: Tensors that read the pool's units.
        can_merge: Whether a survivor can take over readers. Not where a tensor's axis both makes
            and reads the units (tied weights): that would change what the survivor makes. Not where
            a reader is quantised either: the sum of two slices is no integer of its code.
        widths: What the machine table says about the pool, where it was asked.
    """

    group: str
    profile: int
    units: IntArray
    global_units: IntArray
    step: int
    floor: int
    n_readers: int
    can_merge: bool = True
    widths: Widths | None = None

    @property
    def size(self) -> int:
        """Number of units."""
        return int(self.units.size)

    @property
    def allowed(self) -> tuple[int, ...]:
        """Counts that may stay, ascending."""
        if self.widths is not None and self.widths.counts is not None:
            counts = (count for count in self.widths.counts if self.floor <= count < self.size)
            return (*(() if self.floor else (0,)), *counts, self.size)
        step = min(self.step, self.size)
        return (*range(-(-self.floor // step) * step, self.size, step), self.size)


class Costs(Protocol):
    """What a budget counts, and what a step towards it is charged with."""

    def total(self, k: FloatArray) -> float:
        """Cost when pool p keeps k[p] units."""

    def gradient(self, k: FloatArray) -> FloatArray:
        """What one more unit of each pool is charged with."""


class CostModel:
    """Cost as a function of the pools' counts, evaluated for many counts at once."""

    def __init__(
        self, terms: list[tuple[float, tuple[IntArray, ...]]], pools: list[Pool], n: int
    ) -> None:
        pool_of = np.full(n + 1, -1)  # entry n serves unit -1
        for index, pool in enumerate(pools):
            pool_of[pool.global_units] = index
        rows: dict[bytes, int] = {}
        fixed: list[float] = []
        counts: list[FloatArray] = []
        places: list[tuple[int, ...]] = []
        for _, vectors in terms:
            place: list[int] = []
            for vector in vectors:
                key = vector.tobytes()
                if key not in rows:
                    rows[key] = len(fixed)
                    owner = pool_of[vector]
                    fixed.append(float((owner < 0).sum()))
                    owned = np.bincount(owner[owner >= 0], minlength=len(pools))
                    weight = np.array([pool.size for pool in pools], float)
                    counts.append(owned / np.maximum(weight, 1.0))
                place.append(rows[key])
            places.append(tuple(place))
        # a spare row of constant count 1 pads terms with fewer axes
        self._fixed = np.array([*fixed, 1.0])
        self._per_unit = csr_matrix(np.array([*counts, np.zeros(len(pools))]))
        width = max((len(place) for place in places), default=0)
        self._coefficient = np.array([coefficient for coefficient, _ in terms])
        self._place = np.full((len(terms), width), len(fixed))
        for index, columns in enumerate(places):
            self._place[index, : len(columns)] = columns

    def total(self, k: FloatArray) -> float:
        """Cost when pool p keeps k[p] units."""
        return float(self._coefficient @ self._factors(self._counts(k)).prod(axis=1))

    def gradient(self, k: FloatArray) -> FloatArray:
        """Derivative of the cost by each pool's count."""
        counts = self._counts(k)
        factors, slopes = self._factors(counts), self._slopes(counts)
        result = np.zeros(self._per_unit.shape[1])
        for axis in range(factors.shape[1]):
            others = np.delete(factors, axis, axis=1).prod(axis=1) * self._coefficient
            weights = others * slopes[:, axis]
            by_row = np.bincount(self._place[:, axis], weights=weights, minlength=counts.size)
            result += self._per_unit.T @ by_row
        return result

    def _counts(self, k: FloatArray) -> FloatArray:
        return np.asarray(self._fixed + self._per_unit @ k)

    def _factors(self, counts: FloatArray) -> FloatArray:
        """(terms, axes): what each axis contributes to its term."""
        return np.asarray(counts[self._place])

    def _slopes(self, counts: FloatArray) -> FloatArray:
        """(terms, axes): derivatives of the factors by their counts."""
        del counts
        return np.ones(self._place.shape)


def macs_model(coupling: Coupling, pools: list[Pool]) -> CostModel:
    """MACs as a function of the pools' counts."""
    terms = [(term.coefficient, term.vectors) for term in coupling.costs]
    return CostModel(terms, pools, coupling.n_units)


def params_model(coupling: Coupling, pools: list[Pool]) -> CostModel:
    """Parameters as a function of the pools' counts."""
    constants = coupling.walk.constants
    terms: list[tuple[float, tuple[IntArray, ...]]] = []
    touched = 0
    for name, by_use in coupling.tensors.items():
        if not constants.is_parameter(name):
            continue
        shape = constants.shape(name)
        touched += constants.size(name)
        for axes in by_use.values():
            other = float(np.prod([s for axis, s in enumerate(shape) if axis not in axes]))
            # parts of a tensor that are cut at other places each keep equally many
            vectors = tuple(u[0] if u.ndim == 2 else u for u in axes.values())
            terms.append((other, vectors))
    untouched = float(coupling.map.params - touched)
    return CostModel([*terms, (untouched, ())], pools, coupling.n_units)


def make_pools(
    coupling: Coupling, align: int | MachineTable, min_share: float, *, relaxed: bool = False
) -> list[Pool]:
    """Splits every group into its pools.

    Args:
        coupling: The coupling.
        align: Channel counts shall be multiples of this, or such that the runtime is fast at them.
        min_share: Smallest share of units that stays.
        relaxed: With a machine table, whether multiples of 4 may stay, too.

    Returns:
        Pools in group order.
    """
    pools = []
    axes = {} if isinstance(align, int) else axes_by_group(coupling)
    for group in coupling.map.groups:
        for profile in range(int(group.profile.max()) + 1):
            mine = group.profile == profile
            units = np.flatnonzero(mine)
            offset = coupling.offsets[group.id]
            # among several pools one may go: what the group keeps at least is seen to in `Needs`
            alone = units.size == group.n_units
            floor = least_units(units.size, min_share) if alone else int(min_share * units.size)
            widths, step = None, 1
            if isinstance(align, int):
                step = align // int(np.gcd(align, _multiplicity(group.members, mine)))
            else:
                widths = pool_widths(
                    axes[group.id], align, units + offset, alone=alone, relaxed=relaxed
                )
                step = widths.step if widths is not None else 1
            readers = sum(
                member.role is Role.READS and bool(mine[member.units[member.units >= 0]].any())
                for member in group.members
            )
            pools.append(
                Pool(
                    group=group.id,
                    profile=profile,
                    units=units,
                    global_units=units + offset,
                    step=step,
                    floor=floor,
                    n_readers=max(readers, 1),
                    can_merge=not (_is_tied(group.members) or unmergeable(coupling, group)),
                    widths=widths,
                )
            )
    return pools


def least_units(n_units: int, min_share: float) -> int:
    """The smallest share of a set of units, rounded up, and at least one."""
    return max(1, int(np.ceil(min_share * n_units - 1e-9)))


def _is_tied(members: Iterable[Member]) -> bool:
    axes: dict[Role, set[tuple[str, int]]] = {role: set() for role in Role}
    for member in members:
        axes[member.role].add((member.tensor, member.axis))
    return bool(axes[Role.MAKES] & axes[Role.READS])


def _multiplicity(members: Iterable[Member], mine: BoolArray) -> int:
    """Entries per unit on the makes axes (greatest common divisor over the members)."""
    result = 0
    for member in members:
        if member.role is Role.MAKES:
            owned = int(mine[member.units[member.units >= 0]].sum())
            result = int(np.gcd(result, owned // int(mine.sum())))
    return max(result, 1)
