"""Units that keep equally many channels in every group of a grouped convolution.

A grouped convolution demands a *balance*: of its (G, n) channels every row keeps equally many,
wherever they lie. What satisfies it are units with equally many slots in each row. For a class u of
labels and every row i of every balance that it occurs in, let

    V(u, i) = number of slots of u in row i

and call a set of classes a block when the sum of its V is equal over the rows of each balance.
Blocks stay balanced under union, so that a partition of the classes into small blocks is all that
is needed, and whatever a search leaves over is, as a whole, a block again.

Position j of every row (what one convolution alone suggests) is one such partition, and kept where
nothing is finer. Behind a channel shuffle the rows of two convolutions cross, and positions would
chain up to a few huge units: there blocks are searched for, most abundant kinds of classes first,
which for two crossing balances peels perfect matchings off a regular bipartite multigraph (König).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnx_scsp.couple.components import components, merged
from onnx_scsp.types import IntArray

_MOST_STEPS = 20_000
"""Steps of the search per connected set of balances; then what is left becomes one unit."""


def balanced(unit_of: IntArray, balances: Sequence[IntArray]) -> IntArray:
    """Merges classes until every class has equally many slots in each row of every balance.

    Args:
        unit_of: int64 (n_labels,), class of each label.
        balances: Label arrays (G, n) whose rows keep equally many slots.

    Returns:
        int64 (n_labels,), coarser classes, numbered from 0.
    """
    rows = [unit_of[labels] for labels in balances]
    rows = [classes for classes in rows if not _is_balanced(classes)]
    if not rows:
        return unit_of
    n_classes = int(unit_of.max()) + 1
    edges = [_finest(together, n_classes) for together in _connected(rows, n_classes)]
    return components(n_classes, edges)[unit_of]


def _is_balanced(classes: IntArray) -> bool:
    ordered = np.sort(classes, axis=1)
    return bool((ordered == ordered[:1]).all())


def _connected(rows: list[IntArray], n_classes: int) -> list[list[IntArray]]:
    """Balances that share classes, directly or through others, in order of first appearance."""
    edges = [(np.broadcast_to(r.reshape(-1)[:1], r.size), r.reshape(-1)) for r in rows]
    of_class = components(n_classes, edges)
    found: dict[int, list[IntArray]] = {}
    for classes in rows:
        found.setdefault(int(of_class[classes.flat[0]]), []).append(classes)
    return list(found.values())


def _finest(rows: list[IntArray], n_classes: int) -> tuple[IntArray, IntArray]:
    """Edges of the partition with more units: by position, or by search."""
    by_position = [(np.broadcast_to(r[:1], r.shape).reshape(-1), r.reshape(-1)) for r in rows]
    members = np.unique(np.concatenate([r.reshape(-1) for r in rows]))
    n_units = np.unique(components(n_classes, by_position)[members]).size
    position_edges = merged(by_position)
    if n_units >= max(r.shape[1] for r in rows):
        return position_edges
    blocks = _Search(members, rows).run()
    if len(blocks) <= n_units:
        return position_edges
    first = [np.full(len(block), block[0]) for block in blocks]
    return np.concatenate(first), np.concatenate([np.array(block) for block in blocks])


@dataclass(slots=True)
class _Cell:
    """Classes with the same V."""

    counts: IntArray
    classes: list[int] = field(default_factory=list)


class _Search:
    """Peels blocks off the classes of connected balances."""

    def __init__(self, members: IntArray, rows: list[IntArray]) -> None:
        self.spans: list[slice] = []
        columns: list[IntArray] = []
        for classes in rows:
            start = len(columns)
            for row in classes:
                column = np.bincount(np.searchsorted(members, row), minlength=members.size)
                columns.append(column.astype(np.int64))
            self.spans.append(slice(start, len(columns)))
        table = np.stack(columns, axis=1)
        kinds, of_member = np.unique(table, axis=0, return_inverse=True)
        self.cells = [_Cell(kind) for kind in kinds]
        for member, place in zip(members.tolist(), of_member.reshape(-1).tolist(), strict=True):
            self.cells[place].classes.append(member)
        self.by_column: list[list[int]] = [[] for _ in columns]
        for index, cell in enumerate(self.cells):
            for touched in np.flatnonzero(cell.counts):
                self.by_column[touched].append(index)
        self.steps = 0

    def run(self) -> list[list[int]]:
        blocks: list[list[int]] = []
        stranded: set[int] = set()
        while True:
            open_cells = [
                index
                for index, cell in enumerate(self.cells)
                if cell.classes and index not in stranded
            ]
            if not open_cells or self.steps > _MOST_STEPS:
                break
            start = max(open_cells, key=lambda index: len(self.cells[index].classes))
            recipe = self._complete({start: 1}, self.cells[start].counts)
            if recipe is None:
                stranded.add(start)
                continue
            copies = min(len(self.cells[i].classes) // n for i, n in recipe.items())
            blocks.extend(self._take(recipe) for _ in range(copies))
        left = [member for cell in self.cells for member in cell.classes]
        return [*blocks, left] if left else blocks

    def _take(self, recipe: dict[int, int]) -> list[int]:
        return [self.cells[i].classes.pop(0) for i, n in recipe.items() for _ in range(n)]

    def _complete(self, recipe: dict[int, int], total: IntArray) -> dict[int, int] | None:
        """Adds cells until every balance is level; None where that cannot be done."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            return None
        levels = np.zeros_like(total)
        for span in self.spans:
            levels[span] = total[span].max()
        lack = levels - total
        column = int(np.argmax(lack))
        if lack[column] == 0:
            return recipe
        options = [
            index
            for index in self.by_column[column]
            if recipe.get(index, 0) < len(self.cells[index].classes)
            and self._fits(self.cells[index].counts, lack, levels)
        ]
        options.sort(key=lambda index: recipe.get(index, 0) - len(self.cells[index].classes))
        for index in options:
            wider = {**recipe, index: recipe.get(index, 0) + 1}
            done = self._complete(wider, total + self.cells[index].counts)
            if done is not None:
                return done
        return None

    def _fits(self, counts: IntArray, lack: IntArray, levels: IntArray) -> bool:
        """Whether the classes fill gaps only, or start a balance that the block has not met."""
        return bool(((counts <= lack) | (levels == 0)).all())
