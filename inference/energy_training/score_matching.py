"""Denoising score matching, for energies over reals (Vincent 2011)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..log_partition.exact import free


def denoising(ppl: Any, model: Any, params: Mapping[str, Any], x: Any, noise: Any, scale: Any) -> Any:
    """½ Σᵢ (σᵢ ∂ log p(x̃) / ∂x̃ᵢ + nᵢ)² of each row, x̃ = x + σ n with n standard normal; no units, no likelihood.

    Its mean over noise is, up to a constant, that of ½ ‖σ (∇ log p − ∇ log q)‖² under q(x̃) = Σ_x N(x̃; x, σ²) / rows: Z
    drops out, no chain is run, and what is fitted is q, the density of the rows **blurred by the noise**, whose variance is
    by σ² larger than theirs. Hidden units are summed out first.
    Source: Vincent 2011, section 4.2; weighed by σ² as in Song and Ermon 2019, eq. 5.

    Args:
        ppl: The words of the engine.
        model: A declaration of an energy over reals `x`.
        params: Its parameters by name.
        x: Rows, (rows, data_dim).
        noise: n, (rows, data_dim).
        scale: σ, (data_dim,).
    """
    slopes = ppl.grad(lambda values: -free(ppl, model, params, values), {"x": x + scale * noise}, differentiable=True)
    return ((scale * slopes["x"] + noise) ** 2).sum(-1) / 2


def scales(x: np.ndarray, noise: float) -> tuple[float, ...]:
    """σ of each column: `noise` times its standard deviation over rows, 1 of a column that is constant."""
    spread = np.asarray(x, float).std(0)
    return tuple(float(noise * s) for s in np.where(spread > 0, spread, 1.0))
