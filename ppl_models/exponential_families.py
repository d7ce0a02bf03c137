"""Exponential families: p(x) = h(x) exp(η · T(x) − A(η)), with μ = E T(x) = ∇A(η) and A*(μ) = max η · μ − A(η).

A family is a frozen dataclass of maps between standard parameters, natural parameters η (…, P), sufficient statistics
T(x) (…, P) and means μ (…, P), all batched over leading dims and written in `ppl`, the words of either engine.
Nats throughout. Source: Wainwright and Jordan 2008, sections 3.1 to 3.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi
from typing import Any, NamedTuple, Protocol

import numpy as np

from .errors import InputError
from .language import Array, Language


class Family(Protocol):
    """What every family offers."""

    @property
    def natural(self) -> Callable[..., Array]: ...
    def standard(self, ppl: Language, eta: Array) -> tuple[Array, ...]: ...
    def statistics(self, ppl: Language, x: Any) -> Array: ...
    def log_base(self, ppl: Language, x: Any) -> Array:
        """log h(x)."""
        ...

    def log_partition(self, ppl: Language, eta: Array) -> Array: ...
    def mean(self, ppl: Language, eta: Array) -> Array: ...
    def from_mean(self, ppl: Language, mu: Array) -> Array:
        """The η whose mean is μ: ∇A*(μ)."""
        ...


def log_prob(ppl: Language, family: Family, eta: Array, x: Any) -> Array:
    """log h(x) + η · T(x) − A(η), shape (…)."""
    return family.log_base(ppl, x) + (eta * family.statistics(ppl, x)).sum(-1) - family.log_partition(ppl, eta)


def dual(ppl: Language, family: Family, mu: Array) -> Array:
    """A*(μ) = η(μ) · μ − A(η(μ)), the negative entropy relative to h."""
    eta = family.from_mean(ppl, mu)
    return (eta * mu).sum(-1) - family.log_partition(ppl, eta)


def kl(ppl: Language, family: Family, eta: Array, other: Array) -> Array:
    """KL(p_η ‖ p_other) = A(other) − A(η) − μ · (other − η), the Bregman divergence of A."""
    gap = family.log_partition(ppl, other) - family.log_partition(ppl, eta)
    return gap - (family.mean(ppl, eta) * (other - eta)).sum(-1)


def columns(ppl: Language, *parts: Any) -> Array:
    """The parts broadcast together, side by side along a new last axis."""
    return ppl.xp.stack(ppl.xp.broadcast_arrays(*parts), axis=-1)


@dataclass(frozen=True)
class Bernoulli:
    """η = log p / (1 − p), T = x, A = log(1 + exp η). Standard: p."""

    def natural(self, ppl: Language, p: Array) -> Array:
        return (ppl.xp.log(p) - ppl.xp.log1p(-p))[..., None]

    def standard(self, ppl: Language, eta: Array) -> tuple[Array]:
        return (ppl.sigmoid(eta[..., 0]),)

    def statistics(self, ppl: Language, x: Array) -> Array:
        return x[..., None]

    def log_base(self, ppl: Language, x: Array) -> Array:
        return 0 * x

    def log_partition(self, ppl: Language, eta: Array) -> Array:
        return ppl.softplus(eta[..., 0])

    def mean(self, ppl: Language, eta: Array) -> Array:
        return ppl.sigmoid(eta)

    def from_mean(self, ppl: Language, mu: Array) -> Array:
        return self.natural(ppl, mu[..., 0])


@dataclass(frozen=True)
class Categorical:
    """η = log p (K,), T = one-hot x, A = log Σ exp η; η is free up to a constant. Standard: p (K,); x in 0 … K − 1."""

    num_classes: int

    def natural(self, ppl: Language, p: Array) -> Array:
        return ppl.xp.log(p)

    def standard(self, ppl: Language, eta: Array) -> tuple[Array]:
        return (ppl.xp.exp(ppl.log_softmax(eta)),)

    def statistics(self, ppl: Language, x: Array) -> Array:
        return 1.0 * (x[..., None] == ppl.xp.arange(self.num_classes))

    def log_base(self, ppl: Language, x: Array) -> Array:
        return 0.0 * x

    def log_partition(self, ppl: Language, eta: Array) -> Array:
        return ppl.logsumexp(eta)

    def mean(self, ppl: Language, eta: Array) -> Array:
        return self.standard(ppl, eta)[0]

    def from_mean(self, ppl: Language, mu: Array) -> Array:
        return ppl.xp.log(mu)


@dataclass(frozen=True)
class Poisson:
    """η = log λ, T = x, A = exp η, h = 1 / x!. Standard: the rate λ."""

    def natural(self, ppl: Language, rate: Array) -> Array:
        return ppl.xp.log(rate)[..., None]

    def standard(self, ppl: Language, eta: Array) -> tuple[Array]:
        return (ppl.xp.exp(eta[..., 0]),)

    def statistics(self, ppl: Language, x: Array) -> Array:
        return x[..., None]

    def log_base(self, ppl: Language, x: Array) -> Array:
        return -ppl.gammaln(x + 1.0)

    def log_partition(self, ppl: Language, eta: Array) -> Array:
        return ppl.xp.exp(eta[..., 0])

    def mean(self, ppl: Language, eta: Array) -> Array:
        return ppl.xp.exp(eta)

    def from_mean(self, ppl: Language, mu: Array) -> Array:
        return ppl.xp.log(mu)


@dataclass(frozen=True)
class Normal:
    """η = (m / s², −1 / 2s²), T = (x, x²), A = −η₁² / 4η₂ − ½ log(−2η₂), h = (2π)^−½. Standard: location m, scale s."""

    def natural(self, ppl: Language, loc: Array, scale: Array) -> Array:
        return columns(ppl, loc / scale**2, -0.5 / scale**2)

    def standard(self, ppl: Language, eta: Array) -> tuple[Array, Array]:
        variance = -0.5 / eta[..., 1]
        return eta[..., 0] * variance, variance**0.5

    def statistics(self, ppl: Language, x: Array) -> Array:
        return columns(ppl, x, x**2)

    def log_base(self, ppl: Language, x: Array) -> Array:
        return 0 * x - log(2 * pi) / 2

    def log_partition(self, ppl: Language, eta: Array) -> Array:
        return -(eta[..., 0] ** 2) / (4 * eta[..., 1]) - ppl.xp.log(-2 * eta[..., 1]) / 2

    def mean(self, ppl: Language, eta: Array) -> Array:
        loc, scale = self.standard(ppl, eta)
        return columns(ppl, loc, loc**2 + scale**2)

    def from_mean(self, ppl: Language, mu: Array) -> Array:
        return self.natural(ppl, mu[..., 0], (mu[..., 1] - mu[..., 0] ** 2) ** 0.5)


@dataclass(frozen=True)
class Gamma:
    """η = (a − 1, −b), T = (log x, x), A = log Γ(a) − a log b. Standard: shape a, rate b."""

    def natural(self, ppl: Language, shape: Array, rate: Array) -> Array:
        return columns(ppl, shape - 1, -rate)

    def standard(self, ppl: Language, eta: Array) -> tuple[Array, Array]:
        return eta[..., 0] + 1, -eta[..., 1]

    def statistics(self, ppl: Language, x: Array) -> Array:
        return columns(ppl, ppl.xp.log(x), x)

    def log_base(self, ppl: Language, x: Array) -> Array:
        return 0 * x

    def log_partition(self, ppl: Language, eta: Array) -> Array:
        shape, rate = self.standard(ppl, eta)
        return ppl.gammaln(shape) - shape * ppl.xp.log(rate)

    def mean(self, ppl: Language, eta: Array) -> Array:
        shape, rate = self.standard(ppl, eta)
        return columns(ppl, ppl.digamma(shape) - ppl.xp.log(rate), shape / rate)

    def from_mean(self, ppl: Language, mu: Array) -> Array:
        """Newton on ψ(a) − log a = E log x − log E x (Minka 2002, eqs 7 and 10)."""
        gap = ppl.xp.log(mu[..., 1]) - mu[..., 0]
        shape = (3 - gap + ((gap - 3) ** 2 + 24 * gap) ** 0.5) / (12 * gap)
        for _ in range(5):
            residual = ppl.xp.log(shape) - ppl.digamma(shape) - gap
            shape = 1 / (1 / shape + residual / (shape - shape**2 * ppl.trigamma(shape)))
        return self.natural(ppl, shape, shape / mu[..., 1])


@dataclass(frozen=True)
class Dirichlet:
    """η = α − 1, T = log x, A = Σ log Γ(αₖ) − log Γ(Σ αₖ), x on the simplex (K,). Standard: α (K,)."""

    def natural(self, ppl: Language, concentration: Array) -> Array:
        return concentration - 1

    def standard(self, ppl: Language, eta: Array) -> tuple[Array]:
        return (eta + 1,)

    def statistics(self, ppl: Language, x: Array) -> Array:
        return ppl.xp.log(x)

    def log_base(self, ppl: Language, x: Array) -> Array:
        return 0 * x[..., 0]

    def log_partition(self, ppl: Language, eta: Array) -> Array:
        return ppl.gammaln(eta + 1).sum(-1) - ppl.gammaln((eta + 1).sum(-1))

    def mean(self, ppl: Language, eta: Array) -> Array:
        return ppl.digamma(eta + 1) - ppl.digamma((eta + 1).sum(-1))[..., None]

    def from_mean(self, ppl: Language, mu: Array) -> Array:
        """Newton on the total s = Σ αₖ, with αₖ = ψ⁻¹(μₖ + ψ(s)), along log s."""
        xp, total = ppl.xp, 0 * mu[..., :1] + mu.shape[-1]
        for _ in range(40):
            shares = inverse_digamma(ppl, mu + ppl.digamma(total))
            found = shares.sum(-1)[..., None]
            slope = (total / found * ppl.trigamma(total) / ppl.trigamma(shares)).sum(-1)[..., None]  # of log found in log s
            step = xp.log(found / total) / (1 - slope)
            total = total * xp.exp(xp.clip(step, min=-3.0, max=3.0))
        return inverse_digamma(ppl, mu + ppl.digamma(total)) - 1


def inverse_digamma(ppl: Language, y: Any) -> Array:
    """The x > 0 with ψ(x) = y (Minka 2000, appendix C)."""
    near = -1 / (ppl.xp.clip(y, max=-1.0) - ppl.digamma(ppl.xp.ones_like(y)))
    x = ppl.xp.where(y >= -2.22, ppl.xp.exp(y) + 0.5, near)
    for _ in range(6):
        x = x - (ppl.digamma(x) - y) / ppl.trigamma(x)
    return x


@dataclass(frozen=True)
class NormalGamma:
    """N(x; m, 1 / cλ) Gamma(λ; a, b): η = (a − ½, −b − c m² / 2, c m, −c / 2), T = (log λ, λ, λx, λx²).

    A = log Γ(a) − a log b − ½ log c, h = (2π)^−½; the conjugate prior of a Normal's location x and precision λ.
    Standard: location m, count c, shape a, rate b. A value is (x, λ) along its last axis.
    """

    def natural(self, ppl: Language, loc: Array, count: Array, shape: Array, rate: Array) -> Array:
        return columns(ppl, shape - 0.5, -rate - count * loc**2 / 2, count * loc, -count / 2)

    def standard(self, ppl: Language, eta: Array) -> tuple[Array, Array, Array, Array]:
        count = -2 * eta[..., 3]
        loc = eta[..., 2] / count
        return loc, count, eta[..., 0] + 0.5, -eta[..., 1] - count * loc**2 / 2

    def statistics(self, ppl: Language, x: Array) -> Array:
        value, precision = x[..., 0], x[..., 1]
        return columns(ppl, ppl.xp.log(precision), precision, precision * value, precision * value**2)

    def log_base(self, ppl: Language, x: Array) -> Array:
        return 0 * x[..., 0] - log(2 * pi) / 2

    def log_partition(self, ppl: Language, eta: Array) -> Array:
        _, count, shape, rate = self.standard(ppl, eta)
        return ppl.gammaln(shape) - shape * ppl.xp.log(rate) - ppl.xp.log(count) / 2

    def mean(self, ppl: Language, eta: Array) -> Array:
        loc, count, shape, rate = self.standard(ppl, eta)
        precision = shape / rate
        log_precision = ppl.digamma(shape) - ppl.xp.log(rate)
        return columns(ppl, log_precision, precision, precision * loc, precision * loc**2 + 1 / count)

    def from_mean(self, ppl: Language, mu: Array) -> Array:
        loc = mu[..., 2] / mu[..., 1]
        shape, rate = Gamma().standard(ppl, Gamma().from_mean(ppl, mu[..., :2]))
        return self.natural(ppl, loc, 1 / (mu[..., 3] - loc * mu[..., 2]), shape, rate)


class MaximumEntropy(NamedTuple):
    """p = exp(η · T − A(η)) on the support: `natural` (P,), `probabilities` (S,), `entropy` in nats."""

    natural: np.ndarray
    probabilities: np.ndarray
    entropy: float


def maximum_entropy(statistics: Callable[[np.ndarray], np.ndarray], moments: np.ndarray, support: np.ndarray) -> MaximumEntropy:
    """The distribution of largest entropy on a finite support with E T(x) = `moments`: Newton on A(η) − η · moments.

    Args:
        statistics: T, from the support to (S, P).
        moments: (P,).
        support: S points, along the first axis.

    Raises:
        InputError: The moments do not lie in the interior of the convex hull of T(support); on its edge some points would
            need probability 0, and η would be infinite. Source: Wainwright and Jordan 2008, theorem 3.3.
    """
    from scipy import optimize  # slow to import, and of use here alone

    table, moments = np.asarray(statistics(support), float), np.asarray(moments, float)
    if table.shape != (len(support), len(moments)):
        raise InputError(f"expected statistics of shape {(len(support), len(moments))}, a row for each point of the support "
                         f"and a column for each moment, got {table.shape}; make them agree.")  # fmt: skip
    scale = np.maximum(np.ptp(table, axis=0), np.finfo(float).tiny)
    table, goal = (table - moments) / scale, np.zeros(len(moments))
    # The largest p such that every point can have at least p: positive if and only if the moments are inside.
    size = len(support)
    inside = optimize.linprog(
        np.append(np.zeros(size), -1.0), A_eq=np.vstack([np.column_stack([table.T, goal]), np.append(np.ones(size), 0.0)]),
        b_eq=np.append(goal, 1.0), A_ub=np.column_stack([-np.eye(size), np.ones(size)]), b_ub=np.zeros(size),
        bounds=[(0, 1)] * size + [(None, 1)],
    )  # fmt: skip
    if inside.status != 0 or inside.x[-1] <= 1e-9 / size:
        raise InputError(f"expected moments inside the convex hull of the statistics of the {size} points, got "
                         f"{moments}; choose the moments of a distribution that gives every point a chance.")  # fmt: skip

    def log_sum(eta: np.ndarray) -> float:
        return float(np.logaddexp.reduce(table @ eta))

    eta = goal
    for _ in range(200):
        p = np.exp(table @ eta - log_sum(eta))
        gradient = p @ table
        if np.abs(gradient).max() < 1e-14:
            break
        step = -np.linalg.lstsq((table * p[:, None]).T @ table - np.outer(gradient, gradient), gradient)[0]
        size_of_step = 1.0
        while log_sum(eta + size_of_step * step) > log_sum(eta) + 1e-4 * size_of_step * (gradient @ step) + 1e-15:
            size_of_step /= 2
        eta = eta + size_of_step * step
    p = np.exp(table @ eta - log_sum(eta))
    return MaximumEntropy(eta / scale, p, float(log_sum(eta) - (p @ table) @ eta))
