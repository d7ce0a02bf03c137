"""Sweeps of our kernels, and updates of our training, beside those of others: one core, one thread, float32, in one process.

Everyone takes the same number of sweeps from the same states, in turns, round after round, the order turned each time; a
ratio is the peer's median time over ours, above 1 where ours are faster, with a bootstrap interval over the rounds. Uniform
numbers are multiples of 2^-24 (JAX: the words of Threefry with 20 rounds, as those of `jax.random`; PyTorch: its Mersenne
twister); JAX's own have 2^-23.

`rbm`: block Gibbs of a 784x500 machine, at 100 and 1,000 chains; peers are a plain compiled scan, PyTorch, scikit-learn and
thrml. Beside the times stand the share of the library's own matrix-product rate, for products of the same shapes.
`dense`: one unit after the other on 784 coupled units, 256 chains. The plain scan comes in two forms: `cached`, in which
each flip corrects the fields of all units (the usual one), and `product`, in which each unit's field is a product with the
whole state, the fastest plain form here; no exact scan takes less than one product of all couplings with all states, whose
time is `bound`. `sparse`: a torus of 64x64 spins at the critical temperature, and a random graph of degree 15, 256 chains,
against thrml with the same colours; beside the flips, the effective sample size a second of the magnetisation (ArviZ).
`training`: an epoch of PCD-1 of a 784x500 machine, batch and chains of 100, Adam, per update.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.step_time import ENVIRONMENT, summary
from inference.kernels import BlockGibbs, ChromaticGibbs, SequentialGibbs, State, swept
from ppl_models.energy import RBM, BoltzmannMachine

VISIBLE, HIDDEN = 784, 500
CASES = ("rbm_100", "rbm_1000", "dense", "torus", "random_graph", "training_numpyro", "training_pyro")
Timed = Callable[[], Any]


def ours(engine: str, kernel: Any, params: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], sweeps: int) -> Timed:
    """Our kernel: so many sweeps from these values."""
    words, peer = (importlib.import_module(f"{package}._{engine}") for package in ("inference.kernels", "benchmarks.peers"))
    given = {name: peer.array(value) for name, value in params.items()}
    start = {name: peer.array(value) for name, value in values.items()}
    run = words.program(swept, kernel, sweeps)
    return lambda: peer.ready(run(State(words.seeded(0), start), given).values["x"])


def theirs(engine: str, run: Any, state: Any) -> Timed:
    """A peer from this state."""
    peer = importlib.import_module(f"benchmarks.peers._{engine}")
    return lambda: peer.ready(run(peer.key(0), state))


def seconds(work: Timed) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(works: Mapping[str, Timed], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, a number a round, after two rounds of warm-up."""
    for work in [*works.values()] * 2:
        work()
    out: dict[str, list[float]] = {name: [] for name in works}
    for i in range(rounds):
        for name in works if i % 2 else reversed(list(works)):
            out[name].append(seconds(works[name]))
    return out


def table(times: Mapping[str, list[float]], mine: str, units: int) -> dict[str, Any]:
    """Milliseconds of each; ratios of the others to `mine`, time over time; `units` of work are in a call."""
    out: dict[str, Any] = {name: {"milliseconds": 1e3 * float(np.median(each)) / units} for name, each in times.items()}
    for name, each in times.items():
        if name != mine:
            out[name]["ratio"] = summary(each, times[mine])["ratio"]
    return out


def machine(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """An RBM whose units are mostly off, as those of images are."""
    return {"weight": 0.05 * rng.normal(size=(VISIBLE, HIDDEN)), "x.bias": rng.normal(size=VISIBLE) - 1,
            "h.bias": rng.normal(size=HIDDEN) - 1}  # fmt: skip


def rbm(chains: int, rounds: int) -> dict[str, Any]:
    """Everyone on one machine."""
    jax, torch = (importlib.import_module(f"benchmarks.peers._{engine}") for engine in ("numpyro", "pyro"))
    rng, sweeps, kernel = np.random.default_rng(0), 2000 // chains, BlockGibbs(RBM(VISIBLE, HIDDEN))
    params = machine(rng)
    values = {"x": rng.integers(0, 2, (chains, VISIBLE)).astype(float), "h": np.zeros((chains, HIDDEN))}
    weights = (params["weight"], params["x.bias"], params["h.bias"])
    works = {
        "numpyro": ours("numpyro", kernel, params, values, sweeps),
        "scan": theirs("numpyro", jax.rbm(*weights, sweeps), jax.array(values["x"])),
        "pyro": ours("pyro", kernel, params, values, sweeps),
        "torch": theirs("pyro", torch.rbm(*weights, sweeps), torch.array(values["x"])),
        "torch_medium": theirs("pyro", torch.rbm(*weights, sweeps, "medium"), torch.array(values["x"])),
        "scikit_learn": scikit_learn(*weights, values["x"].astype(np.float32), sweeps),
    }
    for name, peer in (("jax_product", jax), ("torch_product", torch)):
        up, down = peer.gflops(chains, VISIBLE, HIDDEN), peer.gflops(chains, HIDDEN, VISIBLE)
        works[name] = lambda up=up, down=down, peer=peer: (peer.ready(up()), peer.ready(down()))
    times = alternate(works, rounds)
    products = {name: np.median(times.pop(name)) / 21 for name in ("jax_product", "torch_product")}
    out = table(times, "numpyro", sweeps)
    for name, product in (("numpyro", "jax_product"), ("scan", "jax_product"), ("pyro", "torch_product"),
                          ("torch", "torch_product")):  # fmt: skip
        out[name]["share_of_product_rate"] = 1e3 * float(products[product]) / out[name]["milliseconds"]
    out["torch_over_pyro"] = summary(times["torch"], times["pyro"])["ratio"]
    out["gflops"] = {name: 4e-9 * chains * VISIBLE * HIDDEN / float(each) for name, each in products.items()}
    if chains == 100:  # at 1,000 a sweep takes it half a second
        spins = {"coupling": params["weight"].ravel() / 4, "bias": np.zeros(VISIBLE + HIDDEN)}
        i, j = np.indices((VISIBLE, HIDDEN))
        groups = [np.arange(VISIBLE, VISIBLE + HIDDEN), np.arange(VISIBLE)]
        run = jax.thrml(VISIBLE + HIDDEN, np.stack([i.ravel(), VISIBLE + j.ravel()], 1), **spins, groups=groups, sweeps=2)
        few = {"thrml": theirs("numpyro", run, [rng.random((chains, len(group))) < 0.5 for group in groups]),
               "numpyro": ours("numpyro", kernel, params, values, 2)}  # fmt: skip
        both = table(alternate(few, max(3, rounds // 3)), "numpyro", 2)
        out["thrml"] = both["thrml"]
    return out


def scikit_learn(weight: np.ndarray, x_bias: np.ndarray, h_bias: np.ndarray, x: np.ndarray, sweeps: int) -> Timed:
    """Its `BernoulliRBM.gibbs` in float32."""
    from sklearn.neural_network import BernoulliRBM

    peer = BernoulliRBM(weight.shape[1], random_state=0).fit(x[:2])
    peer.components_ = weight.T.astype(np.float32)
    peer.intercept_visible_, peer.intercept_hidden_ = x_bias.astype(np.float32), h_bias.astype(np.float32)

    def run() -> Any:
        v = x
        for _ in range(sweeps):
            v = peer.gibbs(v).astype(np.float32)
        return v

    return run


def dense(rounds: int) -> dict[str, Any]:
    """Sequential scans of 784 coupled units."""
    jax = importlib.import_module("benchmarks.peers._numpyro")
    rng, chains, sweeps = np.random.default_rng(0), 256, 4
    below = np.tril(0.05 * rng.normal(size=(VISIBLE, VISIBLE)), -1)
    params, coupling = {"coupling": below, "bias": rng.normal(size=VISIBLE)}, below + below.T
    values = {"x": rng.integers(0, 2, (chains, VISIBLE)).astype(float)}
    kernel, start = SequentialGibbs(BoltzmannMachine(VISIBLE)), jax.array(values["x"])
    product = jax.gflops(VISIBLE, VISIBLE, chains, sweeps - 1)
    works = {
        "numpyro": ours("numpyro", kernel, params, values, sweeps),
        "pyro": ours("pyro", kernel, params, values, sweeps),
        "cached": theirs("numpyro", jax.sequential(coupling, params["bias"], sweeps, True), start),
        "product": theirs("numpyro", jax.sequential(coupling, params["bias"], sweeps, False), start),
        "bound": lambda: jax.ready(product()),
    }
    return table(alternate(works, rounds), "numpyro", sweeps)


def torus(side: int) -> np.ndarray:
    """The edges of a square lattice that closes on itself, (2 side², 2)."""
    here = np.arange(side * side).reshape(side, side)
    return np.concatenate([np.stack([here, np.roll(here, -1, axis)], -1).reshape(-1, 2) for axis in (0, 1)])


def random_graph(units: int, degree: int, rng: np.random.Generator) -> np.ndarray:
    """Edges of a graph whose units have at most `degree` neighbours: the union of random perfect matchings."""
    pairs = [np.sort(rng.permutation(units).reshape(-1, 2), 1) for _ in range(degree)]
    return np.unique(np.concatenate(pairs), axis=0)


def sparse(edges: np.ndarray, coupling: np.ndarray, rounds: int) -> dict[str, Any]:
    """Chromatic Gibbs of spins ±1 on a graph, ours and thrml's."""
    jax = importlib.import_module("benchmarks.peers._numpyro")
    rng, units, chains, sweeps = np.random.default_rng(0), 4096, 256, 10
    kernel = ChromaticGibbs(BoltzmannMachine(units, edges=tuple(map(tuple, edges.tolist())), spins="ising"))
    x = rng.integers(0, 2, (chains, units)).astype(float)
    params = {"coupling": coupling, "bias": np.zeros(units)}
    spins = [x[:, group] > 0.5 for group in kernel.groups]
    run = jax.thrml(units, edges, coupling, np.zeros(units), list(kernel.groups), sweeps)
    works = {
        "numpyro": ours("numpyro", kernel, params, {"x": x}, sweeps),
        "pyro": ours("pyro", kernel, params, {"x": x}, sweeps),
        "thrml": theirs("numpyro", run, spins),
    }
    out = table(alternate(works, rounds), "numpyro", sweeps)
    for name in works:
        out[name]["flips_per_nanosecond"] = chains * units / out[name]["milliseconds"] * 1e-6
    out |= {"units": units, "chains": chains, "edges": len(edges), "colours": len(kernel.groups)}
    return out | {"effective": effective(kernel, params, jax, out)}


def effective(kernel: Any, params: Mapping[str, np.ndarray], jax: Any, out: Mapping[str, Any]) -> dict[str, Any]:
    """Effective sample size a second of the magnetisation, 64 chains of 400 sweeps each after 200, ours and thrml's."""
    words = importlib.import_module("inference.kernels._numpyro")
    model, chains, kept = kernel.model, 64, 400
    given = {name: jax.array(value) for name, value in params.items()}
    x = np.random.default_rng(1).integers(0, 2, (chains, model.num_units)).astype(float)
    one = words.program(swept, kernel, 1)
    state = words.program(swept, kernel, 200)(State(words.seeded(1), {"x": jax.array(x)}), given)
    found: dict[str, list[Any]] = {"numpyro": [], "thrml": []}
    for _ in range(kept):
        state = one(state, given)
        found["numpyro"].append(2 * np.asarray(state.values["x"]).mean(-1) - 1)
    edges = np.array(model.edges)
    arguments = (model.num_units, edges, params["coupling"], params["bias"], list(kernel.groups))
    spins = jax.thrml(*arguments, sweeps=200)(jax.key(0), [x[:, group] > 0.5 for group in kernel.groups])
    step = jax.thrml(*arguments, sweeps=1)
    for i in range(kept):
        spins = step(jax.key(1 + i), spins)
        found["thrml"].append(2 * np.concatenate([np.asarray(s) for s in spins], -1).mean(-1) - 1)
    told: dict[str, Any] = {}
    for name, values in found.items():
        size = float(importlib.import_module("arviz_stats").ess(np.stack(values, 1)))
        # As many chains as were timed, at their speed.
        per_sweep = size / kept / chains * out["chains"]
        told[name] = {"per_draw": size / kept / chains, "per_second": per_sweep / out[name]["milliseconds"] * 1e3}
    return told


def training(engine: str, rounds: int) -> dict[str, Any]:
    """An update of PCD, ours and by hand."""
    from inference.energy_training.objective import Objective

    peer, words, trainer = (importlib.import_module(f"{package}._{engine}") for package in
                            ("benchmarks.peers", "inference.kernels", "inference.energy_training"))  # fmt: skip
    rng, batch, chains, lr = np.random.default_rng(0), 100, 100, 1e-3
    rows, weight = peer.array(rng.random((3000, VISIBLE)) < 0.3), 0.01 * rng.normal(size=(VISIBLE, HIDDEN))
    model = RBM(VISIBLE, HIDDEN)
    params = {"weight": weight, "x.bias": np.zeros(VISIBLE), "h.bias": np.zeros(HIDDEN)}
    start = {"x": rng.integers(0, 2, (chains, VISIBLE)), "h": np.zeros((chains, HIDDEN))}
    kernel = BlockGibbs(model)
    state = kernel.init(words, words.seeded(0), {name: peer.array(value) for name, value in start.items()})
    opt = trainer.optimiser(None, lr)
    mine = [trainer.start(opt, {name: peer.array(value) for name, value in params.items()}, state, 0)]
    run = trainer.epoch(Objective(model, kernel), opt, batch, 0.0)
    other, carry = peer.training(weight, rows, batch, chains, lr)
    hand = [carry]

    def ours() -> Any:
        mine[0], told = run(mine[0], rows)
        return peer.ready(told["objective"])

    def theirs() -> Any:
        hand[0] = other(hand[0], rows)
        return peer.ready(hand[0][-2])

    times = alternate({"ours": ours, "hand": theirs}, rounds)
    return {**table(times, "hand", len(rows) // batch)["ours"], "hand_milliseconds": 1e3 * np.median(times["hand"]) / 30}


def case(name: str, rounds: int) -> dict[str, Any]:
    """One comparison."""
    if name.startswith("rbm"):
        return rbm(int(name.partition("_")[2]), rounds)
    if name == "dense":
        return dense(rounds)
    if name.startswith("training"):
        return training(name.partition("_")[2], rounds)
    rng = np.random.default_rng(2)
    edges = torus(64) if name == "torus" else random_graph(4096, 15, rng)
    critical = np.log1p(np.sqrt(2)) / 2
    return sparse(edges, np.full(len(edges), critical) if name == "torus" else 0.15 * rng.normal(size=len(edges)), rounds)


def child(name: str, rounds: int) -> dict[str, Any]:
    """`case` in a process of its own with one thread, on one core."""
    command = [sys.executable, "-m", "benchmarks.energy_speed", name, str(rounds)]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, cwd=record.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """Every case; 15 rounds each, quickly 5."""
    given = {name: child(name, 5 if quick else 15) for name in CASES}
    sources = {file: sha for part in given.values() for file, sha in part.pop("sources").items()}
    return {"device": "cpu", **given, "sources": sources}


def main(name: str, rounds: str) -> None:
    """The child's door: pin to one core, measure, print."""
    from threadpoolctl import threadpool_limits

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with threadpool_limits(1):
        print(record.dumps({**case(name, int(rounds)), "sources": record.sources("__main__", "benchmarks.energy_speed")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
