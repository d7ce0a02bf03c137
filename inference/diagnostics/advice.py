"""The command to type after a verdict: it mends the worst of what was found, and it works."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..numbers import finite, interval
from .verdict import again

#: Flags of `ppl fit` that another method has no use for.
SVI_FLAGS = ("--estimator", "--batch", "--lr", "--patience", "--bound", "--particles", "--beta", "--anneal", "--restarts",
             "--evaluate", "--epochs", "--method")  # fmt: skip
SAMPLES = 5000  # of the tight bound


def next_step(seen: Mapping[str, Any], told: Mapping[str, Any], run: str, density: int, posterior: int) -> str:
    """The next command; a Python call where no command line made the fit."""
    if not (told.get("command") or "").startswith("ppl fit"):
        return _call(seen, told, density, posterior)
    where, epochs = shlex.quote(run), 2 * max(1, int(finite(told.get("epochs")) if told.get("epochs") else 30))
    shared, own, base = seen["global"] or {}, seen["local"] or {}, seen["density"] or {}
    svi = told.get("method", "svi") == "svi"
    longer = again(told, f"{run}-longer", {"--epochs": str(epochs)})
    if density == 2 and math.isnan(interval(base.get("value"))[0]) and svi:
        lr = finite((told.get("manifest") or {}).get("lr") or 1e-3)
        return again(told, f"{run}-slower", {"--lr": f"{lr / 10:g}"})
    if density:
        return longer if svi else again(told, f"{run}-restarts", {"--restarts": "8"})
    if shared and (posterior == 2 or posterior == 1 and _rough(shared)):
        return by_mcmc(told, f"{run}-mcmc")
    travels = seen["iterates"] is not None and seen["iterates"]["all_but_few"] > seen["iterates"]["limit"]
    if svi and (seen["skipped"] or travels):
        return longer
    if own and posterior == 1 and (base.get("num_samples") or 0) < SAMPLES:
        return f"ppl diagnose {where} --samples {SAMPLES}"
    if posterior == 1 and svi:
        return longer
    if shared:
        return f"ppl diagnose {where} --save"
    return f"ppl sample {where}"


def _rough(shared: Mapping[str, Any]) -> bool:
    return shared["k_hat"] > 0.5 or shared["spread"] > 0.15 or shared["shift"] > 0.25


def by_mcmc(told: Mapping[str, Any], out: str, draws: int | None = None) -> str:
    """The same model and data by NUTS, discrete latents summed out."""
    kept = without(again(told, out, {}), SVI_FLAGS)
    marginal = told.get("settings", {}).get("marginal")
    extra = ["--set", "marginal=true"] if marginal == "False" else []
    return shlex.join([*kept, "--method", "mcmc", *extra, *(["--epochs", str(draws)] if draws else [])])


def without(line: str, flags: Sequence[str]) -> list[str]:
    """The words of a command less these flags with their values, and --alternate."""
    kept, skip = list[str](), False
    for word in shlex.split(line):
        name, sign, _ = word.partition("=")
        if skip or name in flags or word == "--alternate":
            skip = not skip and name in flags and not sign
            continue
        kept.append(word)
    return kept


def _call(seen: Mapping[str, Any], told: Mapping[str, Any], density: int, posterior: int) -> str:
    """What to call from Python."""
    engine = told.get("engine") or "numpyro"
    epochs = 2 * max(1, int(finite(told.get("epochs")) if told.get("epochs") else 30))
    if seen["global"] and posterior and not density:
        return f'inference.mcmc(model, data, engine="{engine}")'
    if posterior == 2 or density or posterior == 1:
        return f'inference.fit(model, data, engine="{engine}", epochs={epochs})'
    return "fit.to_arviz()"
