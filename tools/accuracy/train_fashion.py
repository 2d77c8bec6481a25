"""Trains a small MobileNet-like network on Fashion-MNIST and exports it, BN kept and folded.

    apt-get download dataset-fashion-mnist
    dpkg-deb -x dataset-fashion-mnist_*.deb UNPACKED
    python tools/accuracy/train_fashion.py --data UNPACKED --output .cache/accuracy/models

Inverted residual blocks with depthwise convolutions; 3.2 M MACs. It sees the first 50,000 training
images only: the other 10,000 are there to tune on, the 10,000 test images to report on. A training
that was cut off goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tools.accuracy.images import FASHION_TRAINED, fashion, normal_fashion  # noqa: E402
from tools.accuracy.states import keep, resumed  # noqa: E402

SEED = 7
BATCH = 128
PEAK_RATE = 0.15
# (channels, blocks, stride of the first)
STAGES = ((24, 2, 2), (40, 3, 2))
STEM, HEAD, EXPAND = 16, 96, 3


class Inverted(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = inputs * EXPAND
        self.body = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return x + self.body(x) if self.residual else self.body(x)


def network() -> nn.Sequential:
    """The untrained network."""
    layers: list[nn.Module] = [
        nn.Conv2d(1, STEM, 3, 1, 1, bias=False),
        nn.BatchNorm2d(STEM),
        nn.ReLU(),
    ]
    width = STEM
    for channels, blocks, stride in STAGES:
        for place in range(blocks):
            layers.append(Inverted(width, channels, stride if place == 0 else 1))
            width = channels
    layers += [nn.Conv2d(width, HEAD, 1, bias=False), nn.BatchNorm2d(HEAD), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD, 10)]
    return nn.Sequential(*layers)


def _augment(images: Tensor) -> Tensor:
    """Mirrored by chance, shifted by up to two pixels."""
    flip = torch.rand(len(images)) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    top, left = torch.randint(0, 5, (2,)).tolist()
    low = float(images.min())
    return F.pad(images, (2, 2, 2, 2), value=low)[:, :, top : top + 28, left : left + 28]


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 in percent."""
    model.eval()
    with torch.no_grad():
        right = [
            (model(images[at : at + 500]).argmax(1) == labels[at : at + 500]).sum().item()
            for at in range(0, len(images), 500)
        ]
    return 100 * sum(right) / len(images)


def train(data: Path, folder: Path, epochs: int) -> nn.Module:
    """Trains, or goes on where a training was cut off.

    Args:
        data: The unpacked Debian package.
        folder: Where the state after each epoch is kept.
        epochs: Passes over the training images.

    Returns:
        The trained network.
    """
    torch.manual_seed(SEED)
    raw, labels = fashion(data, "train")
    images, targets = torch.from_numpy(normal_fashion(raw)), torch.from_numpy(labels)
    model = network()
    steps = epochs * (FASHION_TRAINED // BATCH)
    optimizer = torch.optim.SGD(
        model.parameters(), PEAK_RATE, momentum=0.9, weight_decay=2e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, steps)
    kept = folder / "fashion-state.pt"
    first = resumed(kept, model, optimizer, schedule)
    for epoch in range(first, epochs):
        start = time.perf_counter()
        torch.manual_seed(SEED + epoch)
        model.train()
        order = torch.randperm(FASHION_TRAINED)[: steps // epochs * BATCH]
        for places in order.split(BATCH):
            loss = F.cross_entropy(model(_augment(images[places])), targets[places])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        found = accuracy(model, images[FASHION_TRAINED:], targets[FASHION_TRAINED:])
        keep(kept, model, optimizer, schedule, epoch + 1)
        spent = time.perf_counter() - start
        print(f"epoch {epoch + 1}: {found:.2f} % held out, {spent:.0f} s", flush=True)
    return model.eval()


def export(model: nn.Module, path: Path, *, folded: bool) -> None:
    """Writes the network as ONNX with a dynamic batch.

    Args:
        model: The trained network.
        path: Output file.
        folded: Fold normalisation into the convolutions, instead of keeping its nodes.
    """
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    partial = path.with_suffix(".partial")
    torch.onnx.export(
        copy.deepcopy(model).eval(),
        (torch.zeros(1, 1, 28, 28),),
        str(partial),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
        training=mode,
        do_constant_folding=folded,
    )
    partial.replace(path)


def main() -> None:
    """Trains and exports."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the unpacked Debian package")
    parser.add_argument("--output", type=Path, default=ROOT / ".cache" / "accuracy" / "models")
    parser.add_argument("--epochs", type=int, default=12)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.output.mkdir(parents=True, exist_ok=True)
    model = train(chosen.data, chosen.output, chosen.epochs)
    for folded in (True, False):
        name = f"fashion_mobile_{'folded' if folded else 'bn'}.onnx"
        export(model, chosen.output / name, folded=folded)
    raw, labels = fashion(chosen.data, "t10k")
    images = torch.from_numpy(normal_fashion(raw))
    np.testing.assert_equal(len(images), 10_000)
    print(f"test: {accuracy(model, images, torch.from_numpy(labels)):.2f} %", flush=True)


if __name__ == "__main__":
    main()
