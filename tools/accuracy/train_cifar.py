"""Trains the CIFAR networks anew, on the first 45,000 images alone.

    python tools/accuracy/train_cifar.py --data DATA --network resnet20
    python tools/accuracy/train_cifar.py --data DATA --network resnet32

The networks that come with the images were trained on all 50,000, so on the images that report they
remember more than they know, and a smaller network that forgets looks worse than it is. These have
the same graphs, with weights of their own, and have never seen the images that report. The graph is
lifted from its .onnx, given random weights, trained, and written back; BN kept and folded. A
training that was cut off goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import onnx_scsp  # noqa: E402
from onnx_scsp.graph.save import save  # noqa: E402
from onnx_scsp.retrain.back import write_back  # noqa: E402
from onnx_scsp.retrain.lift import Lifted, lift  # noqa: E402
from tools.accuracy.images import CIFAR_REPORT  # noqa: E402
from tools.accuracy.states import keep, resumed  # noqa: E402
from tools.retraining.images import load_images  # noqa: E402

SEED = 7
BATCH = 128
PEAK_RATE = 0.3
DECAY = 5e-4
EDGE = 4  # pixels that a crop may be shifted by


def start_anew(lifted: Lifted) -> None:
    """Random weights for every layer, and normalisation that does nothing.

    Args:
        lifted: The network; its convolutions have no bias, its last layer is a Gemm.
    """
    constants = dict(lifted.constants)
    for node in lifted.program.graph.nodes:
        if node.op_type == "BatchNormalization":
            for name, value in zip(node.inputs[1:5], (1.0, 0.0, 0.0, 1.0), strict=True):
                nn.init.constant_(constants[name], value)
        elif node.op_type == "Conv":
            nn.init.kaiming_normal_(constants[node.inputs[1]], mode="fan_out", nonlinearity="relu")
        elif node.op_type == "Gemm":
            bound = 1 / math.sqrt(max(constants[node.inputs[1]].shape))
            nn.init.uniform_(constants[node.inputs[1]], -bound, bound)
            nn.init.zeros_(constants[node.inputs[2]])


def augmented(images: Tensor) -> Tensor:
    """Mirrored and shifted by chance, each image by itself."""
    count, _, height, width = images.shape
    flip = torch.rand(count) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = F.pad(images, (EDGE,) * 4)
    top, left = torch.randint(0, 2 * EDGE + 1, (2, count))
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    batch, channels = torch.arange(count)[:, None, None, None], torch.arange(3)[None, :, None, None]
    return padded[batch, channels, rows, columns]


def _batches(count: int, seed: int) -> Iterator[Tensor]:
    torch.manual_seed(seed)
    yield from torch.randperm(count)[: count // BATCH * BATCH].split(BATCH)


def accuracy(model: Lifted, images: Tensor, labels: Tensor) -> float:
    """Top-1 in percent."""
    model.eval()
    with torch.no_grad():
        right = [
            (model(images[at : at + 500])[0].argmax(1) == labels[at : at + 500]).sum().item()
            for at in range(0, len(images), 500)
        ]
    return 100 * sum(right) / len(images)


def train(lifted: Lifted, images: Tensor, labels: Tensor, epochs: int, kept: Path) -> None:
    """Trains in place, or goes on where a training was cut off.

    Args:
        lifted: The network with its first weights.
        images: float32 (n, 3, 32, 32).
        labels: int64 (n,).
        epochs: Passes over the images.
        kept: The file of the state after each epoch.
    """
    weights = list(lifted.parameters())
    optimizer = torch.optim.SGD(weights, PEAK_RATE, momentum=0.9, weight_decay=DECAY, nesterov=True)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, epochs * steps, pct_start=0.2
    )
    first = resumed(kept, lifted, optimizer, schedule)
    for epoch in range(first, epochs):
        start, total = time.perf_counter(), 0.0
        lifted.train()
        for places in _batches(len(images), SEED + epoch):
            batch = augmented(images[places]).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                scores = lifted(batch)[0]
            loss = F.cross_entropy(scores.float(), labels[places])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        keep(kept, lifted, optimizer, schedule, epoch + 1)
        spent = time.perf_counter() - start
        print(f"epoch {epoch + 1}: loss {total / steps:.3f}, {spent:.0f} s", flush=True)


def folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its normalisation folded into the convolutions."""
    import onnxsim

    simple, agrees = onnxsim.simplify(proto)
    if not agrees or any(node.op_type == "BatchNormalization" for node in simple.graph.node):
        raise SystemExit("the normalisation could not be folded")
    return simple


def main() -> None:
    """Trains, writes both forms, and prints top-1 on the images that were not seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of images and networks")
    parser.add_argument("--network", choices=("resnet20", "resnet32"), required=True)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "accuracy")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    models = chosen.cache / "models"
    models.mkdir(parents=True, exist_ok=True)
    images, labels = load_images(chosen.data, chosen.cache, "train", CIFAR_REPORT)
    model = onnx_scsp.load(chosen.data / f"cifar10_{chosen.network}_bn.onnx")
    torch.manual_seed(SEED)
    lifted = lift(model)
    start_anew(lifted)
    state = models / f"{chosen.network}-state.pt"
    train(lifted, torch.from_numpy(images), torch.from_numpy(labels), chosen.epochs, state)
    trained = write_back(model, lifted)
    save(trained.proto, model, models / f"unseen_{chosen.network}_bn.onnx")
    onnx.save(folded(trained.proto), models / f"unseen_{chosen.network}_folded.onnx")
    images, labels = load_images(chosen.data, chosen.cache, "report", 0)
    np.testing.assert_equal(len(images), 5_000)
    found = accuracy(lifted, torch.from_numpy(images), torch.from_numpy(labels))
    print(f"images never seen: {found:.2f} %", flush=True)


if __name__ == "__main__":
    main()
