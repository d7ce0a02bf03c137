"""Linear-Gaussian state space: the Markov model whose evidence is known (Kalman 1960)."""

from __future__ import annotations

from dataclasses import dataclass

from .kalman import StateSpace, log_evidence
from .language import Array, Distribution, Language
from .markov_vae import MarkovModel, Step
from .networks import constant, uniform


@dataclass(frozen=True)
class LinearMarkov(MarkovModel):
    """zₜ ~ N(A zₜ₋₁ + a, diag q²), xₜ ~ N(C zₜ + c, diag r²), z₀ learned; log p(x) by the Kalman filter.

    Shapes, padding, units and guide are those of `MarkovModel`. Parameters beside its own: `transition.weight` (A),
    `transition.bias` (a), `transition.scale` (q), `decoder.weight` (C), `decoder.bias` (c), `decoder.scale` (r).
    Source: Kalman 1960.
    """

    latent_dim: int = 10
    recurrent: int = 100

    def dynamics(self, ppl: Language) -> tuple[Array, Array, Array]:
        n = self.latent_dim
        weight = ppl.param("transition.weight", lambda *key: 0.9 * ppl.xp.eye(n))
        bias = ppl.param("transition.bias", constant(ppl, 0.0, n))
        return weight, bias, ppl.param("transition.scale", constant(ppl, 1.0, n), constraint=ppl.constraints.positive)

    def emission(self, ppl: Language) -> tuple[Array, Array, Array]:
        weight = ppl.param("decoder.weight", uniform(ppl, 0.5, self.data_dim, self.latent_dim))
        bias = ppl.param("decoder.bias", constant(ppl, 0.0, self.data_dim))
        scale = ppl.param("decoder.scale", constant(ppl, 1.0, self.data_dim), constraint=ppl.constraints.positive)
        return weight, bias, scale

    def transition(self, ppl: Language) -> Step:
        weight, bias, scale = self.dynamics(ppl)
        return lambda previous, _: ppl.dist.Normal(previous @ weight.mT + bias, scale).to_event(1)

    def decoder(self, ppl: Language, z: Array) -> Distribution:
        weight, bias, scale = self.emission(ppl)
        return ppl.dist.Normal(z @ weight.mT + bias, scale).to_event(1)

    def log_evidence(self, ppl: Language, x: Array, lengths: Array) -> Array:
        """log p(x) of each sequence, nats, shape (N,)."""
        (A, a, q), (C, c, r) = self.dynamics(ppl), self.emission(ppl)
        space = StateSpace(self.initial_state(ppl, "prior"), A, a, q**2, C, c, r**2)
        return log_evidence(ppl, space, x, self.mask(ppl, x, lengths))
