"""A folder of images as calibration samples: listed by name, decoded one batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from onnx_scsp.calibration.preprocess import BoundPreprocess
from onnx_scsp.errors import ConfigError
from onnx_scsp.types import AnyArray, IntArray

SUFFIXES = (
    ".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip
_CHUNK_BYTES = 1 << 22
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def list_images(folder: Path) -> tuple[Path, ...]:
    """Image files below a folder, at any depth, hidden ones left out.

    Args:
        folder: The folder.

    Returns:
        Paths relative to it, sorted by name.

    Raises:
        ConfigError: There is none, or the folder cannot be read.
    """
    try:
        found = [
            path.relative_to(folder)
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        ]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}") from error
    shown = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    if not shown:
        raise ConfigError(f"{folder} holds no images ({' '.join(SUFFIXES)})")
    return tuple(sorted(shown, key=lambda path: path.as_posix()))


@dataclass(frozen=True, slots=True, eq=False)
class ImageSamples:
    """Images of a folder, for one input.

    Attributes:
        folder: The folder.
        files: Paths relative to it.
        input: Name of the input that takes them.
        recipe: What happens to each of them.
    """

    folder: Path
    files: tuple[Path, ...]
    input: str
    recipe: BoundPreprocess

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """File names relative to the folder, with forward slashes."""
        return tuple(path.as_posix() for path in self.files)

    def read(self, indices: IntArray) -> Iterator[dict[str, AnyArray]]:
        """Decodes some images; a new array starts wherever the size of the images changes.

        Raises:
            ConfigError: An image cannot be read.
        """
        run: list[AnyArray] = []
        for index in indices:
            array = to_array(decode(self.folder / self.files[index], self.recipe), self.recipe)
            if run and run[-1].shape != array.shape:
                yield {self.input: np.stack(run)}
                run = []
            run.append(array)
        if run:
            yield {self.input: np.stack(run)}

    def digest(self, indices: IntArray) -> str:
        """Hash of names, file contents and preprocessing; independent of times and folder.

        Raises:
            ConfigError: A file cannot be read.
        """
        total = hashlib.sha256(repr(self.recipe).encode())
        for index in indices:
            file = self.folder / self.files[index]
            total.update(f"{self.files[index].as_posix()}\0".encode("utf-8", "surrogateescape"))
            total.update(_file_digest(file))
        return total.hexdigest()


def _file_digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    return digest.digest()


def decode(file: Path, recipe: BoundPreprocess) -> Image.Image:
    """Reads an image (its first frame, as stored: EXIF rotation is not applied) and resizes it.

    Args:
        file: The image file.
        recipe: Colour and size.

    Returns:
        An image of mode L, RGB or RGBA.

    Raises:
        ConfigError: The file is no image that Pillow can read.
    """
    try:
        with Image.open(file) as image:
            flat = _in_mode(image, "L" if recipe.colour == "gray" else _MODES[recipe.channels])
    except Exception as error:  # broken files make Pillow raise many unrelated types
        sentence = " ".join(str(error).split())[:200]
        raise ConfigError(f"{file} cannot be read as an image: {sentence}") from error
    return resized(flat, recipe)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ConfigError("it holds floating point values; give arrays as .npy instead")
    if image.mode.startswith("I"):  # Pillow's own conversion cuts 16 bits off at 255
        deep = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.clip(np.rint(deep), 0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def resized(image: Image.Image, recipe: BoundPreprocess) -> Image.Image:
    """Brings an image to the recipe's size.

    Args:
        image: Any image.
        recipe: Size and how to reach it; without a size, only `resize_shorter` is heeded.

    Returns:
        The image, `recipe.size` (height, width) where that is set.
    """
    kernel = _FILTERS[recipe.interpolation]
    width, height = image.size
    if recipe.size is None:
        if recipe.resize_shorter is None:
            return image
        return image.resize(_by_shorter(image, recipe.resize_shorter), kernel)
    tall, wide = recipe.size
    if recipe.resize == "crop":
        if recipe.resize_shorter is not None:
            image = image.resize(_by_shorter(image, recipe.resize_shorter), kernel)
        else:
            image = image.resize(_scaled(image, max(tall / height, wide / width)), kernel)
        left, top = round((image.width - wide) / 2), round((image.height - tall) / 2)
        return image.crop((left, top, left + wide, top + tall))
    if recipe.resize == "pad":
        image = image.resize(_scaled(image, min(tall / height, wide / width)), kernel)
        filled = Image.new(image.mode, (wide, tall), (recipe.fill,) * len(image.getbands()))
        filled.paste(image, ((wide - image.width) // 2, (tall - image.height) // 2))
        return filled
    return image if (width, height) == (wide, tall) else image.resize((wide, tall), kernel)


def _by_shorter(image: Image.Image, shorter: int) -> tuple[int, int]:
    """(width, height) with that shorter side, the longer one cut off as torchvision does it."""
    width, height = image.size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def _scaled(image: Image.Image, factor: float) -> tuple[int, int]:
    """(width, height) after scaling, at least one pixel each."""
    return max(round(image.width * factor), 1), max(round(image.height * factor), 1)


def to_array(image: Image.Image, recipe: BoundPreprocess) -> AnyArray:
    """Turns pixels into one sample.

    Args:
        image: An image of mode L, RGB or RGBA.
        recipe: Colour order, range, layout and type.

    Returns:
        Array of shape (C, H, W) or (H, W, C).
    """
    pixels = np.asarray(image, np.float32)
    pixels = pixels.reshape(image.height, image.width, -1)
    if pixels.shape[2] != recipe.channels:  # gray for a model that wants colour
        pixels = np.repeat(pixels[:, :, :1], recipe.channels, axis=2)
    if recipe.colour == "bgr":
        pixels = np.concatenate((pixels[:, :, 2::-1], pixels[:, :, 3:]), axis=2)
    mean, std = np.asarray(recipe.mean, np.float32), np.asarray(recipe.std, np.float32)
    values = (pixels * np.float32(recipe.scale) - mean) / std
    dtype = np.dtype(recipe.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    if recipe.layout == "nchw":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values, dtype)
