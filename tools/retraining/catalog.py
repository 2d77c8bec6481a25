"""What is measured: networks, methods, settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NETWORKS = {
    "resnet20": "cifar10_resnet20_bn.onnx",
    "resnet32": "cifar10_resnet32_bn.onnx",
    "unseen20": "unseen_resnet20_bn.onnx",
    "unseen32": "unseen_resnet32_bn.onnx",
}
"""The last two were trained by `tools/accuracy/train_cifar.py`, without the images that report."""
TITLES = {
    "unseen20": "resnet20 that has not seen the report images",
    "unseen32": "resnet32 that has not seen the report images",
}
PAPER_POINT = 0.887
"""MACs left at the operating point that is quoted of the SCSP paper (11.3 % fewer, ResNet-32)."""


def network_file(name: str, data: Path, trained: Path) -> Path:
    """Where a dense network lies: beside the images, or where our own training put it."""
    return (trained if name.startswith("unseen") else data) / NETWORKS[name]


@dataclass(frozen=True, slots=True)
class Entry:
    """One way to get a small network.

    Attributes:
        name: Short name, stable: records go by it.
        title: For tables and drawings.
        tool: `ours` or `torch-pruning`.
        train: Options of `RetrainConfig`.
        cut: Options of `PruneConfig`.
    """

    name: str
    title: str
    tool: str = "ours"
    train: dict[str, Any] = field(default_factory=dict)
    cut: dict[str, Any] = field(default_factory=dict)


def _tuned(name: str, title: str, method: str, compensate: str) -> Entry:
    return Entry(
        name, title, train={"method": "finetune"}, cut={"method": method, "compensate": compensate}
    )


ENTRIES = (
    _tuned("l2", "L2, fine-tuned", "l2", "none"),
    _tuned("fpgm", "FPGM, fine-tuned", "fpgm", "none"),
    _tuned("scsp-once", "scsp's choice once, fine-tuned", "scsp", "none"),
    Entry("sfp", "soft filter pruning", train={"method": "sfp"}),
    Entry("bn-gamma", "BN-scale soft pruning", train={"method": "bn-gamma"}),
    Entry("fractional", "fractional, discriminant", train={"method": "fractional"}),
    Entry(
        "one-per-cluster",
        "one per cluster, then trained",
        train={"method": "one-per-cluster"},
    ),
    Entry("scsp", "scsp", train={"method": "scsp"}),
    Entry("scsp-decay", "scsp-decay", train={"method": "scsp-decay"}),
    Entry("scsp-merge", "scsp-merge", train={"method": "scsp-merge"}),
    Entry(
        "scsp-reconstruct",
        "scsp, cut with reconstruction",
        train={"method": "scsp"},
        cut={"compensate": "reconstruct"},
    ),
    Entry(
        "scsp-aware",
        "scsp loop, output-aware choice, reconstruction",
        train={"method": "scsp"},
        cut={"method": "output-aware", "compensate": "reconstruct"},
    ),
    _tuned("reconstruct", "output-aware, repaired, fine-tuned", "output-aware", "reconstruct"),
    Entry(
        "distilled",
        "output-aware, repaired, distilled without labels",
        train={"method": "finetune", "distill": True},
        cut={"method": "output-aware", "compensate": "reconstruct"},
    ),
    Entry("tp-bn-scale", "Torch-Pruning, BN-scale sparse learning", tool="torch-pruning"),
    Entry("tp-group-norm", "Torch-Pruning, group-norm sparse learning", tool="torch-pruning"),
)  # fmt: skip
UNLABELLED = frozenset({"distilled"})


@dataclass(frozen=True, slots=True)
class Setting:
    """How long and on what; records of different settings never mix.

    Attributes:
        name: `full` or `small`.
        networks: Names of `NETWORKS`.
        budgets: Shares of the MACs that may remain.
        images: Training images.
        epochs: Epochs of every method.
        seeds: Runs per point.
        entries: Names of `ENTRIES`, () for all.
    """

    name: str
    networks: tuple[str, ...]
    budgets: tuple[float, ...]
    images: int
    epochs: int
    seeds: tuple[int, ...]
    entries: tuple[str, ...] = ()


SETTINGS = {
    "full": Setting(
        "full", ("resnet20", "resnet32"), (PAPER_POINT, 0.5, 0.33), 45_000, 10, (0, 1, 2)
    ),
    "small": Setting(
        "small",
        ("resnet20",),
        (0.5,),
        5_000,
        3,
        (0,),
        ("l2", "sfp", "bn-gamma", "one-per-cluster", "scsp", "scsp-decay", "reconstruct"),
    ),
}
TRAIN = {"batch": 128, "rate": 0.01, "augment": "flip,crop4", "held_out": 0.1}
"""Options of every run, chosen on the held-out part of the first 45,000 images."""
