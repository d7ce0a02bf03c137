"""Where training arrives, compared by seeds: runs of one seed start from the same parameters and see the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def paired(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each estimator, its last held-out ELBO less that of the best one, mean over seeds, nats per datum.

    The 95 % interval is Student's over the seeds' differences; `low` and `high` are None where there is one seed. An interval
    that holds 0 says that these seeds do not tell the two apart.
    """
    finals: dict[str, dict[int, float]] = {}
    for curve in curves:
        if curve["elbo"]:
            finals.setdefault(curve["name"], {})[curve["seed"]] = float(curve["elbo"][-1])
    finite = {name: ends for name, ends in finals.items() if np.isfinite(list(ends.values())).all()}
    if len(finite) < 2:
        return []
    best = max(finite, key=lambda name: float(np.mean(list(finite[name].values()))))
    out = []
    for name in finite:
        seeds = sorted(set(finite[name]) & set(finite[best]))
        apart = np.array([finite[name][s] - finite[best][s] for s in seeds])
        low = high = None
        if len(apart) > 1 and name != best:
            from scipy.stats import t

            error = float(t.ppf(0.975, len(apart) - 1)) * apart.std(ddof=1) / len(apart) ** 0.5
            low, high = apart.mean() - error, apart.mean() + error
        out.append({"name": name, "against": best, "value": apart.mean(), "low": low, "high": high, "seeds": len(apart)})
    return out
