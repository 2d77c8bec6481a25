"""The only place that talks to onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime import InferenceSession

from onnx_scsp.errors import ConfigError, ModelError
from onnx_scsp.graph.apart import Variant
from onnx_scsp.graph.model import Model
from onnx_scsp.graph.save import write_variant
from onnx_scsp.graph.shapes import InputSpec
from onnx_scsp.types import AnyArray

__all__ = [
    "CPU",
    "InferenceSession",
    "add_outputs",
    "end_profile",
    "observe_shapes",
    "open_apart",
    "open_session",
    "open_variant",
    "providers",
    "random_feeds",
    "run_session",
    "with_outputs",
]


CPU = "cpu"
_SUFFIX = "ExecutionProvider"
_NO_KERNELS = frozenset({"AzureExecutionProvider"})
"""Providers that are always listed and run no standard operator."""


def providers() -> tuple[str, ...]:
    """Names of the execution providers that this onnxruntime has, such as `cpu` and `cuda`."""
    found = (name for name in ort.get_available_providers() if name not in _NO_KERNELS)
    return tuple(sorted(name.removesuffix(_SUFFIX).lower() for name in found))


def _provider(name: str) -> str:
    """The runtime's own name of a provider."""
    for full in ort.get_available_providers():
        if full not in _NO_KERNELS and full.removesuffix(_SUFFIX).lower() == name.lower():
            return str(full)
    raise ConfigError(
        f"provider '{name}' is not in the installed onnxruntime; it has {', '.join(providers())}"
    )


def open_session(
    source: Path | bytes,
    *,
    threads: int = 1,
    optimise: bool = True,
    provider: str = CPU,
    profile: Path | None = None,
    apart: Mapping[str, AnyArray] | None = None,
) -> InferenceSession:
    """Opens a model.

    Worker threads spin while a run lasts and stop with it, so that a session that is idle takes no
    core from one that is timed beside it.

    Args:
        source: Path of the file, or the serialised model.
        threads: Intra-op threads; operators run one after another.
        optimise: Whether the runtime may rewrite the graph.
        provider: One of `providers()`.
        profile: Beginning of the name of a profile that the runtime writes; none where None.
        apart: Values of external initializers, which nobody may change or let go while the session
            is there.

    Returns:
        The session.

    Raises:
        ModelError: The runtime refuses the model.
        ConfigError: The provider is not there or cannot be started.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    values = {n: ort.OrtValue.ortvalue_from_numpy(array) for n, array in (apart or {}).items()}
    if values:
        options.add_external_initializers(list(values), list(values.values()))
    wanted = _provider(provider)
    try:
        session = InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=list(dict.fromkeys([wanted, _provider(CPU)])),
        )
    except Exception as error:  # the runtime raises many unrelated types
        sentence = " ".join(str(error).split())[:300]
        raise ModelError(f"onnxruntime cannot load the model: {sentence}") from error
    if wanted not in session.get_providers():  # the runtime falls back to the CPU and goes on
        raise ConfigError(
            f"provider '{provider}' is installed but cannot be started on this machine; "
            "check its drivers and libraries"
        )
    return session


def end_profile(session: InferenceSession) -> Path:
    """Closes the profile of a session that was opened with one, and says where it lies."""
    return Path(session.end_profiling())


def run_session(
    session: InferenceSession, feeds: Mapping[str, AnyArray], names: list[str] | None = None
) -> dict[str, AnyArray]:
    """Runs a session once.

    Args:
        session: An open session.
        feeds: Input name -> array.
        names: Outputs wanted; all where None.

    Returns:
        Output name -> array; outputs that are no tensors are left out.

    Raises:
        ModelError: The run fails.
    """
    wanted = names if names is not None else [output.name for output in session.get_outputs()]
    if not wanted:
        return {}  # the runtime would take this for all of them
    try:
        results = session.run(wanted, dict(feeds))
    except Exception as error:
        sentence = " ".join(str(error).split())[:300]
        raise ModelError(f"onnxruntime cannot run the model: {sentence}") from error
    # what is no tensor (a sequence, a map, an absent optional) has nothing to compare or measure
    arrays = zip(wanted, results, strict=True)
    return {name: value for name, value in arrays if isinstance(value, np.ndarray)}


def random_feeds(
    specs: Iterable[InputSpec], seed: int, batch: int | None = None
) -> dict[str, AnyArray]:
    """Random inputs: standard normal for floats, small non-negative numbers for integers.

    Args:
        specs: The inputs.
        seed: Seed of the generator.
        batch: Size for axis 0 where the file leaves it open.

    Returns:
        Input name -> array.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, AnyArray] = {}
    for spec in specs:
        shape = list(spec.shape)
        if batch is not None and shape and spec.dynamic[0]:
            shape[0] = batch
        dtype = onnx.helper.tensor_dtype_to_np_dtype(spec.elem_type)
        if np.issubdtype(dtype, np.integer):
            feeds[spec.name] = rng.integers(0, 2, shape).astype(dtype)
        elif dtype == np.bool_:
            feeds[spec.name] = rng.integers(0, 2, shape).astype(bool)
        else:
            feeds[spec.name] = rng.standard_normal(shape).astype(dtype)
    return feeds


def observe_shapes(
    model: Model, specs: Iterable[InputSpec], names: Iterable[str]
) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shapes and element types that some values have at run time.

    Args:
        model: The model.
        specs: Concrete inputs.
        names: Values to look at.

    Returns:
        Value name -> (shape, element type); empty where the runtime cannot run the model.
    """
    wanted = list(names)
    try:
        with open_variant(with_outputs(model.proto, wanted), model) as session:
            results = run_session(session, random_feeds(specs, seed=0), wanted)
    except ModelError:
        return {}  # shapes stay unknown, and what depends on them is frozen with that reason
    return {
        name: (tuple(value.shape), int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype)))
        for name, value in results.items()
    }


def with_outputs(proto: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of a model that also gives some of its inner values.

    Args:
        proto: The model.
        names: Values to give; what is an output already stays as it is.

    Returns:
        The copy, without recorded shapes, which might contradict the run.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    add_outputs(copy, names)
    del copy.graph.value_info[:]
    return copy


def add_outputs(proto: onnx.ModelProto, names: Iterable[str]) -> None:
    """Makes inner values outputs, but for those that are outputs already.

    Args:
        proto: A proto of the caller's own.
        names: The values.
    """
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in present
    )


@contextmanager
def open_variant(
    proto: onnx.ModelProto, model: Model, *, threads: int = 1, optimise: bool = False
) -> Iterator[InferenceSession]:
    """Opens a changed copy of a model, without optimisation so that results compare exactly.

    Args:
        proto: The changed proto.
        model: The model it was made from; its external data is found through it.
        threads: Intra-op threads.
        optimise: Whether the runtime may rewrite the graph all the same, where speed counts.

    Yields:
        The session.
    """
    if not model.external_files:
        yield open_session(proto.SerializeToString(), threads=threads, optimise=optimise)
        return
    with tempfile.TemporaryDirectory(prefix="onnx_scsp_") as folder:
        path = write_variant(proto, model, Path(folder))
        yield open_session(path, threads=threads, optimise=optimise)


@contextmanager
def open_apart(variant: Variant, *, threads: int = 1) -> Iterator[InferenceSession]:
    """Opens a variant, without optimisation so that results compare exactly.

    Args:
        variant: The variant; the session computes with its very arrays while it is open.
        threads: Intra-op threads.

    Yields:
        The session.
    """
    named = [t.name for t in variant.proto.graph.initializer if t.name in variant.arrays]
    arrays = {name: np.require(variant.arrays[name], requirements="C") for name in named}
    content = variant.proto.SerializeToString()
    yield open_session(content, threads=threads, optimise=False, apart=arrays)
