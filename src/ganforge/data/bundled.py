"""Data that come with the package's own dependencies: nothing is downloaded."""

from __future__ import annotations

import numpy as np

from ganforge.data.layouts.albums import Arrays


def digits() -> Arrays:
    """1,797 handwritten digits of 8x8 pixels, scaled from 0..16 to 0..255, classes "0" to "9"; from scikit-learn, after UCI's optdigits.

    They are enlarged to 32x32 where no size is asked for.
    """
    # Here and not above: scikit-learn costs half a second, which only those who ask for digits should pay.
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None]
    return Arrays("digits", pixels, found.target.astype(np.int64), [str(digit) for digit in range(10)], (32, 32))
