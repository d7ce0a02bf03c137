"""k-hat against its law; what fits are to be trusted, used with caution and not used; `ppl diagnose` of every kind of run."""

from __future__ import annotations

import dataclasses
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.verdicts import ROWS, Correlated, Mean, held, mean_of, plain_loo
from inference.diagnostics.convergence import chain_rows, iterates_rhat, restarts_rhat
from inference.diagnostics.fit_verdict import FitVerdict, of_numbers, verdict_of
from inference.diagnostics.importance import corrected, k_hat, smoothed, standard_error, threshold
from inference.diagnostics.mcmc_verdict import draws_numbers, draws_verdict
from inference.diagnostics.posterior import leave_one_out
from inference.diagnostics.verdict import WORDS
from inference.files import save_params
from inference.runs import reopen
from inference.svi import Fit
from inference.weights import row_weights, rows_of, sites, weigh
from ppl_models import VAE, InputError, NumericalError
from ppl_models.datasets import from_arrays

from .catalogue import random_params
from .command import assert_estimate, assert_one_sentence, assert_self_contained, ppl, strict
from .test_evaluate import Wide, analysis, each_engine

S = 20_000


# --- k-hat ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_k_hat_is_that_of_normals(r: float):
    """q of r times the sd has k = 1 − r²: within 0.15 on the mean of 30 sets of 20,000 draws (its standard error is 0.02)."""
    z = np.random.default_rng(int(100 * r)).normal(size=(30, S)) * r
    found = k_hat(z**2 / (2 * r**2) - z**2 / 2)
    assert abs(found.mean() - (1 - r**2)) < 0.15
    assert 0.5 < found.std() / standard_error(1 - r**2, S) < 2
    # The other sign, which ArviZ's own function wants, has a bounded right tail: k below 0.
    assert k_hat(z[:3] ** 2 / 2 - z[:3] ** 2 / (2 * r**2)).max() < 0.1


@pytest.mark.parametrize("rho", [0.2, 0.6, 0.95])
def test_of_the_best_factorised_guide_k_is_the_correlation(rho: float):
    """k = |ρ| within 0.1 on the mean of 20 sets, and the corrected sd is the true one where weights have a mean square."""
    e = np.random.default_rng(7).normal(size=(20, 65_536, 2))
    log_w = rho * e.prod(-1)
    assert abs(k_hat(log_w).mean() - rho) < 0.1
    if rho < 0.5:
        found = corrected({"z": e[0]}, log_w[0])
        np.testing.assert_allclose(found.sd, 1 / np.sqrt(1 - rho**2), rtol=0.02)
        np.testing.assert_allclose(found.spread, -np.log(np.sqrt(1 - rho**2)), atol=0.02)


def test_weights_without_a_tail_and_weights_that_are_no_numbers():
    rng = np.random.default_rng(0)
    even = np.zeros((3, 400))
    even[1] = 1e4 + rng.normal(0, 1e-5, 400)  # rounding of float32
    even[2] = rng.integers(0, 3, 400) / 20  # few values of a discrete latent
    assert (k_hat(even) == 0).all()
    few = np.zeros(4000)
    few[:2] = 15.0  # a value that q hardly ever draws
    assert k_hat(few) == np.inf
    broken = rng.normal(size=(4, 400))
    broken[0, 3], broken[1, 3], broken[2] = np.nan, np.inf, -np.inf
    broken[3, :40] = -np.inf  # draws of weight zero are weights too
    assert np.isinf(k_hat(broken)[:3]).all()
    assert np.isfinite(k_hat(broken)[3])
    close = smoothed(broken[3])[0]
    np.testing.assert_allclose(np.exp(close).sum(), 1.0)
    assert (threshold(1000), threshold(100_000)) == (1 - 1 / 3, 0.7)
    with pytest.raises(InputError, match="at least 25 draws"):
        k_hat(np.zeros(24))
    with pytest.raises(NumericalError, match=r"locs\[1\]"):
        corrected({"locs": np.where(np.arange(60).reshape(30, 2) == 3, np.nan, 0.0)}, np.zeros(30))


# --- what is to be trusted --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Codes:
    """zₙ ~ N(0, 1), xₙ ~ N(zₙ, 1), and a guide of the exact means and this share of the exact sds."""

    def centre(self, ppl: Any) -> Any:
        return 0.0

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        centre = self.centre(ppl)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))
            ppl.sample("x", ppl.dist.Normal((centre + z)[..., None], 1.0).to_event(1), obs=x)

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        share = ppl.param("share", ppl.xp.ones(()), constraint=ppl.constraints.positive)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.Normal((x[:, 0] - self.shift(ppl)) / 2, share * 0.5**0.5))

    def shift(self, ppl: Any) -> Any:
        return 0.0


@dataclass(frozen=True)
class Both(Codes):
    """θ ~ N(0, 3), zₙ ~ N(0, 1), xₙ ~ N(θ + zₙ, 1)."""

    def centre(self, ppl: Any) -> Any:
        return ppl.sample("theta", ppl.dist.Normal(ppl.xp.zeros(()), 3.0))

    def shift(self, ppl: Any) -> Any:
        loc = ppl.param("loc", ppl.xp.zeros(()))
        scale = ppl.param("scale", ppl.xp.ones(()), constraint=ppl.constraints.positive)
        return ppl.sample("theta", ppl.dist.Normal(loc, scale))

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        share = ppl.param("share", ppl.xp.ones(()), constraint=ppl.constraints.positive)
        theta = self.shift(ppl)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.Normal((x[:, 0] - theta) / 2, share * 0.5**0.5))


@each_engine
@pytest.mark.parametrize(("rho", "word"), [(0.2, "trust"), (0.6, "caution"), (0.95, "do not use")])
def test_a_factorised_guide_is_judged_by_the_correlation_it_misses(rho: float, word: str, engine: str):
    params = {"scale": np.sqrt(1 - rho**2)}
    judged = verdict_of(held(Correlated(rho), engine, params, ROWS))
    assert judged.word == word
    told = judged.numbers["global"]
    assert abs(told["k_hat"] - rho) < 0.17
    assert told["draws"] == 65_536
    if word == "caution":
        assert 0.15 < told["spread"] < 0.35  # ½ log 1 / (1 − ρ²) is 0.22
        assert "mcmc" in judged.next


@each_engine
def test_a_narrow_guide_is_found_out_where_plain_leave_one_out_is_calm(engine: str):
    from arviz_base import from_dict
    from arviz_stats import loo, loo_approximate_posterior

    narrow = held(Mean(), engine, mean_of(ROWS, 0.25), ROWS)
    judged = verdict_of(narrow)
    assert judged.word == "do not use"
    assert "k-hat of theta" in judged.reasons[0]
    assert abs(judged.numbers["global"]["k_hat"] - (1 - 1 / 16)) < 0.25
    weights = weigh(narrow, draws=4000, rows=40)
    tree = from_dict({
        "posterior": {"theta": weights.draws["theta"].reshape(4, 1000)},
        "log_likelihood": {"x": weights.log_likelihood.reshape(4, 1000, 40)},
    })  # fmt: skip
    calm = float(loo(tree, pointwise=True, reff=1.0).pareto_k.max())
    assert calm < 0.5  # which calls this fit a good one
    np.testing.assert_allclose(plain_loo(engine), calm, rtol=1e-6)
    with pytest.warns(UserWarning, match="Pareto"):
        theirs = loo_approximate_posterior(tree, weights.log_p, weights.log_q, pointwise=True)
    k, log_p = leave_one_out(weights)
    np.testing.assert_allclose(k, theirs.pareto_k.values, rtol=1e-6)
    np.testing.assert_allclose(log_p.sum(), theirs.elpd, rtol=1e-6)
    assert k.max() > 0.7
    x, params = ROWS[:, 0], narrow.params
    theta = weights.draws["theta"]
    np.testing.assert_allclose(weights.log_likelihood, -0.5 * (x - theta[:, None]) ** 2 - 0.5 * np.log(2 * np.pi), rtol=1e-6)
    log_q = -0.5 * ((theta - params["loc"]) / params["scale"]) ** 2 - np.log(params["scale"]) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(weights.log_q, log_q, rtol=1e-6)


@each_engine
def test_the_exact_posterior_is_trusted(engine: str):
    judged = verdict_of(held(Mean(), engine, mean_of(ROWS, 1.0), ROWS), draws=4000)
    assert (judged.word, judged.reasons) == ("trust", ())
    told = judged.numbers["global"]
    assert told["k_hat"] == 0
    assert told["spread"] < 0.01
    (row,) = told["coordinates"]
    known = mean_of(ROWS, 1.0)
    np.testing.assert_allclose([row["mean"], row["sd"]], [known["loc"], known["scale"]], rtol=0.05)
    local = held(Codes(), engine, {"share": 1.0}, ROWS)
    found = verdict_of(local, own_draws=1000, samples=None)
    assert found.word == "trust"
    assert found.numbers["local"]["share_above"] == 0
    assert (sites(local).own, sites(local).shared, sites(local).plate) == (("z",), (), "data")


@each_engine
def test_latents_of_rows_are_at_most_a_caution(engine: str):
    """A guide of a third of the sds misses nearly every row (k = 1 − 1/9), and the fit is not condemned for it."""
    narrow = held(Codes(), engine, {"share": 1 / 3}, ROWS)
    judged = verdict_of(narrow, own_draws=1000, samples=None)
    assert judged.word == "caution"
    assert judged.numbers["local"]["share_above"] > 0.5
    log_w = row_weights(narrow, draws=1000, seed=0)
    assert abs(k_hat(log_w).mean() - 8 / 9) < 0.15
    # E w = p(xₙ) of a guide that is wide enough: within 5.5 standard errors, 0.03 nats.
    wide = row_weights(held(Codes(), engine, {"share": 1.3}, ROWS), draws=4000, dtype="float64")
    known = -0.25 * ROWS[:, 0] ** 2 - 0.5 * np.log(4 * np.pi)
    np.testing.assert_allclose(np.logaddexp.reduce(wide, 1) - np.log(4000), known, atol=0.03)


def test_a_fit_with_latents_of_rows_is_judged_by_importance_samples():
    params, x = analysis(40)
    judged = verdict_of(held(Wide(4, 2, factor=1.2), "pyro", params, x), own_draws=100, samples=50)
    density = judged.numbers["density"]
    covariance = params["loading"] @ params["loading"].T + np.diag(params["scale"] ** 2 + np.zeros(4))
    whitened = np.linalg.solve(np.linalg.cholesky(2 * np.pi * covariance), (x - params["loc"]).T)
    known = -np.pi * (whitened**2).sum(0).mean() - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert density["name"] == "L_50"
    assert abs(density["value"]["value"] - known) < 0.2
    assert judged.numbers["units"] == {"z": 2}


def test_rows_that_training_draws_anew_are_drawn_once():
    """Greys have no density under a model of bits, and no weight."""
    x = np.random.default_rng(0).random((30, 4))
    params = random_params(VAE(4, 2, (3,)), x, np.random.default_rng(1))
    for binarise, engine in (("dynamic", "numpyro"), ("dynamic", "pyro")):
        fit = held(VAE(4, 2, (3,)), engine, params, x)
        fit = dataclasses.replace(fit, data=from_arrays(x, heldout=x, binarise=binarise))
        assert set(np.unique(rows_of(fit)[0])) == {0, 1}
        assert np.isfinite(row_weights(fit, draws=30)).all()
    grey = dataclasses.replace(fit, data=from_arrays(x, heldout=x, binarise="none"))
    assert (rows_of(grey)[0] == x.astype(rows_of(grey)[0].dtype)).all()


def test_global_and_local_latents_together():
    """Weights of θ with the rows' codes averaged out: those of the model without codes, within the noise that is told."""
    fit = held(Both(), "pyro", {**mean_of(ROWS / 2, 0.8), "share": 1.1}, ROWS)
    assert (sites(fit).shared, sites(fit).own) == (("theta",), ("z",))
    weights = weigh(fit, draws=300, rows=40)
    theta = weights.draws["theta"]
    known = (-0.25 * (ROWS[:, 0] - theta[:, None]) ** 2 - 0.5 * np.log(4 * np.pi)).sum(1)
    known = known - 0.5 * (theta / 3) ** 2 - np.log(3) - 0.5 * np.log(2 * np.pi)
    assert 0 < weights.noise < 0.6
    error = weights.log_p - known
    assert abs(error.mean()) < 0.2  # ½ of the noise's variance is the bias of a logarithm
    assert 0.5 < error.std() / weights.noise < 2


def test_restarts_that_disagree_and_iterates_that_travel_are_cautions():
    rng = np.random.default_rng(0)
    still = rng.normal(size=(20, 2, 400))
    assert iterates_rhat(still).all_but_few < iterates_rhat(still).limit < 1.25
    assert iterates_rhat(rng.normal(size=(200, 1, 400))).limit == 1.1
    travels = still + np.linspace(0, 5, 20)[:, None, None] * (np.arange(400) < 40)
    assert iterates_rhat(travels).all_but_few > 1.5
    assert int(iterates_rhat(travels).where.split()[1]) < 40
    assert iterates_rhat(np.zeros((20, 2, 3))).worst == 1.0
    draws = [{"theta": rng.normal(shift, 1, 500)} for shift in (0, 0, 2)]
    assert restarts_rhat(draws).worst > 1.1
    assert restarts_rhat([draws[0], {"theta": rng.normal(size=500)}]).worst < 1.02
    assert restarts_rhat(draws[:1]) is None
    assert iterates_rhat(None) is None
    assert iterates_rhat(still[:7]) is None


@pytest.mark.skipif("restart_params" not in {f.name for f in dataclasses.fields(Fit)}, reason="fits keep one restart")
def test_a_fit_whose_restarts_disagree():
    good = {name: np.asarray(value) for name, value in mean_of(ROWS, 1.0).items()}
    other = {**good, "loc": good["loc"] + 2 * good["scale"]}
    for restarts, word in (([good, good], "trust"), ([good, other], "caution")):
        judged = verdict_of(held(Mean(), "pyro", good, ROWS, restart_params=restarts), draws=4000)
        assert judged.word == word
    assert "over restarts" in judged.reasons[0]


# --- the thresholds ---------------------------------------------------------------------------------------------------

TOLD: dict[str, Any] = {"command": "ppl fit vae --lr 0.01 --out runs/vae --json", "model": "vae", "method": "svi", "epochs": 5,
                        "manifest": {"seed": 3}}  # fmt: skip
DENSITY = {"name": "L_100", "value": {"value": -85.0, "low": -86.0, "high": -84.0}, "baseline": {"value": -100.0},
           "gap": {"value": 3.0}, "num_samples": 100}  # fmt: skip
SHARED: dict[str, Any] = {
    "sites": ["theta"], "draws": 65_536, "k_hat": 0.2, "k_hat_error": 0.05, "noise": 0.0, "finite": True, "shift": 0.0,
    "shift_at": "theta", "spread": 0.0, "spread_at": "theta", "loo_k_max": 0.3, "loo_share_above": 0.0, "loo": -1.0,
    "coordinates": [{"name": "theta", "raw_mean": 0.0, "raw_sd": 1.0, "mean": 0.0, "sd": 1.0}],
}  # fmt: skip
OWN = {"sites": ["z"], "rows": 200, "draws": 1000, "threshold": 0.667, "share_above": 0.05}
NONE: dict[str, Any] = {"density": DENSITY, "active_units": {}, "units": {}, "point": None, "unknown": None, "global": None,
                        "local": None, "restarts": None, "iterates": None, "skipped": 0}  # fmt: skip

ITERATES = {"rhat": 1.5, "at": "coordinate 3", "all_but_few": 1.09, "limit": 1.1}


def seen(**changes: Any) -> dict[str, Any]:
    return NONE | changes


def shared(**changes: Any) -> dict[str, Any]:
    return NONE | {"density": None, "global": SHARED | changes}


def level(value: Any, low: Any = None) -> dict[str, Any]:
    return DENSITY | {"value": {"value": value, "low": value if low is None else low, "high": value}}


LONGER = "ppl fit vae --lr 0.01 --epochs 10 --out runs/vae-longer"


@pytest.mark.parametrize(
    ("numbers", "word", "reason", "next_"),
    [
        (NONE, "trust", None, "ppl sample runs/vae"),
        (seen(density=level(-100.1)), "do not use", "worse than", LONGER),
        (seen(density=level(-99.0, -100.1)), "caution", "reaches down", LONGER),
        (seen(density=level(None)), "do not use", "not a finite number", "ppl fit vae --lr 0.0001 --out runs/vae-slower"),
        (seen(local=OWN), "trust", None, "ppl sample runs/vae"),
        (seen(local=OWN | {"share_above": 1.0}), "caution", "too narrow", "ppl diagnose runs/vae --samples 5000"),
        (seen(units={"z": 20}, active_units={"z": 0}), "caution", "collapse", LONGER),
        (seen(units={"z": 20}, active_units={"z": 1}), "trust", None, "ppl sample runs/vae"),
        (seen(skipped=3), "caution", "3 steps", LONGER),
        (seen(iterates=ITERATES), "trust", None, "ppl sample runs/vae"),
        (seen(iterates=ITERATES | {"all_but_few": 1.11}), "caution", "still travel", LONGER),
        (seen(restarts={"rhat": 1.11, "at": "theta"}), "caution", "over restarts", LONGER),
        (seen(point="exact"), "trust", None, "ppl sample runs/vae"),
        (seen(unknown="no guide"), "caution", "not judged", LONGER),
        (shared(), "trust", None, "ppl diagnose runs/vae --save"),
        (shared(k_hat=0.51), "caution", "rough", "ppl fit vae --out runs/vae-mcmc --method mcmc"),
        (shared(k_hat=0.69), "caution", "rough", None),
        (shared(k_hat=0.71), "do not use", "too narrow", "ppl fit vae --out runs/vae-mcmc --method mcmc"),
        (shared(k_hat=np.inf), "do not use", "infinite", None),
        (shared(finite=False), "do not use", "not finite", None),
        (shared(noise=0.6, k_hat=3.0), "caution", "noise", None),
        (shared(shift=0.26), "caution", "corrected means", None),
        (shared(spread=0.16), "caution", "sd of theta", None),
        (shared(loo_k_max=0.71, loo_share_above=0.1), "caution", "Leaving single rows out", None),
    ],
)  # fmt: skip
def test_the_verdict_turns_at_its_thresholds(numbers: Any, word: str, reason: str | None, next_: str | None):
    judged = of_numbers(numbers, TOLD, "runs/vae")
    assert judged.word == word
    assert judged.reasons == () if reason is None else any(reason in why for why in judged.reasons)
    assert next_ is None or judged.next == next_
    assert judged.sentences.endswith(f"type `{judged.next}`.")
    assert "nan" not in judged.sentences


def chains(shift: float = 0.0, sd: float = 1.0) -> dict[str, np.ndarray]:
    out = np.random.default_rng(1).normal(size=(4, 400, 2))
    out[0] = sd * out[0] + shift
    return {"theta": out}


@pytest.mark.parametrize(
    ("samples", "diverging", "word", "reason"),
    [(chains(), 0, "trust", None), (chains(), 3, "caution", "diverged"), (chains(), 100, "do not use", "diverged"),
     (chains(0.6), 0, "caution", "R-hat"), (chains(3.0), 0, "do not use", "different places"),
     ({"theta": np.zeros((4, 400))}, 0, "do not use", "No chain moved"),
     ({"theta": np.full((4, 400), np.nan)}, 0, "do not use", "not finite")],
)  # fmt: skip
def test_draws_by_mcmc(samples: Any, diverging: int, word: str, reason: str | None):
    judged = draws_verdict(draws_numbers(samples, diverging), TOLD | {"command": "ppl fit m --method mcmc --out r"}, "r")
    assert judged.word == word
    assert judged.reasons == () if reason is None else any(reason in why for why in judged.reasons)
    assert judged.next.startswith("ppl ")


def test_chains_that_number_a_mixture_differently_agree():
    @dataclass(frozen=True)
    class Two:
        num_components: int = 2

    rng = np.random.default_rng(2)
    locs = np.array([-3.0, 3.0])[:, None] + rng.normal(0, 0.1, (4, 300, 2, 1))
    locs[::2] = locs[::2, :, ::-1]
    weights = np.where(locs[..., 0] < 0, 0.3, 0.7) + rng.normal(0, 0.01, (4, 300, 2))
    told = draws_numbers({"locs": locs, "weights": weights}, 0, Two())
    assert max(row["rhat"] for row in told["observables"]) < 1.02
    assert [row["mean"] for row in told["observables"]] == pytest.approx([-3, 3, 0.3, 0.7], abs=0.02)
    assert max(row["rhat"] for row in chain_rows({"locs": locs})) > 1.5


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small runs by each method."""
    folder = tmp_path_factory.mktemp("runs")
    x = np.random.default_rng(0).normal(size=(30, 2)) + np.repeat([[-3.0, 0.0], [3.0, 0.0]], 15, 0)
    np.save(folder / "x.npy", x)
    data, bayesian = ("--data", folder / "x.npy", "--engine", "pyro"), ("--set", "num_components=1", "--set", "marginal=true")
    for name, arguments in {
        "svi": ("fit", "vae", *data[2:], "--set", "hidden=20", "--set", "latent_dim=2", "--epochs", "15", "--lr", "0.01"),
        "em": ("fit", "factor_analysis", "--method", "em", "--set", "latent_dim=1", *data),
        "cavi": ("fit", "bayesian_gaussian_mixture", "--method", "cavi", *bayesian, *data),
    }.items():  # fmt: skip
        ran = ppl(*arguments, "--out", folder / name)
        assert ran.code == 0, ran
    return folder


def told_by(folder: Path, *options: str) -> dict[str, Any]:
    ran = ppl("diagnose", folder, "--json", *options)
    told = strict(ran.out)
    assert told["verdict"] in WORDS
    assert ran.code == (3 if told["verdict"] == "do not use" else 0), ran
    assert told["verdict"] == "trust" or told["reasons"]
    assert told["next"].startswith("ppl ")
    page = (folder / "diagnosis.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert "nan" not in page.partition("<svg")[0]
    return told


def test_diagnose_of_a_guide(runs: Path):
    told = told_by(runs / "svi")
    assert told["verdict"] == "trust"
    assert_estimate(told["density"]["value"])
    assert told["local"]["rows"] == 200
    assert ppl(*shlex.split(told["next"])[1:]).code == 0  # the advice is a command that runs
    tight = told_by(runs / "svi", "--samples", "300")
    assert tight["density"]["name"] == "L_300"


def test_diagnose_of_em_is_of_the_density_only(runs: Path):
    told = told_by(runs / "em")
    assert "EM (exact) found parameters as a point" in told["verdict_sentence"]
    assert told["point"] == "exact"
    assert told["density"]["name"] == "log p(x)"


def test_diagnose_of_coordinate_ascent_and_of_draws(runs: Path):
    told = told_by(runs / "cavi", "--draws", "2000")
    assert told["global"]["draws"] == 2000
    assert set(told["global"]["sites"]) == {"weights", "precision", "locs"}
    assert told["global"]["k_hat"] == 0  # one component: coordinate ascent finds the posterior itself
    assert told["verdict"] == "trust"
    # Its draws stand for those of chains that have forgotten where they began.
    drawn = weigh(reopen(runs / "cavi"), draws=1600).draws
    chains = {name: value.reshape(4, 400, *value.shape[1:]) for name, value in drawn.items()}
    kept = runs / "mcmc"
    kept.mkdir()
    (kept / "run.json").write_text((runs / "cavi" / "run.json").read_text())
    of_mcmc = json.loads((runs / "cavi" / "results.json").read_text()) | {"method": "mcmc", "diverging": 0}
    (kept / "results.json").write_text(json.dumps(of_mcmc))
    save_params(kept / "draws.safetensors", chains)
    found = told_by(kept)
    assert (found["verdict"], found["chains"], found["draws"], found["renumbered"]) == ("trust", 4, 400, True)
    assert "Do the chains agree?" in (kept / "diagnosis.html").read_text()
    chains["locs"][0] += 1.0
    save_params(kept / "draws.safetensors", chains)
    assert told_by(kept)["verdict"] == "do not use"


def test_options_that_do_not_go_with_a_run_are_refused(runs: Path):
    for arguments, words in (
        ([runs / "svi", "--chains", "4"], ["--chains", "without chains"]), ([runs / "em", "--chains", "9"], ["--chains"]),
        ([runs], ["holds no run"]), (["vae"], ["ppl fit vae"]),
    ):  # fmt: skip
        ran = ppl("diagnose", *arguments)
        assert ran.code == 2
        assert_one_sentence(ran.err, *words, hide=[runs])


def test_a_verdict_is_two_sentences():
    judged = FitVerdict("caution", "a", "b", ("c.",), "ppl list")
    assert judged.sentences == "Caution: as a density, a; as a posterior, b. Next, type `ppl list`."
