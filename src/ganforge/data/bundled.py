"""Data that come with the package's own dependencies: nothing is downloaded."""

from __future__ import annotations

import numpy as np

from ganforge.data.arrays import Pictures
from ganforge.data.fit import fit


def digits(size: int, channels: int | None) -> Pictures:
    """1,797 handwritten digits of 8x8 pixels, scaled from 0..16 to 0..255, classes "0" to "9"; from scikit-learn, after UCI's optdigits."""
    # Here and not above: scikit-learn costs half a second, which only those who ask for digits should pay.
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None]
    return Pictures("digits", fit(pixels, size, channels), found.target.astype(np.int64), [str(digit) for digit in range(10)])
