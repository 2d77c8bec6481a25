"""More tiny networks: weights in odd places, shapes, norms, the graph's borders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from branches import there_and_back
from net_builder import Net, image
from onnx import TensorProto, helper, numpy_helper

NETS: dict[str, Callable[[], onnx.ModelProto]] = {}


def net(builder: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    """Adds a builder to the table under its own name."""
    NETS[builder.__name__] = builder
    return builder


# ---- weights in odd places -----------------------------------------------------------------------


@net
def constant_nodes() -> onnx.ModelProto:
    """Every weight sits in a Constant node, some of them in its short forms."""
    n, x = image()
    x = n.op("Mul", n.block(n.block(x, 8), 12), n.const(2.0))
    model = n.build(n.head(x))
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
        if tensor.dims
    ]
    nodes += [
        helper.make_node("Constant", [], [t.name], value_float=float(numpy_helper.to_array(t)))
        for t in model.graph.initializer
        if not t.dims
    ]
    nodes += list(model.graph.node)
    del model.graph.initializer[:]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@net
def weights_behind_views() -> onnx.ModelProto:
    """Identity, Cast from double, Transpose, Unsqueeze and Squeeze between store and use."""
    n, x = image()
    pads = {"pads": [1, 1, 1, 1]}
    first = n.op("Identity", n.random(8, 3, 3, 3, fan_in=27))
    x = n.relu(n.op("Conv", x, first, channels=8, **pads))
    wide = n.const(n.rng.standard_normal((12, 8, 3, 3)) / 8, dtype=np.float64)
    x = n.relu(n.op("Conv", x, n.op("Cast", wide, to=TensorProto.FLOAT), channels=12, **pads))
    turned = n.op("Transpose", n.random(3, 3, 12, 10, fan_in=108), perm=[3, 2, 0, 1])
    x = n.relu(n.op("Conv", x, turned, channels=10, **pads))
    flat = n.op("Unsqueeze", n.random(8, 10, fan_in=10), n.const([2, 3]))
    bias = n.op("Squeeze", n.random(8, 1), n.const([1]))
    x = n.op("Conv", x, flat, bias, channels=8)
    slopes = n.op("Unsqueeze", n.random(8), n.const([1, 2]))
    return n.build(n.head(n.op("Mul", n.relu(x), slopes)))


@net
def weights_generated() -> onnx.ModelProto:
    """ConstantOfShape: structure without data, as in ONNX's light models."""
    n, x = image()
    value = numpy_helper.from_array(np.array([0.02], np.float32))
    w = n.op("ConstantOfShape", n.const([16, 3, 3, 3]), value=value)
    x = n.relu(n.op("Conv", x, w, channels=16, pads=[1, 1, 1, 1]))
    w = n.op("ConstantOfShape", n.const([8, 16, 1, 1]), value=value)
    return n.build(n.head(n.relu(n.op("Conv", x, w, n.random(8), channels=8))))


@net
def computed_weight_constants() -> onnx.ModelProto:
    """A weight that constants are folded into by Mul: its own source."""
    n, x = image()
    w = n.op("Mul", n.random(8, 3, 3, 3, fan_in=27), n.positive(8, 1, 1, 1))
    x = n.relu(n.op("Conv", x, w, channels=8, pads=[1, 1, 1, 1]))
    return n.build(n.head(n.block(x, 8)))


@net
def shared_bias() -> onnx.ModelProto:
    """Two layers of one width share a bias initializer; they are cut otherwise."""
    n, x = image()
    bias = n.random(8, name="shared_bias")
    for fan_in in (3, 8):
        w = n.random(8, fan_in, 3, 3, fan_in=9 * fan_in)
        x = n.relu(n.op("Conv", x, w, bias, channels=8, pads=[1, 1, 1, 1]))
    return n.build(n.head(x))


@net
def shared_conv() -> onnx.ModelProto:
    """One convolution used twice in a row (its input and output channels become one)."""
    n, x = image()
    x = n.block(x, 12)
    w, b = n.random(12, 12, 3, 3, fan_in=108), n.random(12)
    for _ in range(2):
        x = n.relu(n.op("Conv", x, w, b, pads=[1, 1, 1, 1]))
    return n.build(n.head(n.block(x, 8)))


@net
def shared_head_two_scales() -> onnx.ModelProto:
    """A detector's head: the same convolutions on two feature maps."""
    n, x = image()
    fine = n.block(x, 12)
    coarse = n.block(fine, 12, stride=2)
    w, b, v = n.random(8, 12, 3, 3, fan_in=108), n.random(8), n.random(4, 8, 1, 1, fan_in=8)
    outputs = []
    for level in (fine, coarse):
        y = n.relu(n.op("Conv", level, w, b, pads=[1, 1, 1, 1], channels=8))
        outputs.append(n.op("Conv", y, v, channels=4))
    return n.build(*outputs)


@net
def shared_vector_reader() -> onnx.ModelProto:
    """One vector, seen as a 1x1 convolution, reads two layers that are cut otherwise."""
    n, x = image()
    a = n.block(x, 8)
    b = n.block(a, 8)
    w = n.op("Unsqueeze", n.random(8, fan_in=8), n.const([0, 2, 3]))
    maps = [n.op("Conv", value, w, channels=1) for value in (a, b)]
    return n.build(n.concat(*maps), n.head(n.block(b, 8)))


@net
def quantised_weights() -> onnx.ModelProto:
    """int8 weights behind DequantizeLinear, one scale per filter."""
    n, x = image()
    for fan_in, out in ((3, 8), (8, 12)):
        values = n.rng.integers(-100, 100, (out, fan_in, 3, 3))
        operands = (
            n.const(values, dtype=np.int8),
            n.const(n.rng.uniform(0.001, 0.003, out)),
            n.const(n.rng.integers(-5, 5, out), dtype=np.int8),
        )
        w = n.op("DequantizeLinear", *operands, axis=0)
        x = n.relu(n.op("Conv", x, w, n.random(out), pads=[1, 1, 1, 1], channels=out))
    return n.build(n.head(x))


@net
def half_precision_store() -> onnx.ModelProto:
    n, x = image()
    for fan_in, out in ((3, 8), (8, 12)):
        values = n.rng.standard_normal((out, fan_in, 3, 3)) / np.sqrt(9 * fan_in)
        w = n.op("Cast", n.const(values, dtype=np.float16), to=TensorProto.FLOAT)
        x = n.relu(n.op("Conv", x, w, n.random(out), pads=[1, 1, 1, 1], channels=out))
    return n.build(n.head(x))


@net
def computed_bias_and_scale() -> onnx.ModelProto:
    """Activations in the place of a bias and of a normalisation's scale."""
    n, x = image()
    bias, scale = (n.op("ReduceMean", n.conv(x, 12), axes=[0, 2, 3], keepdims=0) for _ in "ab")
    w = n.random(12, 8, 3, 3, fan_in=72)
    y = n.op("Conv", n.block(x, 8), w, bias, pads=[1, 1, 1, 1], channels=12)
    operands = (scale, n.random(12), n.random(12), n.positive(12))
    y = n.op("BatchNormalization", y, *operands, channels=12)
    return n.build(n.head(n.block(n.relu(y), 8)), output_shape=["N", 5])


@net
def gemm_adds_activation() -> onnx.ModelProto:
    """A residual sum spelled as the third operand of Gemm."""
    n = Net()
    x = n.input("N", 10)
    a, b = (n.relu(n.gemm(x, 10, 16)) for _ in "ab")
    y = n.op("Gemm", a, n.random(16, 16, fan_in=16), b, transB=1)
    return n.build(n.gemm(n.relu(y), 16, 4))


@net
def old_style_ir3() -> onnx.ModelProto:
    """Before IR version 4 every initializer is listed as an input."""
    n, x = image(9)
    a, b = n.split(n.block(x, 12), [4, 8])
    model = n.build(n.head(n.concat(n.relu(n.conv(b, 8)), a)))
    model.ir_version = 3
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        model.graph.input.append(value)
    return model


# ---- shapes --------------------------------------------------------------------------------------


@net
def resize_sizes() -> onnx.ModelProto:
    n = Net()
    x = n.block(n.input(1, 3, 8, 8), 12)
    up = n.op("Resize", x, "", "", n.const([1, 12, 16, 16]), mode="nearest")
    return n.build(n.conv(n.block(up, 8), 2))


@net
def resize_computed_sizes() -> onnx.ModelProto:
    """PyTorch's way: batch and channels from Shape, the rest spelled."""
    n, x = image()
    x = n.block(x, 12)
    head = n.op("Slice", n.op("Shape", x), n.const([0]), n.const([2]), n.const([0]))
    sizes = n.op("Concat", head, n.const([16, 16]), axis=0)
    up = n.op("Resize", x, "", "", sizes, mode="nearest")
    return n.build(n.conv(n.block(up, 8), 2), output_shape=["N", 2, 16, 16])


@net
def reshape_constant() -> onnx.ModelProto:
    n = Net()
    x = n.block(n.input(2, 3, 8, 8), 12)
    x = n.op("Reshape", x, n.const([2, 12, 64]))
    x = n.op("Reshape", n.relu(x), n.const([2, 12, 8, 8]))
    flat = n.op("Reshape", n.op("GlobalAveragePool", x), n.const([2, 12]))
    return n.build(n.gemm(flat, 12, 5))


@net
def reshape_dynamic_batch() -> onnx.ModelProto:
    """Shape -> Gather -> Concat with the channel number spelled beside the dynamic batch."""
    n, x = image()
    x = n.block(x, 12)
    batch = n.op("Gather", n.op("Shape", x), n.const(0), axis=0)
    batch = n.op("Unsqueeze", batch, n.const([0]))
    target = n.op("Concat", batch, n.const([12]), n.const([64]), axis=0)
    x = n.op("Reshape", n.op("Reshape", x, target), n.const([0, 12, 8, 8]))
    flat = n.op("Reshape", x, n.op("Concat", batch, n.const([768]), axis=0))
    return n.build(n.gemm(flat, 768, 5), output_shape=["N", 5])


@net
def expand_gate() -> onnx.ModelProto:
    n = Net()
    x = n.block(n.input(1, 3, 8, 8), 12)
    gate = n.op("Sigmoid", n.conv(n.op("GlobalAveragePool", x), 12, 1))
    x = n.op("Mul", x, n.op("Expand", gate, n.const([1, 12, 8, 8])))
    return n.build(n.head(n.block(x, 8)))


@net
def expand_flat_gate() -> onnx.ModelProto:
    """One number per sample, expanded over all channels."""
    n, x = image()
    x = n.op("Flatten", n.op("GlobalAveragePool", n.block(x, 12)))
    gate = n.op("Expand", n.op("Sigmoid", n.gemm(x, 12, 1)), n.const([1, 12]))
    return n.build(n.gemm(n.op("Mul", x, gate), 12, 5))


@net
def inputs_of_unlike_batch() -> onnx.ModelProto:
    """A second input of fixed length beside a dynamic batch."""
    n, x = image()
    y = n.op("ReduceMean", n.input(3, 1, 1, 1, name="y"), axes=[0], keepdims=1)
    x = n.op("Add", n.block(n.block(x, 8), 8), y)
    return n.build(n.head(n.block(x, 8)), output_shape=["N", 5])


@net
def nhwc() -> onnx.ModelProto:
    """Channels last between the convolutions, as TensorFlow exports it."""
    n = Net()
    x = n.op("Transpose", n.input("N", 8, 8, 3), perm=[0, 3, 1, 2], channels=3)
    x = n.op("Transpose", n.conv(x, 12), perm=[0, 2, 3, 1])
    x = n.op("Mul", n.relu(n.op("Add", x, n.random(12))), n.random(12))
    x = n.op("Transpose", x, perm=[0, 3, 1, 2], channels=12)
    x = n.op("Transpose", n.relu(n.conv(x, 8)), perm=[0, 2, 3, 1])
    pooled = n.op("ReduceMean", x, axes=[1, 2], keepdims=0)
    return n.build(n.gemm(pooled, 8, 5))


@net
def squeeze_head_opset11() -> onnx.ModelProto:
    n, x = image(11)
    x = n.op("Pad", n.block(x, 12), n.const([0, 0, 1, 1, 0, 0, 1, 1]))
    x = n.op("ReduceMean", x, axes=[2, 3], keepdims=1)
    x = n.op("Unsqueeze", n.op("Squeeze", x, axes=[2, 3]), axes=[2])
    return n.build(n.gemm(n.op("Flatten", x), 12, 5))


@net
def squeeze_head_opset21() -> onnx.ModelProto:
    n, x = image(21)
    x = n.op("Pad", n.block(x, 12), n.const([1, 1, 1, 1]), "", n.const([2, 3]))
    x = n.op("ReduceMean", x, n.const([2, 3]), keepdims=1)
    x = n.op("Unsqueeze", n.op("Squeeze", x, n.const([2, 3])), n.const([2]))
    return n.build(n.gemm(n.op("Flatten", x), 12, 5))


@net
def dynamic_everything() -> onnx.ModelProto:
    n = Net()
    x = n.input("batch", 3, "height", "width")
    x = n.block(n.block(x, 8), 12, stride=2)
    return n.build(n.conv(x, 4, 1), n.head(x))


# ---- normalisation and mixing --------------------------------------------------------------------


@net
def instance_norm() -> onnx.ModelProto:
    n, x = image()
    x = n.op("InstanceNormalization", n.conv(x, 12), n.positive(12), n.random(12))
    return n.build(n.head(n.block(n.relu(x), 8)))


@net
def lrn() -> onnx.ModelProto:
    n, x = image()
    x = n.op("LRN", n.block(n.block(x, 8), 12), size=3)
    return n.build(n.head(n.block(x, 8)))


@net
def layer_norm_channels() -> onnx.ModelProto:
    n, x = image()
    x = n.op("Transpose", n.block(n.block(x, 8), 12), perm=[0, 2, 3, 1])
    x = n.op("LayerNormalization", x, n.positive(12), n.random(12), axis=-1)
    x = n.op("Transpose", x, perm=[0, 3, 1, 2], channels=12)
    return n.build(n.head(n.block(x, 8)))


@net
def channel_softmax() -> onnx.ModelProto:
    n, x = image()
    x = n.op("Softmax", n.conv(n.block(x, 8), 12), axis=1)
    return n.build(n.head(n.block(x, 8)))


# ---- the graph's borders -------------------------------------------------------------------------


@net
def two_outputs_one_inner() -> onnx.ModelProto:
    n, x = image()
    features = n.block(n.block(x, 8), 12)
    return n.build(features, n.head(n.block(features, 8)))


@net
def if_captures() -> onnx.ModelProto:
    """An If whose branches read a value from outside."""
    n, x = image()
    n.inputs.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    x = n.block(n.block(x, 8), 12)

    def branch(op_type: str) -> onnx.GraphProto:
        out = f"{op_type}_out"
        kind = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", 12, 8, 8])
        return helper.make_graph([helper.make_node(op_type, [x], [out])], op_type, [], [kind])

    y = n.op("If", "flag", then_branch=branch("Neg"), else_branch=branch("Abs"), channels=12)
    return n.build(n.head(n.block(y, 8)), output_shape=["N", 5])


@net
def squeezed_by_if() -> onnx.ModelProto:
    """Ifs that always take the same branch, one on what the other makes."""
    n, x = image()
    x = n.block(there_and_back(n, there_and_back(n, n.block(x, 8))), 12)
    return n.build(n.head(n.block(there_and_back(n, x), 8)), output_shape=["N", 5])


@net
def local_function() -> onnx.ModelProto:
    """A model-local function: no rule, so what it touches stays."""
    n, x = image()
    n.domains["local"] = 1
    y = n.op("Twice", n.block(n.block(x, 8), 12), domain="local", channels=12)
    model = n.build(n.head(n.block(y, 8)), output_shape=["N", 5])
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", n.opset)]
    model.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], body, opsets))
    return model


def unknown_domain() -> onnx.ModelProto:
    """onnxruntime cannot run it; coupling still finds what it does not touch."""
    n, x = image()
    n.domains["com.example"] = 1
    y = n.op("Mystery", n.block(n.block(x, 8), 12), domain="com.example", channels=12)
    return n.build(n.head(n.block(n.block(y, 10), 8)), output_shape=["N", 5])
