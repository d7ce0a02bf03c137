"""The spine of every estimator: a bound as a list of terms, and a surrogate whose gradient estimates its gradient.

    ELBO = Σₜ E[costₜ],  costₜ = log p(site) or −log q(site),
    ∇ELBO = Σₜ E[∇costₜ] + Σₛ E[∇log q(s) (Σ_{t downstream of s} costₜ − baselineₛ)]

summed over the sites s whose draw is not differentiable (Schulman et al. 2015, theorem 1; Ranganath et al. 2014, eq. 5:
only downstream costs count, and inside a plate only those of the same row), and the K-sample bound of each datum,

    L_K = E[log 1/K Σₖ wₖ],  log wₖ = Σₜ costₜ,  ∇L_K = E[Σₖ w̃ₖ ∇log wₖ],  w̃ₖ = wₖ / Σⱼ wⱼ

(Burda et al. 2016, eqs 8 and 14; draws differentiable). Arrays belong to either library: `xp` is
its array-API namespace, `stop` its stop-gradient. Every array is (S, E, *plate dims): S independent samples of the
program at each of E rows, one row for each joint value of the enumerated sites (E = 1 if there are none).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple, Protocol

from ppl_models import InputError


class Plate(NamedTuple):
    """A plate around a site: its dim (negative, as in both libraries), rows present, and data each row stands for."""

    name: str
    dim: int
    size: int
    scale: float


@dataclass(frozen=True, eq=False)
class Term:
    """One site's share of log p − log q."""

    name: str
    plates: frozenset[Plate]
    upstream: frozenset[str]  # latents drawn without a gradient (itself included) that it depends on
    cost: Any  # +log p or −log q, scaled and masked
    score: Any = None  # log q of a draw without a gradient: neither scaled nor masked
    log_weight: Any = None  # log q of an enumerated value: neither scaled nor masked
    num_values: int = 1  # of an enumerated site
    in_guide: bool = False  # the cost is −log q


class Objective(NamedTuple):
    """A bound's value, the surrogate to differentiate, and the state that controls carry."""

    value: Any
    surrogate: Any
    state: dict[str, Any]


class Control(Protocol):
    """A baseline for the costs downstream of a site; it must not depend on the sample it is subtracted from."""

    def baseline(self, cost: Any, scale: float, state: Any) -> tuple[Any, Any]:
        """From costs (S, E, *plate dims), a plate scale and the carried state, the baseline and the next state."""
        ...


def align(x: Any, plates: frozenset[Plate], nesting: int) -> Any:
    """Bring (S, E, *dims) to (S, E, *nesting dims); dims that belong to no plate are summed."""
    x = x.reshape(*x.shape[:2], *(1,) * (nesting + 2 - x.ndim), *x.shape[2:])
    free = [d for d in range(-nesting, 0) if x.shape[d] > 1 and d not in {p.dim for p in plates}]
    return x.sum(axis=tuple(free), keepdims=True) if free else x


def sum_to(plates: frozenset[Plate], term: Term, x: Any) -> Any:
    """Sum `x`, shaped as the term's arrays, over those of the term's plates that are not in `plates`; dims stay."""
    outside = tuple(p.dim for p in term.plates - plates)
    return x.sum(axis=outside, keepdims=True) if outside else x


def weights(terms: Sequence[Term], xp: Any) -> list[Any]:
    """For each term the probability of each row: ∏ q over the enumerated sites upstream, uniform over the others.

    Raises:
        InputError: A term outside a plate depends on a site enumerated inside it, so that rows' values would mix.
    """
    enumerated = [t for t in terms if t.log_weight is not None]
    rows = prod(t.num_values for t in enumerated)
    out = []
    for t in terms:
        weight = 1.0 / rows
        for site in (s for s in enumerated if s.name in t.upstream):
            if not site.plates <= t.plates:
                outer = ", ".join(sorted(p.name for p in site.plates - t.plates))
                raise InputError(f"site '{site.name}' cannot be enumerated, because '{t.name}' lies outside its plate "
                                 f"'{outer}' and depends on all of its rows; use leave-one-out there.")  # fmt: skip
            weight = weight * xp.exp(site.log_weight) * site.num_values
        out.append(weight)
    return out


def elbo(terms: Sequence[Term], controls: Mapping[str, Control], state: Mapping[str, Any], xp: Any, stop: Any) -> Objective:
    """The ELBO over the full data and its surrogate; `controls` and `state` are by site name."""
    value, surrogate, carried, samples = 0.0, 0.0, dict(state), terms[0].cost.shape[0]
    weighted = list(zip(terms, weights(terms, xp), strict=True))
    for t, weight in weighted:
        share = (weight * t.cost).sum()
        value = value + share
        # E[∇log q] = 0: a draw without a gradient contributes through its score alone.
        surrogate = surrogate + (share if t.score is None else (weight * stop(t.cost)).sum())
    for site in (t for t in terms if t.score is not None):
        downstream = [stop(sum_to(site.plates, t, weight * t.cost)) for t, weight in weighted if site.name in t.upstream]
        cost = sum(downstream[1:], downstream[0])
        if (control := controls.get(site.name)) is not None:
            scale = prod(p.scale for p in site.plates)
            baseline, after = control.baseline(cost, scale, state.get(site.name))
            cost = cost - baseline
            if site.name in carried:
                carried[site.name] = after
        surrogate = surrogate + (site.score * cost).sum()
    return Objective(value / samples, surrogate / samples, carried)


def expected(terms: Sequence[Term], xp: Any) -> Any:
    """The ELBO over the full data."""
    shares = [(weight * t.cost).sum() for t, weight in zip(terms, weights(terms, xp), strict=True)]
    return sum(shares[1:], shares[0]) / terms[0].cost.shape[0]


def tempered(terms: Sequence[Term], latents: Sequence[str], beta: Any) -> list[Term]:
    """The terms of E[log p(x | z)] − β KL(q(z) ‖ p(z)): every latent's share times β (Higgins et al. 2017, eq. 4)."""
    return [replace(t, cost=beta * t.cost) if t.name in latents else t for t in terms]


def log_weights(terms: Sequence[Term]) -> tuple[Any, float]:
    """log w of each sample and each element of the plates that all terms share, (K, 1, *plate dims), and their scale.

    The scale of a subsampled plate multiplies the bound of each of its rows: it belongs outside the logarithm.

    Raises:
        InputError: A subsampled plate does not hold all of the sites, so that its scale would stand inside.
    """
    common = frozenset.intersection(*(t.plates for t in terms))
    for t in terms:
        for plate in t.plates - common:
            if plate.scale != 1:
                outside = next(other.name for other in terms if plate not in other.plates)
                raise InputError(f"the K-sample bound does not hold on a minibatch of plate '{plate.name}', because site "
                                 f"'{outside}' lies outside it; give all of the data at once, or use the ELBO.")  # fmt: skip
    total = sum(sum_to(common, t, t.cost) for t in terms)
    scale = prod(p.scale for p in common)
    return total / scale, scale


def normalised(log_w: Any, xp: Any) -> tuple[Any, Any]:
    """log 1/K Σₖ wₖ, and the weights w̃ₖ that sum to one over the samples."""
    top = xp.max(log_w, axis=0, keepdims=True)
    w = xp.exp(log_w - top)
    total = w.sum(axis=0, keepdims=True)
    return top + xp.log(total / log_w.shape[0]), w / total


def bound(terms: Sequence[Term], xp: Any, stop: Any) -> Objective:
    """The K-sample bound over the full data and its surrogate."""
    log_w, scale = log_weights(terms)
    value, share = normalised(log_w, xp)
    return Objective(scale * value.sum(), scale * (stop(share) * log_w).sum(), {})


def rows(terms: Sequence[Term], num_rows: int, xp: Any) -> Any | None:
    """The bound of each of `num_rows` data, nats, shape (num_rows,); None if no plate holds the data.

    Costs outside the data's plate (global latents) are shared equally among all data.
    """
    plates = {p for t in terms for p in t.plates if p.size == num_rows}
    if not plates:
        return None
    data = min(plates, key=lambda p: (p.name != "data", p.name))
    out = 0.0
    for t, weight in zip(terms, weights(terms, xp), strict=True):
        cost = weight * t.cost / (data.scale * t.cost.shape[0])
        if data in t.plates:
            out = out + cost.sum(axis=tuple(d for d in range(cost.ndim) if d != cost.ndim + data.dim))
        else:
            out = out + cost.sum() / num_rows
    return out
