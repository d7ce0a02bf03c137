"""A number with its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> Mapping[str, float | None]:
        return {name: float(v) if np.isfinite(v) else None for name, v in self._asdict().items()}


def mean(values: np.ndarray) -> Estimate:
    """The mean of independent values, with its normal interval (infinitely wide for a single value)."""
    values = np.asarray(values, np.float64)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf
    return Estimate(float(values.mean()), float(values.mean() - half), float(values.mean() + half))
