"""What a fit's approximate posterior is worth, in numbers: k-hat, corrected means, leave-one-out, R-hat, use of latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_models import InputError

from ..evaluate import Evaluation, evaluate
from ..svi import Fit
from ..weights import Sites, Weights, row_weights, sites, weigh
from .convergence import Split, iterates_rhat, restarts_rhat
from .importance import Corrected, corrected, k_hat, smoothed, standard_error, threshold

MOST, LEAST = 65_536, 4_000  # draws of the global latents
VALUES = 5e9  # numbers of the data looked at, all draws together
LOO_DRAWS, LOO_ROWS = 16_384, 200
OWN_DRAWS, OWN_ROWS = 1_000, 200  # of each row's latents; training rows looked at
RESTART_DRAWS = 1_000
POINTS = ("exact", "sampled")  # methods of EM, in a manifest


@dataclass(frozen=True, eq=False)
class Posterior:
    """What was found of q.

    Attributes:
        point: By what method the parameters are a point, so that there is no posterior of them to judge; else "".
        sites: Where the latents lie; None if the guide does not draw them all.
        unknown: Why it is None, a sentence.
        corrected: Of the global latents; None without any.
        weights: Draws of the global latents with their weights.
        loo_k: k̂ of leaving each looked-at row out, (rows,).
        loo: The expected log p(xₙ | the other rows) of those rows, nats, (rows,).
        own_k: k̂ of each looked-at row's own latents, (rows,).
        own_draws: Draws of each.
        restarts: R-hat of the global latents over restarts.
        iterates: R-hat of late iterates of the parameters.
        evaluation: Of held-out rows, where it was asked for.
    """

    point: str
    sites: Sites | None
    unknown: str
    corrected: Corrected | None
    weights: Weights | None
    loo_k: np.ndarray
    loo: np.ndarray
    own_k: np.ndarray
    own_draws: int
    restarts: Split | None
    iterates: Split | None
    evaluation: Evaluation | None


def posterior(
    fit: Fit, *, draws: int | None = None, rows: int = OWN_ROWS, own_draws: int = OWN_DRAWS, samples: int | None = None,
    seed: int = 0, device: str | None = None,
) -> Posterior:  # fmt: skip
    """Look at q: weigh its draws, leave rows out, compare restarts and iterates.

    Args:
        fit: By stochastic variational inference, coordinate ascent or EM.
        draws: Of the global latents; as many as are cheap, 4,000 to 65,536, if left out.
        rows: Training rows looked at one by one.
        own_draws: Of the latents of each.
        samples: Importance samples a held-out row of log p(x); None for none.
        seed: Of everything random.
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        InputError: The fit has no model to judge, or a setting cannot be used.
    """
    if fit.bound is None:
        raise InputError(f"expected a fit with a density, got one of {type(fit.model).__name__}, which has none; look at its "
                         "report.html.")  # fmt: skip
    method = str(fit.manifest.get("method", ""))
    empty, where = np.zeros(0), {"seed": seed, "device": device}
    try:
        found, unknown = sites(fit, device=device), ""
    except InputError as error:
        found, unknown = None, str(error)
    fixed, weights, loo_k, loo, spread = None, None, empty, empty, None
    if found is not None and found.shared:
        count = _affordable(fit) if draws is None else draws
        weights = weigh(fit, draws=count, rows=LOO_ROWS, **where)
        fixed = corrected(weights.draws, weights.log_weights)
        loo_k, loo = leave_one_out(weights)
        others = getattr(fit, "restart_params", None) or []
        if len(others) > 1:
            each = [weigh(fit, draws=RESTART_DRAWS, rows=1, params=one, **where).draws for one in others]
            spread = restarts_rhat(each)
    own = found is not None and found.own and found.plate is not None
    own_k = k_hat(row_weights(fit, draws=own_draws, rows=rows, **where)) if own else empty
    judged = None
    if samples and own and not (found and found.shared):
        judged = evaluate(fit, num_samples=samples, rows=1000, **where)
    return Posterior(
        method if method in POINTS else "", found, unknown, fixed, weights, loo_k, loo, own_k, own_draws, spread,
        iterates_rhat(getattr(fit, "iterates", None)), judged,
    )  # fmt: skip


def _affordable(fit: Fit) -> int:
    """Draws of the global latents that read the data in reasonable time."""
    return int(min(MOST, max(LEAST, VALUES // fit.data.x.size)))


def leave_one_out(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """k̂ and log p(xₙ | the other rows), nats, of each row kept, by weights p(θ, x) / q(θ) p(xₙ | θ).

    Leaving a row out and correcting q is one reweighting. Plain leave-one-out takes q for the posterior and is calm exactly
    where q is too narrow to notice. Source: Magnusson et al. 2019, eq. 6.
    """
    each = weights.log_likelihood[:LOO_DRAWS].T
    if not each.size:
        return np.zeros(0), np.zeros(0)
    log_w, k = smoothed(weights.log_weights[:LOO_DRAWS] - each)
    return k, np.logaddexp.reduce(log_w + each, axis=1)


def numbers(found: Posterior) -> dict[str, Any]:
    """As JSON knows it: `global`, `local`, `restarts`, `iterates`, each null where there is nothing to tell."""
    return {
        "point": found.point or None, "unknown": found.unknown or None, "global": _global(found), "local": _local(found),
        "restarts": _split(found.restarts), "iterates": _split(found.iterates),
    }  # fmt: skip


def _global(found: Posterior) -> dict[str, Any] | None:
    fixed, weights = found.corrected, found.weights
    if fixed is None or weights is None or found.sites is None:
        return None
    count, (shift, spread) = len(weights.log_p), (np.nan_to_num(v, nan=np.inf) for v in (fixed.shift, fixed.spread))
    rows = zip(fixed.names, fixed.raw_mean, fixed.raw_sd, fixed.mean, fixed.sd, strict=True)
    names = ("name", "raw_mean", "raw_sd", "mean", "sd")
    return {
        "sites": list(found.sites.shared), "draws": count, "k_hat": fixed.k, "k_hat_error": standard_error(fixed.k, count),
        "threshold": threshold(count), "noise": weights.noise, "finite": bool(np.isfinite(weights.log_weights).all()),
        "shift": float(shift.max()), "shift_at": fixed.names[int(shift.argmax())],
        "spread": float(spread.max()), "spread_at": fixed.names[int(spread.argmax())],
        "loo_k_max": float(found.loo_k.max()) if found.loo_k.size else None,
        "loo_share_above": float((found.loo_k > threshold(min(count, LOO_DRAWS))).mean()) if found.loo_k.size else None,
        "loo": float(found.loo.mean()) if found.loo.size else None, "loo_rows": int(found.loo.size),
        "coordinates": [dict(zip(names, (row[0], *map(float, row[1:])), strict=True)) for row in rows],
    }  # fmt: skip


def _local(found: Posterior) -> dict[str, Any] | None:
    if not found.own_k.size or found.sites is None:
        return None
    limit = threshold(found.own_draws)
    return {
        "sites": list(found.sites.own), "rows": int(found.own_k.size), "draws": found.own_draws, "threshold": limit,
        "share_above": float((found.own_k > limit).mean()), "median": float(np.median(found.own_k)),
        "largest": float(found.own_k.max()),
    }  # fmt: skip


def _split(found: Split | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"rhat": found.worst, "at": found.where, "all_but_few": found.all_but_few, "limit": found.limit,
            "coordinates": len(found.names)}  # fmt: skip
