"""Summaries of a mixture that do not change when its components are renumbered, and numberings that agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ppl_models import InputError


def co_assignment(assignments: np.ndarray) -> np.ndarray:
    """P(kₙ = kₘ), (N, N): the share of draws in which two rows have one component (Binder 1978).

    Args:
        assignments: Whole numbers (draws, N), or responsibilities (draws, N, K); a single (N, K) is one draw.
    """
    assignments = np.asarray(assignments)
    if assignments.dtype.kind in "iub":
        share = (np.atleast_2d(assignments)[..., None] == np.arange(assignments.max() + 1)).astype(float)
    else:
        share = assignments.reshape(-1, *assignments.shape[-2:])
    out = np.einsum("snk,smk->nm", share, share, optimize=True) / len(share)
    np.fill_diagonal(out, 1.0)
    return out


def adjusted_rand_index(labels: np.ndarray, truth: np.ndarray) -> float:
    """Agreement of two clusterings: 1 if equal up to names, 0 on average by chance (Hubert and Arabie 1985)."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, labels))


def match(locs: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`order` such that locs[order[k]] belongs to reference[k]: the least total squared distance (Kuhn 1955).

    Raises:
        InputError: The two have different shapes.
    """
    from scipy.optimize import linear_sum_assignment

    locs, reference = np.asarray(locs), np.asarray(reference)
    if locs.ndim != 2 or locs.shape != reference.shape:
        raise InputError(f"expected two sets of locations of one shape (K, D), got {locs.shape} and {reference.shape}; "
                         "match mixtures of equally many components.")  # fmt: skip
    cost = ((reference[:, None] - locs) ** 2).sum(-1)
    return linear_sum_assignment(cost)[1]


def canonical_order(locs: np.ndarray) -> np.ndarray:
    """The order by first coordinate, ties by the next: one numbering for all renumberings of locs (K, D)."""
    return np.lexsort(np.asarray(locs).T[::-1])


def renumber(values: Mapping[str, np.ndarray], order: np.ndarray, num_components: int) -> dict[str, np.ndarray]:
    """Every array with a leading axis of length K in the new order; others, such as a tied covariance, as they are.

    For a mixture's parameters, or one posterior draw of them; an ambiguous tied covariance (K = D) is told by its name,
    since `scale` and `lower` are a component's own only if they come with one axis more.
    """
    tied = "lower" in values and np.ndim(values["lower"]) == 2
    shared = {"scale", "lower"} if tied else set()
    return {
        name: value[order] if name not in shared and np.shape(value)[:1] == (num_components,) else value
        for name, value in values.items()
    }
