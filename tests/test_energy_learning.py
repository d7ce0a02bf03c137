"""The benchmarks of learning energies: stages go on, exact likelihoods are exact, and features are the hidden means."""

from __future__ import annotations

from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
import pytest

from benchmarks import checkpoint, energy_learning, rbm_mnist
from benchmarks.energy_staged import Leg, trained
from inference.energy_training import EnergyFit, fit_energy, hidden_means
from inference.kernels import BlockGibbs, Tempering
from inference.log_partition import unnormalised
from ppl_models import InputError
from ppl_models.datasets import Dataset
from ppl_models.energy import RBM, BoltzmannMachine, DeepBoltzmannMachine

from .test_kernels import each_engine


def cube(size: int) -> np.ndarray:
    return np.array(list(product([0.0, 1.0], repeat=size)))


def fitted(model: Any, engine: str = "numpyro", scale: float = 1.0) -> EnergyFit:
    """A model with random parameters, as if trained."""
    rng, x = np.random.default_rng(3), np.zeros((4, model.data_dim))
    params = {name: scale * rng.normal(size=value.shape) for name, value in model.initial(x, rng).items()}
    return EnergyFit(model, engine, Dataset("rows", x, x, "none"), "pcd", params, [], None, 0.0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# --- features ---------------------------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("centred", [False, True])
def test_hidden_means_of_an_rbm_are_those_of_its_enumerated_law(centred: bool, engine: str):
    found = fitted(RBM(4, 3, centred=centred), engine)
    p, h = found.params, cube(3)
    mu, lam = (p["x.offset"], p["h.offset"]) if centred else (0.0, 0.0)
    for x, mean in zip(cube(4), hidden_means(found, cube(4))["h"], strict=True):
        minus_energy = (x - mu) @ p["weight"] @ (h - lam).T + (h - lam) @ p["h.bias"]
        weights = np.exp(minus_energy) / np.exp(minus_energy).sum()
        np.testing.assert_allclose(mean, weights @ h, atol=1e-12)


@each_engine
def test_hidden_means_of_a_deep_machine_solve_mean_field(engine: str):
    found = fitted(DeepBoltzmannMachine(4, (3, 2)), engine, scale=0.5)
    p, x = found.params, cube(4)
    means = hidden_means(found, x, steps=200)
    assert {name: m.shape for name, m in means.items()} == {"h1": (16, 3), "h2": (16, 2)}
    np.testing.assert_allclose(means["h2"], sigmoid(means["h1"] @ p["h2.weight"] + p["h2.bias"]), atol=1e-9)
    up = x @ p["h1.weight"] + means["h2"] @ p["h2.weight"].T + p["h1.bias"]
    np.testing.assert_allclose(means["h1"], sigmoid(up), atol=1e-9)


def test_features_go_by_pieces_and_refuse_what_has_none(monkeypatch: pytest.MonkeyPatch):
    found = fitted(RBM(4, 3))
    whole = hidden_means(found, cube(4))["h"]
    monkeypatch.setattr("inference.energy_training.hidden.ROWS", 7)
    np.testing.assert_allclose(hidden_means(found, cube(4))["h"], whole, atol=1e-15)
    assert hidden_means(found, np.zeros((0, 4)))["h"].shape == (0, 3)
    with pytest.raises(InputError, match="rows of 4 columns, got shape"):
        hidden_means(found, np.zeros((2, 5)))
    with pytest.raises(InputError, match="layers of hidden units, got a BoltzmannMachine"):
        hidden_means(fitted(BoltzmannMachine(4, 2)), cube(4))


# --- chains that go on ------------------------------------------------------------------------------------------------


@each_engine
def test_chains_start_where_they_are_told(engine: str, tmp_path: Any):
    """Of a law whose units all but surely stay as they are, chains end where they began, and so from stage to stage."""
    model, rng = RBM(6, 6), np.random.default_rng(7)
    params = {"weight": 80 * np.eye(6), "x.bias": np.full(6, -40.0), "h.bias": np.full(6, -40.0)}
    x = rng.integers(0, 2, (50, 6)).astype(float)
    settings: Any = {"engine": engine, "epochs": 1, "batch": 10, "chains": 50, "init": params}
    settings["optimiser"] = import_module(f"benchmarks._{engine}").descent(1e-9)
    data = Dataset("rows", x[:10], x, "none")
    for kernel in (BlockGibbs(model), Tempering(BlockGibbs(model), (1.0, 0.99))):
        found = fit_energy(model, data, kernel=kernel, start={"x": x, "h": x}, **settings)
        assert found.chains is not None
        np.testing.assert_array_equal(found.chains["x"], x)
    assert (fit_energy(model, data, **settings).chains["x"] != x).any()  # type: ignore[index]
    legs, stages = (Leg(1, 1e-9, True),) * 2, checkpoint.Stages(tmp_path)
    ends = [trained(stages, "rbm", model, data, legs[:n], 0, engine=engine, init=params, batch=10, chains=50).chains
            for n in (1, 2)]  # fmt: skip
    assert ends[0] is not None
    assert ends[1] is not None
    np.testing.assert_array_equal(ends[0]["x"], ends[1]["x"])
    for start, said in (({"x": x}, r"give h of shape \(50, 6\), got \(0,\)"),
                        ({"x": x[:9], "h": x}, r"give x of shape \(50, 6\), got \(9, 6\)")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            fit_energy(model, data, start=start, **settings)


@pytest.mark.parametrize("descent", [False, True])
def test_training_by_stages_goes_on_where_it_was_killed(descent: bool, tmp_path: Any):
    x = energy_learning.bars_and_stripes(2)
    data, model = Dataset("bars", x, x, "none"), RBM(4, 3, centred=True)
    legs = (Leg(4, 1.0 if descent else 0.05, descent), Leg(1, 1e-9, descent))

    def run(folder: Any, legs: tuple[Leg, ...]) -> EnergyFit:
        return trained(checkpoint.Stages(folder), "rbm", model, data, legs, 0, batch=8, chains=20, centring=1e-9)

    whole = run(tmp_path / "whole", legs)
    run(tmp_path / "killed", legs[:1])  # here it was killed
    again = run(tmp_path / "killed", legs)
    first = run(tmp_path / "whole", legs[:1])
    assert whole.chains is not None
    assert again.chains is not None
    assert whole.chains["x"].shape == (20, 4)
    np.testing.assert_array_equal(again.chains["x"], whole.chains["x"])
    for name, value in whole.params.items():
        np.testing.assert_array_equal(again.params[name], value)
        np.testing.assert_allclose(first.params[name], value, atol=1e-6)  # the second leg goes on where the first ended
    start = model.initial(x, np.random.default_rng(0))
    assert np.abs(first.params["weight"] - start["weight"]).max() > 1e-3


@each_engine
def test_descent_moves_by_the_step_size_times_the_gradient(engine: str, tmp_path: Any):
    """One exact step along E_data[x hᵀ] − E_model[x hᵀ], enumerated; Adam would move every weight as far."""
    x = energy_learning.bars_and_stripes(2)
    model, units = RBM(4, 3), cube(7)
    start = model.initial(x, np.random.default_rng(0))
    found = trained(checkpoint.Stages(tmp_path), "rbm", model, Dataset("bars", x, x, "none"), (Leg(1, 1e-2, True),), 0,
                    engine=engine, method="exact", batch=8, dtype="float64", init=start)  # fmt: skip
    v, h = units[:, :4], units[:, 4:]
    p = np.exp(((v @ start["weight"]) * h).sum(1) + v @ start["x.bias"] + h @ start["h.bias"])
    of_data, of_model = x.T @ sigmoid(x @ start["weight"] + start["h.bias"]) / len(x), (v.T * p / p.sum()) @ h
    np.testing.assert_allclose(found.params["weight"] - start["weight"], 1e-2 * (of_data - of_model), rtol=1e-9, atol=1e-15)


# --- likelihoods ------------------------------------------------------------------------------------------------------


def test_draws_of_the_eight_bits_follow_their_table():
    """Each byte's share within 6 standard errors of its probability, on 20,000 draws: a share off by 0.02 is found."""
    states, p, data = energy_learning.table(20_000)
    assert (len(data.x), len(data.heldout), p.shape) == (16_000, 4_000, (256,))
    np.testing.assert_allclose(p.sum(), 1.0)
    everything = np.concatenate([data.x, data.heldout])
    shares = np.bincount((everything @ 2.0 ** np.arange(8)[::-1]).astype(int), minlength=256) / 20_000
    np.testing.assert_array_equal((states @ 2.0 ** np.arange(8)[::-1]).astype(int), np.arange(256))
    assert (np.abs(shares - p) < 6 * np.sqrt(p * (1 - p) / 20_000) + 1e-3).all()


def test_exact_draws_follow_the_joint_law():
    """Means of x, of h and of their products within 6 of at most 0.0025: an h that does not know its x is found."""
    found = fitted(RBM(4, 3))
    draws = energy_learning.exact_draws(found, cube(4), 40_000)
    log_p = unnormalised(found.model, found.params, cube(4))
    p, means = np.exp(log_p - np.logaddexp.reduce(log_p)), hidden_means(found, cube(4))["h"]
    for drawn, truth in ((draws["x"].mean(0), p @ cube(4)), (draws["h"].mean(0), p @ means),
                         (draws["x"].T @ draws["h"] / 40_000, (p[:, None] * cube(4)).T @ means)):  # fmt: skip
        np.testing.assert_allclose(drawn, truth, atol=6 * 0.0025)


def test_nudged_digits_are_those_of_the_example():
    """Row by row what convolution by one pixel's shift gives, split by the same seed."""
    from scipy.ndimage import convolve
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits, labels = load_digits(return_X_y=True)
    rows = [digits]
    for i, j in ((0, 1), (1, 0), (1, 2), (2, 1)):
        weights = np.zeros((1, 3, 3))
        weights[0, i, j] = 1
        rows.append(convolve(digits.reshape(-1, 8, 8), weights, mode="constant").reshape(-1, 64))
    x = np.concatenate(rows)
    x = (x - x.min(0)) / np.where(x.max(0) == x.min(0), 1.0, x.max(0) - x.min(0))
    truth = train_test_split(x, np.concatenate([labels] * 5), test_size=0.2, random_state=0)
    for found, part in zip(energy_learning.nudged(), truth, strict=True):
        np.testing.assert_allclose(found, part, atol=1e-6)


def test_the_machine_on_mnist_is_judged_against_its_twin(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    """On small images with strong means, both kinds and both engines run by stages and report exact likelihoods."""
    rng = np.random.default_rng(0)
    x = (rng.random((400, 6)) < 0.9).astype(np.float32)
    monkeypatch.setattr(rbm_mnist, "load", lambda *_, **__: Dataset("small", x[:300], x[300:], "threshold"))
    setup = rbm_mnist.Setup(num_hidden=2, legs=(Leg(3, 0.05, True),) * 2, seeds=(0, 1))
    stages = checkpoint.Stages(tmp_path)
    told = rbm_mnist.work(stages, setup)
    assert {name.rsplit("-", 2)[0] for name in stages.seconds if "leg" in name} == {
        "centred-numpyro-0", "centred-numpyro-1", "centred-pyro-0", "centred-pyro-1", "plain-numpyro-0"}  # fmt: skip
    alone = RBM(6).likelihood.baseline(x[:300], x[300:]).mean()
    for one in (told["centred"]["numpyro"], told["centred"]["pyro"], told["plain"]["numpyro"]):
        assert abs(one["log_likelihood"]["value"] - alone) < 0.1
    first, second = (one["log_likelihood"]["value"] for one in told["centred"]["numpyro"]["by_seed"])
    assert first != second
    np.testing.assert_allclose(told["centred"]["numpyro"]["log_likelihood"]["value"], (first + second) / 2, atol=1e-9)
    gap = first - told["plain"]["numpyro"]["log_likelihood"]["value"]
    np.testing.assert_allclose(told["gain"]["value"], gap, atol=1e-9)
