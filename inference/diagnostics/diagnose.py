"""`ppl diagnose`: what the chains of a trained energy do, and the verdict with its reasons and the next command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_models import CATALOGUE, InputError

from ..checks import check_settings
from ..files import strict
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


def of_run(run: Path, chains: int = CHAINS, draws: int = DRAWS, seed: int = 0, data_dir: str | None = None) -> dict[str, Any]:
    """The diagnosis of a run's directory; its chains go on from those it keeps, its likelihood is the one it found.

    Raises:
        InputError: The directory holds no run, or not that of an energy.
    """
    from ..energy_runs import from_run
    from ..runs import reopen

    if str(run) in CATALOGUE and not run.exists():
        raise InputError(f"expected the directory of a fit, got the model '{run}'; fit it first: "
                         f"ppl fit {run} --out runs/{run}, then ppl diagnose runs/{run}.")  # fmt: skip
    check_settings(seed=seed)
    fit = reopen(run, data_dir)
    if not hasattr(fit.model, "energy"):
        raise InputError(f"{run} is the fit of {type(fit.model).__name__}, and only energies are diagnosed so far; look at its "
                         "report.html.")  # fmt: skip
    try:
        told = json.loads((run / "results.json").read_text(encoding="utf-8"))
        known = {name: told[name] for name in ("heldout_log_likelihood", "likelihood", "baseline")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / 'results.json'} is not that of an energy ({error}); fit again with --out.") from None
    _, found = diagnose(from_run(fit, run), told, str(run), chains=chains, draws=draws, seed=seed)
    return {"run": str(run), "model": told.get("model"), "engine": fit.engine, "seed": seed, **found, **known}
