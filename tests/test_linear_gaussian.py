"""Linear-Gaussian models: closed forms, missing entries, principal components, rotations, the choice of their size."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_iris, load_wine

from inference import fit
from inference.em import em
from inference.model_choice import bic, candidates
from inference.rotation import canonical, criterion, varimax
from ppl_models import FactorAnalysis, InputError
from ppl_models.datasets import Dataset
from ppl_models.language import ENGINES
from ppl_models.pca import PCA

from .catalogue import close, random_params
from .test_oracles import elbo_rows, evidence, shared_evidence

each_engine = pytest.mark.parametrize("engine", ENGINES)
IRIS = load_iris().data
WINE = (load_wine().data - load_wine().data.mean(0)) / load_wine().data.std(0)


def whole(x: np.ndarray) -> Dataset:
    """All rows to train on, and to judge by."""
    return Dataset("whole", x, x, "none")


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "k", "known"), [(IRIS, 2, -2.699752), (WINE, 3, -15.701792)], ids=["iris", "wine"])
def test_closed_form_of_probabilistic_pca(x: np.ndarray, k: int, known: float):
    declaration = FactorAnalysis(x.shape[1], k, isotropic=True)
    params = declaration.closed_form(x)
    assert round(float(evidence(params, x).mean()), 6) == known
    # A maximum: no other parameters near it are better.
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = {name: value * np.exp(1e-2 * rng.normal(size=value.shape)) for name, value in params.items()}
        assert evidence(other, x).mean() < evidence(params, x).mean()


def test_a_closed_form_that_does_not_exist_is_refused():
    for declaration in (FactorAnalysis(4, 2), FactorAnalysis(4, 2, True, missing=True), FactorAnalysis(4, 4, True)):
        with pytest.raises(InputError, match="closed form"):
            declaration.closed_form(IRIS)


@each_engine
def test_iterated_principal_components_are_those_of_the_svd(engine: str):
    declaration = PCA(13, 3)
    found = em(declaration, whole(WINE), engine=engine, dtype="float64", tolerance=1e-14)
    known = declaration.closed_form(WINE)["loading"]
    basis = np.linalg.qr(found.params["loading"])[0]
    close(basis @ basis.T, known @ known.T, 1e-6)
    left_over = np.linalg.svd(WINE, compute_uv=False)[3:]
    close(found.restarts[0], -(left_over**2).sum() / len(WINE) / 2, 1e-9)


# --- missing entries --------------------------------------------------------------------------------------------------


def holes(x: np.ndarray, share: float) -> np.ndarray:
    """Some entries gone, all of the first row's, none of the second's."""
    rng = np.random.default_rng(5)
    gone = rng.random(x.shape) < share
    gone[0], gone[1] = True, False
    return np.where(gone, np.nan, x)


@each_engine
@pytest.mark.parametrize("isotropic", [False, True])
def test_missing_entries_are_integrated_out(engine: str, isotropic: bool):
    rng = np.random.default_rng(6)
    x, declaration = holes(rng.normal(0, 2, (7, 5)), 0.4), FactorAnalysis(5, 2, isotropic, missing=True)
    params = random_params(declaration, x, rng)
    covariance = params["loading"] @ params["loading"].T + np.diag(params["scale"] ** 2 + np.zeros(5))
    known = np.zeros(7)
    for n, row in enumerate(x):
        if (seen := ~np.isnan(row)).any():
            marginal = stats.multivariate_normal(params["loc"][seen], covariance[np.ix_(seen, seen)])
            known[n] = marginal.logpdf(row[seen])
    close(shared_evidence(engine, declaration, params, x), known, 1e-9)
    close(elbo_rows(engine, declaration, params, x), known, 1e-9)  # the guide is each row's own posterior
    complete = np.nan_to_num(x)
    plain = shared_evidence(engine, replace(declaration, missing=False), params, complete)
    close(shared_evidence(engine, declaration, params, complete), plain, 1e-9)


@each_engine
def test_em_with_missing_entries(engine: str):
    x, declaration = holes(WINE[:60, :6], 0.2), FactorAnalysis(6, 2, missing=True)
    found = em(declaration, whole(x), engine=engine, dtype="float64", iterations=300, tolerance=1e-9)
    climb = np.array([row["train_log_likelihood"] for row in found.history])
    assert (np.diff(climb) >= -1e-12).all()
    assert climb[-1] > climb[0] + 0.3
    close(elbo_rows(engine, declaration, found.params, x), shared_evidence(engine, declaration, found.params, x), 1e-9)
    # Where nothing is missing it is the same algorithm.
    few = {"engine": engine, "dtype": "float64", "iterations": 25, "tolerance": -np.inf}
    one, other = (em(replace(declaration, missing=missing), whole(WINE[:60, :6]), **few) for missing in (True, False))
    for name, value in one.params.items():
        close(value, other.params[name], 1e-9)


@each_engine
def test_stochastic_steps_with_missing_entries_stay_finite(engine: str):
    x = holes(WINE[:40, :5], 0.3)
    found = fit(FactorAnalysis(5, 2, missing=True), whole(x), engine=engine, dtype="float64", epochs=30, lr=0.03)
    assert all(np.isfinite(value).all() for value in found.params.values())
    assert found.history[-1]["train_elbo"].value > found.history[1]["train_elbo"].value + 0.1


# --- stochastic variational inference gets there too ------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize(
    ("x", "declaration", "known"),
    [(WINE, FactorAnalysis(13, 3), -15.08025), (IRIS, FactorAnalysis(4, 2, isotropic=True), -2.699752)],
    ids=["factor-analysis-wine", "ppca-iris"],
)
def test_svi_reaches_the_optimum_of_em(engine: str, x: np.ndarray, declaration: FactorAnalysis, known: float):
    # With the exact posterior as guide a draw cancels: total pathwise gradients are those of log p(x), without noise.
    found = fit(declaration, whole(x), engine=engine, dtype="float64", batch=len(x), estimator="pathwise", epochs=400, lr=0.03)
    assert abs(evidence(found.params, x).mean() - known) < 1e-3


# --- rotations --------------------------------------------------------------------------------------------------------


def rotations(rng: np.random.Generator, k: int, count: int) -> list[np.ndarray]:
    return [np.linalg.qr(rng.normal(size=(k, k)))[0] for _ in range(count)]


def test_varimax_turns_and_nothing_near_is_better():
    rng = np.random.default_rng(7)
    simple = np.zeros((9, 3))
    simple[np.arange(9), np.repeat(np.arange(3), 3)] = rng.uniform(1, 2, 9)
    loading = simple + 0.05 * rng.normal(size=(9, 3))
    turned = varimax(loading @ rotations(rng, 3, 1)[0])
    close(turned @ turned.T, loading @ loading.T, 1e-10)
    best = criterion(turned)
    assert all(criterion(turned @ rotation) <= best + 1e-9 for rotation in rotations(rng, 3, 300))
    for size in (1e-1, 1e-2, 1e-3):
        skew = size * rng.normal(size=(3, 3))
        near = np.linalg.qr(np.eye(3) + skew - skew.T)[0]
        assert criterion(turned @ near) < best
    # The simple structure is found: every column loads on one factor.
    assert (np.sort(np.abs(turned), 1)[:, :-1] < 0.2).all()


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_canonical_loading_is_the_same_for_every_rotation(k: int):
    rng = np.random.default_rng(8)
    loading, scale = rng.normal(size=(5, k)), rng.uniform(0.5, 2, 5)
    known = canonical(loading, scale)
    close(known @ known.T, loading @ loading.T, 1e-10)
    gram = (known / scale[:, None] ** 2).T @ known
    close(gram, np.diag(np.diag(gram)), 1e-10)
    for rotation in rotations(rng, k, 5):
        close(canonical(loading @ rotation, scale), known, 1e-8)
    assert np.abs(canonical(1.1 * loading, scale) - known).max() > 0.01


# --- the choice of a size ---------------------------------------------------------------------------------------------


def test_bic_finds_the_number_of_factors():
    assert bic(-10.0, 3, 100) == pytest.approx(20 + 3 * np.log(100))
    assert FactorAnalysis(10, 3).num_params == 10 + 10 + 30 - 3
    assert FactorAnalysis(10, 3, isotropic=True).num_params == 10 + 1 + 30 - 3
    rng = np.random.default_rng(9)
    x = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 7)) + rng.normal(size=(600, 7)) * rng.uniform(0.5, 1, 7)
    fits = [em(FactorAnalysis(7, k), whole(x), engine="pyro", dtype="float64", tolerance=1e-6) for k in (1, 2, 3)]
    ranked = candidates(fits)
    assert ranked[0].fit is fits[1]
    with pytest.raises(InputError, match="same training rows"):
        candidates([fits[0], em(FactorAnalysis(7, 1), whole(x[1:]), engine="pyro")])
