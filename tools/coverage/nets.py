"""Architectures that the zoo's packages lack, at the depth and width of their small variant."""

# mypy: disable-error-code="no-any-return"
# (torch declares that calling a module gives Any)

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.coverage.yolo import YoloV5, YoloV8


def conv_bn(cin: int, cout: int, k: int, stride: int = 1) -> nn.Sequential:
    """Conv and BatchNormalization."""
    return nn.Sequential(nn.Conv2d(cin, cout, k, stride, k // 2, bias=False), nn.BatchNorm2d(cout))


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of an image, by way of channels-last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, two Linears, layer scale, shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand, self.reduce = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.reduce(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext_tiny() -> nn.Module:
    """ConvNeXt-T: depths 3, 3, 9, 3, widths 96 to 768."""
    parts: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), ChannelNorm(96)]
    width = 96
    for stage, depth in enumerate((3, 3, 9, 3)):
        if stage:
            parts += [ChannelNorm(width), nn.Conv2d(width, 2 * width, 2, 2)]
            width *= 2
        parts += [ConvNextBlock(width) for _ in range(depth)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(width), nn.Linear(width, 1000)]
    return nn.Sequential(*parts, *head)


class RepVggBlock(nn.Module):
    """Training form: 3x3, 1x1 and, where shapes allow, a bare normalisation, added."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.wide, self.narrow = conv_bn(cin, cout, 3, stride), conv_bn(cin, cout, 1, stride)
        self.same = nn.BatchNorm2d(cin) if cin == cout and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        y = self.wide(x) + self.narrow(x)
        return F.relu(y if self.same is None else y + self.same(x))


def repvgg_a0() -> nn.Module:
    """RepVGG-A0 in training form."""
    parts: list[nn.Module] = [RepVggBlock(3, 48, 2)]
    cin = 48
    for cout, depth in ((48, 2), (96, 4), (192, 14), (1280, 1)):
        for place in range(depth):
            parts.append(RepVggBlock(cin, cout, 2 if place == 0 else 1))
            cin = cout
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, 1000))


class Res2Block(nn.Module):
    """Bottleneck whose 3x3 is four small ones in a row, on slices of the channels."""

    def __init__(self, cin: int, width: int, cout: int, stride: int) -> None:
        super().__init__()
        self.width, self.first = width, stride > 1 or cin != cout
        self.enter, self.leave = conv_bn(cin, 4 * width, 1), conv_bn(4 * width, cout, 1)
        self.convs = nn.ModuleList(conv_bn(width, width, 3, stride) for _ in range(3))
        self.pool = nn.AvgPool2d(3, stride, 1) if self.first else nn.Identity()
        self.shortcut = conv_bn(cin, cout, 1, stride) if self.first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        parts = torch.split(F.relu(self.enter(x)), self.width, 1)
        done: list[Tensor] = []
        for conv, part in zip(self.convs, parts[:3], strict=True):
            done.append(F.relu(conv(part if self.first or not done else part + done[-1])))
        y = self.leave(torch.cat([*done, self.pool(parts[3])], 1))
        return F.relu(y + self.shortcut(x))


def res2net50() -> nn.Module:
    """Res2Net-50 26w x 4s."""
    parts: list[nn.Module] = [conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    cin = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        for place in range(depth):
            stride = 2 if stage and place == 0 else 1
            parts.append(Res2Block(cin, 26 << stage, 256 << stage, stride))
            cin = 256 << stage
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, 1000))


class UNet(nn.Module):
    """The classic: four levels, transposed convolutions, skips by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        pairs = list(zip((3, *widths), widths, strict=False))
        self.down = nn.ModuleList(self._double(cin, cout) for cin, cout in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, 2) for c in widths[3::-1])
        self.up = nn.ModuleList(self._double(2 * c, c) for c in widths[3::-1])
        self.head = nn.Conv2d(64, 2, 1)

    @staticmethod
    def _double(cin: int, cout: int) -> nn.Sequential:
        first, second = conv_bn(cin, cout, 3), conv_bn(cout, cout, 3)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Segments."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for grow, block, skip in zip(self.grow, self.up, skips[3::-1], strict=True):
            x = block(torch.cat([skip, grow(x)], 1))
        return self.head(x)


class Crnn(nn.Module):
    """Text recognition: seven convolutions, two bidirectional LSTMs, a Linear per column."""

    def __init__(self, classes: int = 37) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        cin = 1
        for place, cout in enumerate((64, 128, 256, 256, 512, 512, 512)):
            k = 2 if place == 6 else 3
            parts.append(nn.Conv2d(cin, cout, k, padding=k // 3))
            parts += [nn.BatchNorm2d(cout)] * (place in (2, 4, 6)) + [nn.ReLU()]
            if place in (0, 1):
                parts.append(nn.MaxPool2d(2))
            if place in (3, 5):
                parts.append(nn.MaxPool2d(2, (2, 1), (0, 1)))
            cin = cout
        self.features = nn.Sequential(*parts)
        self.first = nn.LSTM(512, 256, bidirectional=True)
        self.middle = nn.Linear(512, 256)
        self.second = nn.LSTM(256, 256, bidirectional=True)
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Reads a line of text."""
        columns = self.features(x).squeeze(2).permute(2, 0, 1)
        middle = self.middle(self.first(columns)[0])
        return self.head(self.second(middle)[0])


class Attention(nn.Module):
    """Multi-head attention spelled out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attends."""
        batch, tokens = x.shape[0], x.shape[1]
        heads = self.num_heads
        qkv = self.qkv(x).reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, -1))


class VitBlock(nn.Module):
    """Attention and an MLP, each behind a LayerNorm, each with a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """ViT-Ti/16: 12 blocks, 192 wide, 3 heads, class token."""

    def __init__(self, width: int = 192, tokens: int = 196) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.place = nn.Parameter(torch.randn(1, tokens + 1, width) * 0.02)
        self.blocks = nn.Sequential(*(VitBlock(width, 3) for _ in range(12)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Classifies."""
        patches = self.patch(x).flatten(2).transpose(1, 2)
        token = self.token.expand(patches.shape[0], -1, -1)
        x = self.blocks(torch.cat([token, patches], 1) + self.place)
        return self.head(self.norm(x)[:, 0])


NETS: dict[str, Callable[[], nn.Module]] = {
    "convnext_tiny": convnext_tiny,
    "crnn": Crnn,
    "repvgg_a0": repvgg_a0,
    "res2net50_26w_4s": res2net50,
    "unet": UNet,
    "vit_tiny": Vit,
    "yolov5n": YoloV5,
    "yolov8n": YoloV8,
}
