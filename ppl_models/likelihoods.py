"""Likelihoods p(x | z): a network's output to a distribution over one datum's D dimensions.

Each is a frozen dataclass that says how wide the network's output must be (`width`), turns it into a distribution with
event shape (D,) (`__call__`), names its support (`violation`) and gives the model of independent dimensions that any
model worth training must beat (`baseline`, nats per held-out datum).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from . import continuous_bernoulli as cb
from .errors import InputError
from .language import Array, Distribution, Language
from .networks import constant


class Likelihood(Protocol):
    """What a declaration asks of its likelihood."""

    def width(self, data_dim: int) -> int: ...
    def __call__(self, ppl: Language, output: Array) -> Distribution: ...
    def violation(self, x: np.ndarray) -> tuple[np.ndarray, str]:
        """A mask of the entries outside the support, and the support in words."""
        ...

    def baseline(self, x: np.ndarray, heldout: np.ndarray) -> np.ndarray:
        """log p of each held-out row under independent dimensions fitted to `x`, nats, shape (M,)."""
        ...


@dataclass(frozen=True)
class Bernoulli:
    """p(x | η) = ∏ σ(η)ˣ σ(−η)¹⁻ˣ, η the output (logits). On gray values in [0, 1] this is no normalised density."""

    binary = True

    def width(self, data_dim: int) -> int:
        return data_dim

    def __call__(self, ppl: Language, output: Array) -> Distribution:
        return ppl.dist.Bernoulli(logits=output).to_event(1)

    def violation(self, x: np.ndarray) -> tuple[np.ndarray, str]:
        return (x < 0) | (x > 1), "[0, 1]"

    def baseline(self, x: np.ndarray, heldout: np.ndarray) -> np.ndarray:
        p = (x.sum(0, dtype=np.float64) + 0.5) / (len(x) + 1)  # Krichevsky and Trofimov 1981: finite on unseen pixels
        return heldout @ np.log(p) + (1 - heldout) @ np.log1p(-p)


@dataclass(frozen=True)
class Normal:
    """p(x | μ) = ∏ N(x; μ, σ²), μ the output; σ a fixed number, one learned number, or learned for each dimension."""

    scale: float | Literal["learned", "per-dim"] = "learned"
    binary = False

    def __post_init__(self) -> None:
        fixed = isinstance(self.scale, (int, float)) and not isinstance(self.scale, bool)
        if not (self.scale in ("learned", "per-dim") or (fixed and 0 < self.scale < float("inf"))):
            raise InputError(f"expected a Normal scale 'learned', 'per-dim' or a positive number, got {self.scale!r}; "
                             "choose one of those.")  # fmt: skip

    def width(self, data_dim: int) -> int:
        return data_dim

    def __call__(self, ppl: Language, output: Array) -> Distribution:
        scale = self.scale
        if isinstance(scale, str):
            shape = output.shape[-1:] if scale == "per-dim" else ()
            scale = ppl.param("likelihood.scale", constant(ppl, 1.0, *shape), constraint=ppl.constraints.positive)
        return ppl.dist.Normal(output, scale).to_event(1)

    def violation(self, x: np.ndarray) -> tuple[np.ndarray, str]:
        return ~np.isfinite(x), "the finite numbers"

    def baseline(self, x: np.ndarray, heldout: np.ndarray) -> np.ndarray:
        loc, scale = x.mean(0, dtype=np.float64), np.maximum(x.std(0, dtype=np.float64), 1e-3)
        if self.scale == "learned":
            scale = np.sqrt(np.mean(scale**2))
        elif not isinstance(self.scale, str):
            scale = np.float64(self.scale)
        return (-0.5 * ((heldout - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)).sum(1)


@dataclass(frozen=True)
class Categorical:
    """p(x | η) = ∏ softmax(η)ₓ, x in 0 … num_classes − 1, η the output read as (D, num_classes)."""

    num_classes: int = 256
    binary = False

    def __post_init__(self) -> None:
        if not (isinstance(self.num_classes, int) and self.num_classes >= 2):
            raise InputError(f"expected at least 2 classes for a Categorical likelihood, got {self.num_classes!r}; "
                             "give num_classes as a whole number.")  # fmt: skip

    def width(self, data_dim: int) -> int:
        return data_dim * self.num_classes

    def __call__(self, ppl: Language, output: Array) -> Distribution:
        shape = (*output.shape[:-1], output.shape[-1] // self.num_classes, self.num_classes)
        return ppl.categorical(output.reshape(shape)).to_event(1)

    def violation(self, x: np.ndarray) -> tuple[np.ndarray, str]:
        return ~((x >= 0) & (x < self.num_classes) & (x == np.round(x))), f"0, 1, …, {self.num_classes - 1}"

    def baseline(self, x: np.ndarray, heldout: np.ndarray) -> np.ndarray:
        counts = np.stack([(x == c).sum(0) for c in range(self.num_classes)]) + 0.5
        log_p = np.log(counts / counts.sum(0))
        return np.take_along_axis(log_p, heldout.astype(int), axis=0).sum(1)


@dataclass(frozen=True)
class ContinuousBernoulli:
    """p(x | η) = ∏ exp(η x − A(η)) on [0, 1], η the output (Loaiza-Ganem and Cunningham 2019)."""

    binary = False

    def width(self, data_dim: int) -> int:
        return data_dim

    def __call__(self, ppl: Language, output: Array) -> Distribution:
        return ppl.continuous_bernoulli(output).to_event(1)

    def violation(self, x: np.ndarray) -> tuple[np.ndarray, str]:
        return (x < 0) | (x > 1), "[0, 1]"

    def baseline(self, x: np.ndarray, heldout: np.ndarray) -> np.ndarray:
        mean = np.clip(x.mean(0, dtype=np.float64), 1e-3, 1 - 1e-3)
        low, high = np.full_like(mean, -1100.0), np.full_like(mean, 1100.0)
        for _ in range(60):  # A' is increasing: bisection
            middle = (low + high) / 2
            below = cb.mean(np, middle) < mean
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return cb.log_prob(np, (low + high) / 2, heldout).sum(1)


#: By the name that `--likelihood` takes.
LIKELIHOODS: dict[str, type] = {
    "bernoulli": Bernoulli,
    "normal": Normal,
    "categorical": Categorical,
    "continuous-bernoulli": ContinuousBernoulli,
}
