"""Bridge sampling: exact where every state is drawn as often as its law says, enumerated values, and intervals that cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from inference.kernels import BlockGibbs, SequentialGibbs, Tempering, ladder
from inference.kernels._pyro import seeded
from inference.log_partition import bridge, exact
from inference.log_partition.bridge import bridged, logistic, recorded
from ppl_models import InputError
from ppl_models.energy import RBM, BoltzmannMachine

from .catalogue import close
from .catalogue import exact as session
from .stationary import MODELS, bridged_gap, energies, given, parameters, words


def test_the_equation_holds_in_expectation():
    """Over all states of a machine, weighed by their laws: both sides are one number at d = log Z / Z', to 1e-12."""
    with session("pyro"):
        E = energies(MODELS["ring-ising"], "pyro", given(MODELS["ring-ising"], "pyro"))
    betas = (1.0, 0.4, 0.0)
    log_z = [np.logaddexp.reduce(-beta * E) for beta in betas]
    for r in range(2):
        cold, hot = (np.exp(-betas[i] * E - log_z[i]) for i in (r, r + 1))
        log_q, d = (betas[r + 1] - betas[r]) * E, log_z[r] - log_z[r + 1]
        close((hot * logistic(log_q - d)).sum(), (cold * logistic(d - log_q)).sum(), 1e-12)


def test_it_is_exact_where_each_state_is_drawn_as_often_as_its_law_says():
    assert bridged_gap() < 1e-12


@pytest.mark.parametrize(("name", "engine"), [("rbm", "numpyro"), ("rbm", "pyro"), ("ring-ising", "pyro"), ("dbm", "pyro")])
def test_bridge_finds_the_enumerated_value(name: str, engine: str):
    """Within 5.5 of its standard errors (family-wise 1e-6), below 0.02 nats: so large a fault is found."""
    model, params = MODELS[name], parameters(MODELS[name])
    size: dict[str, Any] = {"chains": 1000, "draws": 20} if engine == "pyro" else {"chains": 100, "draws": 300}
    found = bridge(model, params, engine=engine, betas=4, warmup=20, **size)
    error = (found.log_partition.high - found.log_partition.value) / 1.96
    assert error < 0.02
    assert abs(found.log_partition.value - exact(model, params)) < 5.5 * error
    assert found.side == "approximate"
    assert found.log_weights.shape == (size["chains"],)
    close(found.log_start, sum(model.sites.values()) * np.log(2), 1e-12)
    assert 1000 < found.effective_samples < 5 * size["chains"] * size["draws"]


def test_the_interval_covers():
    """300 replicates of 20 chains of sluggish draws: between 87 and 99.5 % (binomial, 1e-6), and no wider than they scatter."""
    model = BoltzmannMachine(4, spins="ising")
    params = {"coupling": np.full((4, 4), 0.7), "bias": np.full(4, 0.1)}
    truth = exact(model, params)
    with session("pyro"):
        held: Any = {name: torch.tensor(value) for name, value in params.items()}
        kernel = Tempering(SequentialGibbs(model), (1.0, 0.5, 0.0))
        drawn = recorded(words("pyro"), kernel, 6000, 40, 60, 1, seeded(0), held)[1]
    E = np.asarray(drawn)
    with session("pyro"):
        states = energies(model, "pyro", held)
    for beta, first in zip((1.0, 0.5, 0.0), E[:, :, 0], strict=True):  # what the warm-up is for
        p = np.exp(-beta * states - np.logaddexp.reduce(-beta * states))
        assert abs(first.mean() - p @ states) < 5.5 * first.std() / len(first) ** 0.5
    found = bridged(E, (1.0, 0.5, 0.0), 4 * np.log(2))
    parts = [bridged(part, (1.0, 0.5, 0.0), 4 * np.log(2)) for part in np.split(E, 300, axis=1)]
    ends = np.array([part.log_partition for part in parts])
    assert 0.87 < np.mean((ends[:, 1] <= truth) & (truth <= ends[:, 2])) < 0.995
    close(np.median(ends[:, 2] - ends[:, 0]) / (2.093 * ends[:, 0].std()), 1.0, 0.2)
    assert found.effective_samples < 0.8 * 6000 * 40, "draws of one chain hang together"


def test_an_adapted_ladder_is_a_bridges_path():
    model = RBM(3, 2)
    params = {name: 3 * value for name, value in parameters(model).items()}
    found = bridge(
        model, params, engine="pyro", betas=ladder(BlockGibbs(model), params, count=5, engine="pyro"), chains=100, draws=300
    )
    error = (found.log_partition.high - found.log_partition.value) / 1.96
    assert abs(found.log_partition.value - exact(model, params)) < 5.5 * error < 0.2


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (RBM(2, 2, visible="normal"), {}, "no law at β = 0"),
        (RBM(2, 2), {"betas": (1.0, 0.5)}, "from 1 to 0"),
        (RBM(2, 2), {"betas": 1}, "from 1 to 0"),
        (RBM(2, 2), {"betas": (1.0, 0.5, 0.5, 0.0)}, "falling"),
        (RBM(2, 2), {"chains": 9, "draws": 2, "warmup": 0}, "10 chains"),
        (RBM(2, 2), {"draws": 0}, "at least 1"),
    ],
)
def test_bridges_to_nowhere_are_refused(model: Any, settings: dict[str, Any], words: str):
    settings = {"engine": "pyro", **settings}
    with pytest.raises(InputError, match=words):
        bridge(model, parameters(RBM(2, 2)), **settings)
