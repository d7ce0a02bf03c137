"""`ppl diagnose`: whether a run can be relied on, with reasons and the next command, for every kind of run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_models import CATALOGUE, InputError

from ..checks import check_settings
from ..files import load_params, strict, write
from .observe import CHAINS, DRAWS, Observed, observe
from .summary import summary
from .verdict import verdict


def diagnose(
    found: Any, told: Mapping[str, Any], run: str = "RUN", *, chains: int = CHAINS, draws: int = DRAWS, seed: int = 0,
    device: str | None = None,
) -> tuple[Observed, dict[str, Any]]:  # fmt: skip
    """What was observed, and what is made of it: `verdict`, `reasons`, `next`, the two sentences and the numbers.

    Args:
        found: An `EnergyFit`.
        told: Its results, as results.json holds them.
        run: The directory that the next command names.
        chains: How many; see `observe`.
        draws: Of each chain.
        seed: Of everything random.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
    """
    seen = observe(found, chains=chains, draws=draws, seed=seed, device=device)
    numbers = summary(seen, found.data.x)
    judged = verdict(strict(told), numbers, run)
    return seen, {"verdict": judged.word, "reasons": list(judged.reasons), "next": judged.next,
                  "verdict_sentence": judged.sentences, **numbers}  # fmt: skip


def of_run(
    run: Path, chains: int | None = None, draws: int | None = None, seed: int = 0, data_dir: str | None = None,
    samples: int | None = None, save: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The diagnosis of a run's directory, by what kind of fit it holds: an energy, draws by MCMC, or a fit of a guide or by EM.

    A page, diagnosis.html, is put into the directory (an energy's is in its report).

    Args:
        run: The directory.
        chains: Of an energy: how many go on from those it keeps; 8 if left out.
        draws: Of an energy: states of each chain, 500 if left out. Of a guide: draws of global latents.
        seed: Of everything random.
        data_dir: Where data sets lie.
        samples: Importance samples a held-out row of log p(x); what the run found, or 100, if left out.
        save: Write posterior.nc, which ArviZ reads, into the directory too.

    Raises:
        InputError: The directory holds no run that can be diagnosed, or an option does not go with it.
    """
    if str(run) in CATALOGUE and not run.exists():
        raise InputError(f"expected the directory of a fit, got the model '{run}'; fit it first: "
                         f"ppl fit {run} --out runs/{run}, then ppl diagnose runs/{run}.")  # fmt: skip
    check_settings(seed=seed)
    if (bundle := run / "nonfinite" / "nonfinite.json").is_file() and not (run / "run.json").is_file():
        try:
            why = str(json.loads(bundle.read_text(encoding="utf-8"))["sentence"])
        except (OSError, ValueError, KeyError, TypeError):
            why = f"fit again; {bundle} cannot be read."
        raise InputError(f"{run} holds a fit that did not end: {why}")
    if (run / "draws.safetensors").is_file():
        refuse({"--chains": chains, "--draws": draws, "--samples": samples}, "draws by MCMC, which are judged as they are")
        return of_draws(run, seed, data_dir, save)
    from ..runs import reopen

    fit = reopen(run, data_dir)
    if hasattr(fit.model, "energy"):
        refuse({"--samples": samples, "--save": save or None}, "an energy, whose likelihood is the one it found")
        return of_energy(fit, run, CHAINS if chains is None else chains, DRAWS if draws is None else draws, seed)
    refuse({"--chains": chains}, "a fit without chains")
    return of_fit(fit, run, draws, seed, samples, save)


def refuse(options: Mapping[str, Any], what: str) -> None:
    """Raise `InputError` naming the first option that was given though the run has no use for it."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} is not for {what}; leave it out.")


def results_of(run: Path) -> dict[str, Any]:
    """What results.json holds.

    Raises:
        InputError: It is missing or holds no JSON object.
    """
    try:
        told = json.loads((run / "results.json").read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise TypeError("it holds no object")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{run / 'results.json'} cannot be read ({error}); fit again with --out.") from None
    return told


def of_energy(fit: Any, run: Path, chains: int, draws: int, seed: int) -> dict[str, Any]:
    """Its chains go on from those it keeps, its likelihood is the one it found."""
    from ..energy_runs import from_run

    told = results_of(run)
    try:
        known = {name: told[name] for name in ("heldout_log_likelihood", "likelihood", "baseline")}
    except KeyError as error:
        raise InputError(f"{run / 'results.json'} is not that of an energy ({error}); fit again with --out.") from None
    _, found = diagnose(from_run(fit, run), told, str(run), chains=chains, draws=draws, seed=seed)
    return {"run": str(run), "model": told.get("model"), "engine": fit.engine, "seed": seed, **found, **known}


def of_fit(fit: Any, run: Path, draws: int | None, seed: int, samples: int | None, save: bool) -> dict[str, Any]:
    """A guide's draws are weighed; a fit by EM is judged as a density."""
    from ..diagnosis_page import fit_page
    from .fit_verdict import judge
    from .posterior import posterior

    told = results_of(run)
    count = samples if samples is not None or told.get("evaluation") else 100
    found = posterior(fit, draws=draws, samples=count, seed=seed)
    judged = judge(told, found, str(run))
    write(run / "diagnosis.html", fit_page(judged, found, told))
    if save:
        to_file(fit, run)
    return told_of(judged, run, told, fit.engine, seed)


def of_draws(run: Path, seed: int, data_dir: str | None, save: bool) -> dict[str, Any]:
    """Draws by MCMC, as the run keeps them."""
    from ..diagnosis_page import draws_page
    from .mcmc_verdict import draws_numbers, draws_verdict, relabelled

    told, samples = results_of(run), load_params(run / "draws.safetensors")
    model, data = opened(run, data_dir)
    judged = draws_verdict(draws_numbers(samples, int(told.get("diverging") or 0), model), told, str(run))
    write(run / "diagnosis.html", draws_page(judged, relabelled(model, samples)[0], told))
    if save:
        to_file(kept_draws(run, told, samples, model, data), run)
    return told_of(judged, run, told, str(told.get("engine")), seed)


def opened(run: Path, data_dir: str | None) -> tuple[Any, Any]:
    """The declaration and the data of a run of draws; None of one that an older version wrote, which names none.

    Raises:
        InputError: What the directory names cannot be opened.
    """
    from ..source import source_of

    try:
        asked = json.loads((run / "run.json").read_text(encoding="utf-8")).get("source")
        if asked is None:
            return None, None
        source = source_of(asked, data_dir)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{run / 'run.json'} is not that of a fit ({error}); fit again with --out.") from None
    return source.open()


def to_file(found: Any, run: Path) -> None:
    """posterior.nc, which ArviZ reads."""
    from .fit_tree import save, to_arviz

    save(to_arviz(found), run / "posterior.nc")


def kept_draws(run: Path, told: Mapping[str, Any], samples: Any, model: Any, data: Any) -> Any:
    """Draws by MCMC as they were found.

    Raises:
        InputError: An older version wrote the run, without what is needed.
    """
    from ..mcmc import Draws

    file = run / "stats.safetensors"
    if model is None or not file.is_file():
        raise InputError(f"{run} does not keep which transitions diverged; fit again with --out.")
    stats = load_params(file)
    seconds, about = float(told.get("seconds") or 0), dict(told.get("manifest") or {})
    return Draws(samples, stats["diverging"], stats["acceptance"], seconds, about, model, str(told.get("engine")), data)


def told_of(judged: Any, run: Path, told: Mapping[str, Any], engine: str, seed: int) -> dict[str, Any]:
    """The verdict, its reasons and numbers, as JSON knows it."""
    return {
        "run": str(run), "model": told.get("model"), "engine": engine, "method": told.get("method"), "seed": seed,
        "verdict": judged.word, "reasons": list(judged.reasons), "next": judged.next, "verdict_sentence": judged.sentences,
        **judged.numbers,
    }  # fmt: skip
