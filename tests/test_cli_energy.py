"""`ppl fit` and `ppl sample` of every energy in the catalogue, on both engines."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from inference.files import load_params
from inference.methods import methods
from ppl_models import CATALOGUE
from ppl_models.datasets import load

from .command import ENGINES, assert_estimate, assert_one_sentence, assert_self_contained, run, strict
from .test_cli_fit import ENERGIES

TINY = {
    "boltzmann_machine": [],
    "hidden_boltzmann_machine": ["--set", "num_hidden=3"],
    "rbm": ["--set", "num_hidden=8"],
    "deep_belief_net": ["--set", "hidden=6,4"],
    "deep_boltzmann_machine": ["--set", "hidden=6,4"],
    "neural_energy": ["--set", "hidden=16"],
}


def done(capsys, monkeypatch, *arguments):
    """What the command told, as JSON."""
    ran = run(capsys, monkeypatch, *arguments)
    assert ran.code == 0, ran
    return strict(ran.out)


def test_every_energy_is_tried():
    assert set(TINY) == set(ENERGIES)


#: On Pyro every energy, which compiles nothing; on NumPyro one of each kind of likelihood.
CASES = [(name, "pyro") for name in TINY] + [(name, "numpyro") for name in ("rbm", "deep_belief_net", "neural_energy")]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_an_energy_is_fitted_kept_and_drawn_from(name, engine, tmp_path, capsys, monkeypatch):
    folder, rows = tmp_path / "run", "digits"
    if name != "rbm":
        # Thousands of sweeps, each a Python loop over units or a gradient on Pyro: fewer, over three rows of pixels.
        monkeypatch.setattr("inference.energy_runs.STEPS", 200)
        rows = tmp_path / "rows.npy"
        np.save(rows, np.concatenate([load("digits").x, load("digits").heldout])[:, 16:40])
    columns = 64 if name == "rbm" else 24
    told = done(capsys, monkeypatch, "fit", name, *TINY[name], "--data", rows, "--engine", engine, "--epochs", "3",
                "--out", folder, "--json")  # fmt: skip
    assert (told["model"], told["method"], told["engine"]) == (name, methods(CATALOGUE[name][0])[0], engine)
    assert ("threshold" in told["data"]["binarisation"] + told["data"]["card"]) == (name == "rbm")
    assert_estimate({key: value for key, value in told["baseline"].items() if key != "name"})
    if name == "hidden_boltzmann_machine":
        assert told["heldout_log_likelihood"] is told["likelihood"] is None
    else:
        assert_estimate(told["heldout_log_likelihood"])
        assert told["likelihood"]["beta"] == 1.0
        assert_estimate(told["likelihood"]["log_partition"])
        kind = "annealed" if name in ("boltzmann_machine", "neural_energy") else "enumerated"
        assert told["likelihood"]["kind"] == kind
        assert set(told["likelihood"]["sides"]) == ({"optimistic", "approximate"} if kind == "annealed" else set())
        if name.startswith("deep"):
            assert told["likelihood"]["bound"] == "log p(x)"
        if name == "deep_belief_net":
            assert told["heldout_elbo"]["value"] < told["heldout_log_likelihood"]["value"]
        else:
            assert told["heldout_elbo"] is None
        assert -0.65 * columns < told["heldout_log_likelihood"]["value"] < -0.25 * columns
    layers = 2 if name == "deep_belief_net" else 1
    assert len((folder / "history.jsonl").read_text().splitlines()) == 3 * layers
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert "Energies" in page
    assert "Samples of the model" in page
    assert ("Couplings of the hidden units" in page) is (name in ("rbm", "deep_belief_net", "deep_boltzmann_machine"))
    chains = load_params(folder / "chains.safetensors")
    assert chains["x"].shape == (500, columns)
    drawn = done(capsys, monkeypatch, "sample", folder, "--num", "5", "--out", tmp_path / "draws.npz", "--json")
    assert drawn["sites"]["x"] == [5, columns]
    with np.load(tmp_path / "draws.npz") as archive:
        assert set(np.unique(archive["x"])) <= {0.0, 1.0}


@pytest.mark.parametrize("engine", ENGINES)
def test_gaussian_units_and_the_options_of_chains(engine, capsys, monkeypatch):
    told = done(capsys, monkeypatch, "fit", "rbm", "--data", "iris", "--set", "visible=normal", "--set", "num_hidden=3",
               "--engine", engine, "--epochs", "4", "--chains", "20", "--sweeps", "2", "--batch", "30", "--lr", "0.01",
                "--json")  # fmt: skip
    assert told["manifest"]["chains"] == 20
    assert told["manifest"]["sweeps"] == 2
    assert math.isfinite(told["heldout_log_likelihood"]["value"])
    assert "none" in told["data"]["binarisation"]


def test_a_deep_machine_begins_greedily(tmp_path, capsys, monkeypatch):
    told = done(capsys, monkeypatch, "fit", "deep_boltzmann_machine", "--data", "digits", "--set", "hidden=6,4", "--engine",
                "pyro", "--epochs", "2", "--greedy", "1", "--out", tmp_path / "run", "--json")  # fmt: skip
    assert (told["method"], told["epochs"], told["manifest"]["greedy"]) == ("pcd", 4, 1)
    assert told["likelihood"]["bound"] == "log p(x)"
    rows = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [row.get("layer") for row in rows] == [1, 2, None, None]


@pytest.mark.parametrize(("method", "engine"), [("pcd", "numpyro"), ("score-matching", "pyro")])
def test_a_network_over_reals(method, engine, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr("inference.energy_runs.STEPS", 200)
    told = done(capsys, monkeypatch, "fit", "neural_energy", "--data", "iris", "--set", "visible=normal", "--set",
                "hidden=8", "--method", method, "--engine", engine, "--epochs", "3", "--batch", "30", "--out", folder,
                "--json")  # fmt: skip
    assert told["likelihood"]["kind"] == "annealed"
    assert set(told["likelihood"]["sides"]) == {"optimistic", "approximate"}
    assert_estimate(told["heldout_log_likelihood"])
    assert told["heldout_log_likelihood"]["value"] > told["baseline"]["value"] - 1.5
    assert (told["manifest"].get("noise") == 0.1) == (method == "score-matching")
    assert_self_contained((folder / "report.html").read_text(encoding="utf-8"))
    drawn = done(capsys, monkeypatch, "sample", folder, "--num", "5", "--out", tmp_path / "draws.npz", "--json")
    assert drawn["sites"]["x"] == [5, 4]
    with np.load(tmp_path / "draws.npz") as archive:
        assert len(np.unique(archive["x"])) > 10


@pytest.mark.parametrize("method", ["cd", "exact", "pseudo-likelihood"])
def test_the_other_methods(method, tmp_path, capsys, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 2, (60, 5)).astype(float)
    np.save(tmp_path / "x.npy", rows)
    told = done(capsys, monkeypatch, "fit", "boltzmann_machine", "--data", tmp_path / "x.npy", "--method", method, "--epochs",
               "2", "--json")  # fmt: skip
    assert told["method"] == method
    assert told["likelihood"]["kind"] == "enumerated"
    assert json.dumps(told)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rbm", "--method", "svi"], ["rbm cannot be fitted by svi", "pcd"]),
        (["rbm", "--beta", "2"], ["--beta", "pcd"]),
        (["rbm", "--restarts", "2"], ["--restarts", "pcd"]),
        (["vae", "--chains", "5"], ["--chains", "svi"]),
        (["rbm", "--method", "exact"], ["at most 20", "64"]),
        (["rbm", "--greedy", "2"], ["stacks of layers", "RBM"]),
        (["vae", "--greedy", "2"], ["--greedy", "svi"]),
        (["deep_belief_net", "--method", "pcd"], ["cannot be fitted by pcd", "greedy"]),
        (["rbm", "--set", "visible=relu"], ["bernoulli or normal", "relu"]),
        (["rbm", "--data", "iris"], ["row", "rescale"]),
        (["rbm", "--method", "score-matching"], ["real-valued", "visible=normal"]),
        (["rbm", "--noise", "0.2"], ["--noise", "score-matching", "pcd"]),
        (["neural_energy", "--method", "pseudo-likelihood"], ["cannot be fitted", "pcd"]),
        (["deep_boltzmann_machine", "--method", "pseudo-likelihood"], ["cannot be fitted", "pcd"]),
    ],
)
def test_what_does_not_go_together_leaves_one_sentence(arguments, words, tmp_path, capsys, monkeypatch):
    ran = run(capsys, monkeypatch, "fit", *arguments, "--epochs", "1", "--out", tmp_path / "run")
    assert ran.code == 2, ran
    assert_one_sentence(ran.err, *words, hide=[tmp_path])
    assert not (tmp_path / "run").exists()
