"""Rewrites what Torch-Pruning cannot follow, as its own example for YOLOv8 does.

A block that runs one convolution and splits the result in two gets two convolutions instead.
"""

# mypy: disable-error-code="no-any-return"
# (torch declares that calling a module gives Any)

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.coverage.yolo import C2f, ConvBnSilu


class SplitC2f(nn.Module):
    """A `C2f` whose first convolution is two."""

    def __init__(self, block: C2f) -> None:
        super().__init__()
        self.left, self.right = _halves(block.enter)
        self.blocks, self.join = block.blocks, block.join

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        parts = [self.left(x), self.right(x)]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(torch.cat(parts, 1))


def split_blocks(model: nn.Module) -> None:
    """Replaces every `C2f` in a model by its equal."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, C2f):
                setattr(parent, name, SplitC2f(child).train(child.training))


def _halves(whole: ConvBnSilu) -> tuple[ConvBnSilu, ConvBnSilu]:
    cout, cin = whole.conv.weight.shape[:2]
    found = []
    for part in (slice(0, cout // 2), slice(cout // 2, cout)):
        half = ConvBnSilu(cin, cout // 2)
        half.load_state_dict(
            {
                name: value[part] if value.ndim else value
                for name, value in whole.state_dict().items()
            }
        )
        found.append(half)
    return found[0], found[1]
