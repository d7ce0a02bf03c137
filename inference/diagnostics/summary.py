"""What the observables of chains come to, as JSON knows it; units that never moved are counted apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from .observe import Observed
from .tree import rows
from .verdict import VARIES


def summary(seen: Observed, x: np.ndarray) -> dict[str, Any]:
    """R-hat, ESS and the like of each observable, and how many units of each site had one value in every draw.

    `stuck` are the visible ones among them whose mean over the training rows `x` is well inside the range of the data: pixels
    that are blank in the data may well be blank in the model. `stuck_share` is their share of all such units.
    """
    mean, low, high = x.mean(0), x.min(), x.max()
    varies = (mean > low + VARIES * (high - low)) & (mean < high - VARIES * (high - low))
    stuck = int((seen.constant["x"] & varies).sum())
    chains, draws = seen.energy.shape
    return {
        "observables": rows(seen), "chains": chains, "draws": draws, "sweeps_between_draws": seen.every,
        "constant_units": {name: int(unit.sum()) for name, unit in seen.constant.items()},
        "units": {name: int(unit.size) for name, unit in seen.constant.items()},
        "stuck": stuck, "stuck_share": stuck / max(1, int(varies.sum())),
        "accept_prob": float(seen.accept_prob.mean()), "trips": None if seen.trips is None else seen.trips.tolist(),
    }  # fmt: skip
