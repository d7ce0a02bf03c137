"""Variational autoencoder with a flow prior (real NVP; Dinh, Sohl-Dickstein and Bengio 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

from .language import Array, Distribution, Language
from .networks import MLP, standard_normal
from .vae import VAE


@dataclass(frozen=True)
class FlowVAE(VAE):
    """p(z) = N(u; 0, I) |det ∂u/∂z|, z = f_L(… f₁(u) …); p(x | z) and q(z | x) as in `VAE`.

    Coupling layer l leaves every other dimension, of z_a, as it is and moves the rest: z_b = u_b exp s(u_a) + t(u_a), with
    |s| < log 4; the next layer exchanges the two. Sites: `z` (latent_dim,) and `x` (data_dim,) in the plate `data`.
    Parameters: those of `VAE`, and `prior.l.i.*` of layer l's network. Source: Dinh et al. 2017, eqs 7 and 8.
    """

    latent_dim: int = 20
    num_layers: int = 4
    prior_hidden: tuple[int, ...] = (64,)

    def prior(self, ppl: Language) -> Distribution:
        D = self.latent_dim
        nets = [MLP((D, *self.prior_hidden, 2 * D)).bind(ppl, f"prior.{layer}") for layer in range(self.num_layers)]
        kept = [ppl.xp.asarray([float((d + layer) % 2) for d in range(D)]) for layer in range(self.num_layers)]

        def shift(layer: int, z: Array) -> tuple[Array, Array]:
            """Log scale and translation, zero in the dimensions that stay."""
            h = nets[layer](kept[layer] * z)
            return (1 - kept[layer]) * log(4) * ppl.xp.tanh(h[..., :D]), (1 - kept[layer]) * h[..., D:]

        def forward(u: Array) -> Array:
            for layer in range(self.num_layers):
                s, t = shift(layer, u)
                u = u * ppl.xp.exp(s) + t
            return u

        def inverse(z: Array) -> tuple[Array, Array]:
            log_det: Any = 0.0
            for layer in reversed(range(self.num_layers)):
                s, t = shift(layer, z)
                z, log_det = (z - t) * ppl.xp.exp(-s), log_det - s.sum(-1)
            return z, log_det

        return ppl.pushforward(standard_normal(ppl, D), forward, inverse)
