"""Detectors with the graphs of YOLOv5n and YOLOv8n: split blocks, SPPF, PAN neck, decoding head."""

# mypy: disable-error-code="no-any-return"
# (torch declares that calling a module gives Any)

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256)
STRIDES = (8, 16, 32)
CLASSES = 80


class ConvBnSilu(nn.Module):
    """Conv, BatchNormalization, SiLU."""

    def __init__(self, cin: int, cout: int, k: int = 1, stride: int = 1, pad: int = -1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, stride, k // 2 if pad < 0 else pad, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        return F.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """Two convolutions, with a shortcut or without."""

    def __init__(self, width: int, k: int, *, add: bool) -> None:
        super().__init__()
        self.first, self.second = ConvBnSilu(width, width, k), ConvBnSilu(width, width, 3)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        y = self.second(self.first(x))
        return x + y if self.add else y


class C3(nn.Module):
    """Two branches, one of them with bottlenecks, concatenated."""

    def __init__(self, cin: int, cout: int, depth: int = 1, *, add: bool = True) -> None:
        super().__init__()
        half = cout // 2
        self.left, self.right = ConvBnSilu(cin, half), ConvBnSilu(cin, half)
        self.blocks = nn.Sequential(*(Bottleneck(half, 1, add=add) for _ in range(depth)))
        self.join = ConvBnSilu(cout, cout)

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        return self.join(torch.cat([self.blocks(self.left(x)), self.right(x)], 1))


class C2f(nn.Module):
    """One convolution, split in two; every bottleneck's result is kept and concatenated."""

    def __init__(self, cin: int, cout: int, depth: int = 1, *, add: bool = True) -> None:
        super().__init__()
        self.enter = ConvBnSilu(cin, cout)
        self.blocks = nn.ModuleList(Bottleneck(cout // 2, 3, add=add) for _ in range(depth))
        self.join = ConvBnSilu((2 + depth) * (cout // 2), cout)

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(torch.cat(parts, 1))


class Sppf(nn.Module):
    """Three max pools in a row, all concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.join = ConvBnSilu(width, width // 2), ConvBnSilu(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.join(torch.cat(parts, 1))


class Detector(nn.Module):
    """Backbone and PAN neck, with the block of either generation."""

    def __init__(self, block: type[C3] | type[C2f], stem: tuple[int, int]) -> None:
        super().__init__()
        w, slim = WIDTHS, block is C2f  # the later generation drops the 1x1 before upsampling
        depths = (1, 2, 2, 1) if slim else (1, 2, 3, 1)
        self.stem = ConvBnSilu(3, w[0], stem[0], 2, stem[1])
        self.down = nn.ModuleList(ConvBnSilu(w[i], w[i + 1], 3, 2) for i in range(4))
        self.body = nn.ModuleList(block(w[i + 1], w[i + 1], depths[i]) for i in range(4))
        self.pool = Sppf(w[4])
        self.thin = nn.ModuleList(
            nn.Identity() if slim else ConvBnSilu(w[i], w[i - 1]) for i in (4, 3)
        )
        up = [w[3] + w[4], w[2] + w[3]] if slim else [2 * w[3], 2 * w[2]]
        back = [w[2] + w[3], w[3] + w[4]] if slim else [2 * w[2], 2 * w[3]]
        self.up = nn.ModuleList(block(up[i], w[3 - i], add=False) for i in range(2))
        self.narrow = nn.ModuleList(ConvBnSilu(w[2 + i], w[2 + i], 3, 2) for i in range(2))
        self.back = nn.ModuleList(block(back[i], w[3 + i], add=False) for i in range(2))

    def levels(self, x: Tensor) -> list[Tensor]:
        """Features at strides 8, 16, 32."""
        x, found = self.stem(x), []
        for down, body in zip(self.down, self.body, strict=True):
            x = body(down(x))
            found.append(x)
        top = self.thin[0](self.pool(x))
        middle = self.up[0](torch.cat([F.interpolate(top, scale_factor=2.0), found[2]], 1))
        thin = self.thin[1](middle)
        small = self.up[1](torch.cat([F.interpolate(thin, scale_factor=2.0), found[1]], 1))
        medium = self.back[0](torch.cat([self.narrow[0](small), thin], 1))
        large = self.back[1](torch.cat([self.narrow[1](medium), top], 1))
        return [small, medium, large]


class YoloV5(Detector):
    """Anchors, one 1x1 convolution per level, boxes decoded in the graph."""

    def __init__(self) -> None:
        super().__init__(C3, (6, 2))
        self.heads = nn.ModuleList(nn.Conv2d(c, 3 * (CLASSES + 5), 1) for c in WIDTHS[2:])
        self.anchors: Tensor
        self.register_buffer("anchors", torch.rand(3, 1, 3, 1, 1, 2) * 100 + 10)

    def forward(self, x: Tensor) -> Tensor:
        """Detects."""
        found = []
        for level, (head, y) in enumerate(zip(self.heads, self.levels(x), strict=True)):
            height, width = int(y.shape[2]), int(y.shape[3])
            y = head(y).view(-1, 3, CLASSES + 5, height, width).permute(0, 1, 3, 4, 2)
            xy, wh, scores = y.sigmoid().split((2, 2, CLASSES + 1), 4)
            xy = (xy * 2 - 0.5 + _cells(height, width)) * STRIDES[level]
            wh = (wh * 2) ** 2 * self.anchors[level]
            boxes = torch.cat([xy, wh, scores], 4)
            found.append(boxes.view(-1, 3 * height * width, CLASSES + 5))
        return torch.cat(found, 1)


class YoloV8(Detector):
    """No anchors: a branch for box distances (softmax over 16 bins) and one for classes."""

    def __init__(self) -> None:
        super().__init__(C2f, (3, 1))
        self.boxes = nn.ModuleList(self._branch(c, 64, 64) for c in WIDTHS[2:])
        self.classes = nn.ModuleList(self._branch(c, CLASSES, CLASSES) for c in WIDTHS[2:])
        self.bins = nn.Conv2d(16, 1, 1, bias=False)
        nn.init.constant_(self.bins.weight, 1.0)
        self.bins.weight.data *= torch.arange(16.0).view(1, 16, 1, 1)

    @staticmethod
    def _branch(cin: int, width: int, out: int) -> nn.Sequential:
        first, second = ConvBnSilu(cin, width, 3), ConvBnSilu(width, width, 3)
        return nn.Sequential(first, second, nn.Conv2d(width, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Detects."""
        parts, centres, strides = [], [], []
        for level, y in enumerate(self.levels(x)):
            height, width = int(y.shape[2]), int(y.shape[3])
            y = torch.cat([self.boxes[level](y), self.classes[level](y)], 1)
            parts.append(y.view(-1, 64 + CLASSES, height * width))
            centres.append(_cells(height, width).view(-1, 2) + 0.5)
            strides.append(torch.full((height * width,), float(STRIDES[level])))
        boxes, classes = torch.split(torch.cat(parts, 2), [64, CLASSES], 1)
        n_cells = int(boxes.shape[2])
        bins = boxes.view(-1, 4, 16, n_cells).transpose(2, 1).softmax(1)
        near, far = self.bins(bins).view(-1, 4, n_cells).chunk(2, 1)
        centre = torch.cat(centres).t()
        low, high = centre - near, centre + far
        decoded = torch.cat([(low + high) / 2, high - low], 1) * torch.cat(strides)
        return torch.cat([decoded, classes.sigmoid()], 1)


def _cells(height: int, width: int) -> Tensor:
    """Coordinates of every cell, (height, width, 2), x first."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((columns, rows), 2).float()
