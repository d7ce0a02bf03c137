"""What `ppl fit` does: one fit, one for each value of a setting, or draws; results as JSON, and directories where asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ppl_models import InputError, NumericalError

from .console import History, Progress, command, note
from .files import strict, to_json, write
from .source import asked


def fit_one(
    source: Any, method: str | None, epochs: int | None, samples: int | None, options: dict[str, Any], out: Path | None
) -> dict[str, Any]:
    """One fit: its results, and its directory where one is asked for."""
    from .checkpoint import Checkpoints
    from .methods import ENERGY, ENERGY_ONLY, check_method, check_options, samples_of

    declaration, rows = source.open()
    method = check_method(declaration, source.model, method)
    check_options(method, options)
    samples = samples_of(declaration, source.model, samples, kept=out is not None)
    if method == "mcmc":
        return draw(source, declaration, rows, epochs, options, out)
    if method in ENERGY:
        return fit_energy(source, declaration, rows, method, epochs, options, out)
    every = options["checkpoint_every"]
    if every is not None and out is None:
        raise InputError("--checkpoint-every needs a directory to keep them in; add --out.")
    options = {name: value for name, value in options.items() if name not in ENERGY_ONLY and name != "checkpoint_every"}
    given = {**options, "engine": source.engine, "device": source.device, "seed": source.seed}
    if out and method == "svi":
        about = {"command": command(), "source": asked(source), "method": method, "epochs": epochs, "samples": samples,
                 "options": {**options, "checkpoint_every": every}}  # fmt: skip
        given["checkpoints"] = Checkpoints(out / "checkpoint", 10 if every is None else every, about)
    with Progress(30 if epochs is None else epochs, rows.card) as progress:
        shown = [progress, *([History(out)] if out else [])]
        found = trained(source, declaration, rows, method, epochs, shown, given, out)
    return told_of_fit(found, source, method, samples, options, command(), out)


def trained(
    source: Any, declaration: Any, rows: Any, method: str, epochs: int | None, shown: list[Any], given: dict[str, Any],
    out: Path | None,
) -> Any:  # fmt: skip
    """The fit; where it leaves the finite numbers for good, what reproduces that is kept in its directory."""
    from . import runs
    from .svi import bundle
    from .svi.nonfinite import NonFinite

    try:
        return runs.train(declaration, rows, method, epochs, shown, **given)
    except NonFinite as error:
        if out is None:
            raise
        names = ("engine", "estimator", "dtype", "bound", "num_particles")
        about = {"source": asked(source), "total": len(rows.x), **{name: given.get(name) for name in names}}
        bundle.save(out / "nonfinite", error.failure, about)
        raise NumericalError(f"{str(error).rstrip('.')} (kept in {out / 'nonfinite'}; inference.svi.bundle.reproduce "
                             "runs it again).") from error  # fmt: skip


def told_of_fit(
    found: Any, source: Any, method: str, samples: int, options: dict[str, Any], asked: str, out: Path | None
) -> dict[str, Any]:
    """The results of a fit, judged by importance samples where some are asked for, and its directory."""
    from . import runs

    note(f"device: {found.manifest['device']}, {options['dtype']}")
    judged = None
    if samples:
        from .evaluate import evaluate as judge

        judged = judge(found, num_samples=samples, seed=source.seed, dtype=options["dtype"], device=source.device)
    told = runs.results(found, source, method, options["estimator"], asked, judged)
    if out:
        runs.store(out, found, told, source, source.seed)
        note(f"written to {out}")
    return told


def fit_each(
    source: Any, key: str, values: list[tuple[str, ...]], method: str | None, epochs: int | None, samples: int | None,
    options: dict[str, Any], out: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """A fit for each value, each in a directory of its own, and one report of all."""
    from .methods import check_method
    from .report import sweep_report

    fits, rows = [], []
    sources = [replace(source, settings=settings) for settings in values]
    for one in sources:  # a value that cannot be used is refused before the first fit
        declaration, _ = one.open()
        check_method(declaration, source.model, method, compared=True)
    for one in sources:
        value = one.settings[-1].partition("=")[2]
        note(f"{key} = {value}")
        told = fit_one(one, method, epochs, samples, options, out and out / f"{key}={value}")
        fits.append(told)
        judged = told["evaluation"]
        rows.append({
            key: int(value), "heldout_elbo": strict(told["heldout_elbo"]), "seconds": told["manifest"]["wall_seconds"],
            "log_likelihood": strict(judged.log_likelihood if judged else told["heldout_log_likelihood"]),
            "kl": float(sum(kl.sum() for kl in judged.kl.values())) if judged else None,
            "active_units": sum(judged.active_units.values()) if judged else None,
        })  # fmt: skip
    name = "log_likelihood" if all(row["log_likelihood"] for row in rows) else "heldout_elbo"
    best = max(rows, key=lambda row: row[name]["value"])
    word = {"log_likelihood": "log-likelihood", "heldout_elbo": "ELBO"}[name]
    verdict = (f"{key} {best[key]} has the best held-out {word} of {', '.join(str(row[key]) for row in rows)}: "
               f"{best[name]['value']:.2f} nats per datum on {fits[0]['data']['name']}.")  # fmt: skip
    shared = {name: fits[-1][name] for name in ("model", "engine", "data", "manifest")}
    told = {"command": command(), "verdict_sentence": verdict, **shared, "sweep": key, "rows": rows, "fits": fits}
    if out:
        write(out / "report.html", sweep_report(rows, key, strict(told)))
        write(out / "results.json", to_json(told))
        write(out / "run.json", to_json({"command": command(), **shared["manifest"]}))
        note(f"written to {out}")
    return told


def fit_energy(
    source: Any, declaration: Any, rows: Any, method: str, epochs: int | None, options: dict[str, Any], out: Path | None
) -> dict[str, Any]:
    """An energy: trained, judged by a likelihood with both its sides, and kept where a directory is asked for."""
    from . import energy_runs as runs
    from .checkpoint import Checkpoints

    every = options["checkpoint_every"]
    if every is not None and out is None:
        raise InputError("--checkpoint-every needs a directory to keep them in; add --out.")
    about = {"command": command(), "source": asked(source), "method": method, "epochs": epochs, "options": options}
    checkpoints = None if out is None else Checkpoints(out / "checkpoint", 10 if every is None else every, about)
    layers = len(getattr(declaration, "rbms", ()))
    total = (30 if epochs is None else epochs) * (layers if method == "greedy" else 1) + (options["greedy"] or 0) * layers
    with Progress(total, rows.card) as progress:
        shown = [progress, *([History(out)] if out else [])]
        found = runs.train(source, declaration, rows, method, epochs, shown, options, checkpoints)
    return told_of_energy(found, source, rows, command(), out)


def told_of_energy(found: Any, source: Any, rows: Any, asked: str, out: Path | None) -> dict[str, Any]:
    """The results of a trained energy, and its directory where one is asked for."""
    from . import energy_runs as runs

    note(rows.card)
    note(f"device: {found.manifest['device']}, {found.manifest['dtype']}")
    told = runs.results(found, source, asked, runs.judged(found, source.seed, source.device))
    if out:
        from .diagnostics import diagnose

        seen, told["diagnosis"] = diagnose(found, told, str(out), seed=source.seed, device=source.device)
        note(told["diagnosis"]["verdict_sentence"])
        runs.store(out, found, told, source, source.seed, seen)
        note(f"written to {out}")
    return told


def draw(
    source: Any, declaration: Any, rows: Any, draws: int | None, options: dict[str, Any], out: Path | None
) -> dict[str, Any]:
    """Draws by NUTS: summaries of each site, and the draws where a directory is asked for."""
    from .data import describe
    from .files import save_params
    from .mcmc import mcmc, summary

    found = mcmc(
        declaration, rows, engine=source.engine, num_samples=1000 if draws is None else draws, seed=source.seed,
        dtype=options["dtype"], device=source.device,
    )  # fmt: skip
    note(rows.card)
    sites, diverging = summary(found), int(found.diverging.sum())
    chains, count = found.diverging.shape
    verdict = (f"Drew {count} times in each of {chains} chains from the posterior of {len(sites)} sites given "
               f"{rows.name}; {diverging} transitions diverged.")  # fmt: skip
    told = {
        "command": command(), "verdict_sentence": verdict, "model": source.model, "method": "mcmc", "engine": source.engine,
        "data": describe(rows), "sites": sites, "diverging": diverging, "acceptance": found.acceptance.tolist(),
        "seconds": found.seconds, "manifest": found.manifest,
    }  # fmt: skip
    if out:
        out.mkdir(parents=True, exist_ok=True)
        told["settings"] = {name: str(value) for name, value in vars(declaration).items()}
        save_params(out / "draws.safetensors", found.samples)
        save_params(out / "stats.safetensors", {"diverging": found.diverging, "acceptance": found.acceptance})
        write(out / "history.jsonl", "".join(to_json(row, indent=None) + "\n" for row in chain_lines(found)))
        write(out / "results.json", to_json(told))
        write(out / "run.json", to_json({"command": command(), "source": asked(source), **found.manifest}))
        note(f"written to {out}")
    return told


def chain_lines(found: Any) -> list[dict[str, Any]]:
    """What is known of each chain."""
    rows = zip(found.acceptance, found.diverging, strict=True)
    return [{"chain": i, "draws": len(diverging), "acceptance": float(accepted), "diverging": int(diverging.sum())}
            for i, (accepted, diverging) in enumerate(rows)]  # fmt: skip
