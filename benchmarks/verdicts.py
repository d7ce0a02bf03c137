"""What the verdict says of fits whose worth is known, ten seeds each on both engines, and of the default VAE on MNIST.

A guide of a quarter of the true sd is not to be used, though plain leave-one-out is calm; the best factorised guide of a pair
of normals is to be trusted at a correlation of 0.2, used with caution at 0.6 and not used at 0.95; the exact posterior is to
be trusted; and k-hat of normals is 1 − r², r the ratio of sds. The VAE, trained as `ppl fit vae --data mnist` does, is not to
be condemned, however many rows have a rough q(z | x).
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.diagnostics.fit_verdict import verdict_of
from inference.diagnostics.importance import k_hat
from inference.svi import Fit, fit
from inference.weights import weigh
from ppl_models import VAE, bind
from ppl_models.datasets import from_arrays, load

ENGINES, SEEDS = ("numpyro", "pyro"), 10
RATIOS, SETS, DRAWS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 30, 20_000


@dataclass(frozen=True)
class Correlated:
    """Two standard normals of this correlation, and a factorised guide."""

    rho: float

    def model(self, ppl: Any, x: Any) -> None:
        a = ppl.sample("a", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))
        ppl.sample("b", ppl.dist.Normal(self.rho * a, (1 - self.rho**2) ** 0.5))

    def guide(self, ppl: Any, x: Any) -> None:
        scale = ppl.param("scale", ppl.xp.ones(()), constraint=ppl.constraints.positive)
        ppl.sample("a", ppl.dist.Normal(ppl.xp.zeros(()), scale))
        ppl.sample("b", ppl.dist.Normal(ppl.xp.zeros(()), scale))


@dataclass(frozen=True)
class Mean:
    """θ ~ N(0, 3), xₙ ~ N(θ, 1), and a normal guide of θ."""

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        theta = ppl.sample("theta", ppl.dist.Normal(ppl.xp.zeros(()), 3.0))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("x", ppl.dist.Normal(theta, 1.0).expand([1]).to_event(1), obs=x)

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        loc = ppl.param("loc", ppl.xp.zeros(()))
        scale = ppl.param("scale", ppl.xp.ones(()), constraint=ppl.constraints.positive)
        ppl.sample("theta", ppl.dist.Normal(loc, scale))


ROWS = np.random.default_rng(3).normal(0.4, 1, (40, 1))


def held(model: Any, engine: str, params: dict[str, Any], x: np.ndarray, **told: Any) -> Fit:
    """A fit that found these parameters; `model` enters by the door of users' own pairs."""
    blank: dict[str, Any] = {f.name: None for f in dataclasses.fields(Fit)}
    pair, data = bind(model, engine), from_arrays(x, heldout=x)
    return Fit(**blank | {"model": pair, "bound": pair, "engine": engine, "data": data, "history": [],
                          "params": {n: np.asarray(v) for n, v in params.items()}, "manifest": {}, **told})  # fmt: skip


def mean_of(x: np.ndarray, narrower: float) -> dict[str, float]:
    """The exact posterior of θ, its sd times this."""
    precision = 1 / 9 + len(x)
    return {"loc": float(x.sum() / precision), "scale": float(narrower / np.sqrt(precision))}


#: By name: the pair, its parameters and the word that it is to have.
CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "narrow": (Mean(), mean_of(ROWS, 0.25), "do not use"),
    "exact": (Mean(), mean_of(ROWS, 1.0), "trust"),
    **{f"rho {rho:g}": (Correlated(rho), {"scale": np.sqrt(1 - rho**2)}, word)
       for rho, word in ((0.2, "trust"), (0.6, "caution"), (0.95, "do not use"))},
}  # fmt: skip


def words(name: str, engine: str, seeds: int) -> dict[str, Any]:
    """What is said of a case under several seeds."""
    model, params, expected = CASES[name]
    judged = [verdict_of(held(model, engine, params, ROWS), seed=seed) for seed in range(seeds)]
    k, spread = (np.array([one.numbers["global"][key] for one in judged], float) for key in ("k_hat", "spread"))
    return {"expected": expected, "words": [one.word for one in judged], "wrong": sum(one.word != expected for one in judged),
            "k_hat": [float(k.min()), float(k.max())], "spread": [float(spread.min()), float(spread.max())],
            "next": judged[0].next}  # fmt: skip


def plain_loo(engine: str) -> float:
    """The largest k-hat that plain leave-one-out, which takes q for the posterior, finds of the narrow guide."""
    model, params, _ = CASES["narrow"]
    weights = weigh(held(model, engine, params, ROWS), draws=4000, rows=40)
    return float(k_hat(-weights.log_likelihood.T).max())


def of_normals() -> dict[str, Any]:
    """k-hat of normal pairs, the mean and spread over sets of 20,000 draws, beside 1 − r²."""
    rows = []
    for r in RATIOS:
        z = r * np.random.default_rng(int(100 * r)).normal(size=(SETS, DRAWS))
        found = k_hat(z**2 / (2 * r**2) - z**2 / 2)
        rows.append({"r": r, "exact": 1 - r**2, "mean": float(found.mean()), "sd": float(found.std(ddof=1))})
    return {"rows": rows, "largest_error": max(abs(row["mean"] - row["exact"]) for row in rows)}


def mnist(epochs: int) -> dict[str, Any]:
    """The default VAE, as a user would train and judge it."""
    found = fit(VAE(784), load("mnist", data_dir=os.environ.get("PPL_DATA_DIR")), epochs=epochs, device="cpu")
    judged = verdict_of(found, samples=100, rows=500)
    told = judged.numbers
    return {"word": judged.word, "condemned": int(judged.word == "do not use"), "sentence": judged.sentences,
            "reasons": list(judged.reasons), "local": told["local"], "density": told["density"],
            "iterates": told["iterates"], "active_units": told["active_units"], "epochs": epochs}  # fmt: skip


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """All of them; `quick` takes two seeds and leaves MNIST out."""
    seeds = 2 if quick else SEEDS
    rows = {f"{name} · {engine}": words(name, engine, seeds) for engine in ENGINES for name in CASES}
    return {
        "device": "cpu", "complete": not quick, "rows": rows, "wrong": sum(row["wrong"] for row in rows.values()),
        "plain_loo": {engine: plain_loo(engine) for engine in ENGINES}, "k_hat": of_normals(),
        "mnist": None if quick else mnist(30),
    }  # fmt: skip
