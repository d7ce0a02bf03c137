"""log p(x) under an energy: −F(x) less an estimate of log Z."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models.language import check_engine

from .exact import free

ROWS = 4096  # at once


def unnormalised(
    model: Any, params: Mapping[str, Any], x: np.ndarray, *, engine: str = "numpyro", dtype: str = "float64"
) -> np.ndarray:
    """−F(x) = log Σ_h exp(−E(x, h)) of each row, nats, (rows,); log p(x) = −F(x) − log Z.

    The hidden units must be independent given x.
    """
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    shared = import_module(f"inference._{engine}")
    with shared.session(dtype):
        given = {name: shared.array(np.asarray(value)) for name, value in params.items()}
        pieces = [np.asarray(free(words, model, given, {"x": shared.array(np.asarray(x[i : i + ROWS], float))}))
                  for i in range(0, len(x), ROWS)]  # fmt: skip
    return -np.concatenate(pieces).astype(np.float64)
