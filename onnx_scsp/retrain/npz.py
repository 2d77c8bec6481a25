"""Named arrays as the bytes of an `.npz`, whatever their names are."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from onnx_scsp.types import AnyArray


def npz_bytes(arrays: Mapping[str, AnyArray]) -> bytes:
    """The bytes of an `.npz`; the same arrays give the same bytes.

    `numpy.savez` takes the names as keywords, and `file` is one of its own.

    Args:
        arrays: Name -> array; no objects.

    Returns:
        The content of the file.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return stream.getvalue()
