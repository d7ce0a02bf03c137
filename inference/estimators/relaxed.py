"""Relaxed draws: y = softmax((η + g) / T), g Gumbel; of bits, y = σ((η + l) / T), l logistic (Maddison et al. 2017).

A differentiable stand-in for a one-hot or binary draw, scored by log p(y) and log q(y) continued linearly in y. Applies to
one-hot and Bernoulli sites. The gradient is that of the relaxed bound: biased for the ELBO, less so but noisier as T falls,
and never both small. One evaluation of model and guide a sample. Also: Jang, Gu and Poole 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

from ppl_models import InputError

from .site import Latent, Variant


@dataclass(frozen=True)
class Relaxed:
    """Differentiates through a relaxed draw at temperature T."""

    temperature: float = 0.5
    num_particles: int = 1
    name = "relaxed"
    variant: ClassVar[Variant | None] = "relax"
    unbiased_for = ()
    bounds = ("elbo",)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < inf:
            raise InputError(f"expected a positive temperature, got {self.temperature!r}; 0.5 is common.")

    def refusal(self, site: Latent) -> str | None:
        if not site.relaxable:
            return f"draws of site '{site.name}' ({site.distribution}) are neither one-hot nor bits; use leave-one-out"
        return None


def relax(xp: Any, logits: Any, noise: Any, temperature: float, one_hot: bool) -> Any:
    """The relaxed draw; `noise` is Gumbel, or logistic for bits, shaped as the draw."""
    z = (logits + noise) / temperature
    if not one_hot:
        return (1 + xp.tanh(z / 2)) / 2  # the sigmoid, whose derivative by exp(-z) would be inf / inf at rare noise
    weight = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return weight / weight.sum(-1)[..., None]
