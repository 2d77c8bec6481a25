"""`export-torch`: the model as a PyTorch program or state dict."""

from __future__ import annotations

import sys
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_scsp.cli.guard import guarded
from onnx_scsp.cli.options import JsonOpt, ModelArg, OutputOpt, ShapeOpt, input_shapes
from onnx_scsp.cli.output import print_json, print_tables
from onnx_scsp.errors import MissingExtraError

if TYPE_CHECKING:
    from onnx_scsp.retrain.export import Exported

NAME = "export-torch"

StateOpt = Annotated[
    bool,
    typer.Option(
        "--state-dict", help="Write the tensors alone, as .safetensors or .npz, not a program."
    ),
]


def run(
    model: ModelArg,
    output: OutputOpt,
    state_dict: StateOpt = False,
    input_shape: ShapeOpt = None,
    json: JsonOpt = False,
) -> None:
    """Write the model as a torch.export program (.pt2) for going on in PyTorch."""
    with guarded():
        _require_torch()
        from onnx_scsp.graph.load import load
        from onnx_scsp.retrain.export import export_program, export_state_dict

        write = export_state_dict if state_dict else export_program
        written = write(load(model), output, input_shapes(input_shape))
        if json:
            record = asdict(written)
            print_json(record | {"path": str(written.path), "note": str(written.note)})
        else:
            print_tables(_sentence(written))


def _require_torch() -> None:
    # None in the table of modules is how an import is blocked
    found = sys.modules["torch"] if "torch" in sys.modules else find_spec("torch")
    if found is None:
        raise MissingExtraError(
            f"{NAME} needs PyTorch; install it with: pip install 'onnx-scsp[retrain]'"
        )


def _sentence(written: Exported) -> str:
    return (
        f"{written.path}: {written.tensors} tensors, batch size {written.batch}, at most "
        f"{written.divergence:.1e} from onnxruntime; {written.note} says how to load it"
    )
