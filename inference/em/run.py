"""What one run of EM reports."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Run(NamedTuple):
    """One restart. Entry i of `log_likelihoods` belongs to the parameters after i iterations, the last to `params`."""

    params: dict[str, np.ndarray]  # constrained
    log_likelihoods: np.ndarray  # (iterations + 1,), mean log p(x), nats per datum
    seconds: float  # of the iterations and of `summarise`, device-synchronised, without compilation
    setup_seconds: float  # compilation


def weight(iteration: int, iterations: int) -> float:
    """Of the newest draw in the average of statistics: 1 in the first half, then 1, 1/2, 1/3 … (Robbins and Monro 1951)."""
    return 1.0 / max(1, iteration - iterations // 2)
