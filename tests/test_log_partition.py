"""log Z: exact by two roads, and the expectation of annealed weights by enumerating every path."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from inference.log_partition import exact
from inference.log_partition.annealed import along, fixed, uncoupled
from ppl_models.energy import RBM, BoltzmannMachine, DeepBoltzmannMachine

from .catalogue import close, shared
from .catalogue import exact as session
from .test_kernels import MODELS, each_engine, parameters, words
from .transition import Tape, forced, states

SMALL = {"rbm": RBM(1, 1), "rbm-centred": RBM(1, 1, centred=True), "dbm": DeepBoltzmannMachine(1, (1,)),
         "dense": BoltzmannMachine(2), "pair-ising": BoltzmannMachine(1, 1, edges=((0, 1),), spins="ising")}  # fmt: skip


def by_hand(model: Any, params: dict[str, np.ndarray]) -> float:
    """Over all states, from the energy alone, in NumPy."""
    with session("pyro"):
        given = {name: shared("pyro").array(v) for name, v in params.items()}
        values = {name: shared("pyro").array(v) for name, v in states(model.sites).items()}
        return float(logsumexp(-np.asarray(model.energy(words("pyro"), given, values))))


@each_engine
@pytest.mark.parametrize("name", MODELS)
def test_exact_is_the_sum_over_all_states(name: str, engine: str):
    params = parameters(MODELS[name])
    close(exact(MODELS[name], params, engine), by_hand(MODELS[name], params), 1e-12)


@each_engine
@pytest.mark.parametrize("name", SMALL)
def test_mean_annealed_weight_is_the_ratio_of_partition_functions(name: str, engine: str):
    """E[w] = Z / Z₀ to 1e-12, over all paths of two units through three temperatures."""
    model, path = SMALL[name], np.array([0.0, 0.4, 1.0])
    params = {key: 2 * value for key, value in parameters(model).items()}
    with session(engine):
        array = shared(engine).array
        end = {key: array(value) for key, value in params.items()}
        base = {key: array(0.3 * value) for key, value in params.items() if key.endswith("bias")}
        start = {key: fixed(model, key, value, base.get(key), shared(engine)) for key, value in end.items()}
        arities: list[int] = []
        dry = Tape(array(np.zeros((1, 0))), 0, array(np.zeros(1)))
        along(forced(words(engine), arities), model, 1, dry, start, end, path, None)
        outcomes = np.array(list(product(*(range(n) for n in arities))), float)
        tape = Tape(array(outcomes), 0, array(np.zeros(len(outcomes))))
        after, log_w = along(forced(words(engine)), model, len(outcomes), tape, start, end, array(path), None)
        log_ratio = by_hand(model, params) - float(uncoupled(words(engine), model, start))
        log_p, log_w = np.asarray(after.log_weight), np.asarray(log_w)
    close(np.exp(log_p).sum(), 1.0, 1e-12)
    close(np.exp(log_p + log_w).sum(), np.exp(log_ratio), 1e-12)
