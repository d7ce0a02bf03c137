"""Deep Markov model: a variational autoencoder of sequences (Krishnan, Shalit and Sontag 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from .language import Array, Distribution, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP, constant, uniform

#: A distribution of zₜ, event (latent_dim,), from zₜ₋₁ and the step's input.
Step = Callable[[Any, Any], Distribution]


@dataclass(frozen=True)
class MarkovModel:
    """p(x, z) = ∏ₜ p(zₜ | zₜ₋₁) p(xₜ | zₜ),  q(z | x) = ∏ₜ q(zₜ | zₜ₋₁, hₜ),  hₜ a recurrent reading of xₜ … x_T.

    What the members of the family share; each has its own `transition` and `decoder`. `x` is (N, T, data_dim); the first
    `lengths` (N,) steps of each row are real, the rest is padding and counts for nothing.
    The ELBO is in nats a sequence; the literature's unit, nats a step, is its sum over all rows divided by the sum of
    their lengths. Draws of z repeat the last real state in the padding, where they carry no density.
    Sites: `z` (T, latent_dim) and `x` (T, data_dim) in the plate `data`. Parameters: `prior.initial` (z₀),
    `encoder.initial` (the guide's z₀), `encoder.*`. Source: Krishnan et al. 2017, the structured guide
    that reads zₜ₋₁ and the future (DKS, there an LSTM).
    """

    data_dim: int
    latent_dim: int = 100
    recurrent: int = 600
    inputs: ClassVar[tuple[str, ...]] = ("x", "lengths")

    def transition(self, ppl: Language) -> Step:
        raise NotImplementedError

    def decoder(self, ppl: Language, z: Array) -> Distribution:
        raise NotImplementedError

    def mask(self, ppl: Language, x: Array, lengths: Array) -> Array:
        """Whether a step is real, (N, T)."""
        return ppl.xp.arange(x.shape[-2]) < lengths[:, None]

    def initial_state(self, ppl: Language, name: str) -> Array:
        return ppl.param(f"{name}.initial", constant(ppl, 0.0, self.latent_dim))

    def prior(self, ppl: Language, mask: Array) -> Distribution:
        return ppl.markov(self.transition(ppl), self.initial_state(ppl, "prior"), None, mask)

    def reader(self, ppl: Language, x: Array, mask: Array) -> Array:
        """hₜ = tanh(xₜ W + hₜ₊₁ U + b), zero past the end: what xₜ … x_T say, (N, T, recurrent)."""
        width = self.recurrent
        read = MLP((self.data_dim, width))(ppl, "encoder.input", x)
        weight = ppl.param("encoder.recurrent.weight", uniform(ppl, 1 / sqrt(width), width, width))

        def step(after: Array, now: Array, real: Array) -> tuple[Array, Array]:
            h = ppl.xp.where(real, ppl.xp.tanh(now + after @ weight), after)
            return h, h

        return ppl.scan(step, ppl.xp.zeros((x.shape[0], width)), read, mask[..., None], reverse=True)

    def combiner(self, ppl: Language) -> Step:
        """N(W c + b, softplus(V c + d)), c = ½ (tanh(U zₜ₋₁ + e) + hₜ)."""
        n, width = self.latent_dim, self.recurrent
        combine = MLP((n, width)).bind(ppl, "encoder.combine")
        loc, scale = MLP((width, n)).bind(ppl, "encoder.loc"), MLP((width, n)).bind(ppl, "encoder.scale")

        def step(previous: Array, h: Array) -> Distribution:
            c = (ppl.xp.tanh(combine(previous)) + h) / 2
            return ppl.dist.Normal(loc(c), ppl.softplus(scale(c))).to_event(1)

        return step

    def encoder(self, ppl: Language, x: Array, mask: Array) -> Distribution:
        return ppl.markov(self.combiner(ppl), self.initial_state(ppl, "encoder"), self.reader(ppl, x, mask), mask)

    def model(self, ppl: Language, x: Array, lengths: Array, total: int | None = None) -> None:
        mask = self.mask(ppl, x, lengths)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", self.prior(ppl, mask))
            ppl.sample("x", self.decoder(ppl, z).mask(mask).to_event(1), obs=x)

    def guide(self, ppl: Language, x: Array, lengths: Array, total: int | None = None) -> None:
        mask = self.mask(ppl, x, lengths)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", self.encoder(ppl, x, mask))


@dataclass(frozen=True)
class MarkovVAE(MarkovModel):
    """zₜ ~ N(μ(zₜ₋₁), diag σ(zₜ₋₁)²) by a gated transition, its mean between linear and free, xₜ ~ p(xₜ | f(zₜ)).

    Shapes, padding, units and guide are those of `MarkovModel`. Parameters beside its own: `transition.*`, `decoder.i.*`
    and what the likelihood learns. Source: Krishnan et al. 2017, the gated transition function.
    """

    hidden: tuple[int, ...] = (100, 100)
    transition_hidden: int = 200
    likelihood: Likelihood = Bernoulli()
    activation: str = "relu"

    def transition(self, ppl: Language) -> Step:
        """N((1 − g) ⊙ (W z + b) + g ⊙ h, softplus(V relu(h) + c)), gate g = σ(MLP(z)), proposal h = MLP(z)."""
        n, activation = self.latent_dim, self.activation
        gate = MLP((n, self.transition_hidden, n), activation).bind(ppl, "transition.gate")
        proposal = MLP((n, self.transition_hidden, n), activation).bind(ppl, "transition.proposal")
        weight = ppl.param("transition.loc.weight", lambda *key: ppl.xp.eye(n))
        bias = ppl.param("transition.loc.bias", constant(ppl, 0.0, n))
        scale = MLP((n, n)).bind(ppl, "transition.scale")

        def step(previous: Array, _: Any) -> Distribution:
            g, h = ppl.sigmoid(gate(previous)), proposal(previous)
            loc = (1 - g) * (previous @ weight + bias) + g * h
            return ppl.dist.Normal(loc, ppl.softplus(scale(ppl.relu(h)))).to_event(1)

        return step

    def decoder(self, ppl: Language, z: Array) -> Distribution:
        widths = (self.latent_dim, *self.hidden, self.likelihood.width(self.data_dim))
        return self.likelihood(ppl, MLP(widths, self.activation)(ppl, "decoder", z))
