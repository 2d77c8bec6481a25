"""Einsum, letter by letter: which axis of which operand meets which.

With one activation and one constant, a letter that both share and that is summed away is the
constant's input axis; one that only the constant has is its filter axis; one that both share and
keep scales. Between two activations, a letter that is summed away carries channels of both, which
go together, or of neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnx_scsp.ops.blocking import block, freeze_inputs
from onnx_scsp.ops.rule import OpRule
from onnx_scsp.ops.site import Site
from onnx_scsp.types import FreezeReason, IntArray


@dataclass(frozen=True, slots=True)
class Letters:
    """One letter per axis.

    Attributes:
        operands: Letters of each input.
        out: Letters of the output.
    """

    operands: tuple[str, ...]
    out: str


def parse(equation: str) -> Letters | None:
    """Reads an equation.

    Args:
        equation: As Einsum spells it.

    Returns:
        Its letters, or None where it takes diagonals or has an ellipsis.
    """
    left, arrow, out = equation.replace(" ", "").partition("->")
    operands = tuple(left.split(","))
    if not arrow:
        out = "".join(sorted(c for c in set("".join(operands)) if left.count(c) == 1))
    repeats = any(len(set(term)) != len(term) for term in (*operands, out))
    return None if "." in equation or repeats else Letters(operands, out)


def _einsum(site: Site) -> None:
    letters = parse(site.attr("equation"))
    if letters is None:
        block(site, "an Einsum with an ellipsis or a diagonal")
    else:
        contract(site, letters)


def contract(site: Site, letters: Letters) -> None:
    """States what a sum of products does with channels.

    Args:
        site: The node; its first inputs are the operands.
        letters: The axes' letters.
    """
    count = len(letters.operands)
    data = [index for index in range(count) if not site.is_const(index)]
    if count == 1:
        _one(site, letters)
    elif count == 2 and len(data) == 1:
        _weight(site, letters, data[0], 1 - data[0])
    elif count == 2:
        _activations(site, letters)
    else:
        block(site, "a product of more than two operands")


def _one(site: Site, letters: Letters) -> None:
    term = letters.operands[0]
    if _varying(site, letters, 0) - set(letters.out):
        block(site, "sums over channels")
        return
    site.emit(_placed(site.x(0).labels, term, letters.out))


def _weight(site: Site, letters: Letters, data: int, weight: int) -> None:
    x_term, w_term = letters.operands[data], letters.operands[weight]
    varying = _varying(site, letters, data)
    summed = [c for c in x_term if c in w_term and c not in letters.out]
    if varying - set(summed) - set(letters.out):
        block(site, "sums over channels")
        site.cost(float(_total(site, letters)))
        return
    if varying - set(summed) and not varying & set(summed):
        _scaled(site, letters, data, weight)
    else:
        _read_and_made(site, letters, data, weight)


def _scaled(site: Site, letters: Letters, data: int, weight: int) -> None:
    """Channels on letters that stay: the constant has one entry for each, or none."""
    x, x_term, w_term = site.x(data), letters.operands[data], letters.operands[weight]
    for letter in sorted(_varying(site, letters, data) & set(w_term)):
        site.scales(weight, w_term.index(letter), site.vector(x, x_term.index(letter)))
    last = max(x.varying)
    vector = site.vector(x, last)
    site.cost(_total(site, letters) / vector.size, vector)
    site.emit(_placed(x.labels, x_term, letters.out))


def _read_and_made(site: Site, letters: Letters, data: int, weight: int) -> None:
    """The last summed letter is read, the longest new one is made; the others stay whole."""
    x, x_term, w_term = site.x(data), letters.operands[data], letters.operands[weight]
    sizes = dict(zip(w_term, site.shape(weight), strict=True))
    summed = [c for c in x_term if c in w_term and c not in letters.out]
    carriers = [c for c in summed if c in _varying(site, letters, data)] or summed
    vectors: list[IntArray] = []
    if carriers:
        read = site.vector(x, x_term.index(carriers[-1]))
        site.reads(weight, w_term.index(carriers[-1]), read)
        vectors.append(read)
    fresh = [c for c in w_term if c not in x_term and c in letters.out]
    if fresh:
        letter = max(fresh, key=lambda c: sizes[c])
        made = site.fresh(sizes[letter])
        site.makes(weight, w_term.index(letter), made)
        vectors.append(made)
        site.emit(_placed(made, letter, letters.out))
    else:
        site.emit_frozen(FreezeReason.MIXES_CHANNELS, "sums all channels away")
    site.cost(_total(site, letters) / math.prod(v.size for v in vectors), *vectors)


def _activations(site: Site, letters: Letters) -> None:
    """Channels of one operand pass, or both carry them on the same letters and go together."""
    varying = [_varying(site, letters, index) for index in (0, 1)]
    shared = set(letters.operands[0]) & set(letters.operands[1])
    total = _total(site, letters)
    summed = (varying[0] & varying[1]) - set(letters.out)
    if len(summed) == 1 and (varying[0] | varying[1]) - summed <= shared and site.is_float(0):
        _summed_pair(site, letters, summed.pop())
        return
    free = [letters_ - shared for letters_ in varying]
    outer = (free[0] and varying[1]) or (free[1] and varying[0])
    if outer or (varying[0] | varying[1]) - set(letters.out):
        block(site, "both operands carry channels on axes that the product mixes")
        site.cost(float(total))
        return
    carrier = 0 if varying[0] else 1
    x = site.x(carrier)
    placed = [
        _placed(site.x(index).labels, letters.operands[index], letters.out) for index in (0, 1)
    ]
    own = sorted(letters.operands[carrier].index(c) for c in varying[carrier] - shared)
    if varying[carrier] & shared and not (own and not varying[1 - carrier]):
        site.equal(placed[0], placed[1])
    else:  # on letters that the other has, too (heads), the carrier's channels are tied below
        detail = "weighs positions of another activation"
        freeze_inputs(site, (carrier,), detail, FreezeReason.BROADCAST)
    vector = site.vector(x, max(own or x.varying, default=len(x.shape) - 1))
    site.cost(total / vector.size, vector)
    site.emit(placed[carrier])


def _summed_pair(site: Site, letters: Letters, letter: str) -> None:
    """Entry i of one operand meets entry i of the other; what goes counts as zero."""
    left, right = (site.vector(site.x(i), letters.operands[i].index(letter)) for i in (0, 1))
    site.tie(left, right)
    site.reduces(0, letters.operands[0].index(letter), left)
    site.cost(_total(site, letters) / left.size, left)
    label = site.fresh(1)
    site.freeze(label, FreezeReason.MIXES_CHANNELS, "a product over channels")
    site.emit(label)


def _varying(site: Site, letters: Letters, index: int) -> set[str]:
    return {letters.operands[index][axis] for axis in site.x(index).varying}


def _total(site: Site, letters: Letters) -> float:
    """Products per run: one for every combination of letters."""
    sizes: dict[str, int] = {}
    for index, term in enumerate(letters.operands):
        sizes.update(zip(term, site.shape(index), strict=True))
    return float(math.prod(sizes.values()))


def _placed(labels: IntArray, term: str, out: str) -> IntArray:
    """Labels with one axis per letter of `out`; letters that are gone do not vary."""
    kept = "".join(c for c in term if c in out)
    shape = [size for c, size in zip(term, labels.shape, strict=True) if c in out]
    ordered = np.transpose(labels.reshape(shape), [kept.index(c) for c in out if c in kept])
    sizes = dict(zip((c for c in out if c in kept), ordered.shape, strict=True))
    return ordered.reshape([sizes.get(c, 1) for c in out])


RULES = (
    OpRule(
        ("Einsum",),
        _einsum,
        "letters that a constant shares are read or scale, its own are made",
    ),
)
