"""Unit tables from weights (numpy only).

For unit u of a group, with producers p (weight slice w, bias b, normalisation g, h, m, v):

    x_p(u) = [ s w, s (b - m) + h ],  s = g / sqrt(v + eps)        folded producer slice
    signal(u, t)   = sum_p x_p(u) . x_p(t)
    features(u, t) = sum_q (x_q(u) . x_q(t)) / mean_t |x_q(t)|^2
                     q: producers, per-channel filters and loose per-channel vectors
    gain(r, s)     = prod_q (x_q(r) . x_q(s)) / |x_q(s)|^2        q: per-channel filters only

A per-channel filter is a depthwise weight; a loose vector is a slope, a constant factor or the
parameters of a normalisation that follows no single producer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from onnx_scsp.types import (
    AnyArray,
    Chain,
    ChannelGroup,
    FloatArray,
    IntArray,
    Member,
    Role,
)
from onnx_scsp.units import UnitTable

Weights = Callable[[str], AnyArray]
"""Name of a constant -> its values."""


def unit_tables(
    group: ChannelGroup,
    chains: Iterable[Chain],
    weights: Weights,
    codes: frozenset[str] = frozenset(),
    norm_scales: frozenset[str] = frozenset(),
    importance: Mapping[str, FloatArray] = MappingProxyType({}),
) -> tuple[UnitTable, ...]:
    """Describes a group's units, one table per profile.

    Args:
        group: The group.
        chains: Conv-BN-activation chains of the model.
        weights: Access to the constants' real values.
        codes: Constants that are part of others' real values: scales and zero points.
        norm_scales: Constants that are the scale of a BatchNormalization.
        importance: Constant -> scores given from outside, one per entry of the axis that makes (or
            scales) channels.

    Returns:
        Tables in the order of the profile numbers.
    """
    by_weight: dict[str, Chain] = {}
    for chain in chains:
        by_weight.setdefault(chain.weight, chain)
    slices = _MemberSlices(group, by_weight, weights, codes)
    passed = {member.tensor for member in group.members} & norm_scales
    sizes = {name: np.abs(weights(name)).reshape(-1) for name in sorted(passed)}
    tables = []
    for profile in range(int(group.profile.max()) + 1):
        units = np.flatnonzero(group.profile == profile)
        found = slices.table(units)
        scale, score = _scores(group, units, sizes), _scores(group, units, importance)
        tables.append(replace(found, norm_scale=scale, importance=score))
    return tuple(tables)


def _scores(
    group: ChannelGroup, units: IntArray, by_tensor: Mapping[str, AnyArray]
) -> FloatArray | None:
    """Mean of the vectors' entries of each unit, over the members that have one."""
    found = []
    for member in group.members:
        if member.role is Role.READS or member.tensor not in by_tensor:
            continue
        entries = _entries(member.units, units)
        if entries is not None:
            vector = np.asarray(by_tensor[member.tensor], np.float64)
            found.append(vector[entries].mean(axis=1))
    return np.mean(found, axis=0) if found else None


class _MemberSlices:
    """Reads each member once and adds it to the tables."""

    def __init__(
        self,
        group: ChannelGroup,
        by_weight: Mapping[str, Chain],
        weights: Weights,
        codes: frozenset[str],
    ) -> None:
        self.group = group
        self.weights = weights
        self.by_weight = by_weight
        folded: set[str] = set()
        self.producers: list[tuple[Member, Chain | None]] = []
        self.filters: list[tuple[Member, Chain | None]] = []
        for member in group.members:
            chain = by_weight.get(member.tensor)
            if member.role is Role.MAKES or (member.role is Role.SCALES and chain is not None):
                target = self.producers if member.role is Role.MAKES else self.filters
                target.append((member, chain))
                if chain is not None:
                    folded |= {chain.bias, *chain.norm_tensors}
        weights_seen = {m.tensor for m, _ in (*self.producers, *self.filters)}
        self.loose = [
            m
            for m in group.members
            if m.role is Role.SCALES and m.tensor not in folded | weights_seen | codes
        ]
        self.readers = [m for m in group.members if m.role is Role.READS]

    def table(self, units: IntArray) -> UnitTable:
        n = units.size
        signal, features = np.zeros((n, n)), np.zeros((n, n))
        gain = np.ones((n, n)) if self.filters else np.broadcast_to(np.ones(1), (n, n))
        gram = np.empty((n, n))  # one for all: for wide groups fresh memory takes most of the time
        for member, chain in self.producers:
            _gram(self._folded(member, chain), member, units, gram)
            signal += gram
            features += _normalise(gram)
        for member, chain in self.filters:
            _gram(self._folded(member, chain), member, units, gram)
            size = np.diagonal(gram)
            gain *= np.divide(gram, size[None, :], out=np.zeros_like(gram), where=size[None, :] > 0)
            features += _normalise(gram)
        for member in self.loose:
            rows = _rows(self.weights(member.tensor), member.axis)
            _gram(rows.astype(np.float64), member, units, gram)
            features += _normalise(gram)
        energy = np.zeros(n)
        for member in self.readers:
            energy += self._energy(member, units)
        return UnitTable(
            group=self.group.id,
            units=units,
            features=features,
            signal=signal,
            gain=gain,
            reader_energy=energy if self.readers else np.ones(n),
            homogeneous=self.group.homogeneous and not self.loose,
        )

    def _folded(self, member: Member, chain: Chain | None) -> FloatArray:
        """(entries, features + 1): rows of the weight with bias and normalisation folded in."""
        rows = _rows(self.weights(member.tensor), member.axis)
        if chain is None:
            return rows.astype(np.float64)
        folded = np.zeros((rows.shape[0], rows.shape[1] + 1))
        folded[:, :-1] = rows
        if chain.bias:
            folded[:, -1] = _spread(self.weights(chain.bias), rows.shape[0])
        if chain.norm_tensors:
            scale, shift, mean, variance = (
                _spread(self.weights(name), rows.shape[0]) for name in chain.norm_tensors
            )
            factor = scale / np.sqrt(variance + chain.epsilon)
            folded[:, -1] -= mean
            folded *= factor[:, None]
            folded[:, -1] += shift
        return folded

    def _reader(self, member: Member) -> AnyArray:
        """A reader's weight with the normalisation that follows it folded in."""
        array = np.asarray(self.weights(member.tensor))
        chain = self.by_weight.get(member.tensor)
        if chain is None or not chain.norm_tensors or chain.makes_axis == member.axis:
            return array
        count = array.shape[chain.makes_axis]
        scale, _, _, variance = (_spread(self.weights(n), count) for n in chain.norm_tensors)
        view = [1] * array.ndim
        view[chain.makes_axis] = count
        return np.asarray(array * (scale / np.sqrt(variance + chain.epsilon)).reshape(view))

    def _energy(self, member: Member, units: IntArray) -> FloatArray:
        array = self._reader(member)
        rows = np.atleast_2d(member.units)
        parts = np.split(array, len(rows), axis=member.across) if len(rows) > 1 else [array]
        total: FloatArray = np.zeros(units.size)
        for part, row in zip(parts, rows, strict=True):
            entries = _entries(row, units)
            if entries is not None:
                flat = np.moveaxis(part, member.axis, 0).reshape(part.shape[member.axis], -1)
                size = np.einsum("ij,ij->i", flat, flat, dtype=np.float64)
                total += size[entries].sum(axis=1)
        return total


def _gram(rows: FloatArray, member: Member, units: IntArray, out: FloatArray) -> None:
    """(n, n) Gram matrix of the units' slices; a unit with several entries stacks them."""
    entries = _entries(member.units, units)
    if entries is None:
        out.fill(0.0)
        return
    for place in range(entries.shape[1]):
        own = entries[:, place]
        part = rows if np.array_equal(own, np.arange(len(rows))) else rows[own]
        if place:
            out += part @ part.T
        else:
            np.matmul(part, part.T, out=out)


def _rows(array: AnyArray, axis: int) -> AnyArray:
    moved = np.moveaxis(np.asarray(array), axis, 0)
    return moved.reshape(moved.shape[0], -1)


def _spread(vector: AnyArray, size: int) -> FloatArray:
    """A per-channel vector, repeated over the groups of a grouped transposed convolution."""
    flat = np.asarray(vector, np.float64).reshape(-1)
    return flat[:size] if flat.size >= size else np.resize(flat, size)


def _entries(owner: IntArray, units: IntArray) -> IntArray | None:
    """(n, multiplicity): the axis entries of each unit, or None where it has none here."""
    wanted = np.isin(owner, units)
    if not wanted.any():
        return None
    places = np.flatnonzero(wanted)
    order = np.argsort(owner[places], kind="stable")
    return places[order].reshape(units.size, -1)


def _normalise(gram: FloatArray) -> FloatArray:
    """The same matrix, in place, with a mean of 1 on its diagonal."""
    mean = float(np.mean(np.diagonal(gram)))
    if mean > 0:
        gram /= mean
    return gram
