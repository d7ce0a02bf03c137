"""What a fitted model draws: data beside reconstructions, samples from the prior, and the plane of a 2-D latent."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np


def pictures(
    model: Any, guide: Any, params: dict[str, np.ndarray], heldout: np.ndarray, engine: str, seed: int = 0
) -> dict[str, np.ndarray]:
    """Arrays for a report: "data", "reconstructions", "samples" (n, D) and, for one latent of size 2, "manifold"."""
    shared = import_module(f"inference._{engine}")
    rows = heldout[:10]
    latents = {name: np.asarray(value) for name, value in shared.encode(guide, params, rows, seed).items()}
    out: dict[str, np.ndarray | None] = {
        "data": rows,
        "reconstructions": shared.decode(model, params, rows, latents, seed),
        "samples": shared.decode(model, params, heldout[:20], {}, seed),
    }
    if len(latents) == 1:
        (name, value), side = next(iter(latents.items())), 15
        if value.shape[1:] == (2,) and value.dtype.kind == "f" and not np.isin(value, (0, 1)).all():
            # Quantiles of the standard normal prior, as in Kingma and Welling 2014, figure 4.
            from scipy.stats import norm

            axis = norm.ppf(np.linspace(0.02, 0.98, side))
            plane = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
            like = np.zeros((side * side, heldout.shape[1]), heldout.dtype)
            drawn = shared.decode(model, params, like, {name: plane}, seed)
            out["manifold"] = None if drawn is None else drawn.reshape(side, side, -1)
    return {name: value for name, value in out.items() if value is not None and np.isfinite(value).all()}
