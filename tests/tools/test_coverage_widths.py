"""What the coverage page says of layers that gave up more than was asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from net_builder import image

from onnx_scsp.couple import find_coupling
from onnx_scsp.graph.load import from_proto
from tools.coverage.equal import normalises, share_of_rival
from tools.coverage.holding import causes
from tools.coverage.narrow import excess, width_lines
from tools.coverage.page import render
from tools.coverage.widths import widths_kept

BEFORE = {"a": 16, "b": 9, "c": 8, "gone": 4}
AFTER = {"a": 2, "b": 4, "c": 8, "new": 3}


def record(tool: str, left: float, **more: Any) -> dict[str, Any]:
    return {
        "network": "net",
        "variant": "ts",
        "tool": tool,
        "outcome": "ok",
        "macs_left": left,
    } | more


def records(*found: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {("net", "ts", r["tool"]): r for r in found}


def test_layers_below_the_share_and_whole_ones_are_counted() -> None:
    found = widths_kept(BEFORE, AFTER, 0.5)
    assert found == {
        "matched": 3,
        "channels_left": 14 / 33,
        "overcut": 1,
        "uncut": 1,
        "least": [0.125, "a"],
    }


def test_a_share_is_rounded_down_before_it_counts_as_too_few() -> None:
    assert widths_kept({"a": 9}, {"a": 4}, 0.5)["overcut"] == 0
    assert widths_kept({"a": 9}, {"a": 3}, 0.5)["overcut"] == 1


def test_files_without_a_common_name_say_nothing() -> None:
    assert widths_kept({"a": 1}, {"b": 1}, 0.5) == {"matched": 0}


OVERCUT = record("tp", 0.2, **widths_kept(BEFORE, AFTER, 0.5))


def test_equal_terms_are_wanted_where_a_rival_cut_deeper_than_asked() -> None:
    assert share_of_rival(records(record("ours", 0.3), OVERCUT), "net") == round(14 / 33, 4)


def test_equal_terms_are_not_wanted_where_nothing_needs_explaining() -> None:
    as_asked = OVERCUT | {"overcut": 0}
    assert share_of_rival(records(record("ours", 0.21), OVERCUT), "net") is None
    assert share_of_rival(records(record("ours", 0.3), as_asked), "net") is None
    assert share_of_rival(records(record("ours", 0.3)), "net") is None


def test_the_page_gives_the_measured_figures_for_a_rival_that_left_less() -> None:
    said = excess(records(record("ours", 0.3), OVERCUT, record("equal", 0.19)), "net")
    assert "1 of 3 layers" in said
    assert "0.424 of all" in said
    assert said.endswith("onnx_scsp leaves 0.190")


def test_the_page_names_the_option_that_cuts_the_same() -> None:
    rival = record("tp", 0.25, overcut=0, matched=3)
    said = excess(records(record("ours", 0.5), rival, record("approximate", 0.26)), "net")
    assert said == "with `--approximate`, which cuts the same, 0.260"


def test_the_page_falls_back_on_what_holds_most() -> None:
    held = record("ours", 0.6, causes=[[0.4, "SUBGRAPH: hands channels to a subgraph", "c"]])
    rival = record("tp", 0.27, overcut=0, matched=3)
    said = excess(records(held, rival), "net")
    assert said == "0.400 is held here by SUBGRAPH: hands channels to a subgraph (`c`)"


def test_every_tool_has_a_row_of_widths() -> None:
    lines = "\n".join(width_lines(records(OVERCUT)))
    assert "| Torch-Pruning | 1 | 3 | 1 | 1 | 1 | 0.125 of `a` in net |" in lines
    assert "| onnxsim | 0 |" in lines
    assert "net (1 of 3)" in lines


def test_the_page_says_what_the_option_leaves_of_a_network_above_the_limit() -> None:
    held = record("ours", 0.5, causes=[[0.25, "MIXES_CHANNELS: a norm", "node"]], ratio=0.5)
    more = {"touched": 1, "layers": 2, "checks": [9, 9], "largest_error": 1e-6, "seconds": 1.0}
    found = [held | more, record("approximate", 0.26) | more]
    versions = {"versions": {"rev": "r", "code": "c" * 12}}
    page = render(records(*(entry | versions for entry in found)))
    assert "- **net** (ts), 0.500; with `--approximate` 0.260" in page
    assert "| onnx_scsp, TorchScript, `--approximate` | 1 | 1 | 0.260 | 1 | net 0.260 |" in page


def test_a_normalisation_among_the_causes_calls_for_the_option() -> None:
    cause = "MIXES_CHANNELS: LRN normalises over channels, so removing one changes the others"
    assert normalises({"causes": [[0.3, cause, "node"]]})
    assert not normalises({"causes": [[0.3, "GRAPH_OUTPUT: channels of a graph output", "node"]]})
    assert not normalises(None)


def test_a_layer_behind_a_depthwise_one_is_held_by_what_that_one_reads() -> None:
    n, x = image()
    held = n.conv(x, 8)
    share = n.op("Softmax", held, axis=1)
    n.channels[share] = 8
    y = n.conv(n.depthwise(held), 6, 1)
    name = n.nodes[-1].name
    model = n.build(n.head(n.concat(n.relu(y), share)), output_shape=["N", 5])
    coupling = find_coupling(from_proto(model))
    (term,) = [term for term in coupling.costs if term.node == name]
    assert any((units < 0).all() for units in term.vectors)
    found = causes(coupling, None)["causes"]
    assert not any("without a reason" in cause for _, cause, _ in found)
    assert np.isclose(sum(share for share, *_ in found), 0.75, atol=1e-3)
