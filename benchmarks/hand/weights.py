"""The VAE 784-400-20 that both peers train: its first weights, and its data."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

DATA, HIDDEN, LATENT = 784, 400, 20
SIZES = {"encoder": (DATA, HIDDEN, 2 * LATENT), "decoder": (LATENT, HIDDEN, DATA)}


def weights(seed: int) -> dict[str, np.ndarray]:
    """Glorot-uniform weights and zero biases, float32, named as in the declaration."""
    rng = np.random.default_rng(seed)
    made = {}
    for part, sizes in SIZES.items():
        for i, (rows, columns) in enumerate(pairwise(sizes)):
            bound = np.sqrt(6 / (rows + columns))
            made[f"{part}.{i}.weight"] = rng.uniform(-bound, bound, (rows, columns)).astype(np.float32)
            made[f"{part}.{i}.bias"] = np.zeros(columns, np.float32)
    return made


def greys(rows: int, seed: int) -> np.ndarray:
    """Pixels in [0, 1], most of them near an end as in a scan of ink; the time of a step does not depend on them."""
    return np.random.default_rng(seed).beta(0.1, 0.4, (rows, DATA)).astype(np.float32)
