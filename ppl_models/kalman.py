"""The Kalman filter: log p(x) of a linear-Gaussian state space (Kalman 1960)."""

from __future__ import annotations

from math import pi
from typing import NamedTuple

from .language import Array, Language


class StateSpace(NamedTuple):
    """zₜ ~ N(A zₜ₋₁ + a, diag process), xₜ ~ N(C zₜ + c, diag noise), z₀ = `initial`; `process` and `noise` are variances."""

    initial: Array  # (d,)
    transition: Array  # A (d, d)
    drift: Array  # a (d,)
    process: Array  # (d,)
    emission: Array  # C (D, d)
    offset: Array  # c (D,)
    noise: Array  # (D,)


def log_evidence(ppl: Language, space: StateSpace, x: Array, mask: Array) -> Array:
    """log p(x) = Σₜ log N(xₜ; C mₜ + c, C Pₜ Cᵀ + R) over each row's real steps, nats, shape (N,).

    With zₜ ~ N(mₜ, Pₜ) given x₁ … xₜ₋₁ and Λ = Cᵀ R⁻¹ C, everything happens in the latent's d dimensions:

        G = (I + Pₜ Λ)⁻¹,  V = G Pₜ,  s = Cᵀ R⁻¹ (xₜ − C mₜ − c),  m = mₜ + V s  (the filtered mean),
        log N(xₜ) = −½ (‖xₜ − C m − c‖²_R + sᵀ G V s + log|I + Pₜ Λ| + log|2π R|),
        mₜ₊₁ = A m + a,  Pₜ₊₁ = A V Aᵀ + Q.

    Covariances do not depend on the data, and a row's padding comes last: one recursion of P serves all rows.
    `x` is (N, T, D), `mask` (N, T), true on each row's first steps.
    """
    xp, (initial, A, a, process, C, c, noise) = ppl.xp, space
    eye = xp.eye(process.shape[0])
    weighted = C / noise[:, None]
    precision = C.mT @ weighted
    constant = xp.log(2 * pi * noise).sum()

    def step(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        mean, covariance = carry
        scaled = eye + covariance @ precision
        gain = xp.linalg.inv(scaled)
        filtered = gain @ covariance
        score = (x - mean @ C.mT - c) @ weighted
        moved = score @ filtered.mT
        mean = mean + moved
        # Both squares are sums of positive terms: no digits cancel where the noise is small.
        square = ((x - mean @ C.mT - c) ** 2 / noise).sum(-1) + ((score @ gain) * moved).sum(-1)
        log_density = -0.5 * (square + xp.linalg.slogdet(scaled)[1] + constant)
        return (mean @ A.mT + a, A @ filtered @ A.mT + eye * process), log_density[..., None]

    first = A @ initial + a + xp.zeros((x.shape[0], eye.shape[0]))
    log_density = ppl.scan(step, (first, eye * process), x)[..., 0]
    return xp.where(mask, log_density, 0.0).sum(-1)
