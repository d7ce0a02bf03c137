"""Sigmoid belief net (Neal 1992; as a benchmark of gradient estimators, Mnih and Gregor 2014)."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InputError
from .language import Array, Distribution, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP, constant


@dataclass(frozen=True)
class SigmoidBeliefNet:
    """p(x, z) = Bern(z_L; σ(b)) ∏ₗ Bern(zₗ; σ(fₗ(zₗ₊₁))) p(x | f₀(z₁)),  q(z | x) = ∏ₗ Bern(zₗ; σ(gₗ(zₗ₋₁))), z₀ = x.

    The nets f and g are linear; `hidden` widths make them nonlinear. Sites: `z1` (next to the data), with two layers
    also `z2`, each (latent_dim,), and `x` (data_dim,), in the plate `data`. Latents are 0.0 or 1.0.
    Parameters: `prior.logits`, `decoder.*` (to x), `decoder2.*` (z2 to z1), `encoder.*`, `encoder2.*`.
    """

    data_dim: int
    latent_dim: int = 200
    num_layers: int = 1
    hidden: tuple[int, ...] = ()
    likelihood: Likelihood = Bernoulli()
    activation: str = "softplus"

    def __post_init__(self) -> None:
        if self.num_layers not in (1, 2):
            raise InputError(f"expected num_layers 1 or 2 for a sigmoid belief net, got {self.num_layers!r}; "
                             "set num_layers=1 or num_layers=2.")  # fmt: skip

    def net(self, ppl: Language, name: str, layer: int, x: Array, num_in: int, num_out: int) -> Array:
        widths = (num_in, *self.hidden, num_out)
        return MLP(widths, self.activation)(ppl, name if layer == 1 else f"{name}{layer}", x)

    def prior(self, ppl: Language) -> Distribution:
        return ppl.dist.Bernoulli(logits=ppl.param("prior.logits", constant(ppl, 0.0, self.latent_dim))).to_event(1)

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample(f"z{self.num_layers}", self.prior(ppl))
            for layer in range(self.num_layers, 1, -1):
                logits = self.net(ppl, "decoder", layer, z, self.latent_dim, self.latent_dim)
                z = ppl.sample(f"z{layer - 1}", ppl.dist.Bernoulli(logits=logits).to_event(1))
            output = self.net(ppl, "decoder", 1, z, self.latent_dim, self.likelihood.width(self.data_dim))
            ppl.sample("x", self.likelihood(ppl, output), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            h = x
            for layer in range(1, self.num_layers + 1):
                logits = self.net(ppl, "encoder", layer, h, h.shape[-1], self.latent_dim)
                h = ppl.sample(f"z{layer}", ppl.dist.Bernoulli(logits=logits).to_event(1))
