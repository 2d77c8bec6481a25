"""Options that name calibration data and say how images become inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnx_scsp.errors import ConfigError

if TYPE_CHECKING:
    from onnx_scsp.calibration import CalibrationData, Preprocess
    from onnx_scsp.graph.model import Model

CALIB_LIMIT = 2048
CALIB_BATCH = 64
_PANEL = "Calibration data"

CalibOpt = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Sample inputs: a folder of images, .npz with the input names as keys, .npy for a "
        "single input, or module:function that yields dictionaries input name -> array.",
        rich_help_panel=_PANEL,
    ),
]
CalibLimitOpt = Annotated[
    int | None,
    typer.Option(
        help="Use this many samples: a seeded choice, or a function's first ones.",
        rich_help_panel=_PANEL,
    ),
]
CalibBatchOpt = Annotated[
    int,
    typer.Option(help="Samples per run where the model leaves that open.", rich_help_panel=_PANEL),
]
PreprocessOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="What happens to images: size, resize, resize_shorter, interpolation, fill, layout, "
        "colour, scale, mean, std. The options below override it.",
        rich_help_panel=_PANEL,
    ),
]
SizeOpt = Annotated[
    str | None,
    typer.Option(metavar="HxW", help="Image size, such as 224x224 or 224.", rich_help_panel=_PANEL),
]
ResizeOpt = Annotated[
    str | None,
    typer.Option(
        help="stretch, crop (shorter side, then the centre) or pad (letterbox).",
        rich_help_panel=_PANEL,
    ),
]
LayoutOpt = Annotated[
    str | None,
    typer.Option(help="nchw or nhwc, where the model does not say.", rich_help_panel=_PANEL),
]
ColourOpt = Annotated[str | None, typer.Option(help="rgb, bgr or gray.", rich_help_panel=_PANEL)]
ScaleOpt = Annotated[
    str | None,
    typer.Option(
        help="Factor on pixel values 0 to 255, such as 1/255 (as by default) or 1.",
        rich_help_panel=_PANEL,
    ),
]
MeanOpt = Annotated[
    str | None,
    typer.Option(help="Subtracted after that, such as 0.485,0.456,0.406.", rich_help_panel=_PANEL),
]
StdOpt = Annotated[
    str | None,
    typer.Option(help="Divided by after that, such as 0.229,0.224,0.225.", rich_help_panel=_PANEL),
]


CacheOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Keep here what sample inputs say about the model; another budget on the same model "
        "and inputs then starts at the planning (but for criteria that read inputs).",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How images become inputs; the other options override the file."""

    preprocess: PreprocessOpt = None
    size: SizeOpt = None
    resize: ResizeOpt = None
    layout: LayoutOpt = None
    colour: ColourOpt = None
    scale: ScaleOpt = None
    mean: MeanOpt = None
    std: StdOpt = None


def calibration_source(
    calib: str | None, images: ImageOptions
) -> tuple[str | None, Preprocess | None]:
    """Turns the options into what `open_calibration` takes.

    Args:
        calib: What the user named.
        images: How images become inputs.

    Returns:
        The source, and the preprocessing where any was asked for (options override the file).

    Raises:
        ConfigError: A value is of no use, contradicts the file, or there is no data to use it on.
    """
    given = {name: text for name, text in asdict(images).items() if text is not None}
    preprocess = given.pop("preprocess", None)
    if calib is None and (given or preprocess is not None):
        raise ConfigError(f"--{next(iter(given), 'preprocess')} is for images; give --calib FOLDER")
    if not given and preprocess is None:
        return calib, None
    values = {name: _parsed(name, text) for name, text in given.items()}
    return calib, _overridden(preprocess, values)


def open_source(
    source: tuple[str | None, Preprocess | None], model: Model, limit: int | None, seed: int
) -> CalibrationData | None:
    """Opens what `calibration_source` found, None where no data was named.

    Raises:
        ConfigError: The data cannot be read or does not fit the model.
    """
    from onnx_scsp.calibration import open_calibration

    data, preprocess = source
    if data is None:
        return None
    return open_calibration(data, model, preprocess=preprocess, limit=limit, seed=seed)


def _overridden(file: Path | None, values: dict[str, Any]) -> Preprocess:
    from dataclasses import replace

    from onnx_scsp.calibration import Preprocess

    if file is None:
        return Preprocess(**values)
    written = Preprocess.from_toml(file)
    try:
        return replace(written, **values)
    except ConfigError as error:
        raise ConfigError(f"--{' and --'.join(values)} with {file}: {error}") from error


def _parsed(name: str, text: str) -> object:
    """Sizes as numbers, lists as tuples; the record checks what is left."""
    if name == "size":
        try:
            sides = tuple(int(side) for side in text.lower().split("x"))
        except ValueError:
            raise ConfigError(f"--size '{text}' is not HxW, such as 224x224") from None
        return sides if len(sides) != 1 else sides * 2
    if name in ("mean", "std") and "," in text:
        return tuple(text.split(","))
    return text
