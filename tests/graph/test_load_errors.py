"""Files that cannot be read end in one sentence, and nothing is written."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import onnx_scsp
from graph.small import (
    conv_net,
    initializers,
    listing,
    point_outside,
    write,
    write_external,
)
from graph.test_apart import wide_net
from onnx_scsp.errors import ModelError
from onnx_scsp.graph.load import from_proto


def refused(path: Path, folder: Path) -> str:
    """Prunes a bad file, checks that nothing appeared, returns the message."""
    before = listing(folder)
    with pytest.raises(ModelError) as caught:
        onnx_scsp.prune(path, folder / "out.onnx", plan_out=folder / "plan.json")
    assert listing(folder) == before
    return str(caught.value)


def no_sentence(message: str) -> bool:
    return "\n" in message or "Traceback" in message or len(message) < 20


def _with_unknown_operator() -> onnx.ModelProto:
    proto = conv_net()
    proto.graph.node[0].op_type = "Convolve"
    return proto


def _with_unsorted_nodes() -> onnx.ModelProto:
    proto = conv_net()
    first = proto.graph.node[0]
    proto.graph.node.append(first)
    del proto.graph.node[0]
    return proto


def _without_opset() -> onnx.ModelProto:
    proto = conv_net()
    del proto.opset_import[:]
    return proto


def _without_shape() -> onnx.ModelProto:
    proto = conv_net()
    proto.graph.output.append(onnx.ValueInfoProto(name="logits2"))
    return proto


CONTENTS: dict[str, Callable[[], bytes]] = {
    "an empty file": lambda: b"",
    "a text file": lambda: b"this is no model\n" * 50,
    "a JSON file": lambda: b'{"irVersion": "8", "graph": {"name": "net"}}',
    "random bytes": lambda: random.Random(0).randbytes(4096),
    "zeros": lambda: bytes(4096),
    "a model cut in half": lambda: conv_net().SerializeToString()[:2000],
    "a model without its last byte": lambda: conv_net().SerializeToString()[:-1],
    "a model with bytes behind it": lambda: conv_net().SerializeToString() + b"\xff\xff",
    "a bare tensor": lambda: initializers(conv_net())["fc.w"].SerializeToString(),
    "an unknown operator": lambda: _with_unknown_operator().SerializeToString(),
    "nodes out of order": lambda: _with_unsorted_nodes().SerializeToString(),
    "no operator set": lambda: _without_opset().SerializeToString(),
    "an output without a type": lambda: _without_shape().SerializeToString(),
    "a name that is no text": lambda: (
        conv_net().SerializeToString().replace(b"conv2.w", b"conv2\xff\xfe")
    ),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_that_is_no_valid_model_is_refused_in_one_sentence(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "in.onnx").write_bytes(CONTENTS[content]())
    message = refused(tmp_path / "in.onnx", tmp_path)
    assert str(tmp_path / "in.onnx") in message
    assert not no_sentence(message)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_model_is_refused_wherever_it_ends(share: float, tmp_path: Path) -> None:
    data = conv_net().SerializeToString()
    (tmp_path / "in.onnx").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / "in.onnx", tmp_path)


@pytest.mark.parametrize("width", [2, 64], ids=["small", "large"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.5], ids=["none", "too few", "too many"])
def test_a_tensor_of_another_size_than_its_shape_says_is_refused(
    share: float, width: int, tmp_path: Path
) -> None:
    proto = wide_net(width=width)
    weight = initializers(proto)["w2"]
    data = weight.raw_data * 2
    weight.raw_data = data[: int(share * len(weight.raw_data))]
    assert "w2" in refused(write(proto, tmp_path / "in.onnx"), tmp_path)


@pytest.mark.parametrize("count", [0, 5, 7])
def test_a_tensor_of_more_or_fewer_values_than_its_shape_says_is_refused(
    count: int, tmp_path: Path
) -> None:
    proto = wide_net(width=6)
    bias = initializers(proto)["b2"]
    bias.ClearField("raw_data")
    bias.float_data.extend([1.0] * count)
    assert "b2" in refused(write(proto, tmp_path / "in.onnx"), tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.onnx", tmp_path)


def test_a_directory_is_named(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path, tmp_path)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / ("n" * 300), tmp_path)


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert "no such file" in refused(tmp_path / "file" / "in.onnx", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="no plain file"):
        onnx_scsp.load(tmp_path / "pipe")


def external(folder: Path) -> Path:
    (folder / "model").mkdir()
    return write_external(conv_net(), folder / "model" / "in.onnx", lambda _: "net.bin")


def relocated(folder: Path, location: str, **entries: str) -> Path:
    """The model of `external`, with the data of one tensor said to be somewhere else."""
    path = external(folder)
    proto = onnx.load(path, load_external_data=False)
    item = initializers(proto)["fc.b"]
    point_outside(item, location, **({"offset": "0", "length": "20"} | entries))
    return write(proto, path)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    path = external(tmp_path)
    (path.parent / "net.bin").unlink()
    assert "'net.bin' is missing" in refused(path, tmp_path)


def test_a_data_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = (path.parent / "net.bin").read_bytes()
    (path.parent / "net.bin").write_bytes(data[:-1])
    assert "too short" in refused(path, tmp_path)


def test_a_data_file_too_short_for_a_tensor_without_stated_length_is_refused(
    tmp_path: Path,
) -> None:
    path = external(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    point_outside(initializers(proto)["fc.b"], "net.bin", offset="10000000")
    assert "too short" in refused(write(proto, path), tmp_path)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "sub/../../secret.bin", "sub/../net.bin", "", "."]
)
def test_a_location_outside_the_models_folder_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    path = relocated(tmp_path, location)
    (path.parent / "sub").mkdir()
    assert "refused" in refused(path, tmp_path)


def test_an_absolute_location_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    path = relocated(tmp_path, str(tmp_path / "secret.bin"))
    assert "outside the model's folder" in refused(path, tmp_path)


def test_an_absolute_location_within_the_models_folder_is_refused(tmp_path: Path) -> None:
    path = relocated(tmp_path, str(tmp_path / "model" / "net.bin"))
    assert "outside the model's folder" in refused(path, tmp_path)


def test_a_symbolic_link_as_data_file_is_refused(tmp_path: Path) -> None:
    path = relocated(tmp_path, "link.bin")
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    assert "not a plain file" in refused(path, tmp_path)


def test_a_data_file_below_a_linked_folder_is_refused(tmp_path: Path) -> None:
    path = relocated(tmp_path, "linked/secret.bin")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.bin").write_bytes(bytes(64))
    (path.parent / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "not a plain file" in refused(path, tmp_path)


def test_a_dangling_link_as_data_file_is_refused(tmp_path: Path) -> None:
    path = relocated(tmp_path, "link.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "nowhere")
    assert "missing" in refused(path, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("offset", "-4"), ("offset", "many"), ("offset", "1.5"), ("length", "-20"),
        ("length", "19"), ("length", "24"), ("length", "x"), ("offset", "99999999999999999999"),
    ],
)  # fmt: skip
def test_an_extent_that_makes_no_sense_is_refused(key: str, value: str, tmp_path: Path) -> None:
    path = relocated(tmp_path, "net.bin", **{key: value})
    message = refused(path, tmp_path)
    assert "fc.b" in message
    assert not no_sentence(message)


def test_external_data_of_a_constant_node_is_checked_too(tmp_path: Path) -> None:
    proto = conv_net()
    value = TensorProto(data_type=TensorProto.FLOAT, dims=[5])
    point_outside(value, "absent.bin", offset="0", length="20")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["spare"], "spare", value=value))
    assert "'absent.bin' is missing" in refused(write(proto, tmp_path / "in.onnx"), tmp_path)


def test_a_model_in_memory_cannot_refer_to_files(tmp_path: Path) -> None:
    proto = onnx.load(external(tmp_path), load_external_data=False)
    with pytest.raises(ModelError, match="load it from its file"):
        from_proto(proto)
