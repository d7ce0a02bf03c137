"""Images as one grid, and a grid as an address that a page holds."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np


def tiles(stack: np.ndarray, columns: int, image_shape: tuple[int, int]) -> np.ndarray:
    """(n, D) -> one picture with a pixel's gap between images; nan where nothing is."""
    height, width = image_shape
    rows = -(-len(stack) // columns)
    grid = np.full((rows, height + 1, columns, width + 1), np.nan)
    for i, image in enumerate(stack):
        grid[i // columns, :height, i % columns, :width] = image.reshape(image_shape)
    return grid.reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]


def png(picture: np.ndarray, low: float, high: float) -> str:
    """A grey picture as a data address, enlarged by a whole factor; nan is transparent."""
    from matplotlib.image import imsave

    scale = max(1, 640 // picture.shape[1])
    solid = np.isfinite(picture)
    grey = 255 * (np.where(solid, picture, low).clip(low, high) - low) / (high - low or 1.0)
    pixels = np.stack([grey, grey, grey, 255 * solid], -1).round().astype(np.uint8)
    buffer = io.BytesIO()
    unsigned: Any = {"Software": None}
    imsave(buffer, pixels.repeat(scale, 0).repeat(scale, 1), format="png", metadata=unsigned)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
