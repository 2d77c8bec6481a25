"""Weights in data files: which tensors are outside, where, and that every byte survives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_scsp
from graph.conftest import HALF
from graph.small import (
    arrays_of,
    conv_net,
    image,
    initializers,
    listing,
    point_outside,
    run,
    tensor,
    write,
    write_external,
)
from onnx_scsp.graph.model import byte_count, external_entries, is_external

LAYOUTS: dict[str, Callable[[str], str | None]] = {
    "one file": lambda _: "net.bin",
    "two files": lambda name: "conv.bin" if name.startswith("conv") else "rest.bin",
    "a file per tensor": lambda name: name,
    "a sub-folder": lambda _: "data/net.bin",
    "equal names in two sub-folders": lambda name: f"{name[:2]}/w.bin",
    "some tensors inside": lambda name: "net.bin" if name.endswith(".w") else None,
    "only untouched tensors outside": lambda name: "net.bin" if name == "fc.b" else None,
}


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pruned model as it comes out when every weight is in the file itself."""
    folder = tmp_path_factory.mktemp("inside")
    onnx_scsp.prune(write(conv_net(), folder / "in.onnx"), folder / "out.onnx", HALF)
    return folder / "out.onnx"


def parsed(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)


def outside(path: Path) -> set[str]:
    return {item.name for item in parsed(path).graph.initializer if is_external(item)}


def entries(path: Path) -> dict[str, dict[str, str]]:
    stored = initializers(parsed(path))
    return {name: external_entries(item) for name, item in stored.items() if is_external(item)}


def pruned(folder: Path, place: Callable[[str], str | None], **more: object) -> tuple[Path, Path]:
    source = write_external(conv_net(), folder / "in.onnx", place, **more)
    onnx_scsp.prune(source, folder / "out.onnx", HALF)
    return source, folder / "out.onnx"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_tensors_are_outside_after_the_cut(layout: str, tmp_path: Path) -> None:
    source, output = pruned(tmp_path, LAYOUTS[layout])
    assert outside(output) == outside(source) != set()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_those_of_the_model_with_weights_inside(
    layout: str, tmp_path: Path, inside: Path
) -> None:
    _, output = pruned(tmp_path, LAYOUTS[layout])
    want, found = arrays_of(inside), arrays_of(output)
    assert set(found) == set(want)
    assert [name for name in want if found[name].tobytes() != want[name].tobytes()] == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_result_runs_and_computes_the_same(layout: str, tmp_path: Path, inside: Path) -> None:
    _, output = pruned(tmp_path, LAYOUTS[layout])
    assert np.array_equal(run(output, image())["logits"], run(inside, image())["logits"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_input_files_are_not_changed(layout: str, tmp_path: Path) -> None:
    source = write_external(conv_net(), tmp_path / "in.onnx", LAYOUTS[layout])
    before = listing(tmp_path)
    onnx_scsp.prune(source, tmp_path / "out.onnx", HALF)
    after = listing(tmp_path)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("layout", ["two files", "equal names in two sub-folders"])
def test_tensors_of_different_files_stay_in_different_files(layout: str, tmp_path: Path) -> None:
    source, output = pruned(tmp_path, LAYOUTS[layout])
    old, new = entries(source), entries(output)
    pairs = {(old[name]["location"], new[name]["location"]) for name in old}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) > 1


def test_offsets_stay_on_pages_where_they_were(tmp_path: Path) -> None:
    _, output = pruned(tmp_path, LAYOUTS["one file"], align=4096)
    offsets = [int(entry["offset"]) for entry in entries(output).values()]
    assert len(set(offsets)) == 9
    assert all(offset % 4096 == 0 for offset in offsets)


def test_packed_offsets_stay_packed(tmp_path: Path) -> None:
    _, output = pruned(tmp_path, LAYOUTS["one file"])
    assert (tmp_path / "out.onnx.data").stat().st_size == sum(
        byte_count(item) for item in parsed(output).graph.initializer
    )


def test_extents_do_not_overlap_and_are_within_the_file(tmp_path: Path) -> None:
    _, output = pruned(tmp_path, LAYOUTS["one file"], align=4096)
    spans = sorted((int(e["offset"]), int(e["length"])) for e in entries(output).values())
    ends = [start + length for start, length in spans]
    assert all(end <= start for end, (start, _) in zip(ends, spans[1:], strict=False))
    assert ends[-1] <= (tmp_path / "out.onnx.data").stat().st_size


def test_the_checksum_of_an_untouched_tensor_survives(tmp_path: Path) -> None:
    _, output = pruned(tmp_path, LAYOUTS["one file"], checksum="0123")
    assert entries(output)["fc.b"]["checksum"] == "0123"


def test_the_checksum_of_a_touched_tensor_is_dropped(tmp_path: Path) -> None:
    _, output = pruned(tmp_path, LAYOUTS["one file"], checksum="0123")
    assert "checksum" not in entries(output)["conv2.w"]


def test_tensors_without_a_stated_length_are_copied_by_their_shape(
    tmp_path: Path, inside: Path
) -> None:
    source = write_external(conv_net(), tmp_path / "in.onnx", LAYOUTS["one file"])
    proto = parsed(source)
    for item in proto.graph.initializer:
        point_outside(item, "net.bin", offset=external_entries(item)["offset"])
    onnx_scsp.prune(write(proto, source), tmp_path / "out.onnx", HALF)
    assert entries(tmp_path / "out.onnx")["fc.b"]["length"] == "20"
    assert arrays_of(tmp_path / "out.onnx")["fc.b"].tobytes() == arrays_of(inside)["fc.b"].tobytes()


def test_an_empty_external_tensor_stays_empty(tmp_path: Path) -> None:
    proto = conv_net()
    proto.graph.initializer.append(tensor(np.zeros((0, 3), np.float32), "nothing"))
    source = write_external(proto, tmp_path / "in.onnx", LAYOUTS["one file"])
    onnx_scsp.prune(source, tmp_path / "out.onnx", HALF)
    assert entries(tmp_path / "out.onnx")["nothing"]["length"] == "0"


def test_two_tensors_that_share_their_bytes_keep_their_values(tmp_path: Path) -> None:
    proto = conv_net()
    source = write_external(proto, tmp_path / "in.onnx", LAYOUTS["one file"])
    changed = parsed(source)
    where = external_entries(initializers(changed)["fc.b"])
    twin = changed.graph.initializer.add()
    twin.CopyFrom(initializers(changed)["fc.b"])
    twin.name = "twin"
    onnx_scsp.prune(write(changed, source), tmp_path / "out.onnx", HALF)
    found = arrays_of(tmp_path / "out.onnx")
    assert where["length"] == "20"
    assert found["twin"].tobytes() == found["fc.b"].tobytes()


def test_many_data_files_do_not_exhaust_file_handles(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    proto = conv_net()
    for index in range(60):
        proto.graph.initializer.append(tensor(np.ones(1, np.float32), f"spare{index}"))
    model = onnx_scsp.load(write_external(proto, tmp_path / "in.onnx", lambda name: name))
    cut = onnx_scsp.apply_plan(model, onnx_scsp.make_plan(model, HALF))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 20, hard))
    try:
        onnx_scsp.save(cut, tmp_path / "out.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(outside(tmp_path / "out.onnx")) == 69


def test_the_new_data_file_never_replaces_the_inputs_own(tmp_path: Path) -> None:
    """A file renamed from out.onnx still has its weights in out.onnx.data."""
    source = write_external(conv_net(), tmp_path / "old.onnx", lambda _: "out.onnx.data")
    before = listing(tmp_path)
    onnx_scsp.prune(source, tmp_path / "out.onnx", HALF)
    after = listing(tmp_path)
    assert {name: after[name] for name in before} == before


def test_pruning_a_pruned_model_again_works(tmp_path: Path) -> None:
    _, first = pruned(tmp_path, LAYOUTS["one file"])
    result = onnx_scsp.prune(first, tmp_path / "second.onnx", HALF)
    assert result.report
    assert run(tmp_path / "second.onnx", image())["logits"].shape == (2, 5)


def test_bytes_on_disk_count_the_data_file(tmp_path: Path) -> None:
    source = write_external(conv_net(), tmp_path / "in.onnx", LAYOUTS["one file"])
    result = onnx_scsp.prune(source, tmp_path / "out.onnx", HALF)
    files = [tmp_path / "out.onnx", tmp_path / "out.onnx.data"]
    assert result.after.bytes == sum(file.stat().st_size for file in files)


def test_the_hash_of_a_model_depends_on_its_data_file(tmp_path: Path) -> None:
    source = write_external(conv_net(), tmp_path / "in.onnx", LAYOUTS["one file"])
    first = onnx_scsp.load(source).sha256
    data = bytearray((tmp_path / "net.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "net.bin").write_bytes(data)
    assert onnx_scsp.load(source).sha256 != first


@pytest.mark.parametrize(
    ("kind", "count", "size"),
    [
        ("FLOAT", 3, 12), ("DOUBLE", 3, 24), ("FLOAT16", 3, 6), ("BFLOAT16", 3, 6), ("BOOL", 3, 3),
        ("INT64", 3, 24), ("UINT8", 3, 3), ("INT4", 3, 2), ("UINT4", 4, 2), ("FLOAT8E4M3FN", 3, 3),
        ("COMPLEX64", 3, 24), ("COMPLEX128", 3, 48), ("FLOAT", 0, 0),
    ],
)  # fmt: skip
def test_byte_count(kind: str, count: int, size: int) -> None:
    item = onnx.TensorProto(data_type=onnx.TensorProto.DataType.Value(kind), dims=[count])
    assert byte_count(item) == size
