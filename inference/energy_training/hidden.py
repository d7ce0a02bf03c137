"""The hidden units that a trained energy gives to rows: features for what comes after it (Hinton and Salakhutdinov 2006)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import InputError

from .objective import mean_field

ROWS = 1000  # at once


def hidden_means(found: Any, x: np.ndarray, steps: int = 50, dtype: str = "float64") -> dict[str, np.ndarray]:
    """E[h | x] of each hidden site, (rows, size): exact of an RBM, of deeper machines by so many `steps` of mean field.

    Args:
        found: An `EnergyFit` of a layered machine.
        x: Rows (rows, data_dim); grey values in [0, 1] enter as they are, in place of bits.
        steps: Sweeps of mean field.
        dtype: "float32" or "float64".

    Raises:
        InputError: The model has no layers of hidden units, or the rows are not its columns.
    """
    model, hidden = found.model, [name for name in found.model.sites if name != "x"]
    if not hidden or not hasattr(model, "colours"):
        raise InputError(f"expected layers of hidden units, got a {type(model).__name__} without; fit an RBM or a deep one.")
    if np.ndim(x) != 2 or np.shape(x)[1] != model.data_dim:
        raise InputError(f"expected rows of {model.data_dim} columns, got shape {np.shape(x)}; give the data's own columns.")
    words, shared = import_module(f"inference.kernels._{found.engine}"), import_module(f"inference._{found.engine}")
    out = {name: [np.zeros((0, model.sites[name]))] for name in hidden}
    with shared.session(dtype):
        params = {name: shared.array(np.asarray(value, float)) for name, value in found.params.items()}
        infer = words.program(mean_field, model)
        for i in range(0, len(x), ROWS):
            # From h = 0 one sweep of a single layer is exact already.
            means = infer(params, shared.array(np.asarray(x[i : i + ROWS], float)), steps if len(hidden) > 1 else 1)
            for name in hidden:
                out[name].append(shared.to_numpy(means)[name])
    return {name: np.concatenate(pieces) for name, pieces in out.items()}
