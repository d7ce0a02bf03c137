"""The figures of a diagnosis: k-hat, posterior means before and after reweighting, R-hat, and chains' ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .fit_plots import rank_panels
from .numbers import Row
from .plots import BAD, INK, Look, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 24  # coordinates in one figure


def k_hats(values: Mapping[str, np.ndarray], limit: float) -> Figure | None:
    """Histograms of k-hat by what it is of; what lies right of `limit` is not to be weighed."""
    found = {name: np.asarray(value, float) for name, value in values.items() if np.size(value)}
    if not found:
        return None
    figure = canvas(2.8)
    axes = figure.subplots()
    together = np.concatenate(list(found.values()))
    top = float(np.clip(np.max(together[np.isfinite(together)], initial=1.0), 1.0, 3.0))
    low = float(np.clip(np.min(together, initial=0.0), -0.5, 0.0))
    edges = np.arange(np.floor(20 * low) / 20, top + 0.1, 0.05)
    for i, (name, value) in enumerate(found.items()):
        counts = np.histogram(np.clip(value, edges[0], edges[-1] - 1e-9), edges)[0]
        axes.stairs(counts, edges, fill=True, color=Look(i).colour, alpha=0.45, label=name)
        axes.stairs(counts, edges, color=Look(i).colour, linewidth=1.2)
    axes.axvline(limit, color=BAD, linewidth=1.4, linestyle=(0, (4, 3)))
    axes.annotate(f"{limit:.2f}", (limit, 1), (4, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                  va="top", color=BAD)  # fmt: skip
    axes.set(xlabel="k-hat (left is good)", ylabel="rows", xlim=(edges[0], edges[-1]))
    if len(found) > 1:
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def means(rows: Sequence[Row]) -> Figure | None:
    """Each coordinate's mean ± 2 sd under q and reweighted, in q's own sds about q's mean; the most different first."""
    kept = [row for row in rows if all(np.isfinite(_float(row[key])) for key in ("raw_mean", "raw_sd", "mean", "sd"))]
    kept = [row for row in kept if row["raw_sd"] > 0]
    if not kept:
        return None
    kept = sorted(kept, key=lambda row: -abs(row["mean"] - row["raw_mean"]) / row["raw_sd"])[:MOST]
    figure = canvas(1.3 + 0.3 * len(kept))
    axes = figure.subplots()
    for i, row in enumerate(kept):
        shift, wide = (row["mean"] - row["raw_mean"]) / row["raw_sd"], row["sd"] / row["raw_sd"]
        axes.plot([-2, 2], [i - 0.14] * 2, color=Look(0).colour, linewidth=3, alpha=0.5, solid_capstyle="butt")
        axes.plot(0, i - 0.14, Look(0).marker, color=Look(0).colour, label="under q" if i == 0 else None)
        axes.plot([shift - 2 * wide, shift + 2 * wide], [i + 0.14] * 2, color=Look(1).colour, linewidth=3, alpha=0.5,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot(shift, i + 0.14, Look(1).marker, color=Look(1).colour, label="reweighted" if i == 0 else None)
    axes.set_yticks(range(len(kept)), [str(row["name"]) for row in kept])
    axes.set(xlabel="sds of q from its mean", ylim=(len(kept) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def rhats(values: Mapping[str, np.ndarray], limit: float) -> Figure | None:
    """How many coordinates have which R-hat; right of `limit` they have not come to rest."""
    found = {name: v[~np.isnan(v)] for name, value in values.items() if (v := np.asarray(value, float)).size}
    found = {name: v for name, v in found.items() if v.size}
    if not found:
        return None
    figure = canvas(2.6)
    axes = figure.subplots()
    top = max(limit + 0.1, float(np.min([3.0, max(np.max(np.where(np.isinf(v), 3.0, v)) for v in found.values())])) + 0.02)
    edges = np.linspace(1.0, top, 41)
    for i, (name, value) in enumerate(found.items()):
        counts = np.histogram(np.clip(value, 1.0, top - 1e-9), edges)[0]
        axes.stairs(counts, edges, fill=True, color=Look(i).colour, alpha=0.45, label=name)
    axes.axvline(limit, color=BAD, linewidth=1.4, linestyle=(0, (4, 3)))
    axes.annotate(f"{limit:g}", (limit, 1), (4, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                  va="top", color=BAD)  # fmt: skip
    axes.set(xlabel="R-hat (1 is best)", ylabel="coordinates")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def rank_plots(values: np.ndarray, ranks: np.ndarray, name: str, effective: float) -> Figure | None:
    """Traces of one coordinate along chains, and of each chain the histogram of its ranks among all (Vehtari et al. 2021).

    Args:
        values: (chains, draws).
        ranks: Those of the values among all of them.
        name: Of the coordinate.
        effective: Effective draws of all chains, which set the width of the band that flat histograms stay in.
    """
    chains, draws = values.shape
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return None
    figure = canvas(3.4)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.2))
    axes = left.subplots()
    for i in range(min(chains, 4)):
        axes.plot(values[i], color=Look(i).colour, linewidth=0.6)
    axes.set(xlabel="draw", ylabel=name)
    rank_panels(right, ranks, effective)
    right.supxlabel("low → high", fontsize=12, color=INK)
    return figure


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
