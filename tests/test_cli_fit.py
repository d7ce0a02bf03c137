"""`ppl fit` of every model in the catalogue by every method it has, and of the options that only some of them take."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from inference.files import load_params
from inference.methods import methods
from ppl_models import CATALOGUE

from .command import ENGINES, ROOT, Ran, assert_estimate, assert_self_contained, binary, ppl, run, strict, timeless

DATA = Path(os.environ.get("PPL_DATA_DIR") or ROOT.parent / "shared" / "data")
NET = "--set hidden=4 --set latent_dim=2"
CHORALES = f"--data jsb --data-dir {DATA} --set latent_dim=2 --set recurrent=3"
#: Of each model, the smallest that is one.
TINY = {
    "vae": f"--data digits {NET}",
    "iwae": f"--data digits {NET} --particles 2",
    "hierarchical_vae": "--data digits --set hidden=4,3 --set latent_dim=3,2",
    "flow_vae": f"--data digits {NET}",
    "cvae": f"--data digits {NET}",
    "conditional_baseline": "--data digits --set hidden=4 --set condition=quadrants",
    "ssvae_m1": f"--data digits {NET} --labels 50",
    "ssvae_m2": f"--data digits {NET} --labels 50",
    "ssvae_m1m2": f"--data digits {NET} --labels 50",
    "mixture_vae": f"--data digits {NET} --set num_components=2",
    "markov_vae": f"{CHORALES} --set hidden=3 --set transition_hidden=3",
    "linear_markov": CHORALES,
    "sbn": "--data digits --set latent_dim=3",
    "factor_analysis": "--data iris",
    "ppca": "--data iris",
    "pca": "--data iris",
    "gaussian_mixture": "--data iris",
    "bayesian_gaussian_mixture": "--data iris",
    "kmeans": "--data iris",
}
#: Energies, which `test_cli_energy` fits.
ENERGIES = tuple(name for name, (cls, _) in CATALOGUE.items() if hasattr(cls, "energy"))
#: Limits of models, which have no density and no bound.
LIMITS = ("pca", "kmeans")


def test_every_model_is_tried():
    assert set(CATALOGUE) <= {*TINY, *ENERGIES}


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in ENERGIES])
def test_every_model_fits_by_its_first_method(name, tmp_path, capsys, monkeypatch):
    """On Pyro, which compiles nothing; that both engines run every model is what the contract tests show."""
    if "jsb" in TINY[name] and not (DATA / "jsb").is_dir():
        pytest.skip("the chorales are not here")
    short = [] if name in LIMITS else ["--epochs", "1"]
    ran = run(capsys, monkeypatch, "fit", name, *TINY[name].split(), *short, "--engine", "pyro", "--out", tmp_path / "run",
              "--json")  # fmt: skip
    assert ran.code == 0, ran
    result = strict(ran.out)
    assert (result["model"], result["method"]) == (name, methods(CATALOGUE[name][0])[0])
    bounds = [result[key] for key in ("heldout_elbo", "heldout_log_likelihood") if result[key] is not None]
    assert bool(bounds) is (name not in LIMITS)
    for bound in bounds:
        assert_estimate(bound)
    assert (result["baseline"] is None) is (name in LIMITS)
    if result["baseline"] is not None:
        assert_estimate({key: value for key, value in result["baseline"].items() if key != "name"})
    # Its own log-likelihood is what a kept run is judged by, where rows have latents of their own.
    judged = name not in (*LIMITS, "bayesian_gaussian_mixture")
    assert (result["evaluation"] is not None) is judged
    if judged:
        assert result["evaluation"]["num_samples"] == 100
    assert (result["accuracy"] is not None) is name.startswith("ssvae")
    assert result["verdict_sentence"].count("nan") == 0
    folder = tmp_path / "run"
    assert strict((folder / "results.json").read_text()) == result
    assert load_params(folder / "params.safetensors")
    assert_self_contained((folder / "report.html").read_text())


def both(*args: str | Path) -> dict[str, dict]:
    """The same fit on both engines, which starts where numpy says and so takes the same steps."""
    out = {}
    for engine in ENGINES:
        ran = ppl(*args, "--engine", engine, "--json")
        assert ran.code == 0, ran
        out[engine] = strict(ran.out)
    return out


@pytest.mark.parametrize("name", ["factor_analysis", "ppca", "gaussian_mixture"])
def test_em_takes_the_same_way_on_both_engines(name):
    found = both("fit", name, "--data", "iris", "--method", "em", "--epochs", "20", "--dtype", "float64")
    first, second = found.values()
    for result in found.values():
        assert (result["method"], result["estimator"], result["heldout_elbo"]) == ("em", None, None)
        assert result["stopped"] in ("tolerance", "iterations")
        assert 1 <= result["epochs"] <= 20
        assert_estimate(result["heldout_log_likelihood"])
        # Correlated columns: any of the three says more of iris than independent ones.
        assert result["heldout_log_likelihood"]["low"] > result["baseline"]["value"]
    for key in ("value", "low", "high"):
        assert abs(first["heldout_log_likelihood"][key] - second["heldout_log_likelihood"][key]) < 1e-8
    assert first["epochs"] == second["epochs"]


def test_em_keeps_its_history(tmp_path):
    ran = ppl("fit", "gaussian_mixture", "--data", "iris", "--method", "em", "--engine", "pyro", "--out", tmp_path / "run")
    assert ran.code == 0, ran
    assert ran.out.startswith("Held-out log-likelihood ")
    rows = [strict(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    climbed = [row["train_log_likelihood"] for row in rows]
    assert len(climbed) > 2
    assert (np.diff(climbed) > -1e-5).all()
    assert climbed[-1] > climbed[0]


def test_a_heywood_case_is_said(tmp_path):
    """A column that another determines leaves nothing to its noise."""
    x = np.random.default_rng(0).normal(size=(100, 4))
    x[:, 1] = 2 * x[:, 0]
    np.save(tmp_path / "x.npy", x)
    how = ("--method", "em", "--set", "latent_dim=1", "--engine", "pyro")
    ran = ppl("fit", "factor_analysis", "--data", tmp_path / "x.npy", *how)
    assert ran.code == 0, ran
    assert "columns 0, 1 (counting from 0) ended at its floor (a Heywood case)" in ran.out
    assert "Heywood" not in ppl("fit", "factor_analysis", "--data", "iris", *how).out


def test_coordinate_ascent_takes_the_same_way_on_both_engines():
    found = both("fit", "bayesian_gaussian_mixture", "--data", "wine", "--method", "cavi", "--epochs", "10",
                 "--dtype", "float64")  # fmt: skip
    for result in found.values():
        assert (result["method"], result["heldout_elbo"], result["evaluation"]) == ("cavi", None, None)
        assert "training ELBO" in result["verdict_sentence"]
    first, second = (result["restarts"][0] for result in found.values())
    assert abs(first - second) < 1e-8


def test_draws_of_the_posterior_are_summed_up_and_kept(tmp_path):
    x = np.random.default_rng(3).normal(size=(30, 2))
    np.save(tmp_path / "x.npy", x)
    ran = ppl("fit", "bayesian_gaussian_mixture", "--data", tmp_path / "x.npy", "--method", "mcmc", "--set", "marginal=true",
              "--set", "num_components=2", "--epochs", "25", "--out", tmp_path / "run", "--json")  # fmt: skip
    assert ran.code == 0, ran
    result = strict(ran.out)
    assert result["method"] == "mcmc"
    shapes = {"weights": (2,), "precision": (2, 2), "locs": (2, 2)}
    assert {name: tuple(site["shape"]) for name, site in result["sites"].items()} == shapes
    draws = load_params(tmp_path / "run" / "draws.safetensors")
    assert {name: value.shape for name, value in draws.items()} == {name: (4, 25, *shape) for name, shape in shapes.items()}
    for name, value in draws.items():
        np.testing.assert_allclose(result["sites"][name]["mean"], value.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(draws["weights"].sum(-1), 1, rtol=1e-5)
    assert (draws["precision"] > 0).all()
    assert len(result["acceptance"]) == 4
    assert "25 times in each of 4 chains" in result["verdict_sentence"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "draws.safetensors", "history.jsonl", "results.json", "run.json", "stats.safetensors"]  # fmt: skip
    judged = ppl("diagnose", tmp_path / "run", "--json")
    told = strict(judged.out)
    assert judged.code == (3 if told["verdict"] == "do not use" else 0)
    assert (told["chains"], told["draws"], told["diverging"]) == (4, 25, result["diverging"])
    assert len(told["observables"]) == 10
    assert (tmp_path / "run" / "diagnosis.html").is_file()


def small(tmp_path: Path, engine: str, *args: str | Path) -> Ran:
    np.save(tmp_path / "x.npy", binary(40))
    ran = ppl("fit", *args, "--data", tmp_path / "x.npy", *NET.split(), "--epochs", "2", "--batch", "8", "--engine", engine,
              "--json")  # fmt: skip
    assert ran.code == 0, ran
    return ran


@pytest.mark.parametrize("engine", ENGINES)
def test_iwae_is_a_vae_under_the_k_sample_bound(engine, tmp_path):
    preset, spelt, plain = (
        strict(small(tmp_path, engine, *args).out) for args in (["iwae"], ["vae", "--bound", "iwae"], ["vae"])
    )
    assert timeless({**preset, "model": None}) == timeless({**spelt, "model": None})
    assert plain["heldout_elbo"] != spelt["heldout_elbo"]


def test_weights_of_the_kl_and_alternate_steps_change_what_is_learned(tmp_path):
    options = [[], ["--beta", "3"], ["--anneal", "2"], ["--alternate"], ["--particles", "2"]]
    found = [strict(small(tmp_path, "pyro", "vae", *option).out)["heldout_elbo"]["value"] for option in options]
    assert len(set(found)) == len(options)
    assert strict(small(tmp_path, "pyro", "vae", "--beta", "1.0", "--anneal", "0").out)["heldout_elbo"]["value"] == found[0]


def test_importance_samples_are_as_many_as_asked_for(tmp_path):
    judged = strict(small(tmp_path, "pyro", "vae", "--evaluate", "20").out)["evaluation"]
    assert (judged["kind"], judged["bound"], judged["num_samples"]) == ("importance-sampled", "L_20", 20)
    for key in ("log_likelihood", "elbo", "gap"):
        assert_estimate(judged[key])
    # Of the same draws, by Jensen's inequality.
    assert judged["log_likelihood"]["value"] >= judged["elbo"]["value"]
    assert judged["rows"] == 8
    assert strict(small(tmp_path, "pyro", "vae", "--evaluate", "0", "--out", tmp_path / "run").out)["evaluation"] is None


@pytest.mark.parametrize("engine", ENGINES)
def test_known_labels_teach_the_classifier(engine, tmp_path):
    """Three classes that no two pixels share; all labels but a few are unknown."""
    y = np.arange(90) % 3
    np.savez(tmp_path / "x.npz", x=np.repeat(np.eye(3), 2, 1)[y], y=y)
    ran = ppl("fit", "ssvae_m2", "--data", tmp_path / "x.npz", "--labels", "9", *NET.split(), "--epochs", "20", "--lr", "0.03",
              "--batch", "12", "--engine", engine, "--json")  # fmt: skip
    assert ran.code == 0, ran
    assert "9 of 72 labels known (seed 0)" in ran.err
    assert strict(ran.out)["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}


SWEPT = {
    "vae": ("--data digits --set hidden=4 --epochs 1", "latent_dim", "importance-sampled"),
    "gaussian_mixture": ("--data iris --method em", "num_components", "exact"),
}  # fmt: skip


@pytest.mark.parametrize("model", SWEPT)
def test_several_values_of_a_setting_are_fitted_in_turn(model, tmp_path):
    args, key, kind = SWEPT[model]
    ran = ppl("fit", model, *args.split(), "--set", f"{key}=2,3", "--engine", "pyro", "--out", tmp_path / "runs", "--json")
    assert ran.code == 0, ran
    result = strict(ran.out)
    assert result["sweep"] == key
    assert [row[key] for row in result["rows"]] == [2, 3]
    best = max(result["rows"], key=lambda row: row["log_likelihood"]["value"])
    assert result["verdict_sentence"].startswith(f"{key} {best[key]} has the best held-out log-likelihood of 2, 3")
    for value, row, one in zip((2, 3), result["rows"], result["fits"], strict=True):
        assert one["settings"][key] == str(value)
        assert one["evaluation"]["kind"] == kind
        assert row["log_likelihood"] == one["evaluation"]["log_likelihood"]
        assert row["kl"] >= 0
        assert strict((tmp_path / "runs" / f"{key}={value}" / "results.json").read_text()) == one
        # Each is the fit that the value alone would have been.
        assert key in one["settings"]
    page = (tmp_path / "runs" / "report.html").read_text()
    assert_self_contained(page)
    assert result["verdict_sentence"].split(":")[0] in page
    assert page.count("<svg") >= 1


def test_a_sweep_of_bounds_alone_names_the_best_bound(tmp_path):
    np.save(tmp_path / "x.npy", binary(40))
    args = ["fit", "vae", "--data", tmp_path / "x.npy", "--set", "hidden=3", "--epochs", "1", "--engine", "pyro", "--json"]
    result = strict(ppl(*args, "--set", "latent_dim=1,4").out)
    best = max(result["rows"], key=lambda row: row["heldout_elbo"]["value"])
    assert result["verdict_sentence"].startswith(f"latent_dim {best['latent_dim']} has the best held-out ELBO of 1, 4")
    for value in ("1", "4"):
        alone = strict(ppl(*args, "--set", f"latent_dim={value}").out)
        (one,) = [fit for fit in result["fits"] if fit["settings"]["latent_dim"] == value]
        assert timeless(alone) == timeless(one)


@pytest.mark.parametrize("method", ["svi", "em"])
def test_gaps_in_a_table_are_left_out_of_the_likelihood(method, tmp_path):
    """Factors far weaker than the noise: what is missing takes its columns' share of the likelihood away, no more."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(60, 4))
    cells = np.where(rng.random(x.shape) < 0.2, "", np.char.mod("%.6f", x))
    (tmp_path / "x.csv").write_text("a,b,c,d\n" + "\n".join(map(",".join, cells)) + "\n")
    ran = ppl("fit", "factor_analysis", "--data", tmp_path / "x.csv", "--set", "missing=true", "--set", "latent_dim=1",
              "--method", method, "--epochs", "30", "--lr" if method == "svi" else "--restarts",
              "0.01" if method == "svi" else "1", "--engine", "pyro", "--json")  # fmt: skip
    assert ran.code == 0, ran
    assert f"{(cells == '').sum()} of 240 entries missing" in ran.err
    result = strict(ran.out)
    assert_estimate(result["heldout_log_likelihood"])
    assert abs(result["heldout_log_likelihood"]["value"] - result["baseline"]["value"]) < 0.5
