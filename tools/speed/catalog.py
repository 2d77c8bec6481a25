"""Which networks are timed, what is made of them, and what is promised."""

from __future__ import annotations

from dataclasses import dataclass

from tools.coverage.catalog import Network

BUDGET = 0.5
"""Share of the MACs that may remain."""

IMAGE = ((3, 224, 224),)
NETWORKS: tuple[Network, ...] = (
    Network("resnet18", "pytorchcv", IMAGE),
    Network("resnet50", "pytorchcv", IMAGE),
    Network("mobilenetv2_w1", "pytorchcv", IMAGE, shown="mobilenet_v2"),
    Network("efficientnet_b0", "pytorchcv", IMAGE),
    Network("densenet121", "pytorchcv", IMAGE),
    Network("yolov8n", "plain", IMAGE),
    Network("unet", "plain", ((3, 128, 128),)),
)

PROMISED: dict[tuple[str, int], float] = {
    ("resnet18", 1): 0.55,
    ("resnet18", 2): 0.58,
    ("resnet50", 1): 0.55,
    ("resnet50", 2): 0.58,
    ("mobilenet_v2", 1): 0.55,
    ("mobilenet_v2", 2): 0.70,
    ("efficientnet_b0", 1): 0.65,
    ("efficientnet_b0", 2): 0.75,
}
"""Network, threads -> largest latency ratio."""

DENSE, AGAIN = "dense", "dense again"
OURS = "ours"
ROUND_TO = (8, 16)


@dataclass(frozen=True)
class Variant:
    """One way to prune a network.

    Attributes:
        name: Short and unique.
        tool: `ours`, `tp` or `onnxsim`.
        arguments: Words of our command line, or what Torch-Pruning rounds widths to.
        shown: Name on the page.
        like: The rival whose MACs are the budget; the budget of all where empty.
    """

    name: str
    tool: str
    arguments: tuple[str, ...]
    shown: str
    like: str = ""


def variants(
    extra: tuple[str, ...], aligns: tuple[str, ...], spendings: tuple[str, ...] = ()
) -> tuple[Variant, ...]:
    """Everything that is made of every network.

    Args:
        extra: Words that every one of our command lines gets.
        aligns: Values of `--align` to measure beside the default.
        spendings: Values of `--spend-by`, likewise.

    Returns:
        Ours first.
    """
    ours = [Variant(OURS, OURS, extra, "onnx_scsp")]
    ours += [
        Variant(f"{OURS}-{a}", OURS, (*extra, "--align", a), f"onnx_scsp, align {a}")
        for a in aligns
    ]
    ours += [
        Variant(f"{OURS}-{s}", OURS, (*extra, "--spend-by", s), f"onnx_scsp, spent by {s}")
        for s in spendings
    ]
    rounded = [
        Variant(f"tp-{n}", "tp", (str(n),), f"Torch-Pruning, round_to {n}") for n in ROUND_TO
    ]
    fastest = rounded[-1]
    shown = f"onnx_scsp at the MACs of round_to {ROUND_TO[-1]}"
    ours.append(Variant(f"{OURS}-{fastest.name}", OURS, extra, shown, like=fastest.name))
    plain = Variant("tp", "tp", ("0",), "Torch-Pruning")
    return (*ours, plain, *rounded, Variant("onnxsim", "onnxsim", (), "onnxsim"))
