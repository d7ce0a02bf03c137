"""k-means (Lloyd 1982), its starting points (Arthur and Vassilvitskii 2007)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from .language import Array, Language
from .networks import constant

#: The words of EM's steps, spoken by numpy: where to start is one M step.
NUMPY = cast(Language, SimpleNamespace(xp=np))
ENOUGH = 10_000  # rows that tell where to start


@dataclass(frozen=True)
class KMeans:
    """−½ Σₙ minₖ ‖xₙ − μₖ‖²: the limit σ → 0 of σ² Σₙ log p(xₙ) under an even spherical mixture N(μₖ, σ² I).

    A limit and no density, hence no `model` and no `guide`: it is fitted by `em`, whose E step assigns each row to its
    nearest location and whose objective, in place of log p, is minus half the inertia. A location without rows stays.
    Parameter: `locs` (K, D). Source: Lloyd 1982; the limit, Bishop 2006, section 9.3.2.
    """

    data_dim: int
    num_components: int = 3

    def summarise(self, ppl: Language, x: Array) -> dict[str, Array]:
        centre = x.sum(0) / x.shape[0]
        rows = x - centre
        return {"centre": centre, "rows": rows, "energy": (rows**2).sum() / 2}

    def expected(self, ppl: Language, data: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
        locs = ppl.param("locs", constant(ppl, 0.0, self.num_components, self.data_dim)) - data["centre"]
        # ½‖x‖² − ½‖x − μ‖²: the nearest location is the one with the largest gain.
        gain = locs @ data["rows"].mT - (locs**2).sum(-1)[:, None] / 2
        found = self._statistics(ppl, data, ppl.xp.argmax(gain, axis=0))
        empty: Any = 1.0 * (found["count"] == 0)
        held = {"count": found["count"] + empty, "sum": found["sum"] + empty[:, None] * locs}
        return found | held, ppl.xp.max(gain, axis=0).sum() - data["energy"]

    def statistics(self, ppl: Language, x: Array, latents: Mapping[str, Array]) -> dict[str, Array]:
        return self._statistics(ppl, self.summarise(ppl, x), latents["assignment"])

    def _statistics(self, ppl: Language, data: Mapping[str, Array], assignment: Array) -> dict[str, Array]:
        return {"centre": data["centre"], **counted(ppl, self.num_components, data["rows"], assignment)}

    def maximise(self, ppl: Language, statistics: Mapping[str, Array]) -> dict[str, Array]:
        return {"locs": statistics["centre"] + statistics["sum"] / statistics["count"][:, None]}

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"locs": spread_out(x, self.num_components, rng)}


def one_hot(ppl: Language, num_components: int, assignment: Array, dtype: Any) -> Array:
    """Shares (K, N): 1 where the row is assigned to the component."""
    return ppl.xp.astype(assignment == ppl.xp.arange(num_components)[:, None], dtype)


def counted(ppl: Language, num_components: int, rows: Array, assignment: Array) -> dict[str, Array]:
    """How many rows each component has, and their sum."""
    share = one_hot(ppl, num_components, assignment, rows.dtype)
    return {"count": share.sum(-1), "sum": share @ rows}


def spread_out(x: np.ndarray, num_components: int, rng: np.random.Generator) -> np.ndarray:
    """K rows: k-means++ with the best of 2 + log K draws at each turn (Arthur and Vassilvitskii 2007, section 7), (K, D).

    A draw has probability ∝ the row's squared distance to the nearest before it; the best leaves the least of it.
    """
    found = [x[rng.integers(len(x))]]
    squared = ((x - found[0]) ** 2).sum(1)
    while len(found) < num_components:
        total = squared.sum()
        drawn = rng.choice(len(x), 2 + int(np.log(num_components)), p=squared / total if total > 0 else None)
        left = [np.minimum(squared, ((x - x[row]) ** 2).sum(1)) for row in drawn]
        best = int(np.argmin([one.sum() for one in left]))
        found.append(x[drawn[best]])
        squared = left[best]
    return np.stack(found)


def lloyd(x: np.ndarray, locs: np.ndarray, steps: int) -> np.ndarray:
    """The nearest location of each row after `steps` steps of k-means from `locs`, (N,)."""
    for step in range(steps + 1):
        nearest = np.argmax(x @ locs.T - (locs**2).sum(1) / 2, axis=1)
        if step < steps:
            share = np.eye(len(locs))[nearest].T
            count = share.sum(1, keepdims=True)
            locs = np.where(count > 0, share @ x / np.maximum(count, 1), locs)
    return nearest


def soft_clusters(x: np.ndarray, num_components: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """At most 10,000 of the rows, and their shares (K, N) by a short k-means of the standardised columns.

    A tenth of every row is shared evenly, so that no component starts as narrow as a row.
    """
    x = np.asarray(x if len(x) <= ENOUGH else x[rng.choice(len(x), ENOUGH, replace=False)], np.float64)
    spread = x.std(0)
    rows = (x - x.mean(0)) / np.where(spread > 0, spread, 1.0)
    nearest = lloyd(rows, spread_out(rows, num_components, rng), steps=5)
    return x, 0.9 * one_hot(NUMPY, num_components, nearest, x.dtype) + 0.1 / num_components
