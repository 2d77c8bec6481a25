"""Small models, built by hand, and the ways in which this suite stores and compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
DIGITS = Path(__file__).resolve().parents[2] / "models"
FLOATS = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}
_STORAGE = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def tensor(array: np.ndarray, name: str) -> TensorProto:
    """An initializer with raw storage."""
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of `conv_net`: 3 channels -> 8 -> 12 -> 5 classes."""
    rng = np.random.default_rng(seed)
    return {
        "conv1.w": rng.standard_normal((8, 3, 3, 3)),
        "bn.scale": rng.uniform(0.5, 1.5, 8),
        "bn.shift": rng.standard_normal(8) * 0.1,
        "bn.mean": rng.standard_normal(8) * 0.1,
        "bn.var": rng.uniform(0.5, 1.5, 8),
        "conv2.w": rng.standard_normal((12, 8, 3, 3)) * 0.2,
        "conv2.b": rng.standard_normal(12) * 0.1,
        "fc.w": rng.standard_normal((5, 12)),
        "fc.b": rng.standard_normal(5),
    }


def _stored(array: np.ndarray, name: str, dtype: str) -> TensorProto:
    """Not every onnx has arrays of bfloat16, but every one can write them."""
    if dtype == "bfloat16":
        return helper.make_tensor(name, FLOATS[dtype], array.shape, array.reshape(-1).tolist())
    return tensor(array.astype(dtype), name)


def conv_net(
    seed: int = 0, dtype: str = "float32", ir_version: int = 8, opset: int = OPSET
) -> onnx.ModelProto:
    """Conv-BN-ReLU, Conv-ReLU, pool, Gemm: two prunable groups of 8 and 12 units."""
    kind = FLOATS[dtype]
    norm = ["conv1", "bn.scale", "bn.shift", "bn.mean", "bn.var"]
    nodes = [
        helper.make_node("Conv", ["image", "conv1.w"], ["conv1"], "conv1", pads=[1] * 4),
        helper.make_node("BatchNormalization", norm, ["bn"], "bn"),
        helper.make_node("Relu", ["bn"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "conv2.w", "conv2.b"], ["conv2"], "conv2", pads=[1] * 4),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["relu2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc.w", "fc.b"], ["logits"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", kind, ["batch", 5])],
        [_stored(array, name, dtype) for name, array in weights(seed).items()],
    )
    return helper.make_model(
        graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)]
    )


def one_input(
    nodes: list[onnx.NodeProto],
    initializers: Mapping[str, np.ndarray] | None = None,
    shape: tuple[int | str, ...] = ("batch", 3, 8, 8),
    out_shape: tuple[int | str, ...] = ("batch", "c", "h", "w"),
    opset: int = OPSET,
) -> onnx.ModelProto:
    """A model of the given nodes with one float input `x` and one float output `y`."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)],
        [tensor(array, name) for name, array in (initializers or {}).items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def write(proto: onnx.ModelProto, path: Path) -> Path:
    """Writes the serialised model."""
    path.write_bytes(proto.SerializeToString())
    return path


def write_external(
    proto: onnx.ModelProto,
    path: Path,
    place: Callable[[str], str | None],
    align: int = 1,
    **more: str,
) -> Path:
    """Writes a model whose initializers lie in data files.

    Args:
        proto: The model, everything inside.
        path: The `.onnx` file.
        place: Initializer name -> location of its data file, None to leave it inside.
        align: Every offset is a multiple of this.
        more: Further external-data entries of every tensor, such as a checksum.

    Returns:
        `path`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for item in copy.graph.initializer:
        location = place(item.name)
        if location is None:
            continue
        file = path.parent / location
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            stream.write(b"\0" * (-stream.tell() % align))
            offset = stream.tell()
            stream.write(item.raw_data)
        point_outside(item, location, offset=str(offset), length=str(len(item.raw_data)), **more)
    return write(copy, path)


def point_outside(item: TensorProto, location: str, **entries: str) -> None:
    """Turns a tensor into a reference to external data."""
    item.ClearField("raw_data")
    item.ClearField("external_data")
    item.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        item.external_data.add(key=key, value=value)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Initializers of a file by name, external data included."""
    proto = onnx.load(path)
    return {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}


def initializers(proto: onnx.ModelProto) -> dict[str, TensorProto]:
    """Initializers by name."""
    return {item.name: item for item in proto.graph.initializer}


def without_data(item: TensorProto) -> TensorProto:
    """A tensor without shape and values, for comparing everything else."""
    copy = TensorProto()
    copy.CopyFrom(item)
    for field in (*_STORAGE, "dims"):
        copy.ClearField(field)
    return copy


def run(path: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a file in onnxruntime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def image(batch: int = 2, dtype: str = "float32", seed: int = 1) -> dict[str, np.ndarray]:
    """Inputs of `conv_net`."""
    rng = np.random.default_rng(seed)
    return {"image": rng.standard_normal((batch, 3, 8, 8)).astype(dtype)}


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: relative path -> bytes, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
