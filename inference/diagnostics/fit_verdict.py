"""Whether a fit with latent variables can be relied on, as a density and as a posterior: `trust`, `caution` or `do not use`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..files import strict
from ..numbers import finite, interval, number, percent
from ..svi import Fit
from .advice import next_step
from .convergence import RHAT
from .posterior import Posterior, numbers, posterior
from .verdict import WORDS, Word

# The thresholds, all of them. Those of k-hat are Vehtari et al. 2024, section 3: finite variance below ½, of no use above
# 0.7. For the best factorised q of a pair of normals, k is the size of their correlation: q is trusted below ½, where its sds
# are 13 % too small. R-hat is Dhaka et al. 2020, section 3.1. The others are the house's own.
GOOD_K = 0.5  # of global latents, at most, for trust
BAD_K = 0.7  # of global latents, above which they are not to be used
OWN_SHARE = 0.25  # of rows whose own latents have k-hat above min(1 − 1 / log₁₀ S, 0.7): of 1,000 draws it is told to 0.15
SHIFT = 0.25  # of corrected from raw means, in sds
SPREAD = 0.15  # |log| of raw over corrected sds: what k = ½ means for a pair
LOO_K = 0.7  # of leaving one row out
NOISE = 0.5  # nats, sd of global weights by the draws of local latents, above which k-hat tells of the noise
RESTARTS = RHAT  # of draws over restarts, the worst coordinate
TIGHT = 5e-3  # nats: a gap that is less is rounding, and not told


@dataclass(frozen=True)
class FitVerdict:
    """The worse of both judgements.

    Attributes:
        word: "trust", "caution" or "do not use".
        density: What was found of p(x), a clause.
        posterior: What was found of the latents' posterior, a clause.
        reasons: Why it is not "trust", one sentence each; empty if it is.
        next: The command to type next; a Python call where no command line made the fit.
        numbers: What it stands on, as JSON knows it.
    """

    word: Word
    density: str
    posterior: str
    reasons: tuple[str, ...]
    next: str
    numbers: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def sentences(self) -> str:
        """Two: what was found, and what to do."""
        first = f"{self.word[0].upper()}{self.word[1:]}: as a density, {self.density}; as a posterior, {self.posterior}."
        return f"{first} Next, type `{self.next}`."


def verdict_of(fit: Fit, *, samples: int | None = 100, run: str = "RUN", told: Mapping[str, Any] | None = None,
               **settings: Any) -> FitVerdict:  # fmt: skip
    """Judge a fit.

    Args:
        fit: By stochastic variational inference, coordinate ascent or EM.
        samples: Importance samples a held-out row of log p(x), where rows have latents of their own; 5,000 for the tight
            bound, None for none.
        run: The directory that the next command names.
        told: Its results, as results.json holds them; taken from the fit if left out.
        settings: Those of `posterior`: draws, rows, own_draws, seed, device.

    Raises:
        InputError: The fit has no density, or a setting cannot be used.
        NumericalError: A draw or log p(x) of a row is not finite.
    """
    found = posterior(fit, samples=samples, **settings)
    return judge(told_of(fit) if told is None else told, found, run)


def told_of(fit: Fit) -> dict[str, Any]:
    """What results.json would say of a fit, as far as the verdict asks."""
    return strict({
        "heldout_elbo": fit.heldout_elbo, "heldout_log_likelihood": fit.heldout_log_likelihood, "baseline": fit.baseline,
        "epochs": fit.history[-1]["epoch"] if fit.history else None, "skipped": getattr(fit, "skipped", 0),
        "restarts": fit.restarts, "stopped": fit.stopped, "engine": fit.engine, "manifest": fit.manifest,
    })  # fmt: skip


def judge(told: Mapping[str, Any], found: Posterior, run: str = "RUN") -> FitVerdict:
    """The verdict on what was found; see `verdict_of`."""
    seen = {**density_numbers(told, found), **numbers(found), "skipped": int(told.get("skipped") or 0)}
    return of_numbers(seen, told, run)


def of_numbers(seen: Mapping[str, Any], told: Mapping[str, Any], run: str = "RUN") -> FitVerdict:
    """The verdict from numbers alone."""
    first, density, why_density = as_density(seen)
    second, clause, why_posterior = as_posterior(seen)
    reasons = [*why_density, *why_posterior]
    if seen["skipped"]:
        reasons.append(f"{seen['skipped']} steps of training were skipped, because their gradients were not finite.")
    word = WORDS[max(first, second, 1 if seen["skipped"] else 0)]
    return FitVerdict(word, density, clause, tuple(reasons), next_step(seen, told, run, first, second), strict(seen))


def density_numbers(told: Mapping[str, Any], found: Posterior) -> dict[str, Any]:
    """`density`, the tightest value of held-out log p(x) that there is, and how latents are used."""
    judged = strict(found.evaluation) if found.evaluation is not None else told.get("evaluation")
    base, elbo, exact = told.get("baseline"), told.get("heldout_elbo"), told.get("heldout_log_likelihood")
    value, name = (exact, "log p(x)") if exact else (elbo, "ELBO")
    out: dict[str, Any] = {"gap": None, "num_samples": None, "rows": None}
    if judged:
        value, name = judged["log_likelihood"], judged["bound"]
        out = {key: judged.get(key) for key in ("gap", "num_samples", "rows", "shortfall", "effective_samples", "elbo")}
    used = {key: (judged or {}).get(key) or {} for key in ("active_units", "variances", "kl")}
    units = {site: int(np.size(each)) for site, each in used["variances"].items()}
    density = None if value is None and name == "ELBO" else {"name": name, "value": value, "baseline": base, **out}
    return {"density": density, "active_units": used["active_units"], "units": units}


def as_density(seen: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """The index of the word, the clause and the reasons."""
    told, shared = seen["density"], seen["global"] or {}
    if told is None:
        loo = shared.get("loo")
        if loo is None:
            return 0, "no held-out value of p(x) is defined", []
        return 0, f"leave-one-out log p(x) is about {number(loo)} nats per datum", []
    (value, low, _), base = interval(told["value"]), interval(told["baseline"])[0]
    if not math.isfinite(value):
        return 2, f"its held-out {told['name']} is not a finite number", [
            f"Held-out {told['name']} is not a finite number: training diverged."]  # fmt: skip
    against = "" if math.isnan(base) else f" against {number(base)} for independent pixels"
    gap = interval(told.get("gap"))[0]
    short = f", {number(gap)} above the ELBO" if abs(gap) >= TIGHT and told["name"] != "ELBO" else ""
    text = f"held-out {told['name']} is {number(value)} nats per datum{short}{against}"
    if value < base:
        worse = f"worse than the {number(base)} of independent pixels"
        return 2, text, [f"Held-out {told['name']} is {number(value)} nats, {worse}."]
    if low < base:
        return 1, text, [f"The interval of held-out {told['name']} reaches down to {number(low)}, below independent pixels."]
    return 0, text, []


def as_posterior(seen: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """The index of the word, the clause and the reasons."""
    word, clauses, reasons = 0, list[str](), list[str]()
    for part in (_shared, _own, _settled, _collapsed):
        index, clause, why = part(seen)
        word, reasons = max(word, index), [*reasons, *why]
        clauses += [clause] if clause else []
    if seen["point"]:
        clauses.append(f"EM ({seen['point']}) found parameters as a point, so that it is judged as a density only")
    if seen["unknown"]:
        word, clauses = max(word, 1), [*clauses, "it cannot be weighed"]
        reasons.append(f"The posterior is not judged: {seen['unknown']}")
    return word, ", ".join(clauses) or "there are no latents to judge", reasons


def _shared(seen: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """The global latents."""
    told = seen["global"]
    if told is None:
        return 0, "", []
    if not told["finite"]:
        why = f"log p − log q of {_listed(told['sites'])} is not finite for some draws: q reaches where p is zero or undefined."
        return 2, "weights of the global latents are not finite", [why]
    if told["noise"] > NOISE:
        return 1, "k-hat of the global latents cannot be told", [
            f"The draws of local latents put {number(told['noise'])} nats of noise on the weights of the global ones: k-hat "
            "would be that of the noise."]  # fmt: skip
    k, error, reasons, word = told["k_hat"], told["k_hat_error"], [], 0
    text = f"{_k(k)} ± {error:.2f}" if math.isfinite(k) else "infinite"
    clause = f"k-hat of the global latents is {text}"
    if not k <= BAD_K:
        why = "q is too narrow or in the wrong place, and no reweighting of its draws mends that"
        return 2, clause, [f"k-hat of {_listed(told['sites'])} is {text}, above {BAD_K}: {why}."]
    if k > GOOD_K:
        word, reasons = 1, [f"k-hat of {_listed(told['sites'])} is {text}, above {GOOD_K}: q is a rough copy of the posterior."]
    if told["shift"] > SHIFT:
        word = 1
        moved = f"The mean of {told['shift_at']} moves by {number(told['shift'])} sds"
        reasons.append(f"{moved} when draws are reweighted: use the corrected means.")
    if told["spread"] > SPREAD:
        row = next(row for row in told["coordinates"] if row["name"] == told["spread_at"])
        ratio = row["raw_sd"] / row["sd"] if row["sd"] else math.inf
        word = 1
        reasons.append(f"The sd of {told['spread_at']} under q is {number(ratio)} times the corrected one.")
    worst = finite(told["loo_k_max"])
    if worst > LOO_K and told["loo_share_above"] > 0:
        word = 1
        reasons.append(f"Leaving single rows out has k-hat up to {_k(worst)}: leave-one-out values are unreliable for "
                       f"{percent(told['loo_share_above'])} of rows.")  # fmt: skip
    return word, clause, reasons


def _own(seen: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """Latents of the rows themselves: at most a caution, since the bound and L_K judge what the model is used for."""
    told = seen["local"]
    if told is None or seen["point"]:
        return 0, "", []
    share = f"{percent(told['share_above'])} of {told['rows']} rows" if told["share_above"] else f"none of {told['rows']} rows"
    clause = f"k-hat is above {told['threshold']:.2f} for {share}"
    if told["share_above"] > OWN_SHARE:
        why = f"k-hat of their latents is above {told['threshold']:.2f}; take codes as rough, and log p(x) from many samples"
        return 1, clause, [f"q(z | x) is too narrow or misplaced for {share}: {why}."]
    return 0, clause, []


def _settled(seen: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """Restarts and iterates."""
    reasons, clauses = [], []
    if seen["restarts"] is not None:
        r = seen["restarts"]["rhat"]
        clauses.append(f"R-hat over restarts is {_r(r)}")
        if r > RESTARTS:
            reasons.append(f"R-hat of {seen['restarts']['at']} over restarts is {_r(r)}, above {RESTARTS}: other starts end in "
                           "other approximations (renumbered components count as others).")  # fmt: skip
    if seen["iterates"] is not None:
        r, limit = seen["iterates"]["all_but_few"], seen["iterates"]["limit"]
        if r > limit:
            reasons.append(f"R-hat of the last iterates is above {limit:.2f} for more than a twentieth of the parameters "
                           f"(up to {_r(seen['iterates']['rhat'])}): they still travel.")  # fmt: skip
    return (1 if reasons else 0), ", ".join(clauses), reasons


def _collapsed(seen: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """Latents that say nothing of the data."""
    units = {site: size for site, size in seen["units"].items() if size}
    dead = [site for site in units if seen["active_units"].get(site) == 0]
    active = {site: seen["active_units"].get(site, 0) for site in units}
    told = ", ".join(f"{active[site]} of {size} units of {site} are active" for site, size in units.items())
    return (1 if dead else 0), told, [f"No unit of {site} is active: its q is the same for every row (posterior collapse)."
                                      for site in dead]  # fmt: skip


def _k(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _r(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "infinite"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
