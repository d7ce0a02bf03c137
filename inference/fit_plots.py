"""The figures of a fit: how its latent dimensions are used, and how its bound changes with a setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .numbers import Row, finite, interval
from .plots import FAINT, INK, MUTED, Look, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BARS = 60


def usage(kl: Mapping[str, Any], variances: Mapping[str, Any], threshold: float) -> Figure | None:
    """KL of each dimension in nats, a panel a site, the largest first; faint where the unit is not active."""
    sites = {name: values for name, value in kl.items() if np.isfinite(values := _numbers(value)).all() and values.size}
    if not sites:
        return None
    figure = canvas(2.6)
    widths = [min(values.size, _MOST_BARS) + 3 for values in sites.values()]
    panels = figure.subplots(1, len(sites), squeeze=False, width_ratios=widths)[0]
    for i, (axes, (name, values)) in enumerate(zip(panels, sites.items(), strict=True)):
        spread = _numbers(variances.get(name, ()))
        active = spread > threshold if spread.shape == values.shape else np.ones(values.shape, bool)
        order = np.argsort(-values)[:_MOST_BARS]
        for place, d in enumerate(order):
            axes.bar(place, values[d], color=Look(i).colour, alpha=1.0 if active[d] else 0.35, width=0.8)
        few = np.arange(0, len(order), max(1, math.ceil(len(order) / 20)))
        axes.set_xticks(few, [str(d) for d in order[few]] if values.size > 1 else ["all"])
        axes.set(xlabel=f"dimension of {name}" if values.size > 1 else name)
        axes.grid(visible=False, axis="x")
    panels[0].set_ylabel("KL, nats")
    return figure


def sweep(rows: Sequence[Row], key: str, bounds: Mapping[str, str]) -> Figure | None:
    """Each of the `bounds` against the setting `key`, with its interval; settings that are no numbers stand in their order."""
    values = [finite(row.get(key)) for row in rows]
    places = np.arange(len(rows), dtype=float) if any(map(math.isnan, values)) else np.array(values)
    figure = canvas(4.0)
    axes, drawn = figure.subplots(), 0
    for i, (name, label) in enumerate(bounds.items()):
        found = np.array([interval(row.get(name)) for row in rows]).reshape(-1, 3)
        seen = np.isfinite(found[:, 0])
        if not seen.any():
            continue
        order = np.argsort(places[seen], kind="stable")
        x, (middle, low, high) = places[seen][order], found[seen][order].T
        look, drawn = Look(i), drawn + 1
        axes.vlines(x, low, high, color=look.colour, linewidth=4, alpha=0.3)
        axes.plot(x, middle, color=look.colour, marker=look.marker, linewidth=1.6)
        axes.annotate(label, (x[-1], middle[-1]), (8, 0), textcoords="offset points", va="center", color=look.colour)
    if not drawn:
        return None
    axes.set_xticks(np.unique(places), [_tick(rows[int(np.argmax(places == x))].get(key)) for x in np.unique(places)])
    axes.set(xlabel=key, ylabel="nats per datum")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    axes.tick_params(color=MUTED)
    return figure


def objective(history: Sequence[Row]) -> Figure | None:
    """The objective by epoch."""
    rows = [row for row in history if not math.isnan(finite(row.get("objective")))]
    if not rows:
        return None
    figure = canvas(3.0)
    axes = figure.subplots()
    look = Look(0)
    axes.plot([row["epoch"] for row in rows], [row["objective"] for row in rows], color=look.colour, linewidth=1.6)
    axes.set(xlabel="epochs", ylabel="objective, nats per datum")
    return figure


def energies(values: Mapping[str, np.ndarray]) -> Figure | None:
    """Histograms of energies by name, over the same bins and each of area one."""
    found = {name: _numbers(value) for name, value in values.items()}
    together = np.concatenate(list(found.values()) or [np.zeros(0)])
    if together.size < 2 or not np.isfinite(together).all():
        return None
    figure = canvas(3.2)
    axes = figure.subplots()
    edges = np.histogram_bin_edges(together, 40)
    for i, (name, value) in enumerate(found.items()):
        heights = np.histogram(value, edges, density=True)[0]
        axes.stairs(heights, edges, fill=True, color=Look(i).colour, alpha=0.3)
        axes.stairs(heights, edges, color=Look(i).colour, linewidth=1.6, label=name)
    axes.set(xlabel="energy E, nats (low is likely)", ylabel="density")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def rank_panels(figure: Any, ranks: np.ndarray, effective: float) -> None:
    """Of each chain the histogram of its ranks among all, and the band that flat ones stay in; four chains a row."""
    chains, draws = ranks.shape
    bins = 10
    share = draws / bins
    wide = 2.58 * np.sqrt(share * (1 - 1 / bins) * max(1.0, chains * draws / max(effective, 1.0)))
    panels = figure.subplots(-(-chains // 4), min(chains, 4), sharex=True, sharey=True, squeeze=False)
    for i, panel in enumerate(panels.ravel()):
        if i >= chains:
            panel.set_visible(False)
            continue
        counts, edges = np.histogram(ranks[i], bins, (0.5, chains * draws + 0.5))
        panel.axhspan(max(0.0, share - wide), share + wide, color=FAINT, linewidth=0)
        panel.stairs(counts, edges, color=Look(i).colour if i < 4 else MUTED, fill=True, alpha=0.7)
        panel.axhline(share, color=INK, linewidth=0.8)
        panel.set(xticks=[], yticks=[], ylim=(0, max(2 * share, 1.1 * (share + wide))))
        panel.set_title(f"chain {i + 1}", fontsize=10, color=MUTED)


def mixing(values: np.ndarray, ranks: np.ndarray, every: int, effective: float) -> Figure | None:
    """Traces of the energy of a few chains, and of each chain the histogram of its ranks among all (Vehtari et al. 2021).

    Args:
        values: Energies, (chains, draws).
        ranks: Those of the energies among all of them, (chains, draws).
        every: Sweeps between draws.
        effective: Effective draws of all chains, which set the width of the band that flat histograms stay in.
    """
    chains, draws = values.shape
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return None
    figure = canvas(4.2)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.2))
    axes = left.subplots()
    for i in range(min(chains, 4)):
        axes.plot(every * np.arange(draws), values[i], color=Look(i).colour, linewidth=0.7)
    axes.set(xlabel="sweeps", ylabel="energy of four chains, nats" if chains > 3 else "energy, nats")
    rank_panels(right, ranks, effective)
    right.supxlabel("low energies → high energies", fontsize=12, color=INK)
    return figure


def _numbers(value: Any) -> np.ndarray:
    """As one row of floats; nan for null."""
    return np.array([np.nan if v is None else v for v in np.atleast_1d(np.asarray(value, object)).ravel()], float)


def _tick(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
