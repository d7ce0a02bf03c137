"""Variational autoencoder (Kingma and Welling 2014)."""

from __future__ import annotations

from dataclasses import dataclass

from .language import Array, Distribution, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP


@dataclass(frozen=True)
class VAE:
    """p(x) = ∫ N(z; 0, I) p(x | f(z)) dz,  q(z | x) = N(z; μ(x), diag exp λ(x)).

    Sites: `z` (latent_dim,) and `x` (data_dim,) in the plate `data`. Parameters: `decoder.i.*`, `encoder.i.*`, and
    `likelihood.scale` where a Normal likelihood learns it. Source: Kingma and Welling 2014, eq. 10 and appendix C.
    """

    data_dim: int
    latent_dim: int = 20
    hidden: tuple[int, ...] = (400,)
    likelihood: Likelihood = Bernoulli()
    activation: str = "softplus"

    def prior(self, ppl: Language) -> Distribution:
        return ppl.dist.Normal(ppl.xp.zeros(self.latent_dim), 1.0).to_event(1)

    def decoder(self, ppl: Language, z: Array) -> Distribution:
        widths = (self.latent_dim, *self.hidden, self.likelihood.width(self.data_dim))
        return self.likelihood(ppl, MLP(widths, self.activation)(ppl, "decoder", z))

    def encoder(self, ppl: Language, x: Array) -> Distribution:
        widths = (self.data_dim, *reversed(self.hidden), 2 * self.latent_dim)
        h = MLP(widths, self.activation)(ppl, "encoder", x)
        return ppl.dist.Normal(h[..., : self.latent_dim], ppl.xp.exp(h[..., self.latent_dim :] / 2)).to_event(1)

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", self.prior(ppl))
            ppl.sample("x", self.decoder(ppl, z), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", self.encoder(ppl, x))
