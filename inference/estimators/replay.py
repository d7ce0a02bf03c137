"""Sites whose estimator compares the draw with other values: the program runs again with these in the draw's place.

    surrogate += Σ slope · l,  slope an estimate of ∂E[f]/∂l from the costs f downstream at the draw and at the other values

Sites that do not depend on the replayed one keep their draws, those that do are drawn anew. Where the other values are draws
of q themselves, the run with them is one more sample of all that is differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .terms import Control, Objective, Term, below, elbo, weights

Rerun = Callable[[Mapping[str, Any], int], Sequence[Term]]


def replayed(
    terms: Sequence[Term], plan: Mapping[str, Any], rerun: Rerun, noise: Callable[[str, Any], Any],
    controls: Mapping[str, Control], state: Mapping[str, Any], xp: Any, stop: Any, given: Mapping[str, Any] | None = None,
) -> Objective:  # fmt: skip
    """The ELBO over the full data, of a plan with replayed sites; `terms` are those of the first run.

    `rerun(values, R)` runs R times as many samples with the draws given; `noise(site, like)` draws uniform variables; `given`
    may hold those, under the site's name and "~".
    """
    first, samples = elbo(terms, controls, state, xp, stop), terms[0].cost.shape[0]
    runs, extra = [first], 0.0
    weighted = list(zip(terms, weights(terms, xp), strict=True))
    held = {t.name: t for t in terms if t.value is not None}
    for site in (t for t in terms if t.draw is not None):
        estimator, draw = plan[site.name], site.draw._replace(logits=stop(site.draw.logits))  # type: ignore[union-attr]
        drawn = None
        if estimator.antithetic:
            key = f"{site.name}~"
            drawn = given[key].reshape(draw.value.shape) if given and key in given else noise(site.name, draw.value)
        values = stop(estimator.values(draw, drawn, xp))
        count = values.shape[0]
        kept = {name: t.value for name, t in held.items() if site.name not in t.upstream and t.log_weight is None}
        wanted = {name: xp.concat([value] * count, axis=0) for name, value in kept.items()}
        wanted[site.name] = values.reshape(count * site.value.shape[0], *site.value.shape[1:])
        others = parts(rerun(wanted, count), count, samples)
        costs = []
        for other in others:
            twin = next(t for t in other if t.name == site.name and t.in_guide)
            costs.append(_wide(below(twin, list(zip(other, weights(other, xp), strict=True)), stop), draw.event_dims))
            if estimator.of_the_law:
                runs.append(elbo(other, controls, state, xp, stop))
        slope = estimator.slope(draw, values, drawn, _wide(below(site, weighted, stop), draw.event_dims), costs, xp)
        extra = extra + (stop(slope) * site.draw.logits).sum() / samples  # type: ignore[union-attr]
    value, surrogate = (sum(getattr(run, name) for run in runs) / len(runs) for name in ("value", "surrogate"))
    return Objective(value, surrogate + extra, first.state)


def _wide(cost: Any, event_dims: int) -> Any:
    return cost.reshape(*cost.shape, *(1,) * event_dims)


def parts(terms: Sequence[Term], count: int, samples: int) -> list[list[Term]]:
    """The runs that were made side by side, each as terms of its own."""
    return [part(terms, i, samples) for i in range(count)]


def part(terms: Sequence[Term], i: int, samples: int) -> list[Term]:
    """The i-th of them."""
    def cut(x: Any) -> Any:
        return None if x is None else x[i * samples : (i + 1) * samples]

    return [replace(t, cost=cut(t.cost), score=cut(t.score), log_weight=cut(t.log_weight)) for t in terms]
