"""What an engine tells of one latent site, and of the data that latents predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Latent(NamedTuple):
    """q(z | x) of one site, rows first; averaged over draws of the latents that it depends on."""

    kl: Any  # KL(q ‖ p), nats: (N, *event) where q and p factorise, else (N,)
    mean: Any  # E_q[z], (N, *event); nan where z has no mean
    noise: Any  # variance of `mean`, from the draws
    scale: Any  # sd of q(z | x)
    value: Any  # one draw
    prior_mean: Any
    prior_scale: Any

    @classmethod
    def of(cls, drawn: Sequence[Any], xp: Any) -> Latent:
        """From KL, mean and variance of q, value, mean and variance of p: each (draws, N, ...)."""
        kl, mean, variance, value, prior_mean, prior_variance = drawn
        center = xp.mean(mean, axis=0)
        between = xp.mean((mean - center) ** 2, axis=0)
        noise = between / max(len(mean) - 1, 1)
        prior = xp.mean(prior_mean, axis=0), xp.sqrt(xp.mean(prior_variance, axis=0))
        return cls(xp.mean(kl, axis=0), center, noise, xp.sqrt(xp.mean(variance, axis=0) + between), value[0], *prior)

    @property
    def discrete(self) -> bool:
        """Whether draws are whole numbers."""
        return bool((self.value == np.round(self.value)).all())


class Prediction(NamedTuple):
    """p(x | z): mean and a draw, rows first (None if the model observes nothing), and the latents by site."""

    mean: Any
    draw: Any
    latents: dict[str, Any]
