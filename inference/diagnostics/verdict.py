"""Whether a trained energy can be relied on, as a density and as a sampler: `trust`, `caution` or `do not use`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..numbers import finite, interval, number

Word = Literal["trust", "caution", "do not use"]
WORDS: tuple[Word, ...] = ("trust", "caution", "do not use")

# The thresholds, all of them. R-hat and ESS are Vehtari et al. 2021, section 4; the others are the house's own.
RHAT = 1.01  # at most, of every observable
ESS = 100.0  # at least, a chain, bulk and tail
SIDES = 0.5  # nats by which log p(x) may differ between forward and reverse annealing
STUCK = 0.01  # share of the units that vary in the data and never move in the chains
VARIES = 0.05  # a unit varies in the data if its mean is this far from both ends
LONGEST = 2000  # draws of a chain beyond which longer chains are no advice


@dataclass(frozen=True)
class Verdict:
    """The worse of both judgements.

    Attributes:
        word: "trust", "caution" or "do not use".
        density: What was found of p(x), a clause.
        sampler: What was found of the chains, a clause.
        reasons: Why it is not "trust", one sentence each; empty if it is.
        next: The command to type next.
    """

    word: Word
    density: str
    sampler: str
    reasons: tuple[str, ...]
    next: str

    @property
    def sentences(self) -> str:
        """Two: what was found, and what to do."""
        first = f"{self.word[0].upper()}{self.word[1:]}: as a density, {self.density}; as a sampler, {self.sampler}."
        return f"{first} Next, type `{self.next}`."


def verdict(told: Mapping[str, Any], chains: Mapping[str, Any], run: str = "RUN") -> Verdict:
    """From the results of a run, and what `summary` says of its chains.

    Args:
        told: As results.json: `heldout_log_likelihood`, `likelihood`, `baseline`; for advice `command`, `epochs`, `manifest`.
        chains: `observables`, `chains`, `draws`, `stuck_share` and `trips`, as `summary` gives them.
        run: The directory of the run.
    """
    first, density, why_density = as_density(told)
    second, sampler, why_sampler = as_sampler(chains)
    word = WORDS[max(first, second)]
    return Verdict(word, density, sampler, (*why_density, *why_sampler), advice(told, chains, run, first, second))


def as_density(told: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """The index of the word, the clause and the reasons."""
    judged, base = told.get("likelihood"), finite((told.get("baseline") or {}).get("value"))
    if judged is None:
        text = "its log p(x) is not computed (hidden units on a graph)"
        return 1, text, ["log p(x) of hidden units on a graph is not computed, so nothing says how well the model fits."]
    value, low, _ = interval(told.get("heldout_log_likelihood"))
    if not math.isfinite(value):
        return 2, "its log p(x) is not a finite number", ["Held-out log p(x) is not a finite number: training diverged."]
    against = "" if math.isnan(base) else f" against {number(base)} for independent pixels"
    text = f"held-out {judged.get('bound') or 'log p(x)'} is {number(value)} nats{against}"
    if value < base:
        return 2, text, [f"Held-out log p(x) is {number(value)} nats, worse than the {number(base)} of independent pixels."]
    reasons = []
    sides = [finite(side) for side in (judged.get("sides") or {}).values()]
    if sides:
        gap = max(sides) - min(sides) if all(map(math.isfinite, sides)) else math.nan
        text += f" (sides of log Z {number(gap)} apart)"
        if math.isnan(gap):
            reasons.append("One of the two sides of log Z is not a finite number.")
        elif gap > SIDES:
            reasons.append(f"The two sides of log Z are {number(gap)} nats apart, more than {SIDES}: one of them is wrong.")
        elif min(sides) < base:
            reasons.append("One side of log Z puts log p(x) below independent pixels.")
    if not reasons and low < base:
        reasons.append(f"The interval of log p(x) reaches down to {number(low)}, below independent pixels.")
    return (1 if reasons else 0), text, reasons


def as_sampler(chains: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """The index of the word, the clause and the reasons."""
    seen: Sequence[Mapping[str, Any]] = [row for row in chains["observables"] if not math.isnan(row["rhat"])]
    if any(not math.isfinite(row["mean"]) for row in chains["observables"]):
        return 2, "its energies are not finite", ["The chains reached energies that are not finite numbers."]
    if not seen:
        return 2, "nothing moves", ["No chain moved at all: every state is the first one."]
    worst = max(seen, key=lambda row: row["rhat"])
    least = min(seen, key=lambda row: min(row["ess_bulk"], row["ess_tail"]))
    each = min(least["ess_bulk"], least["ess_tail"]) / chains["chains"]
    split = f"{worst['rhat']:.3f}" if math.isfinite(worst["rhat"]) else "infinite"
    text = (f"R-hat is at most {split} ({worst['name']}) and {number(each)} effective draws a chain are the fewest "
            f"({least['name']})")  # fmt: skip
    reasons = []
    if not worst["rhat"] <= RHAT:
        reasons.append(f"R-hat of {worst['name']} is {split}, above {RHAT}: the chains have not forgotten where they began.")
    if not each >= ESS:
        reasons.append(f"{least['name'].capitalize()} has {number(each)} effective draws a chain, fewer than {ESS:.0f}.")
    if chains["stuck_share"] > STUCK:
        reasons.append(f"{number(100 * chains['stuck_share'])} % of the units that vary in the data never moved in the chains.")
    if chains["trips"] is not None and min(chains["trips"]) == 0:
        reasons.append("Some chain saw no walker come home from the hottest temperature: the ladder does not connect.")
    return (1 if reasons else 0), text, reasons


def advice(told: Mapping[str, Any], chains: Mapping[str, Any], run: str, density: int, sampler: int) -> str:
    """The command that mends the worse of both, the density first."""
    where, settings = shlex.quote(run), told.get("manifest") or {}
    if density == 2 and math.isnan(interval(told.get("heldout_log_likelihood"))[0]):
        return again(told, f"{run}-slower", {"--lr": f"{finite(settings.get('lr') or 1e-3) / 10:g}"})
    if density == 2 or (density == 1 and told.get("likelihood") is not None and sampler == 0):
        return f"ppl resume {where} --epochs {2 * max(1, int(told.get('epochs') or 1))}"
    if sampler == 0:
        return f"ppl sample {where}"
    if chains["draws"] < LONGEST:
        return f"ppl diagnose {where} --draws {LONGEST}"
    return again(told, f"{run}-sweeps", {"--sweeps": str(5 * int(settings.get("sweeps") or 1))})


def again(told: Mapping[str, Any], out: str, changes: Mapping[str, str]) -> str:
    """The command of the run with other settings, into another directory."""
    changes, words, kept = {**changes, "--out": out}, shlex.split(told.get("command") or ""), list[str]()
    if words[:2] != ["ppl", "fit"]:
        words = ["ppl", "fit", str(told.get("model") or "rbm")]
    skip = False
    for word in words:
        name, sign, _ = word.partition("=")
        if skip or name in changes or word in ("--json", "--overwrite"):
            skip = not skip and name in changes and not sign
            continue
        kept.append(word)
    return shlex.join([*kept, *(part for item in changes.items() for part in item)])
