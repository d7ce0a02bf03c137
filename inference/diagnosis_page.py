"""The page of `ppl diagnose`: the verdict, why, and what it stands on, as one html file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import fit_plots, plots, posterior_plots
from .diagnostics.convergence import RHAT
from .diagnostics.fit_verdict import BAD_K, GOOD_K, TIGHT, FitVerdict
from .diagnostics.posterior import Posterior
from .files import strict
from .numbers import finite, number, percent
from .report import _facts, _render, _threshold, _used, nats

_K = ("k-hat says how heavy the tail is of the weights p / q of draws from q: at 0 q is the posterior, below 0.5 its draws "
      "stand for it, above 0.7 no reweighting makes them. ")  # fmt: skip
_OWN = "Each row's own latents, given the row. Rows right of the line have a q(z | x) that is too narrow or misplaced."
_LOO = "Leaving out one row at a time, q reweighted to the posterior: rows right of the line change it too much to tell."
_MEANS = ("Posterior means, with bars of two sds: under q, and with q's draws reweighted to p. Bars that agree are what you "
          "want; where they do not, use the second, unless k-hat is above 0.7.")  # fmt: skip
_RHAT = ("R-hat compares parts that should be alike: 1 is best. Over restarts: draws of q from different starts. Over "
         "iterates: the parameters in the last epochs of training; what is right of the line still travels.")  # fmt: skip
_RANKS = ("The coordinate with the largest R-hat. Left, chains should cross each other again and again. Right, for each chain, "
          "how often it stands low or high among all: flat bars in the grey band mean that all see one law.")  # fmt: skip
LINES = 10  # of a table
_KINDS = {"trust": "unbiased", "caution": "inconclusive", "do not use": "biased"}  # classes of colour


def judged(verdict: FitVerdict) -> dict[str, Any]:
    """The verdict for the head of the page."""
    rest = f"as a density, {verdict.density}; as a posterior, {verdict.posterior}."
    word = verdict.word[0].upper() + verdict.word[1:]
    return {"word": word, "kind": _KINDS[verdict.word], "rest": rest, "reasons": verdict.reasons, "next": verdict.next}


def headline(verdict: FitVerdict, model: str) -> str:
    """The verdict in words a newcomer knows."""
    return {
        "trust": f"{model}: nothing speaks against this fit.",
        "caution": f"{model}: usable, with care.",
        "do not use": f"{model}: do not use this fit.",
    }[verdict.word]


def fit_page(verdict: FitVerdict, found: Posterior, told: Mapping[str, Any]) -> str:
    """Of a fit by variational inference, coordinate ascent or EM.

    Args:
        verdict: What was made of it.
        found: What it stands on.
        told: Results of the run.
    """
    seen = verdict.numbers
    shared, own, density = seen["global"] or {}, seen["local"] or {}, seen["density"] or {}
    limit = finite(own.get("threshold")) if own else BAD_K
    used = strict(found.evaluation) if found.evaluation is not None else told.get("evaluation") or {}
    settled = {"over restarts": found.restarts, "over iterates": found.iterates}
    page = [
        ("Do draws of each row's latents stand for their posterior?", _K + _OWN,
         plots.svg(posterior_plots.k_hats, {"rows": found.own_k}, limit) if not found.point else ""),
        ("Posterior means, raw and corrected", _MEANS, plots.svg(posterior_plots.means, shared.get("coordinates") or [])),
        ("Can rows be left out?", _K + _LOO, plots.svg(posterior_plots.k_hats, {"rows": found.loo_k}, BAD_K)),
        ("Has it come to rest?", _RHAT, plots.svg(
            posterior_plots.rhats, {name: split.rhat for name, split in settled.items() if split is not None},
            found.iterates.limit if found.iterates is not None else RHAT)),
        ("Latent dimensions", _used(used), plots.svg(
            fit_plots.usage, used.get("kl") or {}, used.get("variances") or {}, _threshold(used))),
    ]  # fmt: skip
    facts = [
        ("Held-out density", _density(density)),
        ("Independent pixels", f"{nats(density.get('baseline'))} nats per datum: what columns without any link reach"),
        ("Above the ELBO by", f"{nats(density.get('gap'))} nats per datum: how far q(z | x) is from the posterior, KL(q ‖ p)"),
        ("Global latents", _shared(shared)),
        ("Latents of rows", "–" if found.point else _own(own)),
        ("Leave-one-out log p(x)", f"{number(shared.get('loo'))} nats per datum, {shared.get('loo_rows')} rows"),
        ("Skipped steps", number(int(seen["skipped"])) if seen["skipped"] else "–"),
    ]  # fmt: skip
    if abs(finite((density.get("gap") or {}).get("value"))) < TIGHT:
        facts[2] = ("Above the ELBO by", "0: q(z | x) is the posterior")
    facts = [fact for fact in facts if not fact[1].startswith("–")]
    return _page(verdict, told, facts, page, _listing(shared))


def _density(told: Mapping[str, Any]) -> str:
    if not told:
        return "–"
    what = {"ELBO": ", a lower bound on log p(x) by one sample a row", "log p(x)": ""}.get(
        told["name"], f", a lower bound on log p(x) by {number(told['num_samples'])} importance samples a row")  # fmt: skip
    return f"{nats(told['value'])} nats per datum: {told['name']}{what}"


def _shared(told: Mapping[str, Any]) -> str:
    if not told:
        return "–"
    k = f"{told['k_hat']:.2f} ± {told['k_hat_error']:.2f}" if told["k_hat"] is not None else "infinite"
    return (f"{', '.join(told['sites'])}: k-hat {k} of {number(told['draws'])} draws (below {GOOD_K} is good, above {BAD_K} "
            "is bad)")  # fmt: skip


def _own(told: Mapping[str, Any]) -> str:
    if not told:
        return "–"
    return (f"{', '.join(told['sites'])}: k-hat above {told['threshold']:.2f} in {percent(told['share_above'])} of "
            f"{told['rows']} rows, median {number(told['median'])}, {number(told['draws'])} draws each")  # fmt: skip


def _listing(shared: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of the posterior means that differ most."""
    every = [row for row in shared.get("coordinates") or [] if row["mean"] is not None]
    if not every:
        return None
    rows = sorted(every, key=lambda row: -abs(row["mean"] - row["raw_mean"]) / max(row["raw_sd"], 1e-300))[:LINES]
    title = "Global latents" + (f", the {len(rows)} of {len(every)} that change most" if len(every) > len(rows) else "")
    cells = [[(row["name"], ""), *((number(row[key]), "") for key in ("raw_mean", "raw_sd", "mean", "sd"))] for row in rows]
    return {"title": title, "columns": ["coordinate", "mean of q", "sd of q", "corrected mean", "corrected sd"], "rows": cells}


def draws_page(verdict: FitVerdict, samples: Mapping[str, np.ndarray], told: Mapping[str, Any]) -> str:
    """Of draws by MCMC.

    Args:
        verdict: What was made of them.
        samples: By site, (chain, draw, *shape), components of a mixture renumbered.
        told: Results of the run.
    """
    from .diagnostics.tree import ranks

    seen = verdict.numbers
    rows, chains = seen["observables"], seen["chains"]
    known = [(i, row) for i, row in enumerate(rows) if row["rhat"] is not None]
    drawn = ""
    if known:
        place, worst = max(known, key=lambda item: item[1]["rhat"])
        flat = np.concatenate([np.reshape(v, (*v.shape[:2], -1)) for v in samples.values()], -1)[..., place]
        drawn = plots.svg(posterior_plots.rank_plots, flat, ranks(flat), worst["name"], finite(worst["ess_bulk"]))
    shown = sorted(rows, key=lambda row: -(finite(row["rhat"]) if row["rhat"] is not None else 1e9))[:LINES]
    cells = [
        [(row["name"], ""), (number(row["mean"]), f"sd {number(row['sd'])}"),
         ("–" if row["rhat"] is None else f"{row['rhat']:.3f}", ""),
         *((number(finite(row[key]) / chains), "") for key in ("ess_bulk", "ess_tail"))]
        for row in shown
    ]  # fmt: skip
    title = f"{chains} chains, {number(seen['draws'])} draws of each"
    title += f", the {len(shown)} worst of {len(rows)} coordinates" if len(rows) > len(shown) else ""
    listing = {"title": title, "columns": ["coordinate", "mean", "R-hat", "effective draws a chain", "of the tails"],
               "rows": cells}  # fmt: skip
    facts = [("Diverged", f"{number(int(seen['diverging']))} of {number(chains * seen['draws'])} transitions")]
    if seen["renumbered"]:
        facts.append(("Components", "numbered by their locations in every draw, since chains number them as they like"))
    spread = {"coordinates": np.array([finite(row["rhat"]) for row in rows])}
    page = [("Do the chains agree?", _RANKS, drawn),
            ("R-hat of all coordinates", "1 is best; right of the line chains have not forgotten where they began.",
             plots.svg(posterior_plots.rhats, spread, 1.01))]  # fmt: skip
    return _page(verdict, told, facts, page, listing)


def _page(verdict: FitVerdict, told: Mapping[str, Any], facts: Any, page: Any, listing: Any) -> str:
    results = {**told, "verdict_sentence": headline(verdict, str(told.get("model") or "model"))}
    return _render(results, [*facts, *_facts(results)], page, {}, None, listing=listing, judged=judged(verdict))
