"""Trains a small residual CNN on handwritten digits and writes it as ONNX.

A development tool: it needs torch, onnx, onnxruntime and scikit-learn. One list
of operators, ``OPS``, drives both the torch module that is trained and the ONNX
graphs, which are built node by node with ``onnx.helper`` from the trained weights.

    python tools/make_models.py            # writes models/digits_*.onnx
    python tools/make_models.py --validate # tunes on training data, writes nothing
"""

from __future__ import annotations

import argparse
import runpy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
EPS = 1e-5
TOLERANCE = 1e-5
BATCH = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.1
LABEL_SMOOTHING = 0.05
NOISE = 0.05
FROZEN_SHARE = 0.4  # last part of the epochs, trained with fixed BN statistics
Masks = dict[str, torch.Tensor]  # by name of a result: a factor for each of its channels


@dataclass(frozen=True)
class Op:
    """One operator of the network; its name is also the name of its result."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    cin: int = 0
    cout: int = 0
    k: int = 1
    stride: int = 1
    groups: int = 1


def conv_bn(
    block: str, src: str, cin: int, cout: int, *, tag: str = "", relu: bool = True, **more: int
) -> list[Op]:
    """Describes a bias-free Conv (3x3 by default), its BN and, usually, a Relu."""
    conv, bn, act = (f"{block}.{kind}{tag}" for kind in ("conv", "bn", "relu"))
    ops = [Op(conv, "Conv", (src,), cin, cout, **{"k": 3, **more})]
    ops += [Op(bn, "BatchNormalization", (conv,), cout, cout)]
    return [*ops, Op(act, "Relu", (bn,))] if relu else ops


OPS: list[Op] = [
    *conv_bn("stem", "image", 1, 32),
    *conv_bn("block1", "stem.relu", 32, 32, tag="1"),
    *conv_bn("block1", "block1.relu1", 32, 32, tag="2", relu=False),
    Op("block1.add", "Add", ("block1.bn2", "stem.relu")),
    Op("block1.relu2", "Relu", ("block1.add",)),
    *conv_bn("block2", "block1.relu2", 32, 64, stride=2, tag="1"),
    *conv_bn("block2", "block2.relu1", 64, 64, tag="2", relu=False),
    *conv_bn("block2.proj", "block1.relu2", 32, 64, k=1, stride=2, relu=False),
    Op("block2.add", "Add", ("block2.bn2", "block2.proj.bn")),
    Op("block2.relu2", "Relu", ("block2.add",)),
    *conv_bn("separable.depthwise", "block2.relu2", 64, 64, groups=64),
    *conv_bn("separable.pointwise", "separable.depthwise.relu", 64, 64, k=1),
    *conv_bn("grouped", "separable.pointwise.relu", 64, 64, groups=4),
    *conv_bn("branch.a", "grouped.relu", 64, 32, k=1),
    *conv_bn("branch.b", "grouped.relu", 64, 32),
    Op("branch.concat", "Concat", ("branch.a.relu", "branch.b.relu")),
    Op("head.pool", "GlobalAveragePool", ("branch.concat",)),
    Op("head.flatten", "Flatten", ("head.pool",)),
    Op("head.fc", "Gemm", ("head.flatten",), 64, 10),
]


class DigitsNet(nn.Module):
    """The network of ``OPS``; while training, every Relu drops whole channels."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = 0.0
        self.layers = nn.ModuleDict()
        for op in OPS:
            key, sizes = op.name.replace(".", "/"), (op.cin, op.cout, op.k, op.stride, op.k // 2)
            if op.kind == "Conv":
                self.layers[key] = nn.Conv2d(*sizes, groups=op.groups, bias=False)
            elif op.kind == "BatchNormalization":
                self.layers[key] = nn.BatchNorm2d(op.cout, eps=EPS)
            elif op.kind == "Gemm":
                self.layers[key] = nn.Linear(op.cin, op.cout)

    def weights(self, name: str) -> dict[str, np.ndarray]:
        """Returns the trained arrays of the operator called ``name``."""
        state = self.layers[name.replace(".", "/")].state_dict()
        return {part: tensor.numpy() for part, tensor in state.items() if tensor.ndim}

    def forward(self, image: torch.Tensor, masks: Masks | None = None) -> torch.Tensor:
        """Runs ``OPS``; ``masks`` multiplies the channels of the named results."""
        value = {"image": image}
        for op in OPS:
            args = [value[name] for name in op.inputs]
            if op.kind == "Relu":
                out = F.relu(args[0])
                if self.training:  # plain zeroing, as pruning does: undo dropout's 1/(1-p)
                    out = F.dropout2d(out, self.drop) * (1 - self.drop)
            elif op.kind == "Add":
                out = args[0] + args[1]
            elif op.kind == "Concat":
                out = torch.cat(args, 1)
            elif op.kind == "GlobalAveragePool":
                out = args[0].mean((2, 3), keepdim=True)
            elif op.kind == "Flatten":
                out = args[0].flatten(1)
            else:
                out = self.layers[op.name.replace(".", "/")](args[0])
            if masks and op.name in masks:
                out = out * masks[op.name][None, :, None, None]
            value[op.name] = out
        return value[OPS[-1].name]


def augment(x: torch.Tensor, gen: torch.Generator) -> torch.Tensor:
    """Shifts each image by up to a pixel either way and adds a little noise."""
    n, _, h, w = x.shape
    padded = F.pad(x, (1, 1, 1, 1))[:, 0]
    dy, dx = torch.randint(0, 3, (2, n, 1, 1), generator=gen)
    rows = dy + torch.arange(h)[None, :, None]
    cols = dx + torch.arange(w)[None, None, :]
    shifted = padded[torch.arange(n)[:, None, None], rows, cols][:, None]
    return (shifted + NOISE * torch.randn(x.shape, generator=gen)).clamp(0, 1)


def train(x: np.ndarray, y: np.ndarray, epochs: int, seed: int, drop: float) -> DigitsNet:
    """Trains with AdamW and a cosine learning rate; same seed, same weights.

    The first part trains as usual with little dropout. The last ``FROZEN_SHARE`` of
    the epochs keeps the BN statistics fixed, so that they cannot make up for dropped
    channels, and drops more of them: the network learns to do without some channels.
    Each step draws its dropout rate from 0 to twice the mean.
    """
    torch.manual_seed(seed)
    gen = torch.Generator().manual_seed(seed)
    net = DigitsNet().train()
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    steps = len(images) // BATCH
    opt = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, epochs * steps)
    frozen = epochs - round(epochs * FROZEN_SHARE)
    mean_drop = drop / 3
    for epoch in range(epochs):
        if epoch == frozen:
            freeze_batchnorm(net, images)
            mean_drop = drop
        order = torch.randperm(len(images), generator=gen)
        total = 0.0
        for step in range(steps):
            net.drop = 2 * mean_drop * torch.rand(1, generator=gen).item()
            pick = order[step * BATCH : (step + 1) * BATCH]
            logits = net(augment(images[pick], gen))
            loss = F.cross_entropy(logits, labels[pick], label_smoothing=LABEL_SMOOTHING)
            opt.zero_grad()
            torch.autograd.backward(loss)
            opt.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3d}/{epochs}  loss {total / steps:.4f}", flush=True)
    return net.eval()


@torch.no_grad()
def freeze_batchnorm(net: DigitsNet, images: torch.Tensor) -> None:
    """Takes the BN statistics from all clean images without dropout and fixes them."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = 1.0
    net.drop = 0.0
    net(images)
    for layer in layers:
        layer.eval()


def top1(logits: np.ndarray, y: np.ndarray) -> float:
    """Returns the share of rows whose largest logit is the label."""
    return float((logits.argmax(1) == y).mean())


@torch.no_grad()
def robustness(net: DigitsNet, x: torch.Tensor, y: np.ndarray, share: float = 0.3) -> None:
    """Prints accuracy after zeroing the weakest channels of the BN outputs.

    A channel's strength is the L2 norm of its filter after folding BN into it.
    Nothing is trained or measured again afterwards.
    """
    masks: Masks = {}
    alone: list[tuple[float, str]] = []
    for conv, bn in pairwise(OPS):
        if conv.kind == "Conv":
            norm = np.linalg.norm(folded(net, conv, bn)[0].reshape(conv.cout, -1), axis=1)
            mask = torch.ones(conv.cout)
            mask[torch.from_numpy(np.argsort(norm)[: round(share * conv.cout)])] = 0
            masks[bn.name] = mask
            alone.append((top1(net(x, {bn.name: mask}).numpy(), y), conv.name))
    print(
        f"weakest {share:.0%} of channels zeroed: {min(alone)[0]:.4f} at worst in one layer"
        f" ({min(alone)[1]}), {top1(net(x, masks).numpy(), y):.4f} in all at once"
    )


def folded(net: DigitsNet, conv: Op, bn: Op) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weight and bias of ``conv`` with ``bn`` folded in."""
    p = {part: array.astype(np.float64) for part, array in net.weights(bn.name).items()}
    scale = p["weight"] / np.sqrt(p["running_var"] + EPS)
    weight = net.weights(conv.name)["weight"] * scale[:, None, None, None]
    bias = p["bias"] - p["running_mean"] * scale
    return weight.astype(np.float32), bias.astype(np.float32)


def build(net: DigitsNet, fold: bool) -> onnx.ModelProto:
    """Builds the ONNX model, with BatchNormalization nodes or folded into Conv."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    result = {"image": "image"}
    for op, following in zip(OPS, [*OPS[1:], OPS[-1]], strict=True):
        inputs = [result[name] for name in op.inputs]
        attrs: dict[str, Any] = {}
        if op.kind == "BatchNormalization":
            if fold:
                result[op.name] = inputs[0]
                continue
            attrs = {"epsilon": EPS}
        elif op.kind == "Conv":
            attrs = {"kernel_shape": [op.k] * 2, "strides": [op.stride] * 2}
            attrs |= {"pads": [op.k // 2] * 4, "dilations": [1, 1], "group": op.groups}
        elif op.kind == "Gemm":
            attrs = {"transB": 1}
        elif op.kind in ("Concat", "Flatten"):
            attrs = {"axis": 1}
        arrays = net.weights(op.name) if op.cin else {}
        if op.kind == "Conv" and fold:
            arrays["weight"], arrays["bias"] = folded(net, op, following)
        for part, array in arrays.items():
            inputs.append(f"{op.name}.{part}")
            tensors.append(numpy_helper.from_array(array, inputs[-1]))
        result[op.name] = "logits" if op is OPS[-1] else f"{op.name}.out"
        nodes.append(helper.make_node(op.kind, inputs, [result[op.name]], name=op.name, **attrs))

    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    image = value("image", shape=["batch", 1, 8, 8], doc_string="Grey digits, pixel / 16.")
    logits = value("logits", shape=["batch", 10], doc_string="A raw score for each digit.")
    name, form = ("digits_folded", "folded into Conv") if fold else ("digits_bn", "kept as nodes")
    text = f"Small residual CNN for 8x8 handwritten digits; BatchNormalization {form}."
    graph = helper.make_graph(nodes, name, [image], [logits], tensors, doc_string=text)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, doc_string=text)


def onnx_logits(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Runs ``model`` in onnxruntime on one thread."""
    options, where = ort.SessionOptions(), ["CPUExecutionProvider"]
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=where)
    return np.asarray(session.run(["logits"], {"image": x})[0])


def macs() -> int:
    """Counts the multiply-accumulates of Conv and Gemm for one 1 x 8 x 8 image."""
    side, total = {"image": 8}, 0
    for op in OPS:
        side[op.name] = -(-side[op.inputs[0]] // op.stride)
        if op.kind == "Conv":
            total += op.cout * op.cin // op.groups * op.k**2 * side[op.name] ** 2
        elif op.kind == "Gemm":
            total += op.cin * op.cout
    return total


def main() -> None:
    """Trains, writes both files, and checks each against torch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "models", help="folder to write to")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drop", type=float, default=0.15, help="mean rate of Dropout2d")
    text = "train on 1000 training images, judge on the other 297, write nothing"
    parser.add_argument("--validate", action="store_true", help=text)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    data = runpy.run_path(str(ROOT / "models" / "digits_data.py"))
    x_train, y_train, x_test, y_test = data["digits_split"]()
    if args.validate:
        x_test, x_train = x_train[1000:], x_train[:1000]
        y_test, y_train = y_train[1000:], y_train[:1000]
    net = train(x_train, y_train, args.epochs, args.seed, args.drop)
    with torch.no_grad():
        expected = net(torch.from_numpy(x_test)).numpy()
    print(f"torch: top-1 {top1(expected, y_test):.4f} of {len(y_test)}")
    robustness(net, torch.from_numpy(x_test), y_test)
    if args.validate:
        return

    args.out.mkdir(parents=True, exist_ok=True)
    for fold in (False, True):
        model = build(net, fold)
        got = onnx_logits(model, x_test)
        gap, accuracy = float(np.abs(got - expected).max()), top1(got, y_test)
        if gap > TOLERANCE:
            raise SystemExit(f"{model.graph.name}: differs from torch by {gap:.2e}")
        props = {
            "task": "classify an 8x8 grey image of a handwritten digit (0..9)",
            "dataset": "scikit-learn load_digits (UCI optdigits test part, CC BY 4.0)",
            "split": "models/digits_data.py: 1297 training, 500 held-out images",
            "held_out_top1": f"{accuracy:.4f}",
            "made_by": f"tools/make_models.py --epochs {args.epochs} --seed {args.seed}"
            f" --drop {args.drop:g}, torch {torch.__version__}, onnx {onnx.__version__}",
        }
        helper.set_model_props(model, props)
        path = args.out / f"{model.graph.name}.onnx"
        onnx.save(model, path)
        onnx.checker.check_model(str(path), full_check=True)
        count = sum(int(np.prod(t.dims)) for t in model.graph.initializer)
        print(
            f"{path.name}: top-1 {accuracy:.4f} in onnxruntime, {gap:.1e} from torch,"
            f" {path.stat().st_size} bytes, {count} parameters, {macs()} MACs"
        )


if __name__ == "__main__":
    main()
