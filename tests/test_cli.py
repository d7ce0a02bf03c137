"""What the command line prints and writes, and what `fit` and `compare` promise whichever engine runs them."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from inference.compare import compare
from inference.files import load_params, save_params
from inference.svi import fit
from ppl_models import VAE, Bound, FactorAnalysis, GaussianMixture, InputError, NumericalError, SigmoidBeliefNet
from ppl_models.datasets import from_arrays

from .command import (
    ENGINES,
    assert_estimate,
    assert_one_sentence,
    assert_self_contained,
    binary,
    real,
    run,
    spawn,
    strict,
    timeless,
)

FILES = ["checkpoint", "history.jsonl", "params.safetensors", "report.html", "restarts.safetensors", "results.json", "run.json"]


def test_help_is_quick_and_loads_no_engine():
    code = (
        "import sys, time; began = time.perf_counter(); sys.argv[1:] = ['--help']\n"
        "from inference.cli import main\n"
        "try: main()\n"
        "except SystemExit as left: assert not left.code\n"
        "assert time.perf_counter() - began < 1\n"
        "assert not {'torch', 'pyro', 'jax', 'numpyro', 'optax'} & set(sys.modules)\n"
    )
    began = time.perf_counter()
    ran = spawn(code=code)
    assert time.perf_counter() - began < 1.5
    assert ran.code == 0, ran
    assert ran.err == ""
    assert all(f"\n  {command} " in ran.out for command in ("list", "fit", "compare"))


def test_list_names_rows_and_their_engines(capsys, monkeypatch):
    everything = strict(run(capsys, monkeypatch, "list", "--json").out)
    for kind in ("models", "estimators", "kernels", "datasets"):
        ran = run(capsys, monkeypatch, "list", kind, "--json")
        assert (ran.code, ran.err) == (0, "")
        rows = strict(ran.out)[kind]
        assert rows == everything[kind]
        for row in rows:
            assert row["name"]
            assert set(row["engines"]) <= set(ENGINES)
            assert row["engines"]
    names = {kind: [row["name"] for row in rows] for kind, rows in everything.items() if kind != "command"}
    assert {"vae", "sbn", "factor_analysis", "ppca", "gaussian_mixture"} <= set(names["models"])
    assert names["estimators"] == (
        "pathwise pathwise-kl path-only doubly-reparameterised relaxed score running-mean leave-one-out enumerate "
        "stock-trace stock-tracegraph stock-tracemeanfield stock-traceenum"
    ).split()  # fmt: skip
    assert {"digits", "mnist"} <= set(names["datasets"])
    assert run(capsys, monkeypatch, "list").out.count("\n") > len(names["models"])


@pytest.mark.parametrize("engine", ENGINES)
def test_fit_prints_one_object_and_leaves_a_run(engine, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "x.npy", real())
    args = [
        "fit",
        "factor_analysis",
        "--data",
        tmp_path / "x.npy",
        "--engine",
        engine,
        "--epochs",
        "2",
        "--seed",
        "3",
        "--json",
    ]
    ran = run(capsys, monkeypatch, *args, "--out", tmp_path / "run")
    assert ran.code == 0, ran
    result = strict(ran.out)
    for key in ("heldout_elbo", "heldout_log_likelihood"):
        assert_estimate(result[key])
    assert result["heldout_elbo"]["value"] <= result["heldout_log_likelihood"]["value"] + 1e-4
    assert result["baseline"]["name"] == "independent pixels"
    assert_estimate({key: value for key, value in result["baseline"].items() if key != "name"})
    manifest = result["manifest"]
    library = {"numpyro": {"numpyro", "jax", "jaxlib", "optax"}, "pyro": {"pyro-ppl", "torch"}}[engine]
    assert library | {"ppl-models", "python", "numpy"} == set(manifest["versions"])
    assert manifest["device"].startswith(("cpu", "cuda"))
    assert (manifest["dtype"], manifest["seed"]) == ("float32", 3)
    assert manifest["wall_seconds"] > 0
    assert (result["model"], result["engine"], result["epochs"], result["stopped"]) == ("factor_analysis", engine, 2, "epochs")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    rows = [strict(line) for line in lines]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert rows[-1]["heldout_elbo"] == result["heldout_elbo"]
    assert strict((tmp_path / "run" / "results.json").read_text()) == result
    assert strict((tmp_path / "run" / "run.json").read_text())["seed"] == 3
    page = (tmp_path / "run" / "report.html").read_text()
    assert_self_contained(page)

    again = run(capsys, monkeypatch, *args)
    # Only a run that is kept is evaluated unasked.
    assert timeless(strict(again.out)) == timeless({**result, "evaluation": None})
    assert result["evaluation"]["log_likelihood"] == result["heldout_log_likelihood"]
    assert "not binarised" in again.err  # the data's card

    told = run(capsys, monkeypatch, *args[:-1])
    assert told.out == f"{result['verdict_sentence']}\n"


@pytest.mark.parametrize("first", ENGINES)
@pytest.mark.parametrize("isotropic", [False, True])
def test_parameters_of_one_engine_serve_the_other(first, isotropic, tmp_path):
    second = next(engine for engine in ENGINES if engine != first)
    model, data = FactorAnalysis(4, isotropic=isotropic), from_arrays(real())
    trained = fit(model, data, engine=first, epochs=2)
    save_params(tmp_path / "params.safetensors", trained.params)
    params = load_params(tmp_path / "params.safetensors")
    assert {name: value.shape for name, value in params.items()} == {n: v.shape for n, v in trained.params.items()}
    other = fit(model, data, engine=second, epochs=0, init=params)
    assert abs(other.heldout_log_likelihood.value - trained.heldout_log_likelihood.value) < 1e-4
    for name, value in other.params.items():
        assert value.shape == params[name].shape
        np.testing.assert_allclose(value, params[name], rtol=1e-5, atol=1e-6)


def test_a_file_that_holds_no_parameters_is_refused(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 20)
    for name, word in (("broken.safetensors", "not a complete"), ("absent.safetensors", "cannot read")):
        with pytest.raises(InputError, match=word):
            load_params(tmp_path / name)


@pytest.mark.parametrize("engine", ENGINES)
def test_watching_a_fit_changes_no_number(engine):
    model, data, seen = SigmoidBeliefNet(4, 3), from_arrays(binary()), []
    plain = fit(model, data, engine=engine, epochs=2)
    watched = fit(model, data, engine=engine, epochs=2, callbacks=[seen.append, lambda row: None])
    assert seen == watched.history
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in plain.history]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in watched.history]
    for name, value in plain.params.items():
        np.testing.assert_array_equal(value, watched.params[name])


@pytest.mark.parametrize("engine", ENGINES)
def test_callbacks_and_patience_stop(engine):
    model, data = SigmoidBeliefNet(4, 3), from_arrays(binary())
    rows: list[dict] = []
    stopped = fit(model, data, engine=engine, epochs=2, callbacks=[lambda row: row["epoch"] == 1, rows.append])
    assert (stopped.stopped, [row["epoch"] for row in rows]) == ("callback", [0, 1])
    found = fit(model, data, engine=engine, epochs=200, lr=0.5, patience=2)
    scores = [row["heldout_elbo"].value for row in found.history]
    assert found.stopped == "patience"
    assert len(scores) < 200
    assert np.argmax(scores) == len(scores) - 3


@pytest.mark.parametrize("engine", ENGINES)
def test_dynamic_binarisation_draws_anew(engine, tmp_path, capsys, monkeypatch):
    grey = np.random.default_rng(2).random((12, 4))
    np.save(tmp_path / "x.npy", grey)
    ran = run(capsys, monkeypatch, "fit", "sbn", "--data", tmp_path / "x.npy", "--set", "latent_dim=3", "--epochs", "2",
              "--binarise", "dynamic", "--engine", engine, "--json")  # fmt: skip
    assert ran.code == 0, ran
    result = strict(ran.out)
    assert result["data"]["binarisation"] == "dynamic"
    assert "anew at each step" in ran.err
    assert math.isfinite(result["heldout_elbo"]["value"])


RUN_AWAY = [("numpyro", "vae", binary), ("numpyro", "factor_analysis", real), ("pyro", "vae", binary),
            ("pyro", "factor_analysis", real)]  # fmt: skip


@pytest.mark.parametrize(("engine", "model", "make"), RUN_AWAY, ids=[f"{row[0]}-{row[1]}" for row in RUN_AWAY])
def test_numbers_that_run_away_exit_with_four(engine, model, make, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "x.npy", make())
    args = ["fit", model, "--data", tmp_path / "x.npy", "--engine", engine, "--lr", "1e30", "--epochs", "1", "--json"]
    args += ["--set", "hidden=3", "--set", "latent_dim=2"] if model == "vae" else []
    ran = run(capsys, monkeypatch, *args)
    assert (ran.code, ran.out) == (4, "")
    card, *_, sentence = ran.err.splitlines()
    assert card.startswith("x.npy")
    assert_one_sentence(f"{sentence}\n", "lower the learning rate")


def test_numbers_that_run_away_within_an_epoch_are_named():
    for engine in ENGINES:
        with pytest.raises(NumericalError, match=r"step \d+ of epoch \d+ .*lower the learning rate"):
            fit(VAE(4, 2, (3,)), from_arrays(binary()), engine=engine, lr=1e30, epochs=40, batch=5)


def test_one_step_to_infinity_is_taken_back():
    model, data = GaussianMixture(4), from_arrays(real())
    found, start = (fit(model, data, engine="pyro", lr=1e30, epochs=epochs) for epochs in (1, 0))
    assert found.rollbacks == 1
    for name, value in start.params.items():
        np.testing.assert_array_equal(found.params[name], value)


def functions(engine: str, subsamples: bool) -> Bound:
    """A user's own pair in the plain language of each library: x ~ N(w z, 1), z ~ N(0, 1)."""
    if engine == "numpyro":
        import jax.numpy as xp
        import numpyro as library
        import numpyro.distributions as dist
        from numpyro.distributions import constraints
    else:
        import pyro as library
        import pyro.distributions as dist
        import torch as xp
        from torch.distributions import constraints

    def model(x, total=None):
        weight = library.param("weight", xp.ones(4))
        with library.plate("rows", total or len(x), subsample_size=len(x)):
            z = library.sample("z", dist.Normal(0.0, 1.0))
            library.sample("x", dist.Normal(z[..., None] * weight, 1.0).to_event(1), obs=x)

    def guide(x, total=None):
        slope = library.param("slope", xp.zeros(4))
        scale = library.param("width", xp.ones(()), constraint=constraints.positive)
        with library.plate("rows", total or len(x), subsample_size=len(x)):
            library.sample("z", dist.Normal(x @ slope, scale))

    if subsamples:
        return Bound(model, guide)
    return Bound(lambda x: model(x), lambda x: guide(x))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("subsamples", [True, False], ids=["total", "whole"])
def test_plain_functions_fit_and_compare(engine, subsamples):
    pair, x = functions(engine, subsamples), real()
    found = fit(pair, x, engine=engine, epochs=3, lr=0.05, batch=5 if subsamples else None)
    assert found.history[-1]["step"] == (6 if subsamples else 3)
    assert found.heldout_elbo is not None
    assert (found.heldout_log_likelihood, found.baseline) == (None, None)
    assert set(found.params) == {"weight", "slope", "width"}
    # log p(x) >= ELBO, and a fit to noise beats no fit: the bound is on the scale of one datum, whatever the minibatch
    assert -12 < found.heldout_elbo.value < -4
    result = compare(pair, x, engine=engine, estimators=["pathwise"], replicates=20, epochs=1, seeds=0,
                     batch=5 if subsamples else None).results  # fmt: skip
    assert result["reference"]["kind"] == "long-run"
    assert result["manifest"]["batch"] == (5 if subsamples else 10)
    assert [row["applicable"] for row in result["estimators"]] == [True] * 2
    assert all(row["verdict"] != "biased" for row in result["estimators"])


@pytest.mark.parametrize("engine", ENGINES)
def test_minibatches_of_plain_functions_need_total(engine):
    with pytest.raises(InputError, match=r"batch=5 needs a model and guide that take the keyword `total`.*; add it"):
        fit(functions(engine, False), real(), engine=engine, batch=5)
    with pytest.raises(InputError, match=r"pair \(model, guide\), got int; .* Bound\(model, guide\)"):
        fit(3, real(), engine=engine)


def test_plain_functions_of_either_engine_are_compiled_once():
    from inference.callables import as_bound

    pair = functions("numpyro", True)
    assert as_bound(pair, "numpyro", 10) == as_bound(pair, "numpyro", 10)
    assert hash(as_bound(pair, "numpyro", 10)) == hash(as_bound(pair, "numpyro", 10))
    assert as_bound(pair, "numpyro", 10) != as_bound(pair, "numpyro", 11)
