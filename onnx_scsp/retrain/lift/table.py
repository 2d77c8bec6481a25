"""The operator table: ONNX operator -> PyTorch function, one entry each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F

from onnx_scsp.retrain.lift import (
    activation,
    arithmetic,
    conv,
    indexing,
    layout,
    linear,
    norm,
    pool,
    quantised,
    recurrent,
    reduction,
    resize,
)
from onnx_scsp.retrain.lift.arithmetic import binary, unary, variadic
from onnx_scsp.retrain.lift.op import Entry, entry
from onnx_scsp.retrain.lift.reduction import reducer

_ARITHMETIC: Mapping[str, Entry] = {
    "Abs": entry(unary(torch.abs)),
    "Acos": entry(unary(torch.acos)),
    "Acosh": entry(unary(torch.acosh)),
    "Add": entry(binary(torch.add), operand_weight=True),
    "And": entry(binary(torch.logical_and)),
    "Asin": entry(unary(torch.asin)),
    "Asinh": entry(unary(torch.asinh)),
    "Atan": entry(unary(torch.atan)),
    "Atanh": entry(unary(torch.atanh)),
    "BitShift": entry(arithmetic.bit_shift),
    "BitwiseAnd": entry(binary(torch.bitwise_and)),
    "BitwiseNot": entry(unary(torch.bitwise_not)),
    "BitwiseOr": entry(binary(torch.bitwise_or)),
    "BitwiseXor": entry(binary(torch.bitwise_xor)),
    "Cast": entry(arithmetic.cast),
    "CastLike": entry(arithmetic.cast_like),
    "Ceil": entry(unary(torch.ceil)),
    "Clip": entry(arithmetic.clip, either=(1, 2)),
    "Cos": entry(unary(torch.cos)),
    "Cosh": entry(unary(torch.cosh)),
    "Div": entry(arithmetic.div, operand_weight=True),
    "Equal": entry(binary(torch.eq)),
    "Erf": entry(unary(torch.erf)),
    "Exp": entry(unary(torch.exp)),
    "Floor": entry(unary(torch.floor)),
    "Greater": entry(binary(torch.gt)),
    "GreaterOrEqual": entry(binary(torch.ge)),
    "Identity": entry(linear.identity),
    "IsInf": entry(arithmetic.is_inf),
    "IsNaN": entry(unary(torch.isnan)),
    "Less": entry(binary(torch.lt)),
    "LessOrEqual": entry(binary(torch.le)),
    "Log": entry(unary(torch.log)),
    "Max": entry(variadic(torch.maximum)),
    "Mean": entry(arithmetic.mean),
    "Min": entry(variadic(torch.minimum)),
    "Mod": entry(arithmetic.mod),
    "Mul": entry(binary(torch.mul), operand_weight=True),
    "Neg": entry(unary(torch.neg)),
    "Not": entry(unary(torch.logical_not)),
    "Or": entry(binary(torch.logical_or)),
    "Pow": entry(arithmetic.power),
    "Reciprocal": entry(unary(torch.reciprocal)),
    "Round": entry(unary(torch.round)),
    "Sign": entry(unary(torch.sign)),
    "Sin": entry(unary(torch.sin)),
    "Sinh": entry(unary(torch.sinh)),
    "Sqrt": entry(unary(torch.sqrt)),
    "Sub": entry(binary(torch.sub), operand_weight=True),
    "Sum": entry(variadic(torch.add)),
    "Tan": entry(unary(torch.tan)),
    "Tanh": entry(unary(torch.tanh)),
    "Where": entry(indexing.where),
    "Xor": entry(binary(torch.logical_xor)),
}

_ACTIVATIONS: Mapping[str, Entry] = {
    "Celu": entry(activation.celu),
    "Dropout": entry(activation.dropout, host=(1, 2)),
    "Elu": entry(activation.elu),
    "Gelu": entry(activation.gelu),
    "HardSigmoid": entry(activation.hard_sigmoid),
    "HardSwish": entry(activation.hard_swish),
    "Hardmax": entry(activation.hardmax),
    "LeakyRelu": entry(activation.leaky_relu),
    "LogSoftmax": entry(activation.log_softmax),
    "Mish": entry(unary(F.mish)),
    "PRelu": entry(activation.prelu, weights=(1,)),
    "Relu": entry(unary(torch.relu)),
    "Selu": entry(activation.selu),
    "Shrink": entry(activation.shrink),
    "Sigmoid": entry(unary(torch.sigmoid)),
    "Softmax": entry(activation.softmax),
    "Softplus": entry(unary(F.softplus)),
    "Softsign": entry(unary(F.softsign)),
    "Swish": entry(activation.swish),
    "ThresholdedRelu": entry(activation.thresholded_relu),
}

_LAYERS: Mapping[str, Entry] = {
    "AveragePool": entry(pool.average_pool),
    "BatchNormalization": entry(norm.batch_norm, weights=(1, 2), statistics=(3, 4)),
    "Conv": entry(conv.conv, weights=(1, 2)),
    "ConvTranspose": entry(conv.conv_transpose, weights=(1, 2)),
    "Einsum": entry(linear.einsum, weights=(0, 1, 2)),
    "GRU": entry(recurrent.gru, weights=(1, 2, 3)),
    "Gemm": entry(linear.gemm, weights=(0, 1, 2)),
    "GlobalAveragePool": entry(pool.global_average_pool),
    "GlobalLpPool": entry(pool.global_lp_pool),
    "GlobalMaxPool": entry(pool.global_max_pool),
    "GroupNormalization": entry(norm.group_norm, weights=(1, 2)),
    "InstanceNormalization": entry(norm.instance_norm, weights=(1, 2)),
    "LSTM": entry(recurrent.lstm, weights=(1, 2, 3, 7)),
    "LRN": entry(norm.local_response_norm),
    "LayerNormalization": entry(norm.layer_norm, weights=(1, 2)),
    "LpNormalization": entry(norm.lp_normalization),
    "LpPool": entry(pool.lp_pool),
    "MatMul": entry(linear.matmul, weights=(0, 1)),
    "MaxPool": entry(pool.max_pool),
    "MaxUnpool": entry(pool.max_unpool, host=(2,)),
    "MeanVarianceNormalization": entry(norm.mean_variance_normalization),
    "RNN": entry(recurrent.rnn, weights=(1, 2, 3)),
    "RMSNormalization": entry(norm.rms_norm, weights=(1,)),
}

_LAYOUT: Mapping[str, Entry] = {
    "Concat": entry(layout.concat),
    "ConstantOfShape": entry(layout.constant_of_shape, host=(0,)),
    "DepthToSpace": entry(layout.depth_to_space),
    "Expand": entry(layout.expand, host=(1,)),
    "Flatten": entry(layout.flatten),
    "Pad": entry(layout.pad, host=(1, 2, 3)),
    "GridSample": entry(resize.grid_sample),
    "Reshape": entry(layout.reshape, host=(1,)),
    "Resize": entry(resize.resize, host=(1, 2, 3)),
    "Shape": entry(layout.shape_of),
    "Size": entry(layout.size_of),
    "Slice": entry(layout.slice_, host=(1, 2, 3, 4)),
    "SpaceToDepth": entry(layout.space_to_depth),
    "Split": entry(layout.split, host=(1,)),
    "Squeeze": entry(layout.squeeze, host=(1,)),
    "Tile": entry(layout.tile, host=(1,)),
    "Transpose": entry(layout.transpose),
    "Upsample": entry(resize.upsample, host=(1,)),
    "Unsqueeze": entry(layout.unsqueeze, host=(1,)),
}

_INDEXING: Mapping[str, Entry] = {
    "ArgMax": entry(reduction.arg_extreme(largest=True)),
    "ArgMin": entry(reduction.arg_extreme(largest=False)),
    "Compress": entry(indexing.compress),
    "CumSum": entry(reduction.cumulative_sum, host=(1,)),
    "EyeLike": entry(indexing.eye_like),
    "Gather": entry(indexing.gather, either=(1,)),
    "GatherElements": entry(indexing.gather_elements),
    "GatherND": entry(indexing.gather_nd),
    "NonZero": entry(indexing.non_zero),
    "OneHot": entry(indexing.one_hot, host=(1,)),
    "Range": entry(indexing.range_, host=(0, 1, 2)),
    "ScatterElements": entry(indexing.scatter_elements),
    "ScatterND": entry(indexing.scatter_nd),
    "TopK": entry(reduction.top_k, host=(1,)),
    "Trilu": entry(indexing.trilu, host=(1,)),
}

_REDUCTIONS: Mapping[str, Entry] = {
    f"Reduce{name}": entry(reducer(function), host=(1,))
    for name, function in {
        "L1": reduction.reduce_l1,
        "L2": reduction.reduce_l2,
        "LogSum": reduction.reduce_log_sum,
        "LogSumExp": reduction.reduce_log_sum_exp,
        "Max": reduction.reduce_max,
        "Mean": reduction.reduce_mean,
        "Min": reduction.reduce_min,
        "Prod": reduction.reduce_prod,
        "Sum": reduction.reduce_sum,
        "SumSquare": reduction.reduce_sum_square,
    }.items()
}

_QUANTISED: Mapping[str, Entry] = {
    "ConvInteger": entry(quantised.conv_integer),
    "DequantizeLinear": entry(quantised.dequantize_linear),
    "DynamicQuantizeLinear": entry(quantised.dynamic_quantize_linear),
    "MatMulInteger": entry(quantised.matmul_integer),
    "QLinearConv": entry(quantised.qlinear_conv),
    "QLinearMatMul": entry(quantised.qlinear_matmul),
    "QuantizeLinear": entry(quantised.quantize_linear),
}

_CONTRIBUTED: Mapping[str, Entry] = {
    "DequantizeLinear": entry(quantised.dequantize_linear),
    "Gelu": entry(activation.gelu),
    "QGemm": entry(quantised.qgemm),
    "QLinearAdd": entry(quantised.qlinear_binary(torch.add)),
    "QLinearAveragePool": entry(quantised.qlinear_unary(pool.average_pool)),
    "QLinearConcat": entry(quantised.qlinear_concat),
    "QLinearGlobalAveragePool": entry(quantised.qlinear_unary(quantised.global_mean)),
    "QLinearLeakyRelu": entry(quantised.qlinear_unary(activation.leaky_relu)),
    "QLinearMul": entry(quantised.qlinear_binary(torch.mul)),
    "QLinearSigmoid": entry(quantised.qlinear_unary(quantised.sigmoid)),
    "QuantizeLinear": entry(quantised.quantize_linear),
    "QuickGelu": entry(activation.quick_gelu),
}

_STANDARD = {
    **_ARITHMETIC,
    **_ACTIVATIONS,
    **_LAYERS,
    **_LAYOUT,
    **_INDEXING,
    **_REDUCTIONS,
    **_QUANTISED,
}

OPERATORS: Mapping[tuple[str, str], Entry] = MappingProxyType(
    {("", name): found for name, found in _STANDARD.items()}
    | {("com.microsoft", name): found for name, found in _CONTRIBUTED.items()}
)
"""(Domain, operator) -> entry. CONTRIBUTING.md says how to add one."""
