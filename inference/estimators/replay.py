"""Sites whose estimator compares the draw with other values: the program runs again with these in the draw's place.

    surrogate += s(costs f downstream, at the draw and at the other values; parameters of q),  E[∇s] = ∇E[f]

Sites that do not depend on the replayed one keep their draws, those that do are drawn anew. Where the other values are draws
of q themselves, the run with them is one more sample of all that is differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ppl_models import InputError

from .rebar import Gradient, Rebar, wide
from .terms import Control, Objective, Term, below, elbo, weights

Rerun = Callable[[Mapping[str, Any], int], Sequence[Term]]


def replayed(
    terms: Sequence[Term], plan: Mapping[str, Any], rerun: Rerun, noise: Callable[[str, Any, int], Any],
    controls: Mapping[str, Control], state: Mapping[str, Any], xp: Any, stop: Any, gradient: Gradient, inputs: Any = None,
    given: Mapping[str, Any] | None = None,
) -> Objective:  # fmt: skip
    """The ELBO over the full data, of a plan with replayed sites; `terms` are those of the first run.

    `rerun(values, R)` runs R times as many samples with the draws given, or, if R is 0, once with relaxed draws; `noise(site,
    like, count)` draws so many uniform variables; `given` may hold those, under the site's name and "~".
    """
    first, samples = elbo(terms, controls, state, xp, stop, inputs), terms[0].cost.shape[0]
    runs, extra, carried = [first], 0.0, first.state
    weighted = list(zip(terms, weights(terms, xp), strict=True))
    held = {t.name: t for t in terms if t.value is not None}
    for site in (t for t in terms if t.draw is not None):
        estimator, draw = plan[site.name], site.draw
        assert draw is not None
        drawn = uniforms(site.name, estimator.uniforms, draw.value, noise, given)
        kept = {name: t.value for name, t in held.items() if site.name not in t.upstream and t.log_weight is None}
        if isinstance(estimator, Rebar):
            require_relaxed(site, terms, plan)

            def soft_cost(value: Any, site: Term = site, kept: Mapping[str, Any] = kept) -> Any:
                other = rerun({**kept, site.name: value.reshape(site.value.shape)}, 0)
                twin = next(t for t in other if t.name == site.name and t.in_guide)
                return below(twin, list(zip(other, weights(other, xp), strict=True)), lambda x: x)

            of_site = state[site.name]
            share, carried[site.name] = estimator.control(
                draw, drawn[0], below(site, weighted, stop), soft_cost, of_site, xp, stop, gradient)  # fmt: skip
            extra = extra + share.sum() / samples
            continue
        values = stop(estimator.values(draw.stopped(stop), drawn, xp))
        count = values.shape[0]
        wanted = {name: xp.concat([value] * count, axis=0) for name, value in kept.items()}
        wanted[site.name] = draw.raw(values, xp).reshape(count * site.value.shape[0], *site.value.shape[1:])
        others, costs = parts(rerun(wanted, count), count, samples), []
        for other in others:
            twin = next(t for t in other if t.name == site.name and t.in_guide)
            costs.append(wide(below(twin, list(zip(other, weights(other, xp), strict=True)), stop), draw.event_dims))
            if estimator.of_the_law:
                runs.append(elbo(other, controls, state, xp, stop, inputs))
        cost = wide(below(site, weighted, stop), draw.event_dims)
        extra = extra + estimator.surrogate(draw, values, drawn, cost, costs, xp, stop).sum() / samples
    value, surrogate = (sum(getattr(run, name) for run in runs) / len(runs) for name in ("value", "surrogate"))
    return Objective(value, surrogate + extra, carried)


def require_relaxed(site: Term, terms: Sequence[Term], plan: Mapping[str, Any]) -> None:
    """Raise `InputError` unless every latent that depends on the site has a gradient once the site is relaxed."""
    for t in (t for t in terms if t.in_guide and site.name in t.upstream and t.name != site.name):
        if t.name in plan and (t.score is not None or t.draw is not None) and not isinstance(plan[t.name], Rebar):
            raise InputError(f"estimator '{plan[site.name].name}' does not apply: latent '{t.name}' depends on site "
                             f"'{site.name}' and its draws have no gradient; use rebar or enumerate there, or disarm "
                             "here.")  # fmt: skip


def uniforms(site: str, count: int, like: Any, noise: Callable[[str, Any, int], Any], given: Mapping[str, Any] | None) -> Any:
    """So many uniform variables for each number of a draw: those given, or fresh ones."""
    if not count:
        return None
    forced = (given or {}).get(f"{site}~")
    return noise(site, like, count) if forced is None else forced.reshape(count, *like.shape)


def parts(terms: Sequence[Term], count: int, samples: int) -> list[list[Term]]:
    """The runs that were made side by side, each as terms of its own."""
    return [part(terms, i, samples) for i in range(count)]


def part(terms: Sequence[Term], i: int, samples: int) -> list[Term]:
    """The i-th of them."""
    def cut(x: Any) -> Any:
        return None if x is None else x[i * samples : (i + 1) * samples]

    return [replace(t, cost=cut(t.cost), score=cut(t.score), log_weight=cut(t.log_weight)) for t in terms]
