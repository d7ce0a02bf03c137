"""`ppl fit` and `ppl sample` of an energy: training, a likelihood with both its sides, and the directory of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.datasets import DATASETS, Dataset
from ppl_models.energy import column_logits, is_gaussian

from . import estimate
from .data import baseline, describe
from .energy_training import EnergyFit, fit_energy
from .energy_training.objective import mean_field
from .estimate import Estimate
from .files import load_params, save_params, strict, to_json, write
from .kernels import pilot
from .log_partition import annealed, exact, unnormalised
from .log_partition.annealed import kernel
from .log_partition.exact import enumerated

COUNTABLE = 20  # units whose states are enumerated for log Z
STEPS, RUNS = 2000, 200  # of annealing
SHOWN = 20  # of chains and filters in a report


@dataclass(frozen=True)
class Likelihood:
    """log p(x) of held-out rows at β = 1, nats per datum.

    Attributes:
        value: Its mean; the interval holds the choice of rows and, where log Z is annealed, its error from both sides.
        bound: "log p(x)", or "mean field" where hidden layers are not summed: then a lower bound, up to the error of log Z.
        log_partition: log Z, nats: enumerated, or annealed forwards.
        kind: "enumerated" or "annealed".
        sides: Of annealed log Z: the mean log p(x) by the forward estimate (`optimistic`: log Z is too small in expectation)
            and by the reverse one (`approximate`: from the states of chains, which bound nothing).
    """

    value: Estimate
    bound: str
    log_partition: Estimate
    kind: str
    sides: dict[str, float]


def judged(found: EnergyFit, seed: int, device: str | None = None) -> Likelihood | None:
    """The likelihood of the held-out rows; None for hidden units on a graph, which neither sum nor layers take away."""
    model, x = found.model, found.data.heldout
    hidden = [name for name in model.sites if name != "x"]
    if hidden and not hasattr(model, "colours"):
        return None
    summed = len(hidden) < 2
    rows = unnormalised(model, found.params, x, engine=found.engine) if summed else bound_rows(found, x)
    if not is_gaussian(model) and sum(model.sites[name] for name in enumerated(model)) <= COUNTABLE:
        log_z = exact(model, found.params, found.engine)
        value = estimate.mean(rows - log_z)
        return Likelihood(value, "log p(x)" if summed else "mean field", Estimate(log_z, log_z, log_z), "enumerated", {})
    rates = "x.bias" in found.params and not is_gaussian(model)
    base = {"x.bias": column_logits(found.data.x)} if rates else {}
    shared: dict[str, Any] = {"engine": found.engine, "betas": STEPS, "seed": seed, "base": base, "device": device}
    forward = annealed(model, found.params, chains=RUNS, **shared)
    chains = drawn(found, RUNS, 100, seed) if found.chains is None else found.chains
    reverse = annealed(model, found.params, draws=chains, **shared)
    ends = (forward.log_partition.low, reverse.log_partition.high)
    middle, low, high = estimate.mean(rows)
    value = Estimate(middle - forward.log_partition.value, low - max(ends), high - min(ends))
    sides = {"optimistic": middle - forward.log_partition.value, "approximate": middle - reverse.log_partition.value}
    return Likelihood(value, "log p(x)" if summed else "mean field", forward.log_partition, "annealed", sides)


def bound_rows(found: EnergyFit, x: np.ndarray) -> np.ndarray:
    """E_q[−E] + H(q) of each row, q the factorised distribution of mean field; nats."""
    words, shared = import_module(f"inference.kernels._{found.engine}"), import_module(f"inference._{found.engine}")
    out = []
    with shared.session("float64"):
        params = {name: shared.array(np.asarray(value, float)) for name, value in found.params.items()}
        for i in range(0, len(x), 1000):
            means = mean_field(words, found.model, params, shared.array(np.asarray(x[i : i + 1000], float)), 50)
            log_p = -np.asarray(found.model.energy(words, params, means))
            for name in found.model.sites:
                if name != "x":
                    m = np.asarray(means[name]).clip(1e-12, 1 - 1e-12)
                    log_p = log_p - (m * np.log(m) + (1 - m) * np.log1p(-m)).sum(-1)
            out.append(log_p)
    return np.concatenate(out)


def drawn(found: EnergyFit, count: int, sweeps: int, seed: int) -> dict[str, np.ndarray]:
    """States of `count` chains after so many sweeps, from those the fit keeps or, where it keeps none, from training rows."""
    words, shared = import_module(f"inference.kernels._{found.engine}"), import_module(f"inference._{found.engine}")
    rng, model = np.random.default_rng(seed), found.model
    if found.chains is not None:
        some = rng.integers(len(found.chains["x"]), size=count)
        start = {name: value[some] for name, value in found.chains.items()}
    else:
        x = found.data.x[rng.integers(len(found.data.x), size=count)]
        start = {name: rng.integers(0, 2, (count, size)).astype(float) for name, size in model.sites.items()} | {"x": x}
    with shared.session():
        params = {name: shared.array(np.asarray(value, np.float32)) for name, value in found.params.items()}
        sweep = kernel(model)
        state = sweep.init(words, words.seeded(seed), {n: shared.array(np.asarray(v, np.float32)) for n, v in start.items()})
        values = words.program(swept, sweep, sweeps)(state, params).values
        return shared.to_numpy(values)


def swept(ppl: Any, sweep: Any, sweeps: int, state: Any, params: Any) -> Any:
    """The state after so many steps of a kernel, those of a pilot that finds its step size not counted."""
    state = pilot(ppl, sweep, state, params)
    return ppl.loop(sweeps, lambda _, state: sweep.step(ppl, state, params)[0], state)


def train(
    source: Any, declaration: Any, rows: Dataset, method: Any, epochs: int | None, callbacks: Sequence[Any],
    options: Mapping[str, Any],
) -> EnergyFit:  # fmt: skip
    """`fit_energy` with what the command line gave."""
    given = {name: options[name] for name in ("lr", "dtype") if name in options}
    given |= {name: options[name] for name in ("batch", "chains", "sweeps", "noise") if options.get(name) is not None}
    return fit_energy(
        declaration, rows, method=method, engine=source.engine, epochs=30 if epochs is None else epochs, seed=source.seed,
        device=source.device, callbacks=tuple(callbacks), **given,
    )  # fmt: skip


def results(found: EnergyFit, source: Any, command: str, likelihood: Likelihood | None) -> dict[str, Any]:
    """What a run found, as JSON knows it."""
    base = baseline(found.model, found.data)
    return {
        "command": command, "verdict_sentence": sentence(found, source, likelihood, base), "model": source.model,
        "method": found.method, "settings": {name: str(value) for name, value in vars(found.model).items()},
        "engine": found.engine, "data": describe(found.data), "heldout_elbo": None,
        "heldout_log_likelihood": None if likelihood is None else likelihood.value,
        "likelihood": None if likelihood is None else {
            "bound": likelihood.bound, "log_partition": likelihood.log_partition, "kind": likelihood.kind,
            "sides": likelihood.sides, "beta": 1.0,
        },
        "baseline": base and {"name": "independent pixels", **base.to_json()}, "seconds_per_step": found.seconds_per_step,
        "epochs": found.history[-1]["epoch"] if found.history else 0, "manifest": found.manifest,
    }  # fmt: skip


def sentence(found: EnergyFit, source: Any, likelihood: Likelihood | None, base: Estimate | None) -> str:
    """What came of it, in words."""
    what = f"{source.model} on {found.data.name} by {found.method} ({found.engine})"
    if likelihood is None:
        return f"Trained {what}; the likelihood of hidden units on a graph is not computed."
    how = "log Z enumerated" if likelihood.kind == "enumerated" else (
        f"log Z annealed: {likelihood.sides['optimistic']:.2f} by forward runs, which flatter, "
        f"{likelihood.sides['approximate']:.2f} by reverse ones from chains"
    )  # fmt: skip
    name = "log p(x)" if likelihood.bound == "log p(x)" else "mean-field bound on log p(x)"
    against = "" if base is None else f", against {base.value:.2f} for independent pixels"
    return f"Held-out {name} of {what}: {likelihood.value.value:.2f} nats per datum at β = 1 ({how}){against}."


def pictures(found: EnergyFit, seed: int) -> dict[str, np.ndarray]:
    """Held-out rows, the states of chains after 1,000 sweeps, and the couplings of the hidden units that weigh most."""
    out = {"data": found.data.heldout[:10], "samples": drawn(found, SHOWN, 1000, seed)["x"]}
    weight = found.params.get("weight", found.params.get("h1.weight"))
    if weight is not None:
        strongest = np.argsort(-(weight**2).sum(0))[:SHOWN]
        out["filters"] = weight.T[strongest]
    return out


def energy_of(found: EnergyFit, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """E of states, nats."""
    words, shared = import_module(f"inference.kernels._{found.engine}"), import_module(f"inference._{found.engine}")
    with shared.session("float64"):
        arrays = ({name: shared.array(np.asarray(v, float)) for name, v in given.items()} for given in (found.params, values))
        return np.asarray(found.model.energy(words, *arrays))


def store(out: Path, found: EnergyFit, told: Mapping[str, Any], source: Any, seed: int) -> None:
    """Write the directory of a run; the manifest comes last, so that a directory which has one is whole."""
    from .report import energy_report

    out.mkdir(parents=True, exist_ok=True)
    save_params(out / "params.safetensors", found.params)
    chains = drawn(found, 500, 200, seed)
    save_params(out / "chains.safetensors", chains)
    page = energy_report(strict(told), strict(found.history), pictures(found, seed), found.data.image_shape,
                         energy_of(found, chains))  # fmt: skip
    write(out / "report.html", page)
    write(out / "results.json", to_json(told))
    asked = {f.name: getattr(source, f.name) for f in fields(source)}
    for name in ("data", "heldout"):  # so that the run opens from any directory
        if asked[name] is not None and asked[name] not in DATASETS:
            asked[name] = str(Path(asked[name]).expanduser().resolve())
    write(out / "run.json", to_json({"command": told["command"], "source": asked, **found.manifest}))


def from_run(fit: Any, run: Path) -> EnergyFit:
    """The trained energy of a run's directory, its chains with it.

    Raises:
        InputError: The chains are gone.
    """
    file = run / "chains.safetensors"
    if not file.is_file():
        raise InputError(f"{run} holds no chains; fit again with --out.")
    return EnergyFit(fit.model, fit.engine, fit.data, "", fit.params, [], load_params(file), 0.0, fit.manifest)
