"""Conditional variational autoencoder (Sohn, Lee and Yan 2015)."""

from __future__ import annotations

from dataclasses import dataclass

from .conditions import Kind, Label, Quadrants, condition
from .language import Array, Distribution, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP, diagonal_normal, standard_normal


@dataclass(frozen=True)
class CVAE:
    """p(x | c) = ∫ p(z | c) p(x | f(z, c)) dz,  q(z | x, c) = N(z; μ(x, c), diag exp λ(x, c)).

    `condition`: "labels", c the label of the row, or "quadrants", c one, two or three quadrants of a square image and x
    only its other pixels (see `conditions`). `learned_prior`: p(z | c) is N(μ(c), diag exp λ(c)), else N(0, I).
    Inputs: rows and labels, or rows. Sites: `z` (latent_dim,) and `x` (the target's width,) in the plate `data`.
    Parameters: `decoder.i.*`, `encoder.i.*`, `prior.i.*`. Source: Sohn et al. 2015, eq. 4.

    Raises:
        InputError: The condition is unknown, or the rows do not have such quadrants.
    """

    data_dim: int
    latent_dim: int = 50
    hidden: tuple[int, ...] = (500, 500)
    likelihood: Likelihood = Bernoulli()
    activation: str = "softplus"
    condition: Kind = "labels"
    num_classes: int = 10
    quadrants: int = 1
    learned_prior: bool = True

    def __post_init__(self) -> None:
        _ = self.given

    @property
    def given(self) -> Label | Quadrants:
        return condition(self.condition, self.data_dim, self.num_classes, self.quadrants)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.given.inputs

    def prior(self, ppl: Language, c: Array) -> Distribution:
        if not self.learned_prior:
            return standard_normal(ppl, self.latent_dim)
        widths = (c.shape[-1], *self.hidden, 2 * self.latent_dim)
        return diagonal_normal(ppl, MLP(widths, self.activation)(ppl, "prior", c))

    def decoder(self, ppl: Language, z: Array, c: Array) -> Distribution:
        out = self.likelihood.width(self.given.widths[0])
        net = MLP((self.latent_dim + c.shape[-1], *self.hidden, out), self.activation)
        return self.likelihood(ppl, net(ppl, "decoder", z, c))

    def encoder(self, ppl: Language, x: Array, c: Array) -> Distribution:
        net = MLP((sum(self.given.widths), *reversed(self.hidden), 2 * self.latent_dim), self.activation)
        return diagonal_normal(ppl, net(ppl, "encoder", x, c))

    def model(self, ppl: Language, *inputs: Array, total: int | None = None) -> None:
        x, c = self.given.split(ppl, *inputs)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", self.prior(ppl, c))
            ppl.sample("x", self.decoder(ppl, z, c), obs=x)

    def guide(self, ppl: Language, *inputs: Array, total: int | None = None) -> None:
        x, c = self.given.split(ppl, *inputs)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", self.encoder(ppl, x, c))
