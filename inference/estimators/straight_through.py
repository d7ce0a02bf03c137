"""Straight-through Gumbel: the hard draw h = argmax(η + g) in every cost, ∂h/∂η taken to be ∂ softmax((η + g) / T)/∂η.

Of bits, h = 1[η + l > 0] and ∂σ((η + l) / T)/∂η, l logistic. The costs are those of the model itself, continued linearly in h.
Applies to one-hot and Bernoulli sites. Biased for the ELBO, more so as T grows; its variance grows as T falls. One evaluation
of model and guide a sample. Source: Jang, Gu and Poole 2017, section 2.2; Bengio, Léonard and Courville 2013.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .relaxed import Relaxed, relax


@dataclass(frozen=True)
class StraightThrough(Relaxed):
    """A hard draw with the gradient of the relaxed one at temperature T."""

    name = "straight-through"

    def relaxed(self, logits: Any, noise: Any, one_hot: bool, xp: Any, stop: Any) -> Any:
        soft = relax(xp, logits, noise, self.temperature, one_hot)
        return hard(xp, logits + noise, one_hot) + soft - stop(soft)


def hard(xp: Any, scores: Any, one_hot: bool) -> Any:
    """The draw itself: 1 where the score is positive, or where it is the largest."""
    chosen = scores >= (xp.max(scores, axis=-1, keepdims=True) if one_hot else 0.0)
    return xp.where(chosen, xp.ones_like(scores), xp.zeros_like(scores))
