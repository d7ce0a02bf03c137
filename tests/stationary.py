"""Small machines whose every state can be counted, and what a shipped kernel does to their law: the table kernels join."""

from __future__ import annotations

from importlib import import_module
from itertools import product
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from inference.kernels import (
    BlockGibbs,
    ChromaticGibbs,
    DiscreteLangevin,
    GibbsWithGradients,
    Metropolis,
    SequentialGibbs,
    Tempering,
)
from inference.log_partition import from_base
from inference.log_partition.annealed import along, fixed, uncoupled
from ppl_models.energy import RBM, BoltzmannMachine, DeepBoltzmannMachine, NeuralEnergy

from .catalogue import exact, shared
from .transition import Tape, forced, matrix, states

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
    "neural": NeuralEnergy(3, (4,)),
}
PAIRS = {"rbm": RBM(1, 1), "rbm-centred": RBM(1, 1, centred=True), "dbm": DeepBoltzmannMachine(1, (1,)),
         "dense": BoltzmannMachine(2), "pair-ising": BoltzmannMachine(1, 1, edges=((0, 1),), spins="ising"),
         "neural": NeuralEnergy(2, (3,))}  # fmt: skip
GRAPHS = ("dense", "dense-ising", "hidden", "ring", "ring-ising")


class Row(NamedTuple):
    """A kernel, the models it is held to, and whether its transition is claimed to be reversible."""

    kernel: Any
    models: tuple[str, ...]
    reversible: bool = False


ROWS = {
    "block": Row(BlockGibbs, ("rbm", "rbm-centred", "dbm")),
    "chromatic": Row(ChromaticGibbs, GRAPHS),
    "sequential": Row(SequentialGibbs, GRAPHS[:3]),
    "sequential-3": Row(lambda model: SequentialGibbs(model, block=3), GRAPHS[:3]),
    "sequential-1": Row(lambda model: SequentialGibbs(model, block=1), GRAPHS[:3]),
    "metropolis": Row(Metropolis, GRAPHS),
    "gibbs-with-gradients": Row(GibbsWithGradients, tuple(MODELS), reversible=True),
    "discrete-langevin": Row(lambda model: DiscreteLangevin(model, 0.7), ("hidden", "dbm", "neural"), reversible=True),
}
CASES = [(kernel, model) for kernel, row in ROWS.items() for model in row.models]


def words(engine: str) -> Any:
    return import_module(f"inference.kernels._{engine}")


def parameters(model: Any, seed: int = 3) -> dict[str, np.ndarray]:
    """Standard normal values of every parameter."""
    rng, shapes = np.random.default_rng(seed), dict[str, Any]()

    class Shapes:
        """Notes the shapes that a declaration asks for."""

        xp, constraints = np, type("Any", (), {"positive": None})
        dist = SimpleNamespace(Uniform=lambda low, _: SimpleNamespace(sample=lambda: low))

        @staticmethod
        def param(name: str, init: Any, **_: Any) -> np.ndarray:
            shapes[name] = np.shape(init())
            return np.zeros(shapes[name])

    model.parameters(Shapes)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def given(model: Any, engine: str, factor: float = 1.0) -> dict[str, Any]:
    """`parameters` as the engine's arrays."""
    return {name: shared(engine).array(factor * value) for name, value in parameters(model).items()}


def energies(model: Any, engine: str, params: Any) -> np.ndarray:
    """Of all `states`."""
    values = {name: shared(engine).array(v) for name, v in states(model.sites).items()}
    return np.asarray(model.energy(words(engine), params, values))


def target(model: Any, engine: str, params: Any, beta: float) -> np.ndarray:
    """p(x)^β, normalised, over `states`, from the energy alone."""
    log_p = -beta * energies(model, engine, params)
    p = np.exp(log_p - log_p.max())
    return p / p.sum()


def transition(kernel: str, model: str, beta: float, engine: str) -> tuple[np.ndarray, np.ndarray]:
    """π and T of a row of the table."""
    with exact(engine):
        declaration = MODELS[model]
        params, made = given(declaration, engine), ROWS[kernel].kernel(declaration)

        def step(ppl: Any, state: Any) -> Any:
            return made.step(ppl, state, params, beta)

        T = matrix(step, words(engine), shared(engine).array, declaration.sites)
        return target(declaration, engine, params, beta), T


def tempered(inner: Any, parity: int, engine: str) -> tuple[np.ndarray, np.ndarray]:
    """π and T on the product space of three replicas of an RBM of two units, at a step that swaps even pairs or odd ones."""
    model, betas = RBM(1, 1), (1.0, 0.6, 0.2)
    with exact(engine):
        array, kernel, params = shared(engine).array, Tempering(inner(model), betas), given(model, engine, 2.0)
        pi = np.einsum("a,b,c->abc", *(target(model, engine, params, beta) for beta in betas)).reshape(-1)

        def step(ppl: Any, state: Any) -> Any:
            values = {name: ppl.xp.moveaxis(v, -1, 0)[..., None] for name, v in state.values.items()}
            start = kernel.init(ppl, state.rng_key, values)._replace(step=array(np.array(float(parity))))
            after, info = kernel.step(ppl, start, params)
            values = {name: ppl.xp.moveaxis(v[..., 0], 0, -1) for name, v in after.values.items()}
            return state._replace(rng_key=after.rng_key, values=values), info

        T = matrix(step, words(engine), array, {"x": 3, "h": 3})
    # The states are numbered by (x1 x2 x3 h1 h2 h3); the product by (x1 h1 x2 h2 x3 h3).
    order = np.arange(64).reshape([2] * 6).transpose(0, 3, 1, 4, 2, 5).reshape(-1)
    return pi, T[np.ix_(order, order)]


def annealed_ratio(name: str, engine: str) -> tuple[float, float, float]:
    """Σ p over all paths through three temperatures, E[w], and Z / Z₀."""
    model, path = PAIRS[name], np.array([0.0, 0.4, 1.0])
    with exact(engine):
        array, end = shared(engine).array, given(model, engine, 2.0)
        if hasattr(model, "readout"):
            return network_ratio(model, engine, end, path)
        base = {key: 0.3 * value for key, value in parameters(model).items() if key.endswith("bias")}
        start = {key: fixed(model, key, value, base.get(key), shared(engine)) for key, value in end.items()}

        def run(ppl: Any, tape: Any) -> Any:
            return along(ppl, model, len(tape.log_weight), tape, start, end, array(path), None)

        log_ratio = logsumexp(-energies(model, engine, end)) - float(uncoupled(words(engine), model, start))
        return over_paths(engine, run, log_ratio)


def network_ratio(model: Any, engine: str, end: Any, path: np.ndarray) -> tuple[float, float, float]:
    """`annealed_ratio` of a network, from log odds that are not its own, by steps of sizes 0.4 and 0.9; its Z₀ is 1."""
    array = shared(engine).array
    start = from_base.base_of(model, end, {"x.bias": 0.3 * end["x.bias"]})

    def run(ppl: Any, tape: Any) -> Any:
        tape, draws = from_base.drawn(ppl, model, tape, start, len(tape.log_weight))
        return from_base.weighed(ppl, model, tape, start, end, array(path), draws, array(np.array([0.4, 0.9])))[:2]

    return over_paths(engine, run, logsumexp(-energies(model, engine, end)))


def over_paths(engine: str, run: Any, log_ratio: Any) -> tuple[float, float, float]:
    """Of `run(ppl, tape) -> (tape, log w)`: Σ p and Σ p w over all outcomes of its draws, and the ratio that should be E[w]."""
    array, arities = shared(engine).array, list[int]()
    run(forced(words(engine), arities), Tape(array(np.zeros((1, 0))), 0, array(np.zeros(1))))
    outcomes = np.array(list(product(*(range(n) for n in arities))), float)
    after, log_w = run(forced(words(engine)), Tape(array(outcomes), 0, array(np.zeros(len(outcomes)))))
    log_p, log_w = np.asarray(after.log_weight), np.asarray(log_w)
    return float(np.exp(log_p).sum()), float(np.exp(log_p + log_w).sum()), float(np.exp(log_ratio))
