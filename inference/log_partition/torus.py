"""log Z of the Ising model on a torus without a field, in closed form (Kaufman 1949)."""

from __future__ import annotations

import numpy as np

from ppl_models import InputError

STRONGEST = 300.0  # beyond it sinh 2K is no number of double precision


def torus_edges(rows: int, columns: int) -> tuple[tuple[int, int], ...]:
    """The 2 · rows · columns bonds between neighbours on a torus, unit r · columns + c at row r and column c.

    For `BoltzmannMachine(rows * columns, edges=torus_edges(rows, columns), spins="ising")`.

    Raises:
        InputError: A side is below 3, so that two bonds join one pair.
    """
    if min(rows, columns) < 3:
        raise InputError(f"expected sides of at least 3, got {rows} x {columns}, where two bonds join one pair; give that pair "
                         "one edge of twice the coupling.")  # fmt: skip
    here = np.arange(rows * columns).reshape(rows, columns)
    pairs = [np.stack([here, np.roll(here, -1, axis)], -1).reshape(-1, 2) for axis in (1, 0)]
    return tuple((int(i), int(j)) for i, j in np.concatenate(pairs))


def torus_log_partition(rows: int, columns: int, coupling: float) -> float:
    """log Σ exp(K Σ s s') over ±1 spins on an m x n torus, the inner sum over its 2 m n bonds, nats.

        Z = ½ (2 sinh 2K)^(mn/2) (Π 2 cosh ½mγ₂ᵣ₊₁ + Π 2 sinh ½mγ₂ᵣ₊₁ + Π 2 cosh ½mγ₂ᵣ + Π 2 sinh ½mγ₂ᵣ),  r = 0 … n − 1,

    cosh γₗ = cosh 2K coth 2K − cos(πl / n), γ₀ = 2K + log tanh K, below 0 above the critical temperature. On sides of 2 both
    bonds of a pair count. Products are logarithms, and γ comes of sinh²(γ/2) = (s − 1)² / 2s + sin²(πl / 2n), s = sinh 2K, in
    which nothing cancels. Source: Kaufman 1949; in this form Beale 1996.

    Args:
        rows: m, at least 2.
        columns: n, at least 2.
        coupling: K = J / T. Of an antiferromagnet (below 0) on even sides Z is that of the ferromagnet.

    Raises:
        InputError: A side is below 2, the coupling is beyond ±300, or below 0 on an odd side, which frustrates it.
    """
    if min(rows, columns) < 2:
        raise InputError(f"expected sides of at least 2, got {rows} x {columns}; a single row is a ring.")
    if not abs(coupling) <= STRONGEST:
        raise InputError(f"expected a coupling within {STRONGEST:g} of 0, got {coupling!r}; beyond it count the ground states.")
    if coupling < 0 and (rows % 2 or columns % 2):
        raise InputError(f"expected even sides for a coupling below 0, got {rows} x {columns}; every odd ring is frustrated.")
    if coupling == 0:
        return float(rows * columns * np.log(2))
    K = abs(float(coupling))
    s = np.sinh(2 * K)
    signs, logs = [], []
    for first in (1, 0):
        angle = np.pi * np.arange(first, 2 * columns, 2) / (2 * columns)
        half = np.arcsinh(np.sqrt((s - 1) * (1 - 1 / s) / 2 + np.sin(angle) ** 2))  # γ / 2
        if first == 0:
            half[0] = np.sign(s - 1) * half[0]
        size = rows * np.abs(half)
        with np.errstate(divide="ignore"):  # γ₀ = 0 at the critical point: a product of nought
            sinh = (size + np.log(-np.expm1(-2 * size))).sum()
        signs += [1.0, float(np.sign(half).prod())]
        logs += [(size + np.log1p(np.exp(-2 * size))).sum(), sinh]
    top = max(logs)
    total = sum(sign * np.exp(log - top) for sign, log in zip(signs, logs, strict=True))
    return float(rows * columns / 2 * (2 * K + np.log(-np.expm1(-4 * K))) - np.log(2) + top + np.log(total))
