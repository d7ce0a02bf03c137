"""A grey value p in [0, 1] becomes binary by the threshold p > 0.5 or by a draw x ~ Bernoulli(p), kept or made anew."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from .errors import InputError
from .tables import first, suggestion

Binarisation = Literal["none", "threshold", "static", "dynamic"]
BINARISATIONS: tuple[str, ...] = get_args(Binarisation)
SEED = 0

#: What a data card says was done.
DONE: dict[str, str] = {
    "none": "not binarised",
    "threshold": "binarised once, 1 where the value is > 0.5",
    "static": f"binarised once, training and held-out rows each one Bernoulli draw (seed {SEED})",
    "dynamic": f"binarised by a Bernoulli draw, training rows anew at each step and held-out rows once (seed {SEED})",
}


def binarised(x: np.ndarray, heldout: np.ndarray, binarise: Binarisation) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out rows as `binarise` has them, each in its own dtype; 'dynamic' leaves the training rows grey."""
    # Two streams: with one, training row n and held-out row n would share their uniforms.
    train, held = np.random.default_rng(SEED).spawn(2)
    if binarise == "threshold":
        return (x > 0.5).astype(x.dtype), (heldout > 0.5).astype(heldout.dtype)
    if binarise == "none":
        return x, heldout
    return _draw(train, x) if binarise == "static" else x, _draw(held, heldout)


def _draw(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return (rng.random(p.shape, np.float32) < p).astype(p.dtype)


def check_binarise(binarise: str) -> None:
    """Raise `InputError` if there is no such binarisation."""
    if binarise not in BINARISATIONS:
        raise InputError(
            f"binarise was expected to be one of {', '.join(BINARISATIONS)} but is {binarise!r}"
            f"{suggestion(binarise, BINARISATIONS)}; choose one of them"
        )


def check_unit(x: np.ndarray, where: str, binarise: Binarisation) -> None:
    """Raise `InputError` if values to be binarised are no probabilities."""
    if binarise == "none":
        return
    if (spot := first(~((x >= 0) & (x <= 1)))) is not None:  # written so that a missing entry fails too
        raise InputError(
            f"{where} was expected to hold values in [0, 1] to be binarised but has {x[spot]!s} in row {spot[0]}, "
            f"column {spot[-1]} (counting from 0); rescale the values, or use binarise none"
        )
