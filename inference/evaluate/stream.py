"""Importance weights seen a few samples at a time: what is kept of them for each row, and what that says of log p(x).

    log p̂(x) = log (1/K) Σₖ wₖ,  wₖ = p(x, zₖ) / q(zₖ | x),  zₖ ~ q(z | x)        (Burda et al. 2016, eq. 8)

Memory does not grow with K. Arrays belong to either library: `xp` is its array-API namespace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError

from ..estimators.terms import Term


class Stream(NamedTuple):
    """Sums over the K log weights of each row; all (rows,) but `count`."""

    top: Any  # the largest log weight m
    first: Any  # Σ exp(log w − m)
    second: Any  # Σ exp(2 (log w − m))
    mean: Any  # of the log weights: the one-sample ELBO
    count: Any  # K


class Weighed(NamedTuple):
    """What K importance samples say of each row, (N,): nats, and the effective number of samples."""

    log_p: np.ndarray
    standard_error: np.ndarray
    elbo: np.ndarray
    effective: np.ndarray


def start(num_rows: int, like: Any, xp: Any) -> Stream:
    """No sample seen; `like` gives the dtype."""
    zero = xp.zeros(num_rows, dtype=like.dtype)
    return Stream(zero - xp.inf, zero, zero, zero, xp.zeros((), dtype=like.dtype))


def fold(stream: Stream, log_w: Any, keep: Any, xp: Any) -> Stream:
    """The stream after log weights (S, rows), of which those with `keep` (S, 1) count."""
    seen = xp.where(keep, log_w, -xp.inf)
    top = xp.maximum(stream.top, xp.max(seen, axis=0))
    level = xp.where(top > -xp.inf, top, 0.0)  # a row without any weight yet must not make −inf − −inf
    shrink, w = xp.exp(stream.top - level), xp.exp(seen - level)
    count = stream.count + xp.sum(xp.asarray(keep, dtype=log_w.dtype))
    finite = xp.where(stream.mean > -xp.inf, stream.mean, 0.0)
    gain = xp.sum(xp.where(keep, log_w - finite, 0.0), axis=0)
    mean = xp.where(stream.mean > -xp.inf, finite + gain / count, -xp.inf)
    return Stream(top, stream.first * shrink + xp.sum(w, axis=0), stream.second * shrink**2 + xp.sum(w * w, axis=0),
                  mean, count)  # fmt: skip


def weighed(stream: Stream, num_samples: int) -> Weighed:
    """log p̂ of each row and its standard error, sd(w) / (mean(w) √K) (the delta method); unknown (inf) from one sample."""
    top, first, second, mean = (np.asarray(part, np.float64) for part in stream[:4])
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = first**2 / second
        spread = np.maximum(num_samples / effective - 1, 0) / max(num_samples - 1, 1)
        log_p = top + np.log(first / num_samples)
    return Weighed(log_p, np.sqrt(spread) if num_samples > 1 else np.full_like(mean, np.inf), mean, effective)


def row_weights(terms: Sequence[Term], num_rows: int) -> Any:
    """log p(x, z) − log q(z | x) of each sample and datum, nats, (S, num_rows).

    Raises:
        InputError: No plate holds the data, or a latent lies outside it, so that rows have no weights of their own.
    """
    plates = {p for t in terms for p in t.plates if p.size == num_rows}
    if not plates:
        raise InputError("expected a plate over the rows of the data, got none; put latents and data into "
                         'plate("data", ...).')  # fmt: skip
    data, out = min(plates, key=lambda p: (p.name != "data", p.name)), 0.0
    for t in terms:
        if data not in t.plates:
            raise InputError(f"expected every site inside the plate '{data.name}', got '{t.name}' outside it, which all rows "
                             "share; log p(x) of a row is defined for local latents only.")  # fmt: skip
        axis = t.cost.ndim + data.dim
        cost = t.cost.sum(axis=tuple(d for d in range(1, t.cost.ndim) if d != axis))
        out = out + cost / data.scale
    return out


def split(num_rows: int, num_samples: int, chunk: int) -> tuple[int, int]:
    """Rows and samples of a block of about `chunk` (row, sample) pairs; many samples a row, since the encoder runs once."""
    rows = max(1, min(num_rows, chunk // 64))
    return rows, max(1, min(num_samples, chunk // rows))
