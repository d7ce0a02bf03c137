"""R-hat of a fit: of draws of q from several restarts, and of the parameters' own late iterates.

Restarts that end in different approximations, and iterates that still travel, both show as a spread between parts of what
should be one law (Vehtari, in arviz#498; Dhaka et al. 2020, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..svi.stopping import RHAT, SHARE, split_rhat
from .importance import coordinates


class Split(NamedTuple):
    """R-hat of several coordinates."""

    names: tuple[str, ...]
    rhat: np.ndarray
    limit: float

    @property
    def worst(self) -> float:
        """The largest; nan if no coordinate moves."""
        return float(np.nanmax(self.rhat)) if np.isfinite(self.rhat).any() or np.isinf(self.rhat).any() else float("nan")

    @property
    def all_but_few(self) -> float:
        """What all but a twentieth do not exceed."""
        return float(np.quantile(np.where(np.isnan(self.rhat), 1.0, self.rhat), 1 - SHARE, method="lower"))

    @property
    def where(self) -> str:
        """Which coordinate that is."""
        return self.names[int(np.nanargmax(self.rhat))] if not np.isnan(self.worst) else "none"


def restarts_rhat(draws: Sequence[Mapping[str, np.ndarray]]) -> Split | None:
    """Rank-normalised R-hat of draws of the global latents, a chain a restart (Vehtari et al. 2021); None for one restart.

    Args:
        draws: Of each restart, by site, (draws, *shape).
    """
    if len(draws) < 2:
        return None
    found = [coordinates(one) for one in draws]
    least = min(len(values) for _, values in found)
    stacked = np.stack([values[:least] for _, values in found])
    return Split(tuple(found[0][0]), np.array([rhat(stacked[..., i]) for i in range(stacked.shape[-1])]), RHAT)


def iterates_rhat(iterates: np.ndarray | None) -> Split | None:
    """`split_rhat` of each parameter's late iterates, of the restart where it is largest.

    Restarts may rest in different optima; here it is asked whether each has come to rest. None where no window is kept. What
    does not move is at rest: 1 (Gelman et al. 2013, section 11.4).

    Args:
        iterates: (epochs, restarts, coordinates).
    """
    if iterates is None or np.ndim(iterates) != 3 or len(iterates) < 8 or not np.size(iterates):
        return None
    values, half = np.asarray(iterates, np.float64), len(iterates) // 2
    each = np.stack([split_rhat(values[:, i]) for i in range(values.shape[1])])
    found = np.where(np.isfinite(each), each, np.inf).max(0)
    return Split(tuple(f"coordinate {i}" for i in range(values.shape[2])), found, limit(half, values.shape[1]))


def limit(half: int, restarts: int = 1) -> float:
    """1.1, or what a twentieth of independent iterates exceed, where their halves are so short that this is more.

    B / W of two normal halves of n is F(1, 2n − 2).
    """
    from scipy.stats import f

    return float(max(RHAT, np.sqrt((half - 1) / half + f.isf(SHARE / restarts, 1, 2 * half - 2) / half)))


def rhat(values: np.ndarray) -> float:
    """Rank-normalised R-hat of one number, (chains, draws).

    It is nan where nothing moves, and infinite where each chain rests at a value of its own.
    """
    from arviz_stats.base import array_stats  # pyright: ignore[reportPrivateImportUsage]

    if not np.isfinite(values).all():
        return float("inf")
    spread = np.ptp(values)
    if spread == 0:
        return float("nan")
    half = values.shape[1] // 2
    parts = [values[:, :half], values[:, half : 2 * half]]
    if all((np.ptp(part, axis=1) == 0).all() for part in parts):
        return float("inf")
    return scalar(array_stats.rhat(values, chain_axis=0, draw_axis=1, method="rank"))


def scalar(found: Any) -> float:
    """ArviZ's one number."""
    return float(np.asarray(found))


def chain_rows(samples: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Of every coordinate of draws by MCMC, (chains, draws, *shape) by site: mean, sd, R-hat, bulk and tail ESS."""
    from arviz_stats.base import array_stats  # pyright: ignore[reportPrivateImportUsage]

    out = []
    for site, value in samples.items():
        value = np.asarray(value, np.float64)
        for place in np.ndindex(value.shape[2:]):
            one = value[(..., *place)]
            name = f"{site}[{', '.join(map(str, place))}]" if place else site
            row: dict[str, Any] = {"name": name, "mean": float(one.mean()), "sd": float(one.std()), "rhat": rhat(one)}
            known = np.isfinite(row["rhat"])
            axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
            row["ess_bulk"] = scalar(array_stats.ess(one, method="bulk", **axes)) if known else 0.0
            row["ess_tail"] = scalar(array_stats.ess(one, method="tail", prob=(0.05, 0.95), **axes)) if known else 0.0
            out.append(row)
    return out
