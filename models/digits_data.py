"""The one train/held-out split of scikit-learn's handwritten digits used here."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT = 500
SPLIT_SEED = 0


def digits_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Splits the 1,797 digits into 1,297 training and 500 held-out images.

    The split is stratified by label and depends on ``SPLIT_SEED`` alone.

    Returns:
        ``(x_train, y_train, x_test, y_test)``; images are float32 of shape
        N x 1 x 8 x 8 with pixels in 0..1 (pixel / 16), labels are int64.
    """
    data = load_digits()
    images = (np.asarray(data.images) / 16.0).astype(np.float32)[:, None]
    labels = np.asarray(data.target).astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=SPLIT_SEED
    )
    return images[train], labels[train], images[test], labels[test]
