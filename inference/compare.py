"""`compare`: gradient estimators on one's own model and data, by bias, variance, cost and where training arrives.

Gradients are those of the mean-per-datum ELBO on one fixed minibatch (so that only the latents' noise is measured), in
unconstrained coordinates, at initial and at part-trained parameters. Efficiency = 1 / (tr Cov × seconds of one
training-step gradient): the precision bought per second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.datasets import Dataset
from ppl_models.language import check_engine

from .callables import can_subsample, inputs_of
from .checks import check_settings
from .data import describe, prepare
from .estimate import mean
from .estimators import ESTIMATORS, STOCK, Spec, named
from .manifest import manifest
from .metrics import FAMILY_WISE, Judgement, Moments, Reference, directions, judge
from .pictures import pictures
from .reference import chunks, reference
from .svi import Fit, fit
from .words import sentence, table

POINTS = ("initial", "trained")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The outcome of `compare`: `results` is plain JSON, a row of `results["estimators"]` an estimator and point."""

    results: dict[str, Any]
    trained: Fit
    pictures: dict[str, np.ndarray] = field(default_factory=dict)

    def rows(self, point: str = "trained") -> list[dict[str, Any]]:
        return [row for row in self.results["estimators"] if row["point"] == point]

    def table(self, point: str = "trained") -> str:
        """The rows of one point, as text."""
        return table(self.results, point)

    def html(self, extra: Mapping[str, Any] | None = None) -> str:
        """The report: one page, with everything it needs inside."""
        from .files import strict
        from .report import compare_report

        return compare_report(strict({**(extra or {}), **self.results}), self.pictures, self.trained.data.image_shape)


def compare(
    model: Any,
    data: Any,
    *,
    engine: str = "numpyro",
    estimators: Sequence[str] | Mapping[str, Spec] | None = None,
    replicates: int = 1000,
    budget: float | None = None,
    epochs: int = 10,
    seeds: int = 3,
    batch: int | None = None,
    lr: float = 1e-3,
    bound: str = "elbo",
    num_particles: int | None = None,
    seed: int = 0,
    dtype: str = "float32",
    device: str | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Comparison:
    """Measure gradient estimators on a model and its data.

    Args:
        model: A declaration, or `Bound(model, guide)` of the engine's own functions.
        data: A `Dataset` or an array (N, D).
        engine: "numpyro" or "pyro".
        estimators: Names, or specs by a label of your own; None takes all, and reports those that do not apply.
        replicates: Gradients drawn of each estimator at each point.
        budget: Seconds for all of the probing; fewer replicates are drawn where it runs out.
        epochs: Length of the training curves, and of the training that makes the point "trained".
        seeds: Training curves an estimator (0: none).
        batch: Rows of the fixed minibatch and of a training step; 128 where the model takes minibatches.
        lr: Adam's step size, the same for all.
        bound: "elbo", or "iwae" for the K-sample bound, which then also trains.
        num_particles: K of the K-sample bound (5 if left out); for the ELBO, samples that are averaged.
        seed: Of everything.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        progress: Told what is being done.

    Raises:
        InputError: A setting or the data cannot be used, or an estimator that you named does not apply.
    """
    particles = (5 if bound == "iwae" else 1) if num_particles is None else num_particles
    check_settings(
        replicates=replicates, budget=budget, epochs=epochs, seeds=seeds, batch=batch, lr=lr, seed=seed, dtype=dtype,
        bound=bound, num_particles=particles,
    )  # fmt: skip
    check_engine(engine)
    chosen = _specs(estimators)
    data, began = prepare(data, model), perf_counter()
    size = min(batch or (128 if can_subsample(model) else len(data.x)), len(data.x))
    training: dict[str, Any] = {"engine": engine, "lr": lr, "batch": batch, "dtype": dtype, "device": device}
    objective = {"bound": bound, "num_particles": particles}
    points = {"initial": fit(model, data, epochs=0, seed=seed, **training)}
    pair, rows, start = points["initial"].bound, minibatch(data, model, size, seed), points["initial"].params
    shared, probes = import_module(f"inference._{engine}"), import_module(f"inference.gradients._{engine}")
    with shared.session(dtype, device):
        prepared, refused = {}, {}
        for name, spec in chosen.items():
            try:
                prepared[name] = probes.Gradients(*pair, rows, {}, spec, start, len(data.x), **objective)
            except Exception as error:
                if estimators is not None and not isinstance(error, InputError):
                    raise InputError(f"estimator '{name}' does not apply: {_reason(error)}; leave it out.") from error
                if estimators is not None or not isinstance(error, InputError) and name not in STOCK:
                    raise
                refused[name] = _reason(error)
        if not prepared:
            raise InputError("no estimator applies to this model; does its guide draw any latent?")
    progress("training to the point where estimators are measured")
    training |= objective
    points["trained"] = trained = fit(model, data, epochs=epochs, seed=seed, **training)
    with shared.session(dtype, device):
        references = {}
        for point in POINTS:
            progress(f"reference gradient at the {point} point")
            references[point] = reference(
                engine, model, pair, rows, points[point].params, len(data.x), prepared, objective, replicates, seed
            )
        measured: dict[tuple[str, str], dict[str, Any]] = {}
        share = None if budget is None else budget / (len(prepared) * len(POINTS))
        for point in POINTS:
            for name, gradients in prepared.items():
                progress(f"{name}, {point} point")
                measured[name, point] = measure(
                    gradients, points[point].params, references[point], replicates, share, seed,
                    len(prepared) * len(POINTS))  # fmt: skip
    drawn, curves = pictures(trained, seed), []
    for name in prepared if seeds else ():
        for run in range(seeds):
            progress(f"training with {name}, seed {seed + run}")
            curves.append(
                _curve(
                    name,
                    fit(model, data, estimator=chosen[name], epochs=epochs, seed=seed + run, **training),
                    seed + run,
                )
            )
    claims = {name: _claims(chosen[name], [measured[name, point] for point in POINTS]) for name in prepared}
    results = {
        "model": _name(model), "settings": _settings(model), "engine": engine, "data": describe(data), **objective,
        "reference": {
            "kind": references["trained"].kind,
            "points": {p: {"gradient_norm": r.norm, "relative_error": r.relative_error} for p, r in references.items()},
        },
        "estimators": [
            {"name": name, "engine": engine, "point": point, **(
                {"applicable": True, "unbiased_for": claims[name], **measured[name, point],
                 "final_elbo": _final(curves, name)} if name in prepared else _absent(refused[name], chosen[name]))}
            for point in POINTS for name in chosen
        ],
        "curves": curves,
        "manifest": {
            **trained.manifest, **manifest(versions=shared.VERSIONS, seed=seed), "wall_seconds": perf_counter() - began,
            "batch": size, "lr": lr, "epochs": epochs, "seeds": seeds, "family_wise_error": FAMILY_WISE,
        },
    }  # fmt: skip
    results["verdict_sentence"] = sentence(results)
    return Comparison(results, trained, drawn)


def minibatch(data: Dataset, model: Any, size: int, seed: int) -> tuple[np.ndarray, ...]:
    """The fixed rows of every input, drawn once where binarisation is dynamic."""
    rng = np.random.default_rng(seed)
    index = np.sort(rng.permutation(len(data.x))[:size])
    x, *others = (values[index] for values in data.inputs(inputs_of(model)))
    return ((rng.random(x.shape) < x).astype(x.dtype) if data.binarisation == "dynamic" else x, *others)


def measure(
    gradients: Any, params: Mapping[str, np.ndarray], truth: Reference, replicates: int, seconds: float | None, seed: int,
    family: int,
) -> dict[str, Any]:  # fmt: skip
    """One estimator at one point: judged and timed."""
    control = gradients.control(params, seed + 1)
    moments, spent, timings = Moments(directions(truth.gradient, gradients.blocks)), 0.0, []
    for start, count in chunks(gradients, replicates):
        began = perf_counter()
        values = gradients.many(params, control, count, seed + 1_000_003 + start)
        timings.append((perf_counter() - began) / count)
        moments.add(values)
        spent += perf_counter() - began
        if (moments.noiseless and len(timings) >= 2) or (seconds is not None and spent > seconds and len(timings) >= 2):
            break
    judged: Judgement = judge(moments, truth, family)
    one = gradients.one(params, control)
    step = seconds_of(one)
    trace = judged.variance_trace
    lost = f"{moments.lost} of {moments.count} gradients were not finite; use float64, or another estimator"
    return {
        "verdict": judged.verdict, "reason": lost if moments.lost else None, "replicates": moments.count,
        "bias_max_abs_z": judged.bias_max_abs_z,
        "bias_relative": judged.bias_relative.to_json(), "minimal_detectable_bias": judged.minimal_detectable_bias,
        "variance_trace": trace.to_json(), "snr": judged.snr, "seconds_per_gradient": step,
        # The first chunk compiles.
        "seconds_per_gradient_vectorised": float(np.median(timings[1:])) if len(timings) > 1 else None,
        "model_evaluations": gradients.evaluations,
        "efficiency": None if moments.noiseless else 1.0 / (trace.value * step),
    }  # fmt: skip


def seconds_of(run: Callable[[], Any], most: float = 0.15) -> float:
    """Median seconds of one call, after two to warm up; at least 5 calls, then until `most` seconds are spent."""
    for _ in range(2):
        run()
    timings: list[float] = []
    while len(timings) < 5 or (sum(timings) < most and len(timings) < 200):
        began = perf_counter()
        run()
        timings.append(perf_counter() - began)
    return float(np.median(timings))


def _specs(estimators: Sequence[str] | Mapping[str, Spec] | None) -> dict[str, Spec]:
    if estimators is None:
        return {name: name for name in (*ESTIMATORS, *STOCK)}
    if isinstance(estimators, str):
        estimators = [estimators]
    chosen = dict(estimators) if isinstance(estimators, Mapping) else {name: name for name in estimators}
    if not chosen:
        raise InputError(f"no estimator was named; choose among {', '.join((*ESTIMATORS, *STOCK))}.")
    for spec in chosen.values():
        if isinstance(spec, str) and spec not in STOCK:
            named(spec)
    return chosen  # type: ignore[return-value]


def _claims(spec: Any, measured: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """What the estimator is unbiased for; of a library's own ELBO, what its measurements leave standing."""
    if isinstance(spec, str) and spec in STOCK:
        return [] if any(row["verdict"] == "biased" for row in measured) else ["elbo"]
    return list(getattr(named(spec) if isinstance(spec, str) else spec, "unbiased_for", ("elbo",)))


def _absent(reason: str, spec: Any) -> dict[str, Any]:
    keys = ("verdict replicates bias_max_abs_z bias_relative minimal_detectable_bias variance_trace snr seconds_per_gradient "
            "seconds_per_gradient_vectorised model_evaluations efficiency final_elbo").split()  # fmt: skip
    return {"applicable": False, "reason": reason, "unbiased_for": _claims(spec), **dict.fromkeys(keys)}


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else f"the library raises {type(error).__name__}"
    return text.removeprefix("estimator ").split(" does not apply: ")[-1].rstrip(".")


def _curve(name: str, run: Fit, seed: int) -> dict[str, Any]:
    rows = [row for row in run.history if row["heldout_elbo"] is not None]
    return {
        "name": name, "engine": run.engine, "seed": seed, "steps": [row["step"] for row in rows],
        "seconds": [row["seconds"] for row in rows], "elbo": [row["heldout_elbo"].value for row in rows],
        "setup_seconds": run.setup_seconds,
    }  # fmt: skip


def _final(curves: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | None] | None:
    """The last held-out ELBO, mean over seeds."""
    last = [curve["elbo"][-1] for curve in curves if curve["name"] == name and curve["elbo"]]
    if not last:
        return None
    return dict(mean(np.array(last)).to_json())


def _name(model: Any) -> str:
    return getattr(model[0], "__name__", "model") if isinstance(model, tuple) else type(model).__name__


def _settings(model: Any) -> dict[str, str]:
    return {} if isinstance(model, tuple) else {k: str(v) for k, v in vars(model).items()}
