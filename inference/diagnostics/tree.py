"""Observables of an energy's chains as an ArviZ tree, and ArviZ's figures of them; ArviZ is loaded when one is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from .observe import Observed

FIGURES = ("rhat", "ess_bulk", "ess_tail")


def to_tree(seen: Observed) -> Any:
    """A `DataTree` for every function of ArviZ: `posterior` holds the observables, `sample_stats` lp = −E and acceptance.

    Dimensions are chain, draw and, of projections, direction; units, which ArviZ would count as independent where they never
    move, stay outside.
    """
    from arviz_base import from_dict

    posterior = {"energy": seen.energy, "magnetisation": seen.magnetisation, "projection": seen.projections}
    stats = {"lp": -seen.energy, "acceptance_rate": seen.accept_prob}
    axis = [f"singular vector {i + 1}" for i in range(seen.projections.shape[-1])]
    return from_dict(
        {"posterior": posterior, "sample_stats": stats}, coords={"direction": axis}, dims={"projection": ["direction"]},
        attrs={"posterior": {"sweeps_between_draws": seen.every}},
    )  # fmt: skip


def series(seen: Observed) -> dict[str, np.ndarray]:
    """Each observable by name, (chains, draws)."""
    projections = {f"projection {i + 1}": seen.projections[..., i] for i in range(seen.projections.shape[-1])}
    return {"energy": seen.energy, "magnetisation": seen.magnetisation, **projections}


def rows(seen: Observed) -> list[dict[str, Any]]:
    """Of each observable: mean, sd, rank-normalised R-hat, bulk and tail ESS (Vehtari et al. 2021).

    One that has a single value throughout has neither, and ArviZ would give NaN and the number of draws: both are NaN here.
    """
    from arviz_stats import ess, rhat  # pyright: ignore[reportPrivateImportUsage]

    out = []
    for name, values in series(seen).items():
        row: dict[str, Any] = {"name": name, "mean": float(values.mean()), "sd": float(values.std())}
        moves = np.isfinite(values).all() and np.ptp(values) > 0
        still = moves and (np.ptp(values, axis=1) == 0).all()  # every chain at a value of its own
        if moves and not still:
            axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
            row["rhat"] = float(rhat(values, method="rank", **axes))
            row["ess_bulk"] = float(ess(values, method="bulk", **axes))
            row["ess_tail"] = float(ess(values, method="tail", prob=(0.05, 0.95), **axes))
        else:
            row |= {"rhat": np.inf, "ess_bulk": 0.0, "ess_tail": 0.0} if still else dict.fromkeys(FIGURES, np.nan)
        out.append(row)
    return out


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value among those of all chains, (chains, draws); ties, which ArviZ leaves as they stand, at random."""
    from arviz_stats.base import array_stats  # pyright: ignore[reportPrivateImportUsage]

    order = np.random.default_rng(0).permutation(values.size)
    out = np.empty(values.size, int)
    out[order] = array_stats.compute_ranks(values.ravel()[order])
    return out.reshape(values.shape)
