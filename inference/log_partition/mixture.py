"""log Σ_s exp(a·s + t(s)) over all bits s, for many a: the sum over the hidden states of a mixture of products."""

from __future__ import annotations

import numpy as np

from .exact import bits

ROWS = 512  # at once
LOST = 1e-280  # of the largest term: sums above have lost nothing that counts
STATES = 2**12  # at once, where a sum is formed term by term


def log_mixture(a: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """log Σ_s exp(a·s + t(s)), (rows,), of a (rows, units) and t (2^units,), s counting up with its highest bit first.

    With s = (u, v) in halves, exp(a·s) = p_u q_v is a product, so the sums of all rows are one product with the matrix
    exp(t) of 2^(units/2) rows and columns: two operations a state and row, and no exponential of either. p, q and exp(t)
    are scaled to a largest entry of 1. A term can then fall below the smallest number, 1e-308, in all by less than
    2^units of those; rows whose sum is not above 1e-280 are summed term by term instead, by their logarithms.
    """
    units = a.shape[1]
    half = units // 2
    high, low = bits(0, 2**half, half), bits(0, 2 ** (units - half), units - half)
    top = rest.max()
    table = np.exp(rest - top).reshape(len(high), len(low))
    out = np.empty(len(a))
    for i in range(0, len(a), ROWS):
        some = a[i : i + ROWS]
        left, right = some[:, :half] @ high.T, some[:, half:] @ low.T
        ends = left.max(1, keepdims=True), right.max(1, keepdims=True)
        total = ((np.exp(left - ends[0]) @ table) * np.exp(right - ends[1])).sum(1)
        safe = total > LOST
        out[i : i + ROWS] = top + (ends[0] + ends[1])[:, 0] + np.log(np.where(safe, total, 1.0))
        if not safe.all():
            out[i : i + ROWS][~safe] = term_by_term(some[~safe], rest)
    return out


def term_by_term(a: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The same, whatever the range of the terms."""
    units, total = a.shape[1], np.full(len(a), -np.inf)
    for first in range(0, len(rest), STATES):
        last = min(first + STATES, len(rest))
        terms = a @ bits(first, last, units).T + rest[first:last]
        top = terms.max(1)
        total = np.logaddexp(total, top + np.log(np.exp(terms - top[:, None]).sum(1)))
    return total
