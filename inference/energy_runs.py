"""`ppl fit` and `ppl sample` of an energy: training, a likelihood with both its sides, and the directory of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.datasets import Dataset
from ppl_models.energy import column_logits, is_gaussian

from . import estimate
from .checkpoint import Checkpoints
from .data import baseline, describe
from .diagnostics import Observed, data_energies, ranks
from .energy_training import EnergyFit, as_bits, fit_energy
from .energy_training.objective import mean_field
from .estimate import Estimate
from .files import load_params, save_params, strict, to_json, write
from .kernels import swept
from .log_partition import annealed, directed, exact, summed, unnormalised
from .log_partition.annealed import kernel
from .log_partition.exact import enumerated
from .log_partition.layered import cheaper
from .source import asked

COUNTABLE = 20  # units whose states are enumerated for log Z
STEPS, RUNS = 2000, 200  # of annealing
SAMPLES = 100  # of recognition, for each row
ROWS = 2000  # of the training rows, whose mean activations start the path of annealing
SHOWN = 32  # of chains and filters in a report


@dataclass(frozen=True)
class Likelihood:
    """log p(x) of held-out rows at β = 1, nats per datum.

    Attributes:
        value: Its mean; the interval holds the choice of rows and, where log Z is annealed, its error from both sides.
        bound: "log p(x)"; where hidden layers are neither summed nor enumerated, what is below it, up to the error of log Z:
            "mean field", or of a directed net "importance", in expectation.
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
    elbo: Estimate | None = None  # of a directed net: E_q[log p(x, h)] + H(q), q its recognition, with the same log Z


def judged(found: EnergyFit, seed: int, device: str | None = None) -> Likelihood | None:
    """The likelihood of the held-out rows; None for hidden units on a graph, which neither sum nor layers take away."""
    model, x = found.model, found.data.heldout
    if hasattr(model, "top"):
        return directed_likelihood(found, seed, device)
    hidden = [name for name in model.sites if name != "x"]
    if hidden and not hasattr(model, "colours"):
        return None
    log_z, bound = None, "log p(x)"
    if len(hidden) < 2:
        rows = unnormalised(model, found.params, x, engine=found.engine)
    elif sum(model.sites[name] for name in cheaper(model, len(x))) <= COUNTABLE:
        rows, log_z = summed(model, found.params, x, engine=found.engine)
    else:
        rows, bound = bound_rows(found, x), "mean field"
    if not is_gaussian(model) and sum(model.sites[name] for name in enumerated(model)) <= COUNTABLE:
        log_z = exact(model, found.params, found.engine) if log_z is None else log_z
        return Likelihood(estimate.mean(rows - log_z), bound, Estimate(log_z, log_z, log_z), "enumerated", {})
    rates = "x.bias" in found.params and not is_gaussian(model)
    base = {"x.bias": column_logits(found.data.x)} if rates else {}
    chains = drawn(found, RUNS, 100, seed) if found.chains is None else found.chains
    return from_both_sides(rows, bound, model, found.params, base, chains, found.engine, seed, device)


def from_both_sides(
    rows: np.ndarray, bound: str, model: Any, params: Mapping[str, Any], base: Mapping[str, Any], chains: Mapping[str, Any],
    engine: str, seed: int, device: str | None,
) -> Likelihood:  # fmt: skip
    """The likelihood of rows whose log p(x) + log Z is given, log Z annealed forwards, and backwards from the chains."""
    shared: dict[str, Any] = {"engine": engine, "betas": STEPS, "seed": seed, "base": base, "device": device}
    forward = annealed(model, params, chains=RUNS, **shared)
    reverse = annealed(model, params, draws=chains, **shared)
    ends = (forward.log_partition.low, reverse.log_partition.high)
    middle, low, high = estimate.mean(rows)
    value = Estimate(middle - forward.log_partition.value, low - max(ends), high - min(ends))
    sides = {"optimistic": middle - forward.log_partition.value, "approximate": middle - reverse.log_partition.value}
    return Likelihood(value, bound, forward.log_partition, "annealed", sides)


def directed_likelihood(found: EnergyFit, seed: int, device: str | None) -> Likelihood:
    """Of a directed net: exactly where its layers between are narrow, else by importance samples from its recognition."""
    model, params, x, engine = found.model, found.params, found.data.heldout, found.engine
    top, top_params = model.top, model.top_parameters(found.params)
    told = directed.recognised(model, params, x, samples=SAMPLES, engine=engine, seed=seed)
    if directed.countable(model, COUNTABLE):
        rows, log_z = directed.log_likelihood(model, params, x, engine=engine)
        likelihood = Likelihood(estimate.mean(rows), "log p(x)", Estimate(log_z, log_z, log_z), "enumerated", {})
    else:
        below, last = tuple(model.sites)[-2:]
        chains = drawn(found, RUNS, 100, seed) if found.chains is None else found.chains
        base = {"x.bias": column_logits(directed.means(model, params, found.data.x[:ROWS], engine))}
        likelihood = from_both_sides(told.importance, "importance", top, top_params, base,
                                     {"x": chains[below], "h": chains[last]}, engine, seed, device)  # fmt: skip
    return replace(likelihood, elbo=estimate.mean(told.elbo - likelihood.log_partition.value))


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
    """States of `count` chains after so many sweeps, from those the fit keeps or, where it keeps none, from training rows.

    Of a directed net the chains are of its top, and the layers below are drawn from their last states.
    """
    words, shared = import_module(f"inference.kernels._{found.engine}"), import_module(f"inference._{found.engine}")
    rng, model = np.random.default_rng(seed), found.model
    top = getattr(model, "top", None)
    if found.chains is not None:
        some = rng.integers(len(found.chains["x"]), size=count)
        start = {name: value[some] for name, value in found.chains.items()}
    else:
        x = found.data.x[rng.integers(len(found.data.x), size=count)]
        start = {name: rng.integers(0, 2, (count, size)).astype(float) for name, size in model.sites.items()} | {"x": x}
    with shared.session():
        params = {name: shared.array(np.asarray(value, np.float32)) for name, value in found.params.items()}
        values = {name: shared.array(np.asarray(v, np.float32)) for name, v in start.items()}
        if top is None:
            sweep = kernel(model)
            state = sweep.init(words, words.seeded(seed), values)
            return shared.to_numpy(words.program(swept, sweep, sweeps)(state, params).values)
        below, last = tuple(model.sites)[-2:]
        sweep = kernel(top)
        state = sweep.init(words, words.seeded(seed), {"x": values[below], "h": values[last]})
        state = words.program(swept, sweep, sweeps)(state, model.top_parameters(params))
        values = {below: state.values["x"], last: state.values["h"]}
        return shared.to_numpy(model.generate(words, state.rng_key, params, values)[1])


def train(
    source: Any, declaration: Any, rows: Dataset, method: Any, epochs: int | None, callbacks: Sequence[Any],
    options: Mapping[str, Any], checkpoints: Checkpoints | None = None, resume: bool = False, other_versions: bool = False,
) -> EnergyFit:  # fmt: skip
    """`fit_energy` with what the command line gave."""
    given = {name: options[name] for name in ("lr", "dtype") if name in options}
    names = ("batch", "chains", "sweeps", "noise", "greedy")
    given |= {name: options[name] for name in names if options.get(name) is not None}
    return fit_energy(
        declaration, rows, method=method, engine=source.engine, epochs=30 if epochs is None else epochs, seed=source.seed,
        device=source.device, callbacks=tuple(callbacks), checkpoints=checkpoints, resume=resume,
        other_versions=other_versions, **given,
    )  # fmt: skip


def results(found: EnergyFit, source: Any, command: str, likelihood: Likelihood | None) -> dict[str, Any]:
    """What a run found, as JSON knows it."""
    base = baseline(found.model, found.data)
    return {
        "command": command, "verdict_sentence": sentence(found, source, likelihood, base), "model": source.model,
        "method": found.method, "settings": {name: str(value) for name, value in vars(found.model).items()},
        "engine": found.engine, "data": describe(found.data), "heldout_elbo": None if likelihood is None else likelihood.elbo,
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
    names = {"mean field": "mean-field bound on log p(x)", "importance": f"{SAMPLES}-sample bound on log p(x)"}
    name = names.get(likelihood.bound, likelihood.bound)
    against = "" if base is None else f", against {base.value:.2f} for independent pixels"
    return f"Held-out {name} of {what}: {likelihood.value.value:.2f} nats per datum at β = 1 ({how}){against}."


def pictures(found: EnergyFit, samples: np.ndarray, snapshots: np.ndarray) -> dict[str, np.ndarray]:
    """Held-out rows, states of chains side by side and as they change, and the couplings of the strongest hidden units."""
    out = {"data": found.data.heldout[:SHOWN], "samples": samples[:SHOWN], "fantasies": snapshots}
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


def store(out: Path, found: EnergyFit, told: Mapping[str, Any], source: Any, seed: int, seen: Observed) -> None:
    """Write the directory of a run; the manifest comes last, so that a directory which has one is whole."""
    from .report import energy_report

    out.mkdir(parents=True, exist_ok=True)
    save_params(out / "params.safetensors", found.params)
    chains = drawn(found, 500, 200, seed)
    save_params(out / "chains.safetensors", chains)
    rows = found.data.heldout[: len(chains["x"])]
    energies = {"held-out rows": data_energies(found, rows, seed=seed), "states of the model": energy_of(found, chains)}
    page = energy_report(
        strict(told), strict(found.history), pictures(found, chains["x"], seen.snapshots), found.data.image_shape, energies,
        seen.energy, ranks(seen.energy),
    )  # fmt: skip
    write(out / "report.html", page)
    write(out / "results.json", to_json(told))
    write(out / "run.json", to_json({"command": told["command"], "source": asked(source), **found.manifest}))


def from_run(fit: Any, run: Path) -> EnergyFit:
    """The trained energy of a run's directory, its chains with it.

    Raises:
        InputError: The chains are gone.
    """
    file = run / "chains.safetensors"
    if not file.is_file():
        raise InputError(f"{run} holds no chains; fit again with --out.")
    rows = as_bits(fit.data, fit.model, fit.manifest.get("seed", 0))
    return EnergyFit(fit.model, fit.engine, rows, "", fit.params, [], load_params(file), 0.0, fit.manifest)
