"""Adam (Kingma and Ba 2015, algorithm 1), for the few numbers that a control trains by itself, in either library's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def begin(values: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The values, both moments of each, and the number of steps made."""
    return (*values, *(np.zeros_like(v) for _ in range(2) for v in values), np.zeros(()))


def values(state: Sequence[Any]) -> tuple[Any, ...]:
    """What is trained, without its moments."""
    return tuple(state[: (len(state) - 1) // 3])


def step(state: Sequence[Any], slopes: Sequence[Any], rate: float) -> tuple[Any, ...]:
    """The state after a step down these slopes."""
    count, steps = len(slopes), state[-1] + 1
    held, first, second = state[:count], state[count : 2 * count], state[2 * count : 3 * count]
    first = [0.9 * m + 0.1 * g for m, g in zip(first, slopes, strict=True)]
    second = [0.999 * v + 0.001 * g * g for v, g in zip(second, slopes, strict=True)]
    length = rate * (1 - 0.999**steps) ** 0.5 / (1 - 0.9**steps)
    moved = [x - length * m / (v**0.5 + 1e-8) for x, m, v in zip(held, first, second, strict=True)]
    return (*moved, *first, *second, steps)
