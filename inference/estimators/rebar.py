"""REBAR: ∂E[f(b)]/∂η = E[(f(b) − c(z)) ∂log q(b)/∂η + c′(z) (∂z/∂η − ∂z̃/∂η)], c(z) = w f(y), y = softmax(z / T).

z = log π + g, g Gumbel, is the relaxed draw whose largest entry is b (of bits, z = l + logistic > 0), and z̃ the same number
written as a draw given b: z̃ moves with η otherwise, and that is all by which the two differentiable terms differ. The score
function's control is thus the relaxed cost, whose own gradient is put right without a bias. w and T are trained by the square
of the gradient in η, w by its slope and T by a difference, with Adam. Latents that depend on the site are relaxed along with it
in the control. Applies to one-hot and Bernoulli sites in models that are differentiable in them. Unbiased for the ELBO. One
evaluation of model and guide, and two relaxed ones a site, one of them for learning. Source: Tucker, Mnih, Maddison, Lawson and
Sohl-Dickstein 2017, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log
from typing import Any, ClassVar

import numpy as np

from ppl_models import InputError

from . import adam
from .relaxed import relax
from .site import Latent, Variant
from .terms import Draw

#: f -> (x -> (∂f/∂x, more)), of an f that returns its value and more.
Gradient = Callable[[Callable[..., tuple[Any, Any]]], Callable[..., tuple[Any, Any]]]
STEP = 0.1  # of log T, in the difference by which it learns


@dataclass(frozen=True)
class Rebar:
    """The relaxed cost as the score function's control."""

    temperature: float = 0.5  # the first one
    weight: float = 1.0  # the first one
    learning_rate: float = 1e-2  # of both; 0 leaves them
    num_particles: int = 1
    name = "rebar"
    variant: ClassVar[Variant | None] = "replay"
    unbiased_for = ("elbo",)
    uniforms = 1

    def __post_init__(self) -> None:
        if not 0 < self.temperature < inf:
            raise InputError(f"expected a positive temperature, got {self.temperature!r}; 0.5 is common.")

    def refusal(self, site: Latent) -> str | None:
        if site.family not in ("bits", "one-hot"):
            return f"draws of site '{site.name}' ({site.distribution}) are neither one-hot nor bits; use leave-one-out"
        return None

    def replays(self, site: Latent) -> int:
        return 2 if self.learning_rate else 1

    def start(self, site: Latent, columns: int) -> tuple[np.ndarray, ...]:
        return adam.begin((np.full((), log(self.temperature)), np.full((), self.weight)))

    def relaxed(self, logits: Any, noise: Any, one_hot: bool, xp: Any, stop: Any) -> Any:
        """The draw of a latent that depends on a relaxed one."""
        return relax(xp, logits, noise, self.temperature, one_hot)

    def more(self, network: tuple[Any, ...], z: Any, event_dims: int, xp: Any) -> Any:
        """What the control adds to w f(y), by plate elements."""
        return 0.0

    def control(
        self, draw: Draw, noise: Any, cost: Any, soft_cost: Callable[[Any], Any], state: Any, xp: Any, stop: Any,
        gradient: Gradient,
    ) -> tuple[Any, Any]:  # fmt: skip
        """A surrogate whose gradient in the draw's parameters is the estimate, and the next state."""
        fixed, dims = draw.stopped(stop), draw.event_dims
        log_t, *rest = adam.values(state)
        control = tuple(rest)
        z = stop(conditional(fixed, fixed.logits, noise, xp))

        def at(temperature: Any) -> tuple[Any, Any]:
            def total(z: Any) -> tuple[Any, Any]:
                found = soft_cost(relax(xp, z, 0.0, temperature, draw.one_hot))
                return found.sum(), found

            slope, value = gradient(total)(z)
            return stop(value), stop(slope)

        def surrogate(logits: Any, soft: tuple[Any, Any], control: Any) -> Any:
            def total(z: Any) -> tuple[Any, Any]:
                found = self.more(control[1:], z, dims, xp)
                return found.sum(), found

            value, slope = (control[0] * part for part in soft)
            if len(control) > 1:
                rise, more = gradient(total)(z)
                value, slope = value + more, slope + rise
            signal = wide(cost - value, dims)
            apart = location(draw, logits, xp) - conditional(draw, logits, noise, xp)  # z − z̃, but for what does not move
            return signal * log_prob(draw, logits, xp) + slope * apart

        def square(control: Any, soft: tuple[Any, Any]) -> tuple[Any, Any]:
            def total(logits: Any) -> tuple[Any, Any]:
                found = surrogate(logits, soft, control).sum()
                return found, found

            found = (gradient(total)(fixed.logits)[0] ** 2).sum()
            return found, found

        soft, after = at(xp.exp(log_t)), tuple(state)
        if self.learning_rate:
            warmer = at(xp.exp(log_t + STEP))
            of_t = (square(control, warmer)[0] - square(control, soft)[0]) / STEP
            after = adam.step(state, (of_t, *gradient(lambda c: square(c, soft))(control)[0]), self.learning_rate)
        return surrogate(draw.logits, soft, tuple(stop(c) for c in control)), tuple(stop(x) for x in after)


def wide(cost: Any, event_dims: int) -> Any:
    """With a dim of one for each of the event's."""
    return cost.reshape(*cost.shape, *(1,) * event_dims)


def softplus(x: Any, xp: Any) -> Any:
    """log(1 + exp(x))."""
    return xp.logaddexp(x * 0, x)


def log_prob(draw: Draw, logits: Any, xp: Any) -> Any:
    """log q(b), by entries that add up to it."""
    if draw.one_hot:
        return draw.value * location(draw, logits, xp)
    return draw.value * logits - softplus(logits, xp)


def location(draw: Draw, logits: Any, xp: Any) -> Any:
    """log π, or the logits of bits: z less its noise."""
    if not draw.one_hot:
        return logits
    top = xp.max(logits, axis=-1, keepdims=True)
    return logits - top - xp.log(xp.exp(logits - top).sum(-1))[..., None]


def conditional(draw: Draw, logits: Any, noise: Any, xp: Any) -> Any:
    """z given b, from uniform variables.

    Of bits ±(softplus(±l + log v) − log(1 − v)). Of a category, E = −log v: z_b = −log E_b, and the others −log(Eᵢ / πᵢ + E_b).
    """
    noise = noise + (noise == 0) * xp.finfo(noise.dtype).tiny
    if not draw.one_hot:
        sign = 2 * draw.value - 1
        return sign * (softplus(sign * logits + xp.log(noise), xp) - xp.log1p(-noise))
    log_e = xp.log(-xp.log(noise))
    chosen = (draw.value * log_e).sum(-1)[..., None]
    others = xp.logaddexp(log_e - location(draw, logits, xp), chosen)
    return -(draw.value * chosen + (1 - draw.value) * others)
