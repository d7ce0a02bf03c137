"""`probe`: raw gradients of any estimator on any model, from which every metric of `compare` is computed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models.language import check_engine

from ..estimators import Spec


def probe(
    model: Any, guide: Any, args: tuple, estimator: Spec, params: Mapping[str, np.ndarray], replicates: int, seed: int = 0,
    *, engine: str = "numpyro", num_data: int | None = None, bound: str = "elbo", num_particles: int = 1,
    dtype: str = "float32", device: str | None = None,
) -> np.ndarray:  # fmt: skip
    """Independent gradient estimates at fixed parameters and data.

    Args:
        model: A plain callable of the engine, on the scale of the full data.
        guide: Likewise.
        args: Their arguments; the first is the data, rows first.
        estimator: As in `fit`; also a `stock-…` name.
        params: Constrained values by name.
        replicates: How many; each draws afresh. A running mean is first settled on 200 runs, then frozen.
        seed: Of the draws.
        engine: "numpyro" or "pyro".
        num_data: Data that the ELBO counts (the mean is over them); the plate's `total`, or the rows of `args[0]`.
        bound: "elbo", or "iwae" for the K-sample bound.
        num_particles: K of the K-sample bound; for the ELBO, samples that are averaged.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Returns:
        (replicates, parameters): gradients of the mean-per-datum bound in unconstrained coordinates, parameters in order
        of name.

    Raises:
        InputError: The estimator does not apply.
    """
    shared = import_module(f"inference._{check_engine(engine)}")
    if num_data is None:
        num_data = dict(getattr(model, "static", ())).get("total") or len(args[0])
    with shared.session(dtype, device):
        gradients = import_module(f"inference.gradients._{engine}").Gradients(
            model, guide, args, {}, estimator, params, num_data, bound, num_particles)  # fmt: skip
        return gradients.many(params, gradients.control(params, seed), replicates, seed)
