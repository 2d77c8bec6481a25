"""What happens to an image before a model sees it, written down once and checked.

x = (pixel * scale - mean) / std        pixel in 0..255, per channel, after resizing
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from onnx_scsp.errors import ConfigError
from onnx_scsp.inputs import ModelInput, spell

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RESIZES = ("stretch", "crop", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
LAYOUTS = ("nchw", "nhwc")
COLOURS = ("rgb", "bgr", "gray")
_CHANNEL_COUNTS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How images become inputs.

    Attributes:
        size: (height, width) in pixels; None takes the model's, or the image's own where the model
            leaves it open.
        resize: `stretch` to the size; `crop`: resize the shorter side, then cut out the centre;
            `pad`: fit the whole image in and fill the rest around it (letterbox).
        resize_shorter: For `crop`, pixels of the shorter side before cutting; None resizes as
            little as the cut allows.
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`, as Pillow does them
            (averaging when it shrinks).
        fill: Pixel value 0..255 of what `pad` adds.
        layout: `nchw` or `nhwc`; None reads it off the model's input shape.
        colour: `rgb`, `bgr` or `gray`; None is gray for a model of one channel, else rgb.
            A fourth channel is opacity.
        scale: Factor on pixels 0..255; None is 1/255, or 1 for a model with an integer input.
        mean: Subtracted after scaling: one number, or one per channel of the model.
        std: Divided by after that: one number, or one per channel of the model.
    """

    size: tuple[int, int] | None = None
    resize: str = "stretch"
    resize_shorter: int | None = None
    interpolation: str = "bilinear"
    fill: int = 114
    layout: str | None = None
    colour: str | None = None
    scale: float | None = None
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _size(self.size))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if self.scale is not None:
            object.__setattr__(self, "scale", _number("scale", self.scale))
        _require_name("resize", self.resize, RESIZES)
        _require_name("interpolation", self.interpolation, INTERPOLATIONS)
        if self.layout is not None:
            _require_name("layout", self.layout, LAYOUTS)
        if self.colour is not None:
            _require_name("colour", self.colour, COLOURS)
        if not _is_whole(self.fill) or not 0 <= self.fill <= 255:
            raise ConfigError(f"fill {self.fill!r} is no pixel value; use 0 to 255")
        if 0.0 in np.atleast_1d(self.std):
            raise ConfigError("std 0 would divide by zero; use 1 to switch it off")
        if self.scale == 0.0:
            raise ConfigError("scale 0 would erase the image; use 1 for pixel values 0 to 255")
        self._check_shorter()

    def _check_shorter(self) -> None:
        if self.resize_shorter is None:
            return
        if self.resize != "crop":
            raise ConfigError(f"resize_shorter goes with resize 'crop', not with '{self.resize}'")
        if not _is_whole(self.resize_shorter) or self.resize_shorter < 1:
            raise ConfigError(f"resize_shorter {self.resize_shorter!r} is no number of pixels")

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Preprocess:
        """Reads a file whose keys are the attributes above, such as `size = [224, 224]`.

        Args:
            path: The TOML file; `scale` may also be a fraction in quotes, "1/255".

        Returns:
            The record.

        Raises:
            ConfigError: The file cannot be read, or a key or value in it is of no use.
        """
        try:
            with Path(path).open("rb") as stream:
                found = tomllib.load(stream)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is no valid TOML: {error}") from error
        known = [field.name for field in fields(cls)]
        for key in found:
            if key not in known:
                raise ConfigError(f"{path}: key '{key}' is unknown; use {', '.join(known)}")
        try:
            return cls(**found)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def bind(self, item: ModelInput) -> BoundPreprocess:
        """Settles what was left to the model.

        Args:
            item: The input that is to take images.

        Returns:
            The same instructions with nothing left open but, where both leave it, the size.

        Raises:
            ConfigError: The input takes no images, or other ones than described here.
        """
        layout, channels = self._axes(item)
        size = self._fixed_size(item, layout)
        for name in ("mean", "std"):
            count = np.size(getattr(self, name))
            if count not in (1, channels):
                raise ConfigError(
                    f"{name} has {count} values, input '{item.name}' has {channels} channels"
                )
        if self.resize_shorter is not None and size and self.resize_shorter < max(size):
            raise ConfigError(
                f"resize_shorter {self.resize_shorter} is below the size {spell(size)} to cut out"
            )
        whole = item.dtype.kind in "iu"
        return BoundPreprocess(
            size=size,
            resize=self.resize,
            resize_shorter=self.resize_shorter,
            interpolation=self.interpolation,
            fill=self.fill,
            layout=layout,
            colour=self._settled_colour(item, channels),
            channels=channels,
            scale=self.scale if self.scale is not None else 1.0 if whole else 1 / 255,
            mean=tuple(float(value) for value in np.atleast_1d(self.mean)),
            std=tuple(float(value) for value in np.atleast_1d(self.std)),
            dtype=item.dtype.name,
        )

    def _axes(self, item: ModelInput) -> tuple[str, int]:
        """Layout and channel count; an open channel axis counts 1 for gray, else 3."""
        shape = spell(item.sizes)
        if len(item.sizes) != 4 or item.dtype.kind == "b":
            raise ConfigError(
                f"input '{item.name}' ({shape}) takes no images; give arrays as .npy or .npz"
            )
        places = {"nchw": item.sizes[1], "nhwc": item.sizes[3]}
        layout = self.layout or _likely_layout(item.sizes)
        channels = places[layout] or (1 if self.colour == "gray" else 3)
        if channels not in _CHANNEL_COUNTS:
            raise ConfigError(
                f"input '{item.name}' ({shape}) has {channels} channels in layout {layout}, "
                "images have 1, 3 or 4; give arrays as .npy or .npz"
            )
        return layout, channels

    def _fixed_size(self, item: ModelInput, layout: str) -> tuple[int, int] | None:
        fixed = item.sizes[2:] if layout == "nchw" else item.sizes[1:3]
        if self.size is None:
            if 0 in fixed and any(fixed):
                raise ConfigError(
                    f"input '{item.name}' ({spell(item.sizes)}) leaves one side of the image open; "
                    "give its size"
                )
            return (fixed[0], fixed[1]) if all(fixed) else None
        if any(want not in (0, have) for want, have in zip(fixed, self.size, strict=True)):
            raise ConfigError(
                f"size {spell(self.size)} does not fit input '{item.name}', "
                f"whose images are {spell(fixed)}"
            )
        return self.size

    def _settled_colour(self, item: ModelInput, channels: int) -> str:
        if channels == 1 and self.colour not in (None, "gray"):
            raise ConfigError(
                f"colour {self.colour} has 3 channels, input '{item.name}' has 1; use gray"
            )
        return self.colour or ("gray" if channels == 1 else "rgb")


@dataclass(frozen=True, slots=True)
class BoundPreprocess:
    """`Preprocess` for one input of one model; the same attributes, settled.

    Attributes:
        channels: Channels of the input: 1, 3 or 4.
        dtype: Name of the input's element type.
    """

    size: tuple[int, int] | None
    resize: str
    resize_shorter: int | None
    interpolation: str
    fill: int
    layout: str
    colour: str
    channels: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str


def _likely_layout(sizes: tuple[int, ...]) -> str:
    """The axis that can count channels; ONNX's own order where neither or both can."""
    if sizes[1] in _CHANNEL_COUNTS:
        return "nchw"
    is_last = sizes[3] in _CHANNEL_COUNTS or (sizes[3] == 0 and all(sizes[1:3]))
    return "nhwc" if is_last else "nchw"


def _require_name(what: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{what} '{value}' is unknown; use one of {', '.join(known)}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _size(value: object) -> tuple[int, int] | None:
    """A (height, width), a list of both, or one number for both."""
    if value is None:
        return None
    given = value if isinstance(value, list | tuple) else (value, value)
    sides = [side for side in given if isinstance(side, int) and _is_whole(side) and side > 0]
    if len(given) != 2 or len(sides) != 2:
        raise ConfigError(f"size {value!r} is no height and width in pixels, such as [224, 224]")
    return sides[0], sides[1]


def _numbers(name: str, value: object) -> float | tuple[float, ...]:
    if not isinstance(value, list | tuple):
        return _number(name, value)
    if not value:
        raise ConfigError(f"{name} is empty; give one number, or one per channel")
    return tuple(_number(name, item) for item in value)


def _number(name: str, value: object) -> float:
    """A number, or a fraction in text such as `1/255`."""
    number = math.nan
    if isinstance(value, str):
        number = _fraction(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if not math.isfinite(number):
        raise ConfigError(f"{name} {value!r} is no number")
    return number


def _fraction(text: str) -> float:
    above, slash, below = text.partition("/")
    try:
        return float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        return math.nan
