"""Factor analysis, and probabilistic PCA as its isotropic case (Tipping and Bishop 1999)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, pi
from typing import Any, NamedTuple, cast

import numpy as np

from .errors import InputError
from .language import Array, Distribution, Language
from .networks import constant, uniform

TINY = 1e-30  # added to variances, so that a column without any has a logarithm too


class Moments(NamedTuple):
    """Of N complete rows: `root` (D, D) with rootᵀ root their covariance about `mean` (D,)."""

    rows: int
    mean: Array
    root: Array


def moments(ppl: Language, x: Array) -> Moments:
    """All that a linear-Gaussian model needs of complete rows: D rows (and the mean) stand for N."""
    mean = ppl.xp.mean(x, axis=0)
    mean = mean + ppl.xp.mean(x - mean, axis=0)  # a long sum in float32 is rounded; what it lost is summed here
    covariance = (x - mean).mT @ (x - mean) / x.shape[0]
    spread = ppl.xp.sqrt(ppl.xp.linalg.diagonal(covariance)) + TINY
    # Scaled to correlations first: else columns of small units drown in the rounding of large ones.
    values, vectors = ppl.xp.linalg.eigh(covariance / spread / spread[:, None])
    return Moments(x.shape[0], mean, ppl.xp.sqrt(ppl.relu(values))[:, None] * vectors.mT * spread)


def observed(ppl: Language, x: Array, fill: Array | float) -> tuple[Array, Array]:
    """Which entries are no NaN, and x with `fill` for the others: where a NaN enters a sum, gradients are NaN too."""
    seen = ~ppl.xp.isnan(x)
    return seen, ppl.xp.where(seen, x, fill)


def precision(ppl: Language, loading: Array, scale: Array, seen: Array) -> Array:
    """I + Σ_d w_d w_dᵀ / σ_d² over the columns seen, shape (*seen.shape[:-1], K, K)."""
    K = loading.shape[1]
    products = (loading[:, :, None] * loading[:, None, :]).reshape(-1, K * K)
    weights = ppl.xp.where(seen, scale**-2, 0.0)
    return ppl.xp.eye(K) + (weights @ products).reshape(*seen.shape[:-1], K, K)


def inverted(ppl: Language, matrix: Array) -> tuple[Array, Array]:
    """A⁻¹ and log |A| of positive definite A, (…, K, K), by K Gauss-Jordan sweeps over all of them at once.

    The libraries factorise a batch one by one, and on the CPU XLA can wait for ever on a loop that does so.
    """
    log_determinant, indices = 0.0, ppl.xp.arange(matrix.shape[-1])
    for k in range(matrix.shape[-1]):
        pivot, here = matrix[..., k, k], indices == k
        log_determinant = log_determinant + ppl.xp.log(pivot)
        row = ppl.xp.where(here, 1.0, matrix[..., k, :]) / pivot[..., None]
        swept = ppl.xp.where(here, 0.0, matrix) - matrix[..., :, k, None] * row[..., None, :]
        matrix = ppl.xp.where(here[:, None], row[..., None, :], swept)
    return matrix, cast(Array, log_determinant)


@dataclass(frozen=True)
class FactorAnalysis:
    """p(x, z) = N(z; 0, I) N(x; W z + b, diag σ²), so that p(x) = N(x; b, W Wᵀ + diag σ²).

    The guide is the exact posterior N(z; M Wᵀ diag(σ⁻²)(x − b), M) with M = (I + Wᵀ diag(σ⁻²) W)⁻¹, computed from the
    model's own parameters: the bound is tight. `isotropic` shares one σ (probabilistic PCA). With `missing`, entries that
    are NaN are integrated out: the sums over columns run over those observed, and M is each row's own.
    Sites: `z` (latent_dim,), `x` (data_dim,) in the plate `data`. Parameters: `loading` (data_dim, latent_dim),
    `loc` (data_dim,), `scale` (data_dim,) or (). Source: Tipping and Bishop 1999, eqs 2 to 7.

    EM (Rubin and Thayer 1982) needs only the second moments of complete rows: an iteration costs O(D² K), whatever N is.
    It keeps each σ² above `floor` (in float32 at least 1e-4, for rounding) times its column's variance: p(x) is unbounded
    where a column is constant, and where a factor can follow one column alone its σ would creep to zero (a Heywood case).
    """

    data_dim: int
    latent_dim: int = 2
    isotropic: bool = False
    missing: bool = False
    floor: float = 1e-6

    @property
    def num_params(self) -> int:
        """Free parameters: rotations of the latents change nothing, and take K (K − 1) / 2 off the loadings."""
        D, K = self.data_dim, min(self.latent_dim, self.data_dim)
        return D * K - K * (K - 1) // 2 + D + (1 if self.isotropic else D)

    def parameters(self, ppl: Language) -> tuple[Array, Array, Array]:
        shape = () if self.isotropic else (self.data_dim,)
        loading = ppl.param("loading", uniform(ppl, 0.5, self.data_dim, self.latent_dim))
        loc = ppl.param("loc", constant(ppl, 0.0, self.data_dim))
        scale = ppl.param("scale", constant(ppl, 1.0, *shape), constraint=ppl.constraints.positive)
        return loading, loc, scale + ppl.xp.zeros(self.data_dim)

    def prior(self, ppl: Language) -> Distribution:
        return ppl.dist.MultivariateNormal(ppl.xp.zeros(self.latent_dim), scale_tril=ppl.xp.eye(self.latent_dim))

    def posterior(self, ppl: Language, x: Array) -> Distribution:
        loading, loc, scale = self.parameters(ppl)
        if self.missing:
            seen, x = observed(ppl, x, loc)
            inverse = precision(ppl, loading, scale, seen)
            covariance = inverted(ppl, inverse)[0]
            mean = covariance @ ((x - loc) / scale**2 @ loading)[..., None]
            root = ppl.xp.linalg.cholesky(covariance)
            return ppl.whitened_normal(mean[..., 0], root, root.mT @ inverse)
        whitened = loading / scale[:, None] ** 2
        covariance = ppl.xp.linalg.inv(ppl.xp.eye(self.latent_dim) + loading.mT @ whitened)
        # One factor for all rows: given a covariance, both libraries factorise it once a row.
        return ppl.dist.MultivariateNormal((x - loc) @ whitened @ covariance, scale_tril=ppl.xp.linalg.cholesky(covariance))

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        loading, loc, scale = self.parameters(ppl)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", self.prior(ppl))
            fn = ppl.dist.Normal(z @ loading.mT + loc, scale)
            if self.missing:
                seen, x = observed(ppl, x, 0.0)
                fn = fn.mask(seen)
            ppl.sample("x", fn.to_event(1), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", self.posterior(ppl, x))

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Independent columns, and loadings a tenth of their scale."""
        spread = np.maximum(np.nanstd(x, 0), 1e-2)
        scale = np.sqrt(np.mean(spread**2)) if self.isotropic else spread
        loading = 0.1 * spread[:, None] * rng.standard_normal((self.data_dim, self.latent_dim))
        return {"loading": loading, "loc": np.nanmean(x, 0), "scale": np.asarray(scale)}

    def log_evidence(self, ppl: Language, x: Array) -> Array:
        """log p(x) of each row, nats, shape x.shape[:-1]; with `missing`, of its observed entries."""
        loading, loc, scale = self.parameters(ppl)
        if self.missing:
            seen, filled = observed(ppl, x, loc)
            _, _, distance, normaliser = self.encode(ppl, filled - loc, seen)
            return -distance / 2 - normaliser
        return ppl.dist.LowRankMultivariateNormal(loc, loading, scale**2).log_prob(x)

    # --- expectation-maximisation ---

    def encode(self, ppl: Language, centred: Array, seen: Array) -> tuple[Array, Array, Array, Array]:
        """ẑ = E[z | x] and M = Cov[z | x] of rows x − b, and a, c such that log p(x) = −a / 2 − c.

        By log p(x) = log p(x, z) − log p(z | x) at z = ẑ: a = ‖(x − b − W ẑ) / σ‖² + ‖ẑ‖² loses no digits where σ is small.
        """
        loading, _, scale = self.parameters(ppl)
        covariance, log_determinant = inverted(ppl, precision(ppl, loading, scale, seen))
        z = (covariance @ (centred / scale**2 @ loading)[..., None])[..., 0]
        residual = ppl.xp.where(seen, (centred - z @ loading.mT) / scale, 0.0)
        log_scales = ppl.xp.where(seen, ppl.xp.log(scale) + log(2 * pi) / 2, 0.0).sum(-1)
        return z, covariance, (residual**2).sum(-1) + (z**2).sum(-1), log_scales + log_determinant / 2

    def summarise(self, ppl: Language, x: Array) -> Any:
        return x if self.missing else moments(ppl, x)

    def expected(self, ppl: Language, data: Any) -> tuple[dict[str, Array], Array]:
        loc = self.parameters(ppl)[1]
        if self.missing:
            seen, filled = observed(ppl, data, loc)
            z, covariance, distance, normaliser = self.encode(ppl, filled - loc, seen)
            return self.completed(ppl, data, z, covariance), (-distance / 2 - normaliser).sum()
        rows, mean, root = data
        everywhere = ppl.xp.ones(self.data_dim) > 0
        # The rows of `root` and that of the mean have the second moments about b of all N rows, and so the same sums.
        z, covariance, distance, normaliser = self.encode(ppl, ppl.xp.concat([root, (mean - loc)[None]]), everywhere)
        zz = z.mT @ z + covariance
        sums = {"rows": ppl.xp.ones(1), "z": z[-1:], "zz": zz[None], "xz": root.mT @ z[:-1], "xx": (root**2).sum(0)}
        return {"mean": mean} | {name: rows * value for name, value in sums.items()}, -rows * (distance.sum() / 2 + normaliser)

    def statistics(self, ppl: Language, x: Array, latents: Mapping[str, Array]) -> dict[str, Array]:
        return self.completed(ppl, x, latents["z"], 0.0)

    def completed(self, ppl: Language, x: Array, z: Array, covariance: Array | float) -> dict[str, Array]:
        """Sums over rows, x about the observed mean: for each column (D, …) over those it is seen in, else (1, …)."""
        seen, filled = observed(ppl, x, 0.0)
        mean = filled.sum(0) / seen.sum(0)
        centred = ppl.xp.where(seen, x - mean, 0.0)
        counted = ppl.xp.where(seen if self.missing else seen[:, :1], 1.0, 0.0)
        zz = (z[:, :, None] * z[:, None, :] + covariance).reshape(-1, self.latent_dim**2)
        zz = (counted.mT @ zz).reshape(-1, self.latent_dim, self.latent_dim)
        return {"mean": mean, "rows": counted.sum(0), "z": counted.mT @ z, "zz": zz,
                "xz": centred.mT @ z, "xx": (centred**2).sum(0)}  # fmt: skip

    def maximise(self, ppl: Language, statistics: dict[str, Array]) -> dict[str, Array]:
        """Regress each column on z; the noise is what is left, but not less than the floor."""
        rows, mean = statistics["rows"], statistics["mean"]
        z, xz, xx = statistics["z"] / rows[:, None], statistics["xz"] / rows[:, None], statistics["xx"] / rows
        covariance = statistics["zz"] / rows[:, None, None] - z[:, :, None] * z[:, None, :]
        loading = (inverted(ppl, covariance)[0] @ xz[..., None])[..., 0]
        noise, floor = xx - (loading * xz).sum(-1), self._floor(ppl.xp, xx)
        if self.isotropic:
            weights = rows / (rows + ppl.xp.zeros(self.data_dim)).sum()
            noise, floor = (weights * noise).sum(), (weights * floor).sum()
        return {"loading": loading, "loc": mean - (loading * z).sum(-1), "scale": ppl.xp.sqrt(ppl.xp.maximum(noise, floor))}

    def _floor(self, xp: Any, variance: Any) -> Any:
        """The least σ² by column; a constant column counts as one of a millionth of the mean variance."""
        share = max(self.floor, 1000 * float(xp.finfo(variance.dtype).eps))
        return share * (xp.maximum(variance, 1e-6 * xp.mean(variance)) + TINY)

    def at_floor(self, params: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
        """The columns whose σ² ended at its floor."""
        floor = self._floor(np, np.nanvar(x, 0, dtype=np.float64).astype(params["scale"].dtype))
        noise = params["scale"] ** 2 + np.zeros(self.data_dim)
        return np.flatnonzero(noise <= 1.001 * (floor.mean() if self.isotropic else floor))

    def closed_form(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Maximum likelihood of probabilistic PCA: σ² the mean of the D − K least eigenvalues, W = U (Λ − σ²)^½.

        Source: Tipping and Bishop 1999, eqs 7 and 8.

        Raises:
            InputError: σ is not shared, rows are incomplete, or no eigenvalue is left for the noise.
        """
        if not self.isotropic or self.missing or self.latent_dim >= self.data_dim:
            raise InputError("a closed form needs isotropic=True, missing=False and latent_dim below data_dim; "
                             "use expectation-maximisation (inference.em).")  # fmt: skip
        x = np.asarray(x, np.float64)
        values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
        values, vectors = values[::-1], vectors[:, ::-1][:, : self.latent_dim]
        noise = max(values[self.latent_dim :].mean(), self._floor(np, x.var(0)).mean())
        loading = vectors * np.sqrt(np.maximum(values[: self.latent_dim] - noise, 0))
        return {"loading": loading, "loc": x.mean(0), "scale": np.sqrt(noise)}
