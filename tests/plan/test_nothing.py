"""What is said where no channel can go."""

from __future__ import annotations

import pytest
from net_builder import image

import onnx_scsp
from onnx_scsp.errors import ModelError
from onnx_scsp.graph.load import from_proto


def test_the_sentence_names_what_holds_most_and_not_the_output() -> None:
    n, x = image()
    small = n.op("Softmax", n.conv(x, 4), axis=1)
    n.channels[small] = 4
    large = n.op("Softmax", n.conv(small, 24), axis=1)
    n.channels[large] = 24
    model = from_proto(n.build(n.conv(large, 60)))
    blocker = next(node.name for node in model.proto.graph.node if node.output[0] == large)
    with pytest.raises(ModelError, match=f"most of all by {blocker} .*onnx-scsp inspect"):
        onnx_scsp.make_plan(model)
