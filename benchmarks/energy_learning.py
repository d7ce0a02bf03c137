"""Small energies learn what can be counted: bars and stripes, a table of eight bits, and features of digits.

Bars and stripes (MacKay 2003): 4x4 images whose rows, or whose columns, are of one colour each, 32 of them, the two blank ones
twice; the best possible mean log p is −3.379093. A centred RBM of 16 hidden units climbs the likelihood itself, all 2^16 states
summed in every step, and beside it persistent chains train the same model, plain ones and tempered ones.

Eight bits: N draws from p(x) ∝ exp(½ xᵀ J x), J standard normal, a fifth held out. An RBM of 8 hidden units is trained by
persistent chains on both engines; its held-out log-likelihood, exact, beside that of the table itself, and beside the two sides
by annealing: forwards, and backwards from exact draws, each with its interval of 4 standard errors.

Digits: scikit-learn's example of features by an RBM. 8x8 digits, each also nudged by one pixel in four directions, scaled to
[0, 1] column by column; 80 % to train (seed 0). BernoulliRBM with 100 hidden units (learning rate 0.06, 10 passes, minibatches
of 10), then logistic regression on p(h = 1 | x); ours is the same machine by `fit_energy`, plain gradient descent, 10 chains.
Our training rows are drawn once from the grey values; both take grey values for features. Accuracy on the rest.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from benchmarks.checkpoint import Stages, measured
from benchmarks.energy_staged import Leg, load_engines, trained
from inference import estimate
from inference.energy_training import EnergyFit, hidden_means
from inference.kernels import BlockGibbs, Tempering
from inference.log_partition import annealed, exact, unnormalised
from ppl_models.datasets import Dataset
from ppl_models.energy import RBM

NUDGES = ((1, 0), (0, 1), (0, -1), (-1, 0))  # in the order of the example


@dataclass(frozen=True)
class Setup:
    """How long each is trained, and how often."""

    bars: RBM = RBM(16, num_hidden=16, centred=True)
    bars_exact: tuple[Leg, ...] = (Leg(1500, 0.05),)
    bars_chains: tuple[Leg, ...] = (Leg(3000, 0.1, descent=True), Leg(2000, 0.02, descent=True), Leg(1000, 0.005, descent=True))
    bars_tempered: tuple[Leg, ...] = (Leg(1000, 0.02), Leg(1000, 0.006), Leg(1000, 0.002))
    betas: tuple[float, ...] = (1.0, 0.8, 0.6, 0.4, 0.2)  # of the tempered chains
    bits: RBM = RBM(8, num_hidden=8)
    draws: int = 20_000
    bits_legs: tuple[Leg, ...] = (Leg(15, 0.02), Leg(5, 0.002))
    digits: RBM = RBM(64, num_hidden=100)
    digits_leg: Leg = Leg(10, 0.06, descent=True)
    seeds: tuple[int, ...] = (0, 1, 2)
    engines: tuple[str, ...] = ("numpyro", "pyro")


QUICK = Setup(seeds=(0,), engines=("numpyro",))


def bars_and_stripes(side: int) -> np.ndarray:
    """Every row or every column one colour, the two blank images twice."""
    lines = np.array(list(product([0.0, 1.0], repeat=side)))
    return np.concatenate([np.repeat(lines, side, 1), np.tile(lines, (1, side))])


def log_likelihood(found: EnergyFit, x: np.ndarray) -> float:
    """Mean log p of rows, nats, log Z enumerated."""
    rows = unnormalised(found.model, found.params, x, engine=found.engine)
    return float(rows.mean() - exact(found.model, found.params, found.engine))


def bars(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Bars and stripes by the likelihood's own gradient, and by chains."""
    x = bars_and_stripes(4)
    counts = np.unique(x, axis=0, return_counts=True)[1] / len(x)
    best, data, out = float((counts * np.log(counts)).sum()), Dataset("bars and stripes", x, x, "none"), dict[str, Any]()
    by = {
        "exact": (setup.bars_exact, {"method": "exact"}), "pcd": (setup.bars_chains, {"chains": 1000}),
        "tempered": (setup.bars_tempered, {"chains": 100, "kernel": Tempering(BlockGibbs(setup.bars), setup.betas)}),
    }  # fmt: skip
    for name, (legs, given) in by.items():
        found = trained(stages, f"bars-{name}", setup.bars, data, legs, 0, batch=len(x), **given)
        reached = log_likelihood(found, x)
        out[name] = {"log_likelihood": reached, "gap": best - reached}
    return {"best": best, **out}


def table(draws: int) -> tuple[np.ndarray, np.ndarray, Dataset]:
    """All bytes, their probabilities, and draws of them."""
    rng, states = np.random.default_rng(4), np.array(list(product([0.0, 1.0], repeat=8)))
    log_p = ((states @ rng.normal(size=(8, 8))) * states).sum(1) / 2
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    x = states[rng.choice(len(p), draws, p=p)]
    return states, p, Dataset("eight bits", x[: draws * 4 // 5], x[draws * 4 // 5 :], "none")


def eight_bits(stages: Stages, setup: Setup, engine: str) -> dict[str, Any]:
    """Held-out likelihood of the learned table, and its two sides."""
    states, p, data = table(setup.draws)
    found = trained(stages, f"bits-{engine}", setup.bits, data, setup.bits_legs, 0, engine=engine, batch=200, chains=500,
                    sweeps=5)  # fmt: skip
    index = (data.heldout @ 2.0 ** np.arange(8)[::-1]).astype(int)
    truth, reached = float(np.log(p)[index].mean()), log_likelihood(found, data.heldout)
    minus_free = float(unnormalised(found.model, found.params, data.heldout, engine=engine).mean())
    forward = annealed(found.model, found.params, engine=engine, betas=100, chains=1000).log_partition
    reverse = annealed(found.model, found.params, engine=engine, betas=100, draws=exact_draws(found, states, 1000),
                       exact_draws=True, seed=1).log_partition  # fmt: skip
    optimistic = minus_free - forward.value + errors(forward)
    pessimistic = minus_free - reverse.value - errors(reverse)
    return {
        "log_likelihood": reached, "truth": truth, "gap": abs(truth - reached),
        "sides": {"forward": minus_free - forward.value, "reverse": minus_free - reverse.value,
                  "optimistic": optimistic, "pessimistic": pessimistic},
        "room": min(optimistic - reached, reached - pessimistic),
    }  # fmt: skip


def errors(log_z: estimate.Estimate) -> float:
    """Four standard errors."""
    return 4 * (log_z.high - log_z.value) / 1.96


def exact_draws(found: EnergyFit, states: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Independent draws of x from the enumerated p, and of h given it."""
    rng, log_p = np.random.default_rng(2), unnormalised(found.model, found.params, states, engine=found.engine)
    x = states[rng.choice(len(states), count, p=np.exp(log_p - np.logaddexp.reduce(log_p)))]
    h = hidden_means(found, x)["h"]
    return {"x": x, "h": (rng.random(h.shape) < h).astype(float)}


def nudged() -> tuple[np.ndarray, ...]:
    """Training and held-out rows in [0, 1], and their labels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import minmax_scale

    x, y = load_digits(return_X_y=True)
    padded = np.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    moved = [padded[:, 1 + i : 9 + i, 1 + j : 9 + j].reshape(-1, 64) for i, j in ((0, 0), *NUDGES)]
    rows = minmax_scale(np.concatenate(moved).astype(np.float32), feature_range=(0, 1))
    return tuple(map(np.asarray, train_test_split(rows, np.tile(y, 5), test_size=0.2, random_state=0)))


def classified(train: np.ndarray, labels: np.ndarray, heldout: np.ndarray, heldout_labels: np.ndarray) -> np.ndarray:
    """Whether logistic regression on these features names each held-out row rightly."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # All features alike stop after the same 100 iterations.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(solver="lbfgs", C=6000).fit(train, labels).predict(heldout) == heldout_labels


def digits(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Accuracy from raw pixels, from scikit-learn's features and from ours."""
    from sklearn.neural_network import BernoulliRBM

    x, heldout, y, heldout_y = nudged()

    def peer(seed: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        machine = BernoulliRBM(n_components=setup.digits.num_hidden, learning_rate=setup.digits_leg.lr,
                               n_iter=setup.digits_leg.epochs, random_state=seed).fit(x)  # fmt: skip
        return {"right": classified(machine.transform(x), y, machine.transform(heldout), heldout_y)}, {}

    def ours(engine: str, seed: int) -> np.ndarray:
        found = trained(stages, f"digits-{engine}-{seed}", setup.digits, Dataset("nudged digits", x, heldout, "none"),
                        (setup.digits_leg,), seed, engine=engine, batch=10, chains=10)  # fmt: skip
        return classified(hidden_means(found, x)["h"], y, hidden_means(found, heldout)["h"], heldout_y)

    raw = classified(x, y, heldout, heldout_y)
    right = {"scikit-learn": [stages(f"digits-peer-{seed}", lambda seed=seed: peer(seed)).arrays["right"]
                              for seed in setup.seeds]}  # fmt: skip
    right |= {engine: [ours(engine, seed) for seed in setup.seeds] for engine in setup.engines}
    # Rows are the sample; the seeds of a method share them.
    means = {name: np.mean(each, axis=0) for name, each in right.items()}
    told = {name: {"accuracy": estimate.mean(mean).to_json(), "by_seed": [float(one.mean()) for one in right[name]]}
            for name, mean in means.items()}  # fmt: skip
    gain = {engine: estimate.mean(means[engine] - means["scikit-learn"]).to_json() for engine in setup.engines}
    return {"raw_pixels": estimate.mean(raw).to_json(), "rows": len(heldout_y), **told, "gain": gain}


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """All three."""
    return {
        "bars": bars(stages, setup), "bits": {engine: eight_bits(stages, setup, engine) for engine in setup.engines},
        "digits": digits(stages, setup),
    }  # fmt: skip


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """On both engines; `quick` on NumPyro alone, features of digits from one seed."""
    load_engines()
    return measured("energy_learning", QUICK if quick else Setup(), budget, work)
