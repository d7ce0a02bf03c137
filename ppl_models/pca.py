"""Principal component analysis as the zero-noise limit of probabilistic PCA (Roweis 1998)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .factor_analysis import Moments, moments
from .language import Array, Language
from .networks import constant, uniform


@dataclass(frozen=True)
class PCA:
    """min over W, Z of ½ Σₙ ‖xₙ − x̄ − W zₙ‖²: the columns of W span the principal subspace.

    EM of probabilistic PCA as σ → 0: Z = W⁺ X, then W = X Z⁺. The limit has no density, so there is neither `model` nor
    `guide`, and −½ squared error stands where log p(x) does elsewhere. Parameters: `loading` (data_dim, latent_dim),
    `loc` (data_dim,), which is the mean. Source: Roweis 1998, section 3.
    """

    data_dim: int
    latent_dim: int = 2

    def parameters(self, ppl: Language) -> tuple[Array, Array]:
        loading = ppl.param("loading", uniform(ppl, 0.5, self.data_dim, self.latent_dim))
        return loading, ppl.param("loc", constant(ppl, 0.0, self.data_dim))

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Random directions."""
        return {"loading": rng.standard_normal((self.data_dim, self.latent_dim)), "loc": x.mean(0)}

    def summarise(self, ppl: Language, x: Array) -> Moments:
        return moments(ppl, x)

    def expected(self, ppl: Language, data: Moments) -> tuple[dict[str, Array], Array]:
        """Z = W⁺ X."""
        loading, _ = self.parameters(ppl)
        z = data.root @ loading @ ppl.xp.linalg.inv(loading.mT @ loading)
        error = ((data.root - z @ loading.mT) ** 2).sum()
        return {"mean": data.mean, "xz": data.root.mT @ z, "zz": z.mT @ z}, -data.rows * error / 2

    def maximise(self, ppl: Language, statistics: Mapping[str, Array]) -> dict[str, Array]:
        """W = X Z⁺."""
        return {"loading": statistics["xz"] @ ppl.xp.linalg.inv(statistics["zz"]), "loc": statistics["mean"]}

    def closed_form(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The leading right singular vectors of the centred rows, orthonormal."""
        x = np.asarray(x, np.float64)
        directions = np.linalg.svd(x - x.mean(0), full_matrices=False)[2]
        return {"loading": directions[: self.latent_dim].T, "loc": x.mean(0)}
