"""A Markov chain as one distribution over whole paths: log p(z) = Σₜ log p(zₜ | zₜ₋₁, uₜ), z₀ given, t over the real steps.

A draw is a scan over time; a density is one call of the step on the path shifted by one, for all steps at once. Steps
that the mask leaves out add nothing, and a draw repeats its last real state there, so that padding stays finite however
the chain grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def log_prob(xp: Any, step: Callable[[Any, Any], Any], initial: Any, inputs: Any, mask: Any, path: Any) -> Any:
    """log p of paths (..., T, D), nats, shape (...); `initial` (D,), `inputs` (..., T, H) or None, `mask` (..., T)."""
    first = xp.broadcast_to(initial, (*path.shape[:-2], 1, path.shape[-1]))
    previous = xp.concat([first, path[..., :-1, :]], axis=-2)
    return xp.where(mask, step(previous, inputs).log_prob(path), 0.0).sum(-1)


def batch_shape(xp: Any, initial: Any, inputs: Any, mask: Any) -> tuple[int, ...]:
    """The dims left of a path's event (T, D)."""
    left = () if inputs is None else inputs.shape[:-2]
    return tuple(xp.broadcast_shapes(initial.shape[:-1], left, mask.shape[:-1]))
