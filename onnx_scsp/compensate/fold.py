"""Model folding: a survivor becomes the mean of its cluster, and reads for all of it.

For units i of a cluster C with filter w, bias b and normalisation (g, h, m, v), s = sqrt(v + eps),
survivor c:

    w_c <- s_c mean_i( w_i / s_i )                      filters as the normalisation sees them
    m_c <- b_c - s_c mean_i( (b_i - m_i) / s_i )        their shift
    g_c, h_c <- mean_i g_i, mean_i h_i                  v_c stays

and the means themselves where nothing normalises (Wang et al., ICLR 2025, arXiv 2502.10216). The
sum over the readers is the cut's doing (`surgery.cut`).
"""

from __future__ import annotations

import numpy as np

from onnx_scsp.couple import Coupling
from onnx_scsp.graph.constants import Constants
from onnx_scsp.types import AnyArray, Chain, FloatArray, GroupCut, Member, PrunePlan, Role


def fold(coupling: Coupling, plan: PrunePlan) -> dict[str, AnyArray]:
    """Averages the producers of every cluster into its survivor.

    Left as they are: groups with quantised, computed or shared producers.

    Args:
        coupling: The model.
        plan: The plan; units that a survivor absorbs are its cluster.

    Returns:
        Stored constant -> new values, of the old shape and type.
    """
    constants = coupling.walk.constants
    groups = {group.id: group for group in coupling.map.groups}
    chains: dict[str, Chain] = {}
    for chain in coupling.map.chains:
        chains.setdefault(chain.weight, chain)
    values = _Values(constants)
    for cut in plan.cuts:
        group = groups[cut.group]
        members = [m for m in group.members if m.role is not Role.READS]
        if cut.absorbed_by and all(_is_own(m, constants) for m in members):
            _fold_group(cut, members, chains, values)
    return values.changed()


def _is_own(member: Member, constants: Constants) -> bool:
    name = member.tensor
    return (
        not member.uses
        and member.units.ndim == 1
        and not constants.is_derived(name)
        and constants.is_float(name)
        and name not in constants.code_tensors
    )


class _Values:
    """Constants in double precision while they change."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._arrays: dict[str, FloatArray] = {}

    def __getitem__(self, name: str) -> FloatArray:
        if name not in self._arrays:
            self._arrays[name] = np.array(self._constants.array(name), np.float64)
        return self._arrays[name]

    def changed(self) -> dict[str, AnyArray]:
        """What differs from what is stored."""
        found = {}
        for name, array in self._arrays.items():
            old = self._constants.array(name)
            fresh = array.astype(old.dtype)
            if not np.array_equal(fresh, old):
                found[name] = fresh
        return found


def _fold_group(
    cut: GroupCut, members: list[Member], chains: dict[str, Chain], values: _Values
) -> None:
    clusters: dict[int, list[int]] = {}
    for removed, survivor in sorted(cut.absorbed_by.items()):
        clusters.setdefault(survivor, [survivor]).append(removed)
    normalised: set[str] = set()
    for member in members:
        chain = chains.get(member.tensor)
        if chain is not None and chain.norm_tensors and chain.makes_axis == member.axis:
            _fold_normalised(member, chain, clusters, values)
            normalised |= {member.tensor, chain.bias, *chain.norm_tensors}
    for member in members:
        if member.tensor not in normalised:
            rows = np.moveaxis(values[member.tensor], member.axis, 0)
            for places in _places(member, clusters):
                rows[places[:, 0]] = rows[places].mean(axis=1)


def _fold_normalised(
    member: Member, chain: Chain, clusters: dict[int, list[int]], values: _Values
) -> None:
    scale, shift, mean, variance = (values[name].reshape(-1) for name in chain.norm_tensors)
    deviation = np.sqrt(variance + chain.epsilon)
    bias = values[chain.bias].reshape(-1) if chain.bias else np.zeros(mean.size)
    rows = np.moveaxis(values[member.tensor], member.axis, 0)
    wide = deviation.reshape(-1, *(1,) * (rows.ndim - 1))
    for places in _places(member, clusters):
        first = places[:, 0]
        rows[first] = wide[first] * (rows[places] / wide[places]).mean(axis=1)
        shifted = ((bias - mean) / deviation)[places].mean(axis=1)
        mean[first] = bias[first] - deviation[first] * shifted
        scale[first] = scale[places].mean(axis=1)
        shift[first] = shift[places].mean(axis=1)


def _places(member: Member, clusters: dict[int, list[int]]) -> list[AnyArray]:
    """For every cluster, int (occurrences, units): its entries, the survivor's first.

    Units of one profile occur equally often; the i-th occurrences correspond.
    """
    entries: dict[int, list[int]] = {}
    for place, unit in enumerate(member.units.tolist()):
        entries.setdefault(unit, []).append(place)
    return [
        np.array([entries[unit] for unit in units], np.int64).T
        for units in clusters.values()
        if units[0] in entries
    ]
