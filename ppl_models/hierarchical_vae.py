"""Hierarchical variational autoencoder: several stochastic layers (Burda, Grosse and Salakhutdinov 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InputError
from .language import Array, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP, diagonal_normal, standard_normal


@dataclass(frozen=True)
class HierarchicalVAE:
    """p(x, z) = N(z_L; 0, I) ∏ p(z_l | z_{l+1}) p(x | z₁),  q(z | x) = q(z₁ | x) ∏ q(z_{l+1} | z_l).

    Every conditional of a latent is N(μ, diag exp λ), from an MLP with two layers of hidden[l − 1] units between layers
    l − 1 and l (the data are layer 0), and the same back. The defaults are the paper's two-layer model.
    Sites: `z1` … `zL`, (latent_dim[l − 1],), and `x` (data_dim,), in the plate `data`. Parameters: `decoder.*` (z1 to x),
    `decoder2.*` (z2 to z1), `encoder.*`, `encoder2.*`, … Source: Burda et al. 2016, eqs 1 and 2 and section 5.

    Raises:
        InputError: `hidden` does not have one width for each stochastic layer.
    """

    data_dim: int
    latent_dim: tuple[int, ...] = (100, 50)
    hidden: tuple[int, ...] = (200, 100)
    likelihood: Likelihood = Bernoulli()
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if not self.latent_dim or len(self.latent_dim) != len(self.hidden):
            raise InputError(f"expected one hidden width for each stochastic layer, got latent_dim {self.latent_dim} and "
                             f"hidden {self.hidden}; make them equally long, such as 100,50 and 200,100.")  # fmt: skip

    def net(self, ppl: Language, name: str, layer: int, x: Array, out: int) -> Array:
        width = self.hidden[layer - 1]
        return MLP((x.shape[-1], width, width, out), self.activation)(ppl, name if layer == 1 else f"{name}{layer}", x)

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            top = len(self.latent_dim)
            z = ppl.sample(f"z{top}", standard_normal(ppl, self.latent_dim[-1]))
            for layer in range(top, 1, -1):
                output = self.net(ppl, "decoder", layer, z, 2 * self.latent_dim[layer - 2])
                z = ppl.sample(f"z{layer - 1}", diagonal_normal(ppl, output))
            output = self.net(ppl, "decoder", 1, z, self.likelihood.width(self.data_dim))
            ppl.sample("x", self.likelihood(ppl, output), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            h = x
            for layer, dim in enumerate(self.latent_dim, 1):
                h = ppl.sample(f"z{layer}", diagonal_normal(ppl, self.net(ppl, "encoder", layer, h, 2 * dim)))
