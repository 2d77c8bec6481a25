"""Copies that leave values out, and nothing else."""

from __future__ import annotations

import onnx
import pytest

from graph.rich import rich_model
from graph.small import initializers
from onnx_scsp.graph.fields import copy_without

UNKNOWN = bytes([0xFA, 0x3F, 0x03]) + b"new"
"""Field 1023 with three bytes, which no version of ONNX knows."""


def test_a_copy_without_anything_left_out_is_equal() -> None:
    proto = rich_model()
    copy = copy_without(proto, ())
    assert copy.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def test_only_the_values_of_the_named_initializers_are_left_out() -> None:
    proto = rich_model()
    copy = copy_without(proto, {"conv2.w"})
    before, after = initializers(proto)["conv2.w"], initializers(copy)["conv2.w"]
    assert before.raw_data
    assert not after.raw_data
    after.raw_data = before.raw_data
    assert copy.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


@pytest.mark.parametrize("place", ["model", "graph", "initializer"])
def test_fields_that_are_not_known_here_stay(place: str) -> None:
    proto = rich_model()
    part = {"model": proto, "graph": proto.graph, "initializer": proto.graph.initializer[0]}[place]
    part.MergeFromString(UNKNOWN)
    again = onnx.ModelProto.FromString(proto.SerializeToString())
    copy = copy_without(again, {proto.graph.initializer[0].name})
    assert UNKNOWN in copy.SerializeToString()
