"""NaN put into data, densities, gradients and parameters at random: training recovers, or stops and says where.

Each of `INJECTIONS` fits an engine has one fault of `FAULTS`, its rows or its threshold drawn from the seed. It must end in
recovery (finite parameters and held-out ELBO; with a few bad rows, near that of the fit without the fault), or in `NonFinite`
naming epoch, step, rows and site, whose bundle shows the same site again. Checkpoints hold finite numbers throughout.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inference.checkpoint import Checkpoints
from inference.files import load_params
from inference.svi import bundle, fit
from inference.svi.nonfinite import NonFinite
from ppl_models.datasets import Dataset

ENGINES, INJECTIONS = ("numpyro", "pyro"), 50
FAULTS = ("data", "rows", "slope", "level", "draw")
ROWS, BATCH, EPOCHS, LR = 200, 20, 40, 0.05
SETTINGS: dict[str, Any] = {"epochs": EPOCHS, "batch": BATCH, "lr": LR}


@dataclass(frozen=True)
class Faulty:
    """p(x, z) = N(z; m, 1) N(x; z, s), q(z) = N(z; a + b x, w), with one fault; columns: x, whether flagged, a threshold t.

    "data" and "rows": flagged rows are NaN, or have a density that is. "slope": the loss is finite there and its derivative
    in s is 0 · ∞. "level": the density is NaN if m > t. "draw": so is the guide's width if a > t; training runs into both.
    """

    fault: str
    data_dim: int = 3
    missing: bool = True  # NaN may enter

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        xp, flag = ppl.xp, x[:, 1]
        loc, scale = ppl.param("loc", xp.zeros(())), ppl.param("scale", xp.ones(()), constraint=ppl.constraints.positive)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            centre = z = ppl.sample("z", ppl.dist.Normal(loc + 0 * flag, 1.0))
            if self.fault == "slope":
                centre = z + xp.sqrt(scale * (1 - flag)) - xp.sqrt(scale * (1 - flag))
            if self.fault == "level":
                centre = xp.where(loc > x[:, 2], float("nan"), z)
            spread = scale * (xp.sqrt(1 - 2 * flag) if self.fault == "rows" else 1 + 0 * flag)
            ppl.sample("x", ppl.dist.Normal(centre, spread), obs=x[:, 0])

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        xp = ppl.xp
        start, slope = ppl.param("start", xp.zeros(())), ppl.param("slope", xp.zeros(()))
        width = ppl.param("width", xp.ones(()), constraint=ppl.constraints.positive) + 0 * x[:, 1]
        if self.fault == "draw":
            width = xp.where(start > x[:, 2], float("nan"), width)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.Normal(start + slope * x[:, 0], width))


def data(bad: tuple[int, ...] = (), threshold: float = 1e6, fault: str = "rows") -> Dataset:
    """Rows whose mean, 3, training has to climb to; the `bad` ones are flagged."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(3, 1.5, ROWS + 100), np.zeros(ROWS + 100), np.full(ROWS + 100, threshold)], 1)
    x[list(bad), 0 if fault == "data" else 1] = np.nan if fault == "data" else 1.0
    return Dataset("faulty", x[:ROWS], x[ROWS:], "none")


def injected(fault: str, rng: np.random.Generator) -> tuple[Dataset, bool]:
    """The data of one fault, and whether training must recover from it: it must from a few bad rows."""
    if fault in ("level", "draw"):
        return data(threshold=rng.uniform(0.1, 0.9)), False  # where the guide's start comes to rest is 1 and more
    few = bool(rng.random() < 0.5)
    count = rng.integers(1, 4) if few else rng.integers(20, ROWS + 1)
    return data(tuple(rng.choice(ROWS, count, replace=False)), fault=fault), few


def one(engine: str, fault: str, rows: Dataset, seed: int, folder: Path) -> dict[str, Any]:
    """How one fit ended, and how many files hold parameters or moments that are not finite."""
    model = Faulty(fault)
    try:
        found = fit(model, rows, engine=engine, seed=seed, checkpoints=Checkpoints(folder, 3), **SETTINGS)
        elbo = np.nan if found.heldout_elbo is None else found.heldout_elbo.value
        fine = all(np.isfinite(value).all() for value in found.params.values()) and np.isfinite(elbo)
        told = {"ended": "recovered" if fine and found.skipped else "missed", "elbo": elbo, "skipped": found.skipped,
                "rollbacks": found.rollbacks}  # fmt: skip
    except NonFinite as error:
        failure = error.failure
        bundle.save(folder / "nonfinite", failure, {})
        site, what, loss = bundle.reproduce(folder / "nonfinite", model, engine=engine, total=ROWS)
        placed = failure.epoch >= 1 and failure.step >= 1 and len(failure.batch) == BATCH and failure.site != ""
        again = (site, what) == (failure.site, failure.what) and (not np.isfinite(loss) or "gradient" in what)
        told = {"ended": "stopped" if placed and again else "lost", "site": site, "what": what, "epoch": failure.epoch,
                "step": failure.step, "rollbacks": failure.rollbacks}  # fmt: skip
    kept = [load_params(file) for file in folder.glob("*.safetensors")]
    return {**told, "bad_files": sum(not all(np.isfinite(v).all() for v in one.values()) for one in kept)}


def measure(engine: str, injections: int) -> list[dict[str, Any]]:
    """One row an injection."""
    rows = list[dict[str, Any]]()
    for number in range(injections):
        fault, rng = FAULTS[number % len(FAULTS)], np.random.default_rng(number)
        given, recovers = injected(fault, rng)
        with tempfile.TemporaryDirectory() as folder:
            told = one(engine, fault, given, number, Path(folder))
        gap = None
        if recovers:
            sound = fit(Faulty(fault), data(), engine=engine, seed=number, **SETTINGS).heldout_elbo
            gap = (np.nan if sound is None else sound.value) - told.get("elbo", -np.inf)
        rows.append({"engine": engine, "fault": fault, "recovers": recovers, "gap": gap, **told})
    return rows


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """All injections on both engines."""
    rows = [row for engine in ENGINES for row in measure(engine, 10 if quick else INJECTIONS)]
    ended = [row["ended"] in (("recovered",) if row["recovers"] else ("recovered", "stopped")) for row in rows]
    return {
        "device": "cpu", "share": float(np.mean(ended)), "bad_files": sum(row["bad_files"] for row in rows),
        "largest_gap": max(row["gap"] for row in rows if row["gap"] is not None), "rows": rows,
        "counts": {how: sum(row["ended"] == how for row in rows) for how in ("recovered", "stopped", "missed", "lost")},
    }  # fmt: skip
