"""What benchmarks of training need of optax."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import optax


@lru_cache(maxsize=32)
def descent(lr: float) -> Any:
    """Plain gradient descent; equal steps are one object, so that they share a compiled program."""
    return optax.sgd(lr)
