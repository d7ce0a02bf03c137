"""Loadings are known only up to a rotation of the latents: W and W R with R Rᵀ = I give the same p(x)."""

from __future__ import annotations

import numpy as np

from ppl_models import InputError


def varimax(loading: np.ndarray, tolerance: float = 1e-12, iterations: int = 1000) -> np.ndarray:
    """W R with the rotation R that makes Σ_k Var_d (W R)²_dk large: each factor loads on few columns, strongly.

    Columns are ordered by their sums of squares, with a positive entry of largest size. Source: Kaiser 1958, eq. 2; by the
    singular value decompositions of Horst 1965. The criterion has local maxima; this is the one reached from `canonical`.

    Args:
        loading: (D, K).
        tolerance: Stop when an iteration raises the criterion by less than this share.
        iterations: At most so many.
    """
    start = canonical(loading)
    rotated, last = start, 0.0
    for _ in range(iterations):
        slope = rotated**3 - rotated * (rotated**2).mean(0)
        left, values, right = np.linalg.svd(start.T @ slope)
        rotated = start @ (left @ right)
        if values.sum() <= last * (1 + tolerance):
            break
        last = values.sum()
    return ordered(rotated)


def canonical(loading: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """The W R with Wᵀ diag(σ⁻²) W diagonal: one representative of all rotations of W, so that two fits can be compared.

    Columns are ordered by their lengths in that metric, with a positive entry of largest size. It is unique where the
    lengths differ. Source: Lawley and Maxwell 1971, section 2.3.

    Args:
        loading: (D, K).
        scale: Noise standard deviations σ, (D,) or one for all.
    """
    loading, scale = _matrix(loading), np.asarray(scale, np.float64)[..., None]
    left, values, _ = np.linalg.svd(loading / scale, full_matrices=False)
    axes = left * values
    return ordered(np.pad(axes, ((0, 0), (0, loading.shape[1] - axes.shape[1]))) * scale, scale)


def criterion(loading: np.ndarray) -> float:
    """What `varimax` makes large: the variance of the squared loadings of each factor, summed."""
    return float((_matrix(loading) ** 2).var(0).sum())


def ordered(loading: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """The columns from long to short, length in units of `scale`, and each with its entry of largest size positive."""
    loading = loading[:, np.argsort(-((loading / scale) ** 2).sum(0), kind="stable")]
    return loading * np.where(loading[np.abs(loading).argmax(0), np.arange(loading.shape[1])] < 0, -1.0, 1.0)


def _matrix(loading: np.ndarray) -> np.ndarray:
    matrix = np.asarray(loading, np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InputError(f"expected loadings as a matrix (columns, latents) of finite numbers, got shape {matrix.shape}; "
                         "give the parameter `loading` of a fit.")  # fmt: skip
    return matrix
