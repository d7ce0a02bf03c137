"""Which of several fits to keep: by log p(x) of held-out rows, or by the Bayesian information criterion."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import numpy as np

from ppl_models import InputError

from .estimate import Estimate
from .svi import Fit


class Candidate(NamedTuple):
    """One fit as the choice sees it."""

    fit: Fit
    num_params: int
    bic: float
    heldout_log_likelihood: Estimate | None


def bic(log_likelihood: float, num_params: int, rows: int) -> float:
    """−2 log p(x) + P log N with log p(x) in nats, total over the N training rows; less is better (Schwarz 1978)."""
    return -2 * log_likelihood + num_params * log(rows)


def num_params(fit: Fit) -> int:
    """Free parameters: the declaration's `num_params` where its parameters are redundant, else all entries."""
    return int(getattr(fit.model, "num_params", sum(np.size(value) for value in fit.params.values())))


def candidates(fits: Sequence[Fit]) -> list[Candidate]:
    """The fits, best BIC first.

    Raises:
        InputError: A fit has no exact log p(x) of its training rows, or the fits saw different data.
    """
    out = []
    for fit in fits:
        value = fit.history[-1].get("train_log_likelihood")
        if value is None:
            raise InputError(f"BIC needs log p(x) of the training rows, which a fit of {type(fit.model).__name__} did not "
                             "record; fit it by expectation-maximisation (inference.em).")  # fmt: skip
        if not np.array_equal(fit.data.x, fits[0].data.x, equal_nan=True):
            raise InputError("expected fits to the same training rows, got different ones; fit every candidate to one Dataset.")
        rows, size = len(fit.data.x), num_params(fit)
        out.append(Candidate(fit, size, bic(value * rows, size, rows), fit.heldout_log_likelihood))
    return sorted(out, key=lambda candidate: candidate.bic)
