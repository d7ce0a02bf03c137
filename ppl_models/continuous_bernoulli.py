"""Continuous Bernoulli: p(x; η) = exp(η x − A(η)) on [0, 1], A(η) = log((exp(η) − 1) / η), η the logits.

Written once for both engines, from logits: PyTorch's cuts a band out around probability ½ where it switches to a
low-order series, and NumPyro has none. Source: Loaiza-Ganem and Cunningham 2019, eqs 3 to 8.
"""

from __future__ import annotations

from typing import Any

# Within this band around 0 the closed form of A loses digits to cancellation; the series drops less than 1e-16.
SMALL = 0.05
# The quantile's closed form keeps its digits to the end and only its gradient does not: a narrower band.
TINY = 1e-3


def _split(xp: Any, eta: Any, band: float) -> tuple[Any, Any, Any]:
    """Whether η lies in the band, η for the series and η for the closed form, each safe where it is not used."""
    inside = xp.abs(eta) < band
    return inside, xp.where(inside, eta, xp.zeros_like(eta)), xp.where(inside, xp.ones_like(eta), eta)


def log_normaliser(xp: Any, eta: Any) -> Any:
    """A(η), exact to rounding for every finite η."""
    inside, near, far = _split(xp, eta, SMALL)
    square, wide = near**2, xp.abs(far)
    series = square * (1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square / 9676800)))
    closed = wide / 2 + xp.log1p(-xp.exp(-wide)) - xp.log(wide)
    return eta / 2 + xp.where(inside, series, closed)


def log_prob(xp: Any, eta: Any, x: Any) -> Any:
    """log p(x; η) in nats."""
    return eta * x - log_normaliser(xp, eta)


def icdf(xp: Any, eta: Any, u: Any) -> Any:
    """The value below which a share `u` of the mass lies; differentiable in η, so draws are reparameterised."""
    inside, near, far = _split(xp, eta, TINY)
    series = u + near * u * (1 - u) / 2 * (1 + near * (1 - 2 * u) / 3)
    # For η > 0 mirror to −η, so that exp(η) never overflows.
    # A share of 1 (u is drawn from [0, 1)) would put the draw at infinity.
    share = xp.clip(xp.where(far > 0, 1 - u, u), None, 1 - xp.finfo(u.dtype).eps)
    size = xp.abs(far)
    low = -xp.log1p(share * xp.expm1(-size)) / size
    return xp.where(inside, series, xp.where(far > 0, 1 - low, low))


def mean(xp: Any, eta: Any) -> Any:
    """E[x] = A'(η)."""
    inside, near, far = _split(xp, eta, SMALL)
    series = 0.5 + near / 12 - near**3 / 720 + near**5 / 30240
    wide = xp.abs(far)  # mirrored, so that the exponential never overflows
    closed = -1 / xp.expm1(-wide) - 1 / wide
    return xp.where(inside, series, xp.where(far > 0, closed, 1 - closed))
