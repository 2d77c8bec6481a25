"""Profiles: which units of a group are interchangeable, occurrence by occurrence.

A unit may consist of several channels (one per group of a grouped convolution, say) and occur
several times in one array. Two units are interchangeable when, in every array, they occur equally
often and their channels follow each other in the same order: then the i-th occurrence of one
corresponds to the i-th of the other. The order is compared by a polynomial hash

    h(u) = sum_i (channel number within u of the i-th occurrence + 1) P^i   (mod 2^64)

and the hashes of all arrays are chained. (That two units which differ come out alike by chance is
as likely as a collision of 64-bit hashes; the permutation oracle would catch it.)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from onnx_scsp.couple.close import Closure
from onnx_scsp.types import IntArray

UIntArray = NDArray[np.uint64]
_BASE = np.uint64(0x9E3779B97F4A7C15)


def by_first_use(values: IntArray) -> IntArray:
    """Renumbers values by first occurrence."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse]


def profiles(
    arrays: Iterable[IntArray], closure: Closure, global_of: IntArray, n_units: int
) -> IntArray:
    """One number per unit, equal for interchangeable units.

    Args:
        arrays: Label arrays of all activations and members.
        closure: Classes of labels.
        global_of: Label -> global unit, -1 for labels that stay.
        n_units: Number of units.

    Returns:
        int64 (n_units,).
    """
    place_of = _places_within_units(closure, global_of)
    profile = np.zeros(n_units, np.uint64)
    seen: set[bytes] = set()
    for labels in arrays:
        flat: IntArray = labels.reshape(-1)
        flat = flat[global_of[flat] >= 0]
        key = closure.channel_of[flat].tobytes()
        if flat.size == 0 or key in seen:
            continue
        touched, signature = _signature(global_of[flat], place_of[flat])
        # an array that a unit does not occur in leaves its profile alone, so the array is hashed in
        profile[touched] = _mix(_mix(profile[touched]) + signature + np.uint64(len(seen)))
        seen.add(key)
    return np.unique(profile, return_inverse=True)[1].reshape(-1)


def _places_within_units(closure: Closure, global_of: IntArray) -> IntArray:
    """Label -> number of its channel among the channels of its unit, by first label."""
    n_labels = global_of.size
    first = np.full(int(closure.channel_of.max(initial=-1)) + 1, n_labels, np.int64)
    np.minimum.at(first, closure.channel_of, np.arange(n_labels))
    channels = np.lexsort((first, global_of[np.minimum(first, max(n_labels - 1, 0))]))
    owner = global_of[first[channels]]
    starts = np.flatnonzero(np.diff(owner, prepend=owner[:1] - 1))
    lengths = np.diff(np.append(starts, owner.size))
    place = np.empty(channels.size, np.int64)
    place[channels] = np.arange(owner.size) - np.repeat(starts, lengths)
    return place[closure.channel_of]


def _signature(units: IntArray, places: IntArray) -> tuple[IntArray, UIntArray]:
    """Units that occur, and for each a hash of how often and in which order its channels do."""
    order = np.argsort(units, kind="stable")
    touched, starts, counts = np.unique(units[order], return_index=True, return_counts=True)
    rank = np.arange(units.size) - np.repeat(starts, counts)
    terms = (places[order] + 1).astype(np.uint64) * _power(rank)
    return touched, np.add.reduceat(terms, starts) + _mix(counts.astype(np.uint64))


def _mix(values: UIntArray) -> UIntArray:
    """Spreads every bit of 64-bit integers over all others (the finaliser of MurmurHash3)."""
    for _ in range(2):
        values = (values ^ (values >> np.uint64(33))) * _BASE
    return values ^ (values >> np.uint64(33))


def _power(exponent: IntArray) -> UIntArray:
    """BASE ** exponent modulo 2^64."""
    table = np.ones(int(exponent.max(initial=0)) + 1, np.uint64)
    table[1:] = _BASE
    return np.asarray(np.cumprod(table, dtype=np.uint64)[exponent])
