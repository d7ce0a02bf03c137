"""DisARM: ∂E[f(b)]/∂l = E[½ (f(b) − f(b̃)) (b − b̃) σ(|l|)], b = 1[u < σ(l)], b̃ = 1[1 − u < σ(l)], u uniform.

Two antithetic draws of the same bits; what `Arm` does with u, averaged over the u that lead to the same pair. f is the cost
downstream of the site only. A category is drawn by breaking sticks: bit i says whether it is category i, given that it is none
before, with logits αᵢ = ηᵢ − log Σ_{j>i} exp ηⱼ; the bits are independent, and f depends on the first that is 1. Applies to
Bernoulli and categorical sites, also where other draws depend on them: these are drawn anew. Unbiased for the ELBO. One
evaluation of model and guide, and one more a site. Source: Dong, Mnih and Tucker 2020, eq. 7 (the same is U2G of Yin, Ho, Yan,
Qian and Zhou 2020); of categories: Dong, Mnih and Tucker 2021, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .site import Latent, Variant
from .terms import Draw


@dataclass(frozen=True)
class Disarm:
    """An antithetic pair of draws."""

    num_particles: int = 1
    name = "disarm"
    variant: ClassVar[Variant | None] = "replay"
    unbiased_for = ("elbo",)
    of_the_law = True
    uniforms = 1

    def refusal(self, site: Latent) -> str | None:
        if site.family in ("bits", "one-hot", "category"):
            return None
        return f"draws of site '{site.name}' ({site.distribution}) are neither bits nor categories; use leave-one-out"

    def replays(self, site: Latent) -> int:
        return 1

    def values(self, draw: Draw, noise: Any, xp: Any) -> Any:
        twins = antithetic(draw, noise[0], xp)[1]
        return (first(twins, xp) if draw.one_hot else twins)[None]

    def surrogate(self, draw: Draw, values: Any, noise: Any, cost: Any, costs: Sequence[Any], xp: Any, stop: Any) -> Any:
        """Its gradient in the draw's parameters is the estimate."""
        fixed = draw.stopped(stop)
        return stop(self.slope(fixed, noise[0], cost - costs[0], xp)) * bit_logits(draw, xp)

    def slope(self, draw: Draw, noise: Any, gain: Any, xp: Any) -> Any:
        """∂E[f]/∂l, from f(b) − f(b̃)."""
        (bits, twins), logits = antithetic(draw, noise, xp), bit_logits(draw, xp)
        return 0.5 * gain * (bits - twins) * sigmoid(xp.where(logits > 0, logits, -logits), xp)


def sigmoid(x: Any, xp: Any) -> Any:
    """By tanh, which no x overflows."""
    return (1 + xp.tanh(x / 2)) / 2


def bit_logits(draw: Draw, xp: Any) -> Any:
    """Of the independent bits that a draw is made of: of a category one less than it has values."""
    return sticks(draw.logits, xp) if draw.one_hot else draw.logits


def sticks(logits: Any, xp: Any) -> Any:
    """αᵢ = ηᵢ − log Σ_{j>i} exp ηⱼ, for all categories but the last."""
    count = logits.shape[-1]
    later = xp.where(xp.arange(count) > xp.arange(count - 1)[:, None], logits[..., None, :], -xp.inf)
    top = xp.max(later, axis=-1, keepdims=True)
    return logits[..., :-1] - (top + xp.log(xp.exp(later - top).sum(-1)[..., None]))[..., 0]


def uniform(draw: Draw, noise: Any, xp: Any) -> Any:
    """The u that led to the draw's bits, by a uniform variable of its own: below σ(l) where they are 1, above where they are 0.

    The bits of a category that come after the one chosen are free.
    """
    p, bits = sigmoid(bit_logits(draw, xp), xp), draw.value
    if not draw.one_hot:
        return xp.where(bits > 0, p * noise, p + (1 - p) * noise)
    bits, noise = bits[..., :-1], noise[..., :-1]
    passed = xp.cumulative_sum(bits, axis=-1)
    return xp.where(bits > 0, p * noise, xp.where(passed > 0, noise, p + (1 - p) * noise))


def antithetic(draw: Draw, noise: Any, xp: Any) -> tuple[Any, Any]:
    """The bits that u leads to, and those that 1 − u leads to."""
    u, p = uniform(draw, noise, xp), sigmoid(bit_logits(draw, xp), xp)
    one, zero = xp.ones_like(p), xp.zeros_like(p)
    bits = xp.where(u < p, one, zero)
    if not draw.one_hot:
        bits = draw.value
    else:  # what was drawn, whatever rounding says of u
        chosen = draw.value[..., :-1]
        bits = xp.where(xp.cumulative_sum(chosen, axis=-1) - chosen > 0, bits, chosen)
    return bits, xp.where(1 - u < p, one, zero)


def first(bits: Any, xp: Any) -> Any:
    """The one-hot vector of the first bit that is 1; of the last category where none is."""
    none_yet = xp.cumulative_sum(bits, axis=-1) == 0
    chosen = xp.where(xp.cumulative_sum(bits, axis=-1) * bits == 1, bits, xp.zeros_like(bits))
    last = xp.where(none_yet[..., -1:], xp.ones_like(bits[..., -1:]), xp.zeros_like(bits[..., -1:]))
    return xp.concat([chosen, last], axis=-1)
