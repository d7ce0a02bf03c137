"""What training follows equals the exact gradient where that can be counted, and training arrives."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from inference.energy_training import Objective, fit_energy
from inference.energy_training.objective import mean_field
from inference.kernels import BlockGibbs, State, Tempering
from inference.log_partition import annealed, exact, unnormalised
from inference.log_partition.annealed import kernel
from ppl_models import InputError, NumericalError
from ppl_models.datasets import Dataset
from ppl_models.energy import RBM, BoltzmannMachine, DeepBoltzmannMachine, NeuralEnergy

from .catalogue import close, shared
from .catalogue import exact as session
from .stationary import MODELS, given, parameters, target, words
from .test_kernels import each_engine
from .transition import states

VISIBLE = ("dense", "dense-ising", "ring")
COUNTED = (*VISIBLE, "neural")
SUMMED = ("rbm", "rbm-centred")


def rows(model: Any, count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (count, model.data_dim)).astype(float)


def log_likelihood(model: Any, params: dict[str, np.ndarray], x: np.ndarray) -> float:
    """The mean over rows, by enumeration."""
    with session("pyro"):
        p = target(model, "pyro", {key: shared("pyro").array(value) for key, value in params.items()}, 1.0)
    bits, visible = states(model.sites)["x"], np.unique(x, axis=0, return_inverse=True)
    marginal = np.array([p[(bits == row).all(1)].sum() for row in visible[0]])
    return float(np.log(marginal)[visible[1]].mean())


def slopes(model: Any, params: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    """∂ log-likelihood by central differences, good to 1e-8."""
    out = {}
    for name, value in params.items():
        out[name] = np.zeros(value.shape)
        for i in np.ndindex(value.shape):
            step = np.zeros(value.shape)
            step[i] = 1e-4
            up, down = (log_likelihood(model, params | {name: value + sign * step}, x) for sign in (1, -1))
            out[name][i] = (up - down) / 2e-4
    return out


@each_engine
@pytest.mark.parametrize("name", [*COUNTED, *SUMMED])
def test_exact_training_follows_the_likelihood(name: str, engine: str):
    model, params = MODELS[name], parameters(MODELS[name])
    x = rows(model)
    with session(engine):
        objective, ppl = Objective(model, kernel(model), "exact"), words(engine)
        _, _, found, told = objective.step(ppl, ppl.seeded(0), given(model, engine), None, shared(engine).array(x))
        found = {key: np.asarray(value) for key, value in found.items()}
        close(told["objective"], log_likelihood(model, params, x), 1e-12)
    for key, slope in slopes(model, params, x).items():
        if not key.endswith(".offset"):
            close(-found[key], np.tril(slope, -1) if key == "coupling" and slope.ndim == 2 else slope, 1e-6)


@each_engine
@pytest.mark.parametrize("name", [*COUNTED, *SUMMED, "rbm-tempered"])
def test_persistent_chains_at_the_law_give_its_gradient(name: str, engine: str):
    """PCD from 65,536 exact draws: each coordinate within 5.5 of its standard error (below 0.004) of the exact gradient."""
    model = MODELS[name.removesuffix("-tempered")]
    x, count = rows(model), 65_536
    with session(engine):
        params, ppl, array = given(model, engine), words(engine), shared(engine).array
        made = Tempering(kernel(model), (1.0, 0.5)) if name.endswith("tempered") else kernel(model)
        rng, draws = np.random.default_rng(1), []
        for beta in (1.0, 0.5):
            p = target(model, engine, params, beta)
            chosen = rng.choice(len(p), count, p=p / p.sum())
            draws.append({site: bits[chosen] for site, bits in states(model.sites).items()})
        both = isinstance(made, Tempering)
        values = {site: np.stack([draw[site] for draw in draws]) if both else draws[0][site] for site in draws[0]}
        chains = made.init(ppl, ppl.seeded(0), {site: array(value) for site, value in values.items()})
        _, _, found, _ = Objective(model, made, "pcd").step(ppl, ppl.seeded(1), params, chains, array(x))
        _, _, truth, _ = Objective(model, kernel(model), "exact").step(ppl, ppl.seeded(1), params, None, array(x))
        for key in found:
            np.testing.assert_allclose(np.asarray(found[key]), np.asarray(truth[key]), atol=5.5 * 2.0 / np.sqrt(count))


@each_engine
@pytest.mark.parametrize("name", VISIBLE)
def test_pseudo_likelihood_is_the_sum_of_conditionals(name: str, engine: str):
    model, x = MODELS[name], rows(MODELS[name])
    with session(engine):
        params, ppl, array = given(model, engine), words(engine), shared(engine).array
        told = Objective(model, kernel(model), "pseudo-likelihood").step(ppl, ppl.seeded(0), params, None, array(x))[3]
        total = 0.0
        for i in range(model.data_dim):
            flipped = x.copy()
            flipped[:, i] = 1 - flipped[:, i]
            here, there = (np.asarray(-model.energy(ppl, params, {"x": array(v)})) for v in (x, flipped))
            total += -np.logaddexp(0, there - here).mean()
        close(told["objective"], total, 1e-12)


@each_engine
def test_mean_field_is_a_fixed_point_and_its_bound_lies_below(engine: str):
    model = DeepBoltzmannMachine(3, (3, 2))
    x = rows(model)
    with session(engine):
        params, ppl, array = given(model, engine), words(engine), shared(engine).array
        means = mean_field(ppl, model, params, array(x), 200)
        for name in ("h1", "h2"):
            close(ppl.sigmoid(model.logits(ppl, params, means, name)), means[name], 1e-9)
        entropy = sum(-(m * np.log(m) + (1 - m) * np.log1p(-m)).sum(-1) for m in (np.asarray(means[n]) for n in ("h1", "h2")))
        bound = (-np.asarray(model.energy(ppl, params, means)) + entropy).mean() - exact(model, parameters(model), engine)
    truth = log_likelihood(model, parameters(model), x)
    assert truth - 0.5 < bound < truth


@each_engine
@pytest.mark.parametrize("visible", ["bernoulli", "normal"])
def test_moving_the_offsets_leaves_the_law(visible: Any, engine: str):
    """Up to a constant, which log Z takes back: differences of −F between rows stay."""
    model = RBM(3, 2, visible=visible, centred=True)
    x = np.random.default_rng(1).normal(size=(5, 3)) if visible == "normal" else rows(model)
    params = parameters(model) | ({"x.scale": np.array([0.5, 1.0, 2.0])} if visible == "normal" else {})
    with session(engine):
        array = shared(engine).array
        moved = model.recentred(words(engine), {key: array(value) for key, value in params.items()}, array(x), 0.7)
        moved = {key: np.asarray(value) for key, value in moved.items()}
    before, after = (unnormalised(model, one, x, engine=engine) for one in (params, moved))
    assert np.abs(moved["x.offset"] - params["x.offset"]).min() > 0.01
    close(after - after[0], before - before[0], 1e-12)


# --- arrival ----------------------------------------------------------------------------------------------------------


def bars_and_stripes(side: int) -> np.ndarray:
    """Every row or every column one colour, the two blank images twice."""
    lines = np.array(list(product([0.0, 1.0], repeat=side)))
    return np.concatenate([np.repeat(lines, side, 1), np.tile(lines, (1, side))])


def test_bars_and_stripes_have_the_known_optimum():
    x = bars_and_stripes(4)
    counts = np.unique(x, axis=0, return_counts=True)[1] / len(x)
    close((counts * np.log(counts)).sum(), -3.379093, 1e-6)


@each_engine
def test_exact_training_learns_bars_and_stripes_2x2(engine: str):
    x = bars_and_stripes(2)
    model = RBM(4, 6)
    found = fit_energy(model, Dataset("bars", x, x, "none"), method="exact", engine=engine, epochs=1500, batch=8, lr=0.05)
    assert -1.732868 - 0.01 < log_likelihood(model, {k: v.astype(float) for k, v in found.params.items()}, x) < -1.732868
    assert found.chains is None
    close(found.history[-1]["objective"], log_likelihood(model, found.params, x), 1e-2)


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, Dataset]:
    """A law over eight bits, and 20,000 draws from it."""
    rng = np.random.default_rng(4)
    p = np.exp(-energy_of_pairs(states({"x": 8})["x"], rng))
    p /= p.sum()
    chosen = rng.choice(256, 20_000, p=p)
    x = states({"x": 8})["x"]
    return p, Dataset("table", x[chosen[:16_000]], x[chosen[16_000:]], "none")


def energy_of_pairs(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ((x @ rng.normal(size=(8, 8))) * x).sum(-1) / 2


@each_engine
@pytest.mark.parametrize("method", ["pcd", "cd", "pseudo-likelihood", "exact"])
def test_eight_bits_from_a_known_table(method: Any, engine: str, table: Any):
    """Held-out log-likelihood within 0.05 nats of the truth's, and between the two sides that annealing states."""
    p, data = table
    model: Any = BoltzmannMachine(8) if method == "pseudo-likelihood" else RBM(8, 8)
    found = fit_energy(model, data, method=method, engine=engine, epochs=15, batch=200, lr=0.02, sweeps=5, chains=500)
    index = (data.heldout @ 2.0 ** np.arange(8)[::-1]).astype(int)
    truth, params = float(np.log(p)[index].mean()), {key: np.asarray(v, np.float64) for key, v in found.params.items()}
    minus_free = unnormalised(model, params, data.heldout, engine=engine).mean()
    log_z = exact(model, params, engine)
    assert abs(minus_free - log_z - truth) < 0.05
    forward = annealed(model, params, engine=engine, betas=100, chains=500).log_partition
    with session("pyro"):
        law = target(model, "pyro", {key: shared("pyro").array(value) for key, value in params.items()}, 1.0)
    chosen = np.random.default_rng(2).choice(len(law), 500, p=law / law.sum())
    draws = {site: bits[chosen] for site, bits in states(model.sites).items()}
    reverse = annealed(model, params, engine=engine, betas=100, draws=draws, exact_draws=True).log_partition
    assert minus_free - reverse.high - 0.02 < minus_free - log_z < minus_free - forward.low + 0.02


@each_engine
def test_a_deep_machine_and_hidden_units_on_a_graph_learn(engine: str, table: Any):
    """Their positive phase is approximate: they end above independent pixels by half of what there is to gain."""
    p, data = table
    mean = data.x.mean(0)
    alone = (data.heldout * np.log(mean) + (1 - data.heldout) * np.log1p(-mean)).sum(1).mean()
    truth = np.log(p)[(data.heldout @ 2.0 ** np.arange(8)[::-1]).astype(int)].mean()
    for model in (DeepBoltzmannMachine(8, (6, 3)), BoltzmannMachine(8, 3)):
        found = fit_energy(model, data, engine=engine, epochs=6, batch=200, lr=0.02, sweeps=5, chains=300)
        reached = log_likelihood(model, {key: value.astype(float) for key, value in found.params.items()}, data.heldout)
        assert reached > (alone + truth) / 2


@each_engine
@pytest.mark.parametrize("method", ["exact", "pcd"])
def test_a_network_learns_the_table(method: Any, engine: str, table: Any):
    """Within 0.05 nats of the truth's held-out log-likelihood, by chains of Gibbs with gradients or by enumeration."""
    p, data = table
    found = fit_energy(NeuralEnergy(8, (32,)), data, method=method, engine=engine, epochs=10, batch=200, lr=0.01, chains=300)
    params = {key: value.astype(float) for key, value in found.params.items()}
    truth = np.log(p)[(data.heldout @ 2.0 ** np.arange(8)[::-1]).astype(int)].mean()
    reached = unnormalised(found.model, params, data.heldout, engine=engine).mean() - exact(found.model, params, engine)
    assert abs(reached - truth) < 0.05


@each_engine
def test_equal_seeds_give_equal_bits(engine: str, table: Any):
    runs = [fit_energy(RBM(8, 4), table[1], engine=engine, epochs=2, seed=seed).params for seed in (3, 3, 4)]
    for name, value in runs[0].items():
        np.testing.assert_array_equal(value, runs[1][name])
    assert any((runs[0][name] != runs[2][name]).any() for name in runs[0])


@pytest.mark.parametrize(
    ("make", "words_"),
    [
        (lambda d: fit_energy(RBM(8, 4), d, method="ml"), ["exact, cd, pcd", "'ml'"]),  # type: ignore[arg-type]
        (lambda d: fit_energy(RBM(8, 4), d, method="pseudo-likelihood"), ["every unit visible", "use pcd"]),
        (lambda d: fit_energy(BoltzmannMachine(30), np.zeros((9, 30)), method="exact"), ["at most 20", "30"]),
        (lambda d: fit_energy(RBM(7, 4), d), ["data_dim=7", "has 8"]),
        (lambda d: fit_energy(RBM(2, 4), np.array([[0.0, 2.0]] * 9)), ["[0, 1]", "row 0, column 1", "2.0"]),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, words_: list[str], table: Any):
    with pytest.raises(InputError) as caught:
        make(table[1])
    assert all(word in str(caught.value) for word in words_), caught.value


@each_engine
def test_parameters_gone_astray_are_named(engine: str, table: Any):
    with pytest.raises(NumericalError, match="step .* of epoch 1"):
        fit_energy(RBM(8, 4), table[1], engine=engine, lr=1e38, epochs=1)


@each_engine
def test_gaussian_units_learn_location_and_scale(engine: str):
    """Of columns that are apart in both: the means and standard deviations of draws from the model are the data's."""
    rng = np.random.default_rng(0)
    x = np.array([3.0, -1.0, 0.0]) + np.array([0.5, 1.0, 2.0]) * rng.normal(size=(4000, 3))
    found = fit_energy(RBM(3, 2, visible="normal"), Dataset("normal", x, x, "none"), engine=engine, epochs=30, lr=0.005)
    assert (found.params["x.scale"] > 0).all()
    assert found.chains is not None
    close(found.chains["x"].mean(0), x.mean(0), 0.6)
    close(found.chains["x"].std(0), x.std(0), 0.35)


@each_engine
def test_a_persistent_state_goes_on(engine: str):
    """The chains that a step returns are those the next one starts from."""
    model = MODELS["rbm"]
    with session(engine):
        ppl, array = words(engine), shared(engine).array
        start = State(ppl.seeded(0), {site: array(np.zeros((7, size))) for site, size in model.sites.items()})
        objective = Objective(model, BlockGibbs(model), "pcd", sweeps=3)
        _, chains, _, _ = objective.step(ppl, ppl.seeded(1), given(model, engine), start, array(rows(model)))
    assert chains.values["x"].shape == (7, 3)
    assert np.asarray(chains.values["x"]).any()
