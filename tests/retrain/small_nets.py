"""Networks and samples for the tests of training."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import onnx
from net_builder import Net, image

from onnx_scsp.graph.load import load
from onnx_scsp.graph.model import Model

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "models" / "digits_bn.onnx"
FOLDED = ROOT / "models" / "digits_folded.onnx"


def digits(count: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Training digits and their labels."""
    images, labels, _, _ = runpy.run_path(str(ROOT / "models" / "digits_data.py"))["digits_split"]()
    return images[:count], labels[:count]


def plain(widths: tuple[int, ...] = (8, 8), *, norm: bool = False, seed: int = 0) -> Net:
    """Conv, BatchNormalization or not, ReLU, twice; class scores of five classes."""
    n, x = image(seed=seed)
    for width in widths:
        x = n.conv(x, width, bias=not norm)
        x = n.relu(n.bn(x) if norm else x)
    n.head(x)
    return n


def saved(net: Net, path: Path) -> Model:
    """A network as a file."""
    last = net.nodes[-1].output[0]
    onnx.save(net.build(last), path)
    return load(path)


def images(count: int, seed: int = 1) -> np.ndarray:
    """Random images for `plain`."""
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)
