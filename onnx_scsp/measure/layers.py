"""Where the time of one model goes, node by node, from the runtime's profile."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from onnx_scsp.graph.model import Model
from onnx_scsp.graph.session import CPU, end_profile, open_session, run_session
from onnx_scsp.graph.view import view
from onnx_scsp.measure.profile import by_layer, kernel_times
from onnx_scsp.measure.subject import make_subject
from onnx_scsp.timing import LayerTimes

RUNS, WARM_UP = 15, 3


def layer_times(
    model: Model,
    *,
    threads: int = 1,
    provider: str = CPU,
    batch: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> LayerTimes:
    """Profiles a model.

    Args:
        model: The model.
        threads: Intra-op threads.
        provider: Execution provider.
        batch: Size of axis 0 where model and `input_shapes` leave it open.
        input_shapes: Whole shapes of inputs with dynamic axes.

    Returns:
        Median milliseconds per node of the file.

    Raises:
        ModelError: The model cannot be run.
        ConfigError: The provider is not there.
    """
    subject = make_subject(model, model, batch=batch, input_shapes=input_shapes)
    with tempfile.TemporaryDirectory(prefix="onnx_scsp_") as folder:
        session = open_session(
            subject.sources[0], threads=threads, provider=provider, profile=Path(folder) / "profile"
        )
        for _ in range(WARM_UP + RUNS):
            run_session(session, subject.feeds)
        events = json.loads(end_profile(session).read_text(encoding="utf-8"))
    names = {node.name for node in view(model.proto).nodes}
    ms: dict[str, float] = {}
    rest = 0.0
    for name, kernel in by_layer(kernel_times(events, WARM_UP), model):
        owner = _owner(name, names)
        if owner:
            ms[owner] = ms.get(owner, 0.0) + kernel.spent_ms
        else:
            rest += kernel.spent_ms
    return LayerTimes(ms, rest, threads, provider)


def _owner(name: str, names: set[str]) -> str:
    """The node that a kernel's name begins with: fusions append to it."""
    while name and name not in names:
        name = name.rpartition("/")[0]
    return name
