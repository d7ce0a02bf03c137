"""EM against closed forms and published optima; monotone, the same on both engines, refusing what it cannot do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_iris, load_wine

from inference.em import em, floor_sentence, require_monotone
from ppl_models import VAE, FactorAnalysis, InputError, NumericalError
from ppl_models.datasets import Dataset
from ppl_models.language import ENGINES
from ppl_models.pca import PCA

from .catalogue import close

each_engine = pytest.mark.parametrize("engine", ENGINES)
IRIS = load_iris().data
WINE = (load_wine().data - load_wine().data.mean(0)) / load_wine().data.std(0)


def whole(x: np.ndarray, heldout: np.ndarray | None = None) -> Dataset:
    return Dataset("whole", x, x if heldout is None else heldout, "none")


def climb(found: Any) -> np.ndarray:
    return np.array([row["train_log_likelihood"] for row in found.history])


# --- optima that are known --------------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize(
    ("x", "declaration", "known", "digits"),
    [(WINE, FactorAnalysis(13, 3), -15.08025, 5), (WINE, FactorAnalysis(13, 3, True), -15.701792, 6),
     (IRIS, FactorAnalysis(4, 2, True), -2.699752, 6)],
    ids=["factor-analysis-wine", "ppca-wine", "ppca-iris"],
)  # fmt: skip
def test_em_reaches_the_known_optimum(engine: str, x: np.ndarray, declaration: Any, known: float, digits: int):
    found = em(declaration, whole(x), engine=engine, dtype="float64", tolerance=1e-10, iterations=3000)
    assert round(found.restarts[0], digits) == known
    assert found.stopped == "tolerance"
    assert (np.diff(climb(found)) >= -1e-13).all()
    covariance = found.params["loading"] @ found.params["loading"].T + np.diag(found.params["scale"] ** 2 * np.ones(x.shape[1]))
    density = stats.multivariate_normal(found.params["loc"], covariance)
    close(climb(found)[-1], density.logpdf(x).mean(), 1e-9)  # what it reports is log p(x)
    assert found.heldout_log_likelihood is not None
    close(found.heldout_log_likelihood.value, density.logpdf(x).mean(), 1e-9)
    if declaration.isotropic:
        best = declaration.closed_form(x)
        close(covariance, best["loading"] @ best["loading"].T + best["scale"] ** 2 * np.eye(x.shape[1]), 1e-3)


def test_both_engines_take_the_same_steps_from_the_same_start():
    one, other = (em(FactorAnalysis(4, 2), whole(IRIS), engine=e, dtype="float64", iterations=20, seed=3) for e in ENGINES)
    close(climb(one), climb(other), 1e-10)
    for name, value in one.params.items():
        close(value, other.params[name], 1e-8)


@each_engine
@pytest.mark.parametrize("isotropic", [False, True])
def test_em_finds_the_model_that_made_the_data(engine: str, isotropic: bool):
    rng = np.random.default_rng(0)
    loading, loc = rng.normal(size=(12, 3)), rng.normal(0, 3, 12)
    scale = 0.8 if isotropic else rng.uniform(0.3, 1.5, 12)
    x = rng.normal(size=(6000, 3)) @ loading.T + loc + scale * rng.normal(size=(6000, 12))
    truth = stats.multivariate_normal(loc, loading @ loading.T + np.diag(scale**2 * np.ones(12))).logpdf(x[5000:]).mean()
    found = em(FactorAnalysis(12, 3, isotropic), whole(x[:5000], x[5000:]), engine=engine)
    assert abs(found.heldout_log_likelihood.value - truth) < 0.05
    assert found.baseline.value < truth - 1


# --- sampled ----------------------------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize(("draws", "iterations"), [(10, 200)])
def test_sampled_em_is_within_its_error_of_the_optimum(engine: str, draws: int, iterations: int):
    best = FactorAnalysis(4, 2, True)
    settings = {"engine": engine, "dtype": "float64", "iterations": iterations, "draws": draws}
    found = em(best, whole(IRIS), method="sampled", **settings)
    error = found.manifest["standard_error"]
    assert error == (8 + 4 + 1) / (4 * 150 * draws)
    assert -2.6997519 - error < found.restarts[0] <= -2.6997518
    assert len(found.history) == iterations + 1
    # The second half's average is better than the draws of the first.
    values = climb(found)
    assert values[-1] > values[iterations // 4 : iterations // 2].mean()


# --- restarts, starts and stops ---------------------------------------------------------------------------------------


@each_engine
def test_the_best_restart_is_kept(engine: str):
    settings = {"engine": engine, "dtype": "float64", "iterations": 4}
    each = [em(FactorAnalysis(4, 2), whole(IRIS), seed=seed, **settings) for seed in (5, 6, 7)]
    together = em(FactorAnalysis(4, 2), whole(IRIS), seed=5, restarts=3, **settings)
    close(together.restarts, [one.restarts[0] for one in each], 1e-10)
    best = each[int(np.argmax(together.restarts))]
    for name, value in best.params.items():
        close(together.params[name], value, 1e-8)
    assert together.stopped == "iterations"
    go_on = em(FactorAnalysis(4, 2), whole(IRIS), init=together.params, **settings)
    assert climb(go_on)[0] == pytest.approx(max(together.restarts), abs=1e-12)


@each_engine
def test_constant_and_perfectly_explained_columns_end_at_the_floor(engine: str):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 6)) + rng.normal(size=(80, 1))
    x[:, 2], x[:, 4] = 7.0, x[:, 0]  # one constant, one that another explains
    found = em(FactorAnalysis(6, 2, floor=1e-3), whole(x), engine=engine, tolerance=1e-6)
    assert all(np.isfinite(value).all() for value in found.params.values())
    assert found.stopped == "floor"
    assert found.manifest["floor_columns"] == [0, 2, 4]
    close(found.params["scale"][[0, 4]] ** 2, 1e-3 * x[:, [0, 4]].var(0), 1e-4)
    assert "columns 0, 2, 4" in (floor_sentence(found) or "")
    assert floor_sentence(em(FactorAnalysis(6, 2), whole(rng.normal(size=(80, 6))), engine=engine, iterations=3)) is None


# --- errors -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Descends(FactorAnalysis):
    """A wrong M step: noise as large as the columns."""

    def maximise(self, ppl: Any, statistics: Any) -> Any:
        found = super().maximise(ppl, statistics)
        return found | {"scale": ppl.xp.mean(statistics["xx"] / statistics["rows"]) ** 0.5}


@dataclass(frozen=True)
class Breaks(FactorAnalysis):
    """A wrong M step: the root of a negative number."""

    def maximise(self, ppl: Any, statistics: Any) -> Any:
        found = super().maximise(ppl, statistics)
        return found | {"scale": ppl.xp.sqrt(-found["scale"])}


@each_engine
def test_wrong_steps_are_noticed(engine: str):
    optimum = FactorAnalysis(4, 2, True).closed_form(IRIS)
    with pytest.raises(NumericalError, match="iteration 1 of EM lowered"):
        em(Descends(4, 2, True), whole(IRIS), engine=engine, dtype="float64", init=optimum, iterations=5)
    with pytest.raises(NumericalError, match="became nan in iteration 1"):
        em(Breaks(4, 2), whole(IRIS), engine=engine, iterations=5)


def test_a_fall_beyond_rounding_is_named():
    require_monotone(np.array([-10.0, -9.0, -9.0 - 1e-13, -8.0]), "float64")
    with pytest.raises(NumericalError, match="iteration 2 "):
        require_monotone(np.array([-10.0, -9.0, -9.0 - 1e-10]), "float64")


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [(VAE(4), {}, "`summarise`"), (VAE(4), {"method": "sampled"}, "`statistics`"), (PCA(4), {"method": "sampled"}, "`guide`"),
     (FactorAnalysis(5), {}, "data_dim"), (FactorAnalysis(4), {"method": "other"}, "method"),
     (FactorAnalysis(4), {"iterations": 0}, "iterations"), (FactorAnalysis(4), {"tolerance": -1.0}, "tolerance"),
     (FactorAnalysis(4), {"draws": 1.5}, "draws"), (FactorAnalysis(4), {"init": {"loading": np.ones(3)}}, "init")],
)  # fmt: skip
def test_what_em_cannot_use_is_refused(model: Any, settings: dict, words: str):
    with pytest.raises(InputError, match=words):
        em(model, whole(IRIS), **settings)
