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
    Cooling,
    DiscreteLangevin,
    GibbsWithGradients,
    Metropolis,
    SequentialGibbs,
    State,
    Tempering,
)
from inference.log_partition import directed, from_base, log_likelihood, torus_log_partition
from inference.log_partition.annealed import along, fixed, uncoupled
from inference.log_partition.bridge import bridged
from inference.log_partition.raised import down
from ppl_models.energy import (
    RBM,
    BoltzmannMachine,
    DeepBeliefNet,
    DeepBoltzmannMachine,
    NeuralEnergy,
    ReplicatedRBM,
    is_gaussian,
)

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
    "rbm-copies": ReplicatedRBM(1, 1, (2, 2)),
    "dbm": DeepBoltzmannMachine(2, (2, 1)),
    "dbn": DeepBeliefNet(2, (2, 1)),
    "neural": NeuralEnergy(3, (4,)),
}
#: Those of real-valued visible units, whose states cannot be counted.
OF_REALS = {"rbm-normal": RBM(3, 2, visible="normal"), "rbm-normal-centred": RBM(3, 2, visible="normal", centred=True),
            "neural-normal": NeuralEnergy(3, (4,), visible="normal")}  # fmt: skip
#: Those whose units have log odds that the energy states: all but nets whose layers below the top are directed.
CONDITIONAL = tuple(name for name, model in MODELS.items() if hasattr(model, "logits"))
PAIRS = {"rbm": RBM(1, 1), "rbm-centred": RBM(1, 1, centred=True), "dbm": DeepBoltzmannMachine(1, (1,)),
         "dense": BoltzmannMachine(2), "pair-ising": BoltzmannMachine(1, 1, edges=((0, 1),), spins="ising"),
         "neural": NeuralEnergy(2, (3,))}  # fmt: skip
CRITICAL = float(np.log1p(2**0.5) / 2)  # the coupling at which an endless square lattice orders itself (Onsager 1944)
GRAPHS = ("dense", "dense-ising", "hidden", "ring", "ring-ising")


def rows(model: Any) -> np.ndarray:
    """Data for a model, (5, data_dim), of bits or of reals."""
    rng, shape = np.random.default_rng(0), (5, model.data_dim)
    return rng.normal(size=shape) if is_gaussian(model) else rng.integers(0, 2, shape).astype(float)


class Row(NamedTuple):
    """A kernel, the models it is held to, and whether its transition is claimed to be reversible."""

    kernel: Any
    models: tuple[str, ...]
    reversible: bool = False


ROWS = {
    "block": Row(BlockGibbs, ("rbm", "rbm-centred", "rbm-copies", "dbm")),
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


def tempered(inner: Any, parity: int, engine: str, steps: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """π and T on the product space of three replicas of an RBM of two units, from a step that swaps even pairs or odd ones."""
    model, betas = RBM(1, 1), (1.0, 0.6, 0.2)
    with exact(engine):
        array, kernel, params = shared(engine).array, Tempering(inner(model), betas), given(model, engine, 2.0)
        pi = np.einsum("a,b,c->abc", *(target(model, engine, params, beta) for beta in betas)).reshape(-1)

        def step(ppl: Any, state: Any) -> Any:
            values = {name: ppl.xp.moveaxis(v, -1, 0)[..., None] for name, v in state.values.items()}
            after = kernel.init(ppl, state.rng_key, values)._replace(step=array(np.array(float(parity))))
            for _ in range(steps):
                after, info = kernel.step(ppl, after, params)
            values = {name: ppl.xp.moveaxis(v[..., 0], 0, -1) for name, v in after.values.items()}
            return state._replace(rng_key=after.rng_key, values=values), info

        T = matrix(step, words(engine), array, {"x": 3, "h": 3})
    # The states are numbered by (x1 x2 x3 h1 h2 h3); the product by (x1 h1 x2 h2 x3 h3).
    order = np.arange(64).reshape([2] * 6).transpose(0, 3, 1, 4, 2, 5).reshape(-1)
    return pi, T[np.ix_(order, order)]


def cooled(step: int, engine: str) -> tuple[np.ndarray, np.ndarray]:
    """π at the β of a step of cooling, and T of that step."""
    betas, model = (0.2, 0.5, 0.9, 1.6), MODELS["rbm"]
    with exact(engine):
        array, params, kernel = shared(engine).array, given(model, engine), Cooling(BlockGibbs(model), betas)

        def one(ppl: Any, state: Any) -> Any:
            start = kernel.init(ppl, state.rng_key, state.values)
            after, info = kernel.step(ppl, start._replace(step=start.step + step), params)
            assert int(after.step) == step + 1
            return State(after.rng_key, after.values), info

        T = matrix(one, words(engine), array, model.sites)
        return target(model, engine, params, betas[min(step, 3)]), T


def clamped(name: str, engine: str) -> float:
    """By how much a step with clamped units (x, or 0 and 2 of a graph) moves them, or the law of the others given them."""
    model, held = MODELS[name], [0, 2]
    bits = np.concatenate(list(states(model.sites).values()), -1)
    if hasattr(model, "colours"):
        kernel: Any = BlockGibbs(model, clamp=("x",))
        held = list(range(model.sites["x"]))
    else:
        kernel = ChromaticGibbs(model, clamp=tuple(held))
    with exact(engine):
        params = given(model, engine)
        T = matrix(lambda ppl, state: kernel.step(ppl, state, params, 0.7), words(engine), shared(engine).array, model.sites)
        pi = target(model, engine, params, 0.7)
    alike = (bits[:, None, held] == bits[None, :, held]).all(-1)
    gaps = [float(T[~alike].max()), float(np.abs(T.sum(1) - 1).max())]
    for value in np.unique(bits[:, held], axis=0):
        here = (bits[:, held] == value).all(1)
        law, block = pi[here] / pi[here].sum(), T[np.ix_(here, here)]
        gaps += [float(np.abs(law @ block - law).max()), float((np.linalg.matrix_power(block, 4) <= 0).any())]
        if name.startswith("rbm"):  # one colour is free: a step is a draw
            gaps.append(float(np.abs(block - law).max()))
    return max(gaps)


def gaussian_sweep(beta: float, centred: bool, engine: str) -> float:
    """By how much a sweep misses p(h | x)^β, summed over states, and the moments of p(x | h)^β, on a grid of the energy."""
    model = RBM(2, 2, visible="normal", centred=centred)
    values = parameters(model) | {"x.scale": np.array([0.6, 1.7])}
    bits, noise = states({"h": 2})["h"], np.array([-1.0, 0.0, 1.0])
    with exact(engine):
        array, ppl = shared(engine).array, words(engine)
        params = {name: array(value) for name, value in values.items()}

        def energy(x: np.ndarray, h: np.ndarray) -> np.ndarray:
            return np.asarray(model.energy(ppl, params, {"x": array(x), "h": array(h)}))

        start = np.tile(np.array([0.3, -1.2]), (12, 1))
        tape = Tape(array(np.repeat(bits, 3, 0)), 0, array(np.zeros(12)))
        driven = forced(ppl)
        driven.normal = lambda rng_key, like: (rng_key, array(np.tile(noise, 4)[:, None] + np.zeros(like.shape)))
        state = State(tape, {"x": array(start), "h": array(np.zeros((12, 2)))})
        after, _ = BlockGibbs(model).step(driven, state, params, beta)
        log_p = -beta * energy(start[:4], bits)
        gaps = [float(np.abs(np.asarray(after.rng_key.log_weight)[::3] - log_p + np.logaddexp.reduce(log_p)).max())]
        drawn = np.asarray(after.values["x"]).reshape(4, 3, 2)
        grid = np.linspace(-20, 20, 4001)  # on such a density the trapezium rule is exact to rounding
        for h, (low, middle, high) in zip(bits, drawn, strict=True):
            for i in range(2):
                x = np.zeros((len(grid), 2))
                x[:, i] = grid
                log_p = -beta * energy(x, np.tile(h, (len(grid), 1)))
                p = np.exp(log_p - np.logaddexp.reduce(log_p))
                mean = p @ grid
                gaps += [abs(middle[i] - mean), abs((high - low)[i] / 2 - np.sqrt(p @ (grid - mean) ** 2))]
    return float(max(gaps))


def bridged_gap() -> float:
    """How far bridge sampling is off where every state is drawn exactly as often as its law says.

    Energies that are multiples of log 2 make whole numbers of the odds: two units at β = 1, ½ and 0, ten chains alike.
    """
    E, betas = -2 * np.log(2) * np.array([0, 0, 0, 1]), (1.0, 0.5, 0.0)
    counts = [np.round(np.exp(-beta * E)).astype(int) for beta in betas]
    whole = int(np.lcm.reduce([count.sum() for count in counts]))
    table = np.stack([np.tile(np.repeat(E, count * (whole // count.sum())), (10, 1)) for count in counts])
    found, truth = bridged(table, betas, 2 * np.log(2)), np.log(counts[0].sum())
    return float(np.abs([*(np.array(found.log_partition) - truth), *(found.log_weights - truth)]).max())


def torus_gap() -> float:
    """How far Kaufman's log Z is off on small tori, whose states are all counted, a pair on a side of 2 by both its bonds."""
    gaps = []
    for rows, columns in ((2, 3), (3, 2), (3, 3), (3, 4), (4, 3), (4, 4)):
        spins = np.array(list(product([-1, 1], repeat=rows * columns)), np.int8).reshape(-1, rows, columns)
        bonds = sum((spins * np.roll(spins, 1, axis)).sum((1, 2), dtype=int) for axis in (1, 2))
        for coupling in (0.0, 0.05, 0.3, CRITICAL, 0.7, 2.0):
            truth = np.logaddexp.reduce(coupling * bonds)
            gaps.append(abs(torus_log_partition(rows, columns, coupling) / truth - 1))
    return float(max(gaps))


def raised_gap(engine: str) -> float:
    """How far E[w] of backward annealing is from p_ann(x), by every path of draws, and p_ann by enumerated sweeps."""
    gaps, path = [], np.array([0.0, 0.3, 1.0])
    for name in ("rbm", "rbm-centred"):
        model = PAIRS[name]
        with exact(engine):
            array, end = shared(engine).array, given(model, engine, 2.0)
            start = {k: fixed(model, k, v, 0.3 if k.endswith("bias") else None, shared(engine)) for k, v in end.items()}
            law = target(model, engine, start, 1.0).reshape(2, 2).sum(1)
            for beta in path[1:]:
                joint = target(model, engine, {k: (1 - beta) * start[k] + beta * end[k] for k in end}, 1.0).reshape(2, 2)
                law = law @ (joint / joint.sum(1, keepdims=True)) @ (joint / joint.sum(0)).T
            outcomes = np.array(list(product([0.0, 1.0], repeat=4)))
            for bit in (0.0, 1.0):
                tape = Tape(array(outcomes), 0, array(np.zeros(16)))
                after, log_w = down(forced(words(engine)), model, tape, start, end, array(path), array(np.full((16, 1), bit)))
                log_p, log_w = np.asarray(after.log_weight), np.asarray(log_w)
                gaps += [abs(np.exp(log_p).sum() - 1), abs(np.exp(log_p + log_w).sum() / law[int(bit)] - 1)]
    return float(max(gaps))


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


LAYERED = {
    "rbm": RBM(4, 3), "rbm-centred": RBM(3, 2, centred=True), "one": DeepBoltzmannMachine(3, (2,)),
    "two": DeepBoltzmannMachine(4, (3, 2)), "three": DeepBoltzmannMachine(3, (2, 3, 1)),
    "four": DeepBoltzmannMachine(2, (2, 2, 2, 3)),
}  # fmt: skip
NETS = {"one": DeepBeliefNet(3, (2,)), "two": DeepBeliefNet(3, (3, 2)), "three": DeepBeliefNet(2, (2, 3, 2))}


def log_marginals(model: Any, params: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Every x, and log p(x), from the energy alone; x comes first in `states`."""
    with exact("pyro"):
        p = target(model, "pyro", {key: shared("pyro").array(value) for key, value in params.items()}, 1.0)
    return states({"x": model.data_dim})["x"], np.log(p.reshape(2**model.data_dim, -1).sum(1))


def likelihoods(model: Any, engine: str) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) of every x, as shipped and from the energy alone."""
    params = parameters(model)
    x, truth = log_marginals(model, params)
    if hasattr(model, "top"):
        return directed.log_likelihood(model, params, x, engine=engine)[0], truth
    return log_likelihood(model, params, x, engine=engine), truth


def transposed(engine: str) -> tuple[np.ndarray, np.ndarray]:
    """log w of draws of recognition in a net whose q is the posterior, less log Z, and log p(x): they are equal."""
    rbm, params, net = RBM(4, 3), parameters(RBM(4, 3)), DeepBeliefNet(4, (3, 4))
    turned = {"weight": params["weight"].T, "x.bias": params["h.bias"], "h.bias": params["x.bias"]}
    stacked = net.stacked([params, turned])
    x, truth = log_marginals(rbm, params)
    log_z = directed.log_likelihood(net, stacked, x, engine=engine)[1]
    return directed.recognised(net, stacked, x, samples=2, engine=engine).elbo - log_z, truth
