"""Batches: input name -> array, sample axis first. Cut, joined, typed, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from onnx_scsp.errors import ConfigError
from onnx_scsp.inputs import ModelInput
from onnx_scsp.types import AnyArray

Batch = dict[str, AnyArray]


def rows(batch: Batch) -> int:
    """Samples in a batch."""
    return len(next(iter(batch.values())))


def as_arrays(found: Mapping[Any, Any]) -> Batch:
    """Lists and the like as arrays."""
    return {str(name): np.asarray(value) for name, value in found.items()}


def require_equal_lengths(arrays: Batch, where: str) -> None:
    """Raises a ConfigError where inputs have different numbers of samples."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise ConfigError(f"{where}: inputs have different numbers of samples ({counts})")


def typed(batch: Batch, inputs: tuple[ModelInput, ...], where: str) -> Batch:
    """Copies in the model's types (a function may yield the same buffer again and again)."""
    return {item.name: _cast(batch[item.name], item, where) for item in inputs}


def _cast(values: AnyArray, item: ModelInput, where: str) -> AnyArray:
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.array(values, item.dtype, order="C")
    if item.dtype.kind in "biu":
        if not np.array_equal(array, values):
            raise ConfigError(
                f"{where}: input '{item.name}' is {item.dtype} in the model, "
                "and holds values that are none"
            )
    elif not np.isfinite(array).all():
        raise ConfigError(
            f"{where}: input '{item.name}' holds values that are not finite in {item.dtype}"
        )
    return array


def rebatched(
    chunks: Iterable[Batch], size: int, fixed_batch: int | None, where: str
) -> Iterator[Batch]:
    """Joins and cuts batches of whatever size.

    Args:
        chunks: The batches.
        size: Samples per batch that comes out; the last one, and one before a change of shape, may
            be smaller.
        fixed_batch: `size` where the model takes no other; what does not fill it at the end is
            left out.
        where: Where the samples come from, for messages.

    Yields:
        Batches whose samples all have the same shape.

    Raises:
        ConfigError: There are no samples, or too few, or too different ones for a fixed batch.
    """
    parts: list[Batch] = []
    count = delivered = 0
    for chunk in chunks:
        if parts and _shapes(parts[0]) != _shapes(chunk):
            if fixed_batch is not None:
                raise ConfigError(
                    f"{where}: samples of different shapes cannot share the model's batch of "
                    f"{fixed_batch}; bring them to one size"
                )
            yield _joined(parts)
            parts, count, delivered = [], 0, delivered + count
        start = 0
        while start < rows(chunk):
            end = min(start + size - count, rows(chunk))
            parts.append({name: array[start:end] for name, array in chunk.items()})
            start, count = end, count + end - start
            if count == size:
                yield _joined(parts)
                parts, count, delivered = [], 0, delivered + count
    if parts and fixed_batch is None:
        yield _joined(parts)
        delivered += count
    if not delivered:
        raise ConfigError(
            f"{where}: {count} samples do not fill the model's batch of {fixed_batch}"
            if count
            else f"{where} yields no samples; a function must start afresh at every call"
        )


def _shapes(batch: Batch) -> list[tuple[int, ...]]:
    return [array.shape[1:] for array in batch.values()]


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def digest(batches: Iterable[Batch]) -> str:
    """SHA-256 over names, types, shapes and values, whatever the batch sizes."""
    per_input: dict[str, hashlib._Hash] = {}
    for batch in batches:
        for name, array in batch.items():
            if name not in per_input:
                per_input[name] = hashlib.sha256(f"{name} {array.dtype.name}".encode())
            for sample in array:
                per_input[name].update(repr(np.shape(sample)).encode())
                per_input[name].update(np.asarray(sample).tobytes())
    total = hashlib.sha256()
    for found in per_input.values():
        total.update(found.digest())
    return total.hexdigest()
