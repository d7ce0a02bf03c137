"""RELAX: REBAR with a control that learns, c(z) = w f(softmax(z / T)) + v·tanh(W z + a).

The network, a number for each element of the site's plates, is trained with w and T by the square of the gradient in η; it
starts as none. Applies to one-hot and Bernoulli sites in models that are differentiable in them. Unbiased for the ELBO. One
evaluation of model and guide, and two relaxed ones a site, one of them for learning. Source: Grathwohl, Choi, Wu, Roeder and
Duvenaud 2018, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, prod
from typing import Any

import numpy as np

from . import adam
from .rebar import Rebar
from .site import Latent


@dataclass(frozen=True)
class Relax(Rebar):
    """The relaxed cost and a network of the relaxed draw as the score function's control."""

    hidden: int = 100
    name = "relax"

    def start(self, site: Latent, columns: int) -> tuple[np.ndarray, ...]:
        weight = np.random.default_rng(0).normal(size=(site.size, self.hidden)) / max(site.size, 1) ** 0.5
        network = weight, np.zeros(self.hidden), np.zeros(self.hidden)
        return adam.begin((np.full((), log(self.temperature)), np.full((), self.weight), *network))

    def more(self, network: tuple[Any, ...], z: Any, event_dims: int, xp: Any) -> Any:
        weight, bias, out = network
        shape = z.shape[: z.ndim - event_dims]
        return xp.tanh(z.reshape(*shape, prod(z.shape[z.ndim - event_dims :])) @ weight + bias) @ out
