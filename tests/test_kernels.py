"""Kernels leave p^β as it is: the enumerated transition matrix of the shipped code, on both engines."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest

from inference.kernels import BlockGibbs, ChromaticGibbs, GibbsWithGradients, Metropolis, SequentialGibbs, Tempering
from ppl_models.energy import RBM, BoltzmannMachine, DeepBoltzmannMachine
from ppl_models.language import ENGINES

from .catalogue import close, exact, shared
from .transition import matrix, states

each_engine = pytest.mark.parametrize("engine", ENGINES)
RING = ((0, 1), (1, 2), (2, 3), (3, 0))
MODELS = {
    "dense": BoltzmannMachine(4),
    "dense-ising": BoltzmannMachine(4, spins="ising"),
    "hidden": BoltzmannMachine(2, 2, spins="ising", temperature=1.7),
    "ring": BoltzmannMachine(4, edges=RING),
    "ring-ising": BoltzmannMachine(3, 1, edges=RING, spins="ising", temperature=0.6),
    "rbm": RBM(3, 2),
    "rbm-centred": RBM(2, 2, centred=True),
    "dbm": DeepBoltzmannMachine(2, (2, 1)),
}


class Row(NamedTuple):
    """A kernel, the models it is held to, and whether its transition is claimed to be reversible."""

    kernel: Any
    models: tuple[str, ...]
    reversible: bool = False


GRAPHS = ("dense", "dense-ising", "hidden", "ring", "ring-ising")
ROWS = {
    "block": Row(BlockGibbs, ("rbm", "rbm-centred", "dbm")),
    "chromatic": Row(ChromaticGibbs, GRAPHS),
    "sequential": Row(SequentialGibbs, GRAPHS[:3]),
    "sequential-3": Row(lambda model: SequentialGibbs(model, block=3), GRAPHS[:3]),
    "sequential-1": Row(lambda model: SequentialGibbs(model, block=1), GRAPHS[:3]),
    "metropolis": Row(Metropolis, GRAPHS),
    "gibbs-with-gradients": Row(GibbsWithGradients, tuple(MODELS), reversible=True),
}
CASES = [(kernel, model) for kernel, row in ROWS.items() for model in row.models]


def words(engine: str) -> Any:
    return import_module(f"inference.kernels._{engine}")


def parameters(model: Any, seed: int = 3) -> dict[str, np.ndarray]:
    rng, shapes = np.random.default_rng(seed), dict[str, Any]()

    class Shapes:
        """Notes the shapes that a declaration asks for."""

        xp, constraints = np, type("Any", (), {"positive": None})

        @staticmethod
        def param(name: str, init: Any, **_: Any) -> np.ndarray:
            shapes[name] = np.shape(init())
            return np.zeros(shapes[name])

    model.parameters(Shapes)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def target(model: Any, engine: str, params: Any, beta: float) -> np.ndarray:
    """p(x)^β, normalised, over `states`, from the energy alone."""
    array = shared(engine).array
    values = {name: array(v) for name, v in states(model.sites).items()}
    log_p = -beta * np.asarray(model.energy(words(engine), params, values))
    p = np.exp(log_p - log_p.max())
    return p / p.sum()


def transition(kernel: Any, model: Any, engine: str, params: Any, beta: float = 1.0) -> np.ndarray:
    return matrix(
        lambda ppl, state: kernel.step(ppl, state, params, beta), words(engine), shared(engine).array, model.sites
    )


@each_engine
@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize(("kernel", "model"), CASES)
def test_kernel_leaves_the_target_as_it_is(kernel: str, model: str, beta: float, engine: str):
    """|πT − π|∞ < 1e-12, rows sum to one, and every state is reached from every other."""
    with exact(engine):
        declaration = MODELS[model]
        params = {name: shared(engine).array(v) for name, v in parameters(declaration).items()}
        T = transition(ROWS[kernel].kernel(declaration), declaration, engine, params, beta)
        pi = target(declaration, engine, params, beta)
    close(T.sum(1), np.ones(len(T)), 1e-12)
    assert np.abs(pi @ T - pi).max() < 1e-12
    assert (np.linalg.matrix_power(T, 8) > 0).all()
    flow = pi[:, None] * T
    assert (np.abs(flow - flow.T).max() < 1e-12) == ROWS[kernel].reversible


@each_engine
@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("inner", [BlockGibbs, GibbsWithGradients])
def test_tempering_leaves_the_product_of_all_replicas_as_it_is(inner: Any, parity: int, engine: str):
    """On the product space of three replicas of an RBM of two units, at steps that swap even pairs and odd ones."""
    model, betas = RBM(1, 1), (1.0, 0.6, 0.2)
    with exact(engine):
        array, kernel = shared(engine).array, Tempering(inner(model), betas)
        params = {name: 2 * array(v) for name, v in parameters(model).items()}
        each = [target(model, engine, params, beta) for beta in betas]
        pi = np.einsum("a,b,c->abc", *each).reshape(-1)

        def step(ppl: Any, state: Any) -> Any:
            values = {name: ppl.xp.moveaxis(v, -1, 0)[..., None] for name, v in state.values.items()}
            start = kernel.init(ppl, state.rng_key, values)._replace(step=array(np.array(float(parity))))
            after, info = kernel.step(ppl, start, params)
            values = {name: ppl.xp.moveaxis(v[..., 0], 0, -1) for name, v in after.values.items()}
            return state._replace(rng_key=after.rng_key, values=values), info

        T = matrix(step, words(engine), array, {"x": 3, "h": 3})
    # The states are numbered by (x1 x2 x3 h1 h2 h3); the product by (x1 h1 x2 h2 x3 h3).
    order = np.arange(64).reshape([2] * 6).transpose(0, 3, 1, 4, 2, 5).reshape(-1)
    T = T[np.ix_(order, order)]
    close(T.sum(1), np.ones(64), 1e-12)
    assert np.abs(pi @ T - pi).max() < 1e-12
    swaps = np.einsum("abc->bac" if parity == 0 else "abc->acb", np.arange(64).reshape(4, 4, 4)).reshape(-1)
    if inner is BlockGibbs:
        assert T[np.arange(64), swaps].min() > 0
