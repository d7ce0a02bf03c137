"""Importance weights as a judge of q: Pareto k-hat, and posterior means that the weights correct.

    wₛ = p(x, zₛ) / q(zₛ),  zₛ ~ q;  the largest wₛ are as from a generalised Pareto law of shape k

Means over p estimated by these weights have a finite variance if k < ½ and are of no use in practice above 0.7 (Vehtari et
al. 2024; Yao et al. 2018). For normal q and p of precisions Q and P about one mean, log w = ½ eᵀ(I − Q^-½ P Q^-½) e with e
standard normal, so that k = 1 − λ_min(Q^-½ P Q^-½). Of one dimension, with sd q = r · sd p, that is 1 − r²; of the best
factorised q of a pair with correlation ρ, whose Q is the diagonal of P, it is |ρ|.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_models import InputError, NumericalError

FEWEST = 25  # draws: the five largest weights of fewer tell nothing of a tail
FLAT = 1e-3  # nats: a tail that spans no more is rounding
EVEN = 0.1  # effective draws a draw, from which weights of few values are called even


def k_hat(log_weights: np.ndarray) -> np.ndarray:
    """k̂ of the right tail of exp(log_weights) along the last axis, shape log_weights.shape[:-1], by ArviZ.

    It is 0 where the largest weights are one number, as all of them are if q is the posterior. Where ties leave nothing to
    fit (few values of discrete latents), it is 0 if the effective number of draws is at least a tenth of them, and infinite
    if not. The estimate draws small k towards ½, and its standard error is about `standard_error`.

    Args:
        log_weights: Nats, (..., draws); a constant added to all changes nothing. Where some are not finite, k̂ is infinite
            if one is nan or +∞; weights of zero (−∞) are allowed.

    Raises:
        InputError: There are fewer than 25 draws.
    """
    return smoothed(log_weights)[1]


def smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised log weights with Pareto-smoothed tails, shaped as given, and k̂ of each row; see `k_hat`."""
    log_w = np.asarray(log_weights, np.float64)
    if log_w.ndim == 0 or log_w.shape[-1] < FEWEST:
        raise InputError(f"expected at least {FEWEST} draws to tell a tail by, got {log_w.shape[-1:]}; ask for more draws.")
    found = [one(line) for line in log_w.reshape(-1, log_w.shape[-1])]
    rows, ks = np.stack([line for line, _ in found]), np.array([k for _, k in found])
    return rows.reshape(log_w.shape), ks.reshape(log_w.shape[:-1])


def one(log_w: np.ndarray) -> tuple[np.ndarray, float]:
    """Of one set of log weights, (draws,)."""
    from arviz_stats.base import array_stats  # pyright: ignore[reportPrivateImportUsage]

    if np.isnan(log_w).any() or (log_w == np.inf).any() or (log_w == -np.inf).all():
        return np.full_like(log_w, np.nan), np.inf
    log_w = np.maximum(log_w, log_w.max() - 700.0)  # a weight of zero, as a number
    even = log_w - np.logaddexp.reduce(log_w)
    size = tail(len(log_w))
    ordered = np.sort(log_w)
    if ordered[-1] - ordered[-size - 1] <= FLAT:
        return even, 0.0
    if ordered[-size - 1] == ordered[-size + size // 4]:  # draws of few values: the law of Pareto cannot be fitted to ties
        effective = 1 / np.exp(2 * even).sum()
        return even, 0.0 if effective >= EVEN * len(log_w) else np.inf
    found, k = array_stats.psislw(-log_w)  # ArviZ takes the logarithms with their signs turned
    return found - np.logaddexp.reduce(found), float(k)


def tail(draws: int) -> int:
    """M, how many of the largest weights are looked at (Vehtari et al. 2024, appendix H)."""
    return int(math.ceil(min(draws / 5, 3 * math.sqrt(draws))))


def standard_error(k: float, draws: int) -> float:
    """(1 + k) / √M of an estimate from the M = min(S / 5, 3 √S) largest of S weights: the Pareto law's own, for large M."""
    return (1 + max(k, 0.0)) / math.sqrt(tail(draws))


def threshold(draws: int) -> float:
    """min(1 − 1 / log₁₀ S, 0.7), above which S draws do not estimate means by weights (Vehtari et al. 2024, eq. 13)."""
    return min(1 - 1 / math.log10(draws), 0.7)


@dataclass(frozen=True)
class Corrected:
    """Posterior means and sds of every coordinate of q, and the same under the smoothed weights.

    Attributes:
        names: Of the coordinates, as in locs[0, 1].
        raw_mean: Under q.
        raw_sd: Under q.
        mean: Under the weights.
        sd: Under the weights.
        k: k̂ of all of them together.
    """

    names: tuple[str, ...]
    raw_mean: np.ndarray
    raw_sd: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    k: float

    @property
    def moves(self) -> np.ndarray:
        """Which coordinates q spreads at all, beyond rounding; the others neither shift nor spread."""
        return self.raw_sd > 1e-6 * np.abs(self.raw_mean)

    @property
    def shift(self) -> np.ndarray:
        """|corrected − raw mean| in corrected sds."""
        return np.where(self.moves, np.abs(self.mean - self.raw_mean) / np.maximum(self.sd, np.finfo(float).tiny), 0.0)

    @property
    def spread(self) -> np.ndarray:
        """|log(raw sd / corrected sd)|: 0.1 is an sd a tenth too small or too large."""
        tiny = np.finfo(float).tiny
        return np.where(self.moves, np.abs(np.log(np.maximum(self.raw_sd, tiny) / np.maximum(self.sd, tiny))), 0.0)


def corrected(draws: Mapping[str, np.ndarray], log_weights: np.ndarray) -> Corrected:
    """Means and sds under q and under p, by weighting each draw with its smoothed p(x, z) / q(z).

    Args:
        draws: Of q, by site, (draws, *shape).
        log_weights: log p(x, z) − log q(z) of each, nats, (draws,).

    Raises:
        InputError: There are fewer than 25 draws.
        NumericalError: A draw is not finite.
    """
    names, values = coordinates(draws)
    if not np.isfinite(values).all():
        where = names[int(np.argwhere(~np.isfinite(values))[0][1])]
        raise NumericalError(f"expected finite draws, got one of {where} that is not; fit with a lower --lr, or in float64.")
    log_w, k = smoothed(log_weights)
    w = np.exp(log_w)[:, None] if np.isfinite(log_w).all() else np.full((len(values), 1), np.nan)
    mean = (w * values).sum(0)
    sd = np.sqrt((w * (values - mean) ** 2).sum(0))
    return Corrected(tuple(names), values.mean(0), values.std(0), mean, sd, float(k))


def coordinates(draws: Mapping[str, Any]) -> tuple[list[str], np.ndarray]:
    """Every coordinate of every site by name, and the draws side by side, (draws, coordinates)."""
    names, columns = list[str](), list[np.ndarray]()
    for site, value in draws.items():
        value = np.asarray(value, np.float64)
        places = list(np.ndindex(value.shape[1:]))
        names += [f"{site}[{', '.join(map(str, place))}]" if place else site for place in places]
        columns.append(value.reshape(len(value), -1))
    return names, np.concatenate(columns, axis=1) if columns else np.zeros((0, 0))
