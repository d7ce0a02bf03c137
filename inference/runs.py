"""A run of `ppl fit`: the fit by any method, its results as JSON, its directory, and the way back from the directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl_models import InputError
from ppl_models.datasets import Dataset

from . import svi
from .callables import as_bound, inputs_of
from .data import describe
from .em import floor_sentence
from .files import load_params, save_params, strict, to_json, write
from .source import Source, asked, source_of
from .svi import Fit

#: Iterations of EM and coordinate ascent where --epochs is left out: they stop by themselves.
ITERATIONS = 1000


def train(
    declaration: Any, rows: Dataset, method: str, epochs: int | None, callbacks: Sequence[svi.Callback], **options: Any
) -> Fit:
    """A fit by one of the methods that end in parameters; `options` are those of `svi.fit`, of which EM takes a part."""
    if method == "svi":
        rules = {name: options.pop(name) for name in ("rhat", "seconds", "steps") if name in options}
        given = {**options, "epochs": 30 if epochs is None else epochs, "callbacks": callbacks, "stop": svi.Stop(**rules)}
        return svi.fit(declaration, rows, **given)
    from .coordinate_ascent import coordinate_ascent
    from .em import em

    names = ("engine", "seed", "restarts", "dtype", "device")
    shared = {name: options[name] for name in names if name in options}
    climb = {"em": em, "cavi": coordinate_ascent}[method]
    found = climb(declaration, rows, iterations=ITERATIONS if epochs is None else epochs, **shared)
    for row in found.history:
        for callback in callbacks:
            callback(row)
    return found


def results(found: Fit, source: Source, method: str, estimator: str | None, command: str, evaluation: Any) -> dict[str, Any]:
    """What a run found, as JSON knows it."""
    base = found.baseline and {"name": "independent pixels", **found.baseline.to_json()}
    sentences = [svi.sentence(found), floor_sentence(found)]
    return {
        "command": command, "verdict_sentence": " ".join(filter(None, sentences)), "model": source.model, "method": method,
        "settings": {name: str(value) for name, value in vars(found.model).items()}, "engine": found.engine,
        "estimator": (estimator or "default") if method == "svi" else None, "data": describe(found.data),
        "heldout_elbo": found.heldout_elbo, "heldout_log_likelihood": found.heldout_log_likelihood, "baseline": base,
        "evaluation": evaluation, "accuracy": accuracy(found), "seconds_per_step": found.seconds_per_step,
        "setup_seconds": found.setup_seconds, "stopped": found.stopped, "epochs": found.history[-1]["epoch"],
        "skipped": found.skipped, "rollbacks": found.rollbacks,
        "restarts": found.restarts, "manifest": found.manifest,
    }  # fmt: skip


def accuracy(found: Fit) -> Mapping[str, float | None] | None:
    """The share of held-out rows whose label the model names, where it classifies by label and the data have labels."""
    from . import estimate, explore

    if found.data.heldout_y is None or "labels" not in inputs_of(found.model) or not hasattr(found.model, "classify"):
        return None
    named = explore.classify(found, found.data.heldout).argmax(-1)
    return estimate.mean((named == found.data.heldout_y).astype(float)).to_json()


def store(out: Path, found: Fit, told: Mapping[str, Any], source: Source, seed: int) -> None:
    """Write the directory of a run; the manifest comes last, so that a directory which has one is whole."""
    from .pictures import pictures
    from .report import fit_report

    out.mkdir(parents=True, exist_ok=True)
    save_params(out / "params.safetensors", found.params)
    if len(found.restart_params) > 1 or found.iterates is not None:  # what `ppl diagnose` compares
        kept = {f"{i}/{name}": value for i, one in enumerate(found.restart_params) for name, value in one.items()}
        save_params(out / "restarts.safetensors", kept | ({} if found.iterates is None else {"iterates": found.iterates}))
    page = fit_report(strict(told), strict(found.history), pictures(found, seed), found.data.image_shape)
    write(out / "report.html", page)
    write(out / "results.json", to_json(told))
    write(out / "run.json", to_json({"command": told["command"], "source": asked(source), **found.manifest}))


def reopen(folder: Path, data_dir: str | None = None) -> Fit:
    """The fit that a run's directory holds, on the same data.

    Raises:
        InputError: The directory holds no complete run.
    """
    try:
        kept = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        source = source_of(kept["source"], data_dir)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no run; fit one first, as in `ppl fit vae --out {folder}`.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'run.json'} is not that of a fit ({error}); fit again with --out.") from None
    declaration, rows = source.open()
    params = load_params(folder / "params.safetensors")
    bound: Any = as_bound(declaration, source.engine, len(rows.x)) if hasattr(declaration, "guide") else None
    manifest = {name: value for name, value in kept.items() if name not in ("command", "source")}
    others, iterates = restarts_of(folder / "restarts.safetensors", params)
    blank = ([], None, None, None, 0.0, 0.0, [], "")  # what results.json tells
    return Fit(declaration, bound, source.engine, rows, params, *blank, manifest, others, iterates)


def restarts_of(file: Path, params: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """The parameters of every restart and the late iterates, as `store` kept them; of older runs the parameters alone."""
    if not file.is_file():
        return [dict(params)], None
    found, out = load_params(file), dict[int, dict[str, Any]]()
    for name, value in found.items():
        i, sign, rest = name.partition("/")
        if sign:
            out.setdefault(int(i), {})[rest] = value
    return [out[i] for i in sorted(out)] or [dict(params)], found.get("iterates")


