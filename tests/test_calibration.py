"""Bands for uniform ranks against their own law; exact guides inside them, and guides that are too narrow outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.calibration import MeanField, UnknownNormal, analysis, mixture, moderate, ordered
from inference.calibration import of_guide, sbc
from inference.calibration._numpyro import simulate
from inference.calibration.bands import band, escape
from ppl_models import CVAE, FactorAnalysis, GaussianMixture, InputError, bind

from .catalogue import shared
from .test_evaluate import each_engine
from .test_fit_verdict import Codes

SMALL: dict[str, Any] = {"replicates": 200, "draws": 49, "family": 20}


def test_the_probability_of_leaving_the_band_is_exact():
    """Of 6 ranks on 0 … 3, by summing over all 4⁶ outcomes."""
    share, low, high = np.array([0.25, 0.5, 0.75]), np.array([0, 1, 3]), np.array([3, 5, 6])
    outcomes = np.stack(np.meshgrid(*[np.arange(4)] * 6), -1).reshape(-1, 6)
    counts = (outcomes[:, :, None] < np.array([1, 2, 3])).sum(1)
    left = ((counts < low) | (counts > high)).any(1).mean()
    assert 0.05 < left < 0.6
    np.testing.assert_allclose(escape(6, share, low, high), left, rtol=1e-12)
    assert escape(6, share, np.zeros(3, int), np.full(3, 6)) == pytest.approx(0, abs=1e-15)


def test_the_band_keeps_its_error():
    """By simulation at 0.05, within 5 standard errors (0.011); at 1e-7, by the exact sum, and only just."""
    found = band(100, 19, 0.05)
    ranks = np.random.default_rng(0).integers(0, 20, (10_000, 100))
    counts = (ranks[:, :, None] < found.edges).sum(1)
    left = ((counts < found.low) | (counts > found.high)).any(1).mean()
    assert abs(left - found.escape) < 5 * np.sqrt(0.05 * 0.95 / 10_000)
    assert 0.03 < found.escape <= 0.05
    small = band(200, 49, 1e-7)
    assert 5e-9 < small.escape <= 1e-7
    assert small.gamma < 1e-7
    middle = len(small.edges) // 2
    half = (small.high[middle] - small.low[middle]) / 2
    assert 5 < half / np.sqrt(200 / 4) < 6.5  # sds of a binomial count


def normal(shift: float = 0.0, wider: float = 1.0) -> Any:
    """Simulated values, and draws that are shifted and wider than their law."""

    def simulate(seed: int) -> Any:
        return {"z": np.random.default_rng(seed).normal(size=(1000, 2))}, None

    def posterior(_: Any, seed: int) -> Any:
        return {"z": shift + wider * np.random.default_rng(seed).normal(size=(99, 1000, 2))}

    return sbc(simulate, posterior, seed=1)


@pytest.mark.parametrize(("shift", "wider"), [(0.3, 1.0), (-0.3, 1.0), (0.0, 1.4), (0.0, 0.75)])
def test_faults_of_normal_draws_are_caught(shift: float, wider: float):
    """A shift by 0.3 sds, sds two fifths too large or a quarter too small, at 1e-6: each is seen 99 times in a hundred."""
    assert not normal(shift, wider).calibrated


def test_right_draws_are_inside_and_ties_do_not_count():
    found = normal()
    assert found.calibrated
    assert (found.outside == 0).all()
    assert (found.room > 0).all()
    assert found.names == ("z[0]", "z[1]")

    def simulate(seed: int) -> Any:
        return {"k": np.random.default_rng(seed).integers(0, 2, 500)}, None

    def posterior(_: Any, seed: int) -> Any:
        return {"k": np.random.default_rng(seed).integers(0, 2, (49, 500))}

    tied = sbc(simulate, posterior, draws=49)
    assert tied.calibrated
    # Uniform on 0 … 49 although k has two values: were ties not broken, ranks would be 0 or about 25.
    assert stats.chisquare(np.bincount(tied.ranks[:, 0], minlength=50)).pvalue > 1e-6


@each_engine
def test_exact_guides_are_calibrated(engine: str):
    """200 replicates at a family-wise 1e-6 would catch a shift by 0.6 sds, or sds a half too large or two fifths too small."""
    if engine == "numpyro":
        found = of_guide(Codes(), {"share": np.array(1.0)}, 1, engine=engine, **SMALL)
    else:
        found = of_guide(FactorAnalysis(3, 2), moderate(), 3, engine=engine, **SMALL)
    assert found.calibrated
    assert found.ranks.shape == (200, 1 if engine == "numpyro" else 2)


def test_the_best_factorised_guide_is_outside():
    params = analysis(0.9)
    precision = np.eye(2) + params["loading"].T @ np.diag(params["scale"] ** -2.0) @ params["loading"]
    covariance = np.linalg.inv(precision)
    assert covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]) == pytest.approx(0.9, abs=0.01)
    found = of_guide(MeanField(3, 2), params, 3, engine="pyro", **SMALL)
    assert not found.calibrated
    assert (found.outside > 5).all()
    # Too narrow: the truth lies below or above all draws.
    assert np.isin(found.ranks, (0, 49)).mean() > 0.2
    assert of_guide(FactorAnalysis(3, 2), params, 3, engine="pyro", **SMALL).calibrated


def test_the_exact_guide_of_a_discrete_latent_is_calibrated_with_ties_broken():
    assert of_guide(GaussianMixture(2, 3), mixture(), 2, engine="pyro", **SMALL).calibrated


def test_many_data_sets_are_simulated_at_once():
    """Means of rows have variance 1 + E σ² / 6 (NUTS itself is held to 1,000 of them by the benchmark)."""
    with shared("numpyro").session("float64", "cpu"):
        latents, x = simulate(bind(UnknownNormal(), "numpyro").model, 6, 1, 2000, 0)
    assert (latents["loc"].shape, latents["log_scale"].shape, x.shape) == ((2000,), (2000,), (2000, 6, 1))
    spread = 1 + np.exp(2 * 0.25) / 6
    assert abs(x.mean((1, 2)).var() / spread - 1) < 5.5 * np.sqrt(2 / 2000) * 1.5
    error = (x[..., 0] - latents["loc"][:, None]) / np.exp(latents["log_scale"])[:, None]
    assert abs(error.var() - 1) < 5.5 * np.sqrt(2 / 12_000)
    assert len(np.unique(x)) == 12_000  # no two data sets alike


def test_a_mixture_is_ranked_by_the_order_of_its_components():
    rng = np.random.default_rng(0)
    values = {"locs": rng.normal(size=(5, 3, 2, 1)), "precision": rng.random((5, 3, 2, 1)), "weights": rng.random((5, 3, 2))}
    turned = {name: np.flip(value, 2) for name, value in values.items()}
    for name, value in ordered(values).items():
        np.testing.assert_array_equal(value, ordered(turned)[name])
    assert (np.diff(ordered(values)["locs"][..., 0], axis=-1) > 0).all()


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(InputError, match="plain rows"):
        of_guide(CVAE(4), {}, 4)
    with pytest.raises(InputError, match="draws of 'z'"):
        sbc(lambda seed: ({"z": np.zeros(3)}, None), lambda data, seed: {"y": np.zeros((99, 3))})
    with pytest.raises(InputError, match="99 draws of 'z'"):
        sbc(lambda seed: ({"z": np.zeros(3)}, None), lambda data, seed: {"z": np.zeros((20, 3))})
