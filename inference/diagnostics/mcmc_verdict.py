"""Whether draws by MCMC can be relied on: R-hat, effective draws and divergences, in the words of the other verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..files import strict
from ..mixtures import canonical_order, renumber
from ..numbers import number, percent
from .advice import without
from .convergence import chain_rows
from .fit_verdict import FitVerdict
from .verdict import ESS, RHAT, WORDS, again

BAD_RHAT = 1.1  # Gelman and Rubin's own limit: chains in different places
DIVERGED = 0.05  # share of transitions, above which draws miss what they cannot reach; any is a caution (Betancourt 2017)
MOST_DRAWS = 10_000  # a chain, beyond which more are no advice
#: Flags of `ppl fit` that draws have no use for, and the number of draws, which is told anew.
FLAGS = ("--epochs",)


def relabelled(model: Any, samples: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], bool]:
    """Draws (chain, draw, *shape) of a mixture with components in the order of their locations, and whether it is one.

    A posterior is the same under every numbering of exchangeable components: chains that number them differently agree.
    """
    count, locs = getattr(model, "num_components", None), samples.get("locs")
    if count is None or locs is None or locs.ndim != 4 or locs.shape[2] != count:
        return dict(samples), False
    out = {name: np.array(value) for name, value in samples.items()}
    for place in np.ndindex(locs.shape[:2]):
        moved = renumber({name: value[place] for name, value in out.items()}, canonical_order(locs[place]), count)
        for name, value in moved.items():
            out[name][place] = value
    return out, True


def draws_numbers(samples: Mapping[str, np.ndarray], diverging: int, model: Any = None) -> dict[str, Any]:
    """R-hat, ESS and the like of every coordinate of draws (chain, draw, *shape), components of a mixture renumbered."""
    ordered, mixture = relabelled(model, samples)
    chains, draws = next(iter(samples.values())).shape[:2]
    return {"observables": chain_rows(ordered), "chains": chains, "draws": draws, "diverging": diverging,
            "renumbered": mixture, "finite": all(bool(np.isfinite(v).all()) for v in samples.values())}  # fmt: skip


def draws_verdict(seen: Mapping[str, Any], told: Mapping[str, Any], run: str = "RUN") -> FitVerdict:
    """The verdict on draws.

    Args:
        seen: What `draws_numbers` says.
        told: Results of the run, for advice: command, model.
        run: The directory of the run.
    """
    word, clause, reasons = as_posterior(seen)
    return FitVerdict(WORDS[word], "draws are of the posterior and no held-out value is computed", clause, tuple(reasons),
                      advice(seen, told, run, word), strict(seen))  # fmt: skip


def as_posterior(seen: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """The index of the word, the clause and the reasons."""
    rows = [row for row in seen["observables"] if not math.isnan(row["rhat"])]
    if not seen["finite"]:
        return 2, "its draws are not finite", ["Some draws are not finite numbers."]
    if not rows:
        return 2, "nothing moves", ["No chain moved at all: every draw is the first one."]
    worst = max(rows, key=lambda row: row["rhat"])
    least = min(rows, key=lambda row: min(row["ess_bulk"], row["ess_tail"]))
    each, total = min(least["ess_bulk"], least["ess_tail"]) / seen["chains"], seen["chains"] * seen["draws"]
    split = f"{worst['rhat']:.3f}" if math.isfinite(worst["rhat"]) else "infinite"
    clause = (f"R-hat is at most {split} ({worst['name']}), {number(each)} effective draws a chain are the fewest "
              f"({least['name']}) and {seen['diverging']} of {number(total)} transitions diverged")  # fmt: skip
    word, reasons = 0, list[str]()
    if not worst["rhat"] <= RHAT:
        word = 1 if worst["rhat"] <= BAD_RHAT else 2
        what = "the chains have not forgotten where they began" if word == 1 else "the chains are in different places"
        reasons.append(f"R-hat of {worst['name']} is {split}, above {RHAT if word == 1 else BAD_RHAT}: {what}.")
    if not each >= ESS:
        word = max(word, 1)
        reasons.append(f"{least['name']} has {number(each)} effective draws a chain, fewer than {ESS:.0f}.")
    if seen["diverging"]:
        share = seen["diverging"] / total
        word = max(word, 2 if share > DIVERGED else 1)
        reasons.append(f"{percent(share)} of transitions diverged: where they did, the posterior is narrower than a step, and "
                       "draws may miss it.")  # fmt: skip
    return word, clause, reasons


def advice(seen: Mapping[str, Any], told: Mapping[str, Any], run: str, word: int) -> str:
    """More draws, another parametrisation's worth of luck, or the file for ArviZ."""
    if not (told.get("command") or "").startswith("ppl fit"):
        return "inference.mcmc(model, data, num_samples=4000)" if word else "draws.to_arviz()"
    if word == 0:
        return f"ppl diagnose {run} --save"
    if seen["draws"] < MOST_DRAWS and not seen["diverging"]:
        return again(told, f"{run}-longer", {"--epochs": str(min(MOST_DRAWS, 4 * seen["draws"]))})
    import shlex

    seed = int((told.get("manifest") or {}).get("seed") or 0) + 1
    kept = without(again(told, f"{run}-float64", {"--dtype": "float64", "--seed": str(seed)}), FLAGS)
    return shlex.join([*kept, "--epochs", str(seen["draws"])])
