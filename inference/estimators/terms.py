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
from math import isclose, prod
from typing import Any, NamedTuple, Protocol

from ppl_models import InputError

from .site import Family


class Plate(NamedTuple):
    """A plate around a site: its dim (negative, as in both libraries), rows present, and data each row stands for."""

    name: str
    dim: int
    size: int
    scale: float


class Draw(NamedTuple):
    """A draw that its estimator compares with other values, arrays (S, E, *plate dims, *event shape)."""

    family: Family
    parameters: tuple[Any, ...]  # of its distribution, with their gradient: logits, or loc and scale
    value: Any  # a category as a one-hot vector, floating
    event_dims: int  # of the value

    @property
    def logits(self) -> Any:
        return self.parameters[0]

    @property
    def one_hot(self) -> bool:
        return self.family in ("one-hot", "category")

    def stopped(self, stop: Any) -> Draw:
        """Without the parameters' gradient."""
        return self._replace(parameters=tuple(stop(x) for x in self.parameters))

    def raw(self, values: Any, xp: Any) -> Any:
        """Values as the site holds them."""
        return xp.argmax(values, axis=-1) if self.family == "category" else values


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
    scale: float = 1.0  # of the cost beside its plates', from a handler around the program; 1 if that is traced
    draw: Draw | None = None  # of a site whose estimator replays it
    value: Any = None  # of a latent in the guide, as the engine holds it: where some site is replayed


class Objective(NamedTuple):
    """A bound's value, the surrogate to differentiate, and the state that controls carry."""

    value: Any
    surrogate: Any
    state: dict[str, Any]


class Control(Protocol):
    """A baseline for the costs downstream of a site; it must not depend on the sample it is subtracted from."""

    def baseline(self, cost: Any, scale: float, state: Any, inputs: Any, xp: Any) -> tuple[Any, Any]:
        """From costs (S, E, *plate dims), a plate scale and the carried state, the baseline and the next state.

        `inputs`: the rows (rows, columns) of the program's first argument and their plate dim, None where it has none.
        """
        ...


class BoundControl(Protocol):
    """A baseline of each sample of the K-sample bound; it must not depend on the sample it is subtracted for."""

    def baseline(self, log_w: Any, more: Any, xp: Any) -> Any:
        """From log w of the samples (K, 1, *plate dims) and of auxiliary ones, a baseline for each of the K."""
        ...


def align(x: Any, plates: frozenset[Plate], nesting: int) -> Any:
    """Bring (S, E, *dims) to (S, E, *nesting dims); dims that belong to no plate are summed."""
    x = x.reshape(*x.shape[:2], *(1,) * (nesting + 2 - x.ndim), *x.shape[2:])
    free = [d for d in range(-nesting, 0) if x.shape[d] > 1 and d not in {p.dim for p in plates}]
    return x.sum(axis=tuple(free), keepdims=True) if free else x


def drawn(family: Family, parameters: Sequence[Any], value: Any, event_dims: int, samples: int, nesting: int, xp: Any) -> Draw:
    """A draw from arrays (S × E, *batch dims, *event dims), brought to (S, E, *nesting dims, *event dims)."""
    dtype = parameters[0].dtype
    if family == "category":
        event_dims, value = event_dims + 1, value[..., None] == xp.arange(parameters[0].shape[-1])

    def shaped(x: Any) -> Any:
        batch, event = x.shape[1 : x.ndim - event_dims], x.shape[x.ndim - event_dims :]
        return x.reshape(samples, -1, *(1,) * (nesting - len(batch)), *batch, *event)

    return Draw(family, tuple(shaped(x) for x in parameters), shaped(xp.astype(value, dtype)), event_dims)


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


def elbo(
    terms: Sequence[Term], controls: Mapping[str, Control], state: Mapping[str, Any], xp: Any, stop: Any, inputs: Any = None
) -> Objective:
    """The ELBO over the full data and its surrogate; `controls` and `state` are by site name, `inputs` (rows, columns)."""
    value, surrogate, carried, samples = 0.0, 0.0, dict(state), terms[0].cost.shape[0]
    weighted = list(zip(terms, weights(terms, xp), strict=True))
    for t, weight in weighted:
        share = (weight * t.cost).sum()
        value = value + share
        # E[∇log q] = 0: a draw without a gradient contributes through its score alone.
        surrogate = surrogate + (share if t.score is None and t.draw is None else (weight * stop(t.cost)).sum())
    for site in (t for t in terms if t.score is not None):
        cost = below(site, weighted, stop)
        if (control := controls.get(site.name)) is not None:
            scale = prod(p.scale for p in site.plates)
            baseline, after = control.baseline(cost, scale, state.get(site.name), of_rows(site, inputs), xp)
            cost = cost - baseline
            if site.name in carried:
                carried[site.name] = after
        surrogate = surrogate + (site.score * cost).sum()
    return Objective(value / samples, surrogate / samples, carried)


def beside(scale: Any, plates: frozenset[Plate]) -> float:
    """What a site's scale holds beside that of its plates, if it is a number."""
    return scale / prod(p.scale for p in plates) if isinstance(scale, int | float) else 1.0


def columns(args: Sequence[Any]) -> Any | None:
    """The first argument as (rows, columns), None if it has no rows."""
    x: Any = args[0] if args else None
    return x.reshape(x.shape[0], -1) if getattr(x, "ndim", 0) else None


def of_rows(site: Term, inputs: Any) -> tuple[Any, int] | None:
    """The inputs and the dim of the site's plate that they lie along."""
    plates = [p for p in site.plates if inputs is not None and p.size == inputs.shape[0]]
    return (inputs, min(plates, key=lambda p: (p.name != "data", p.name)).dim) if plates else None


def below(site: Term, weighted: Sequence[tuple[Term, Any]], stop: Any) -> Any:
    """The cost downstream of a site, one number for each element of its plates."""
    downstream = [stop(sum_to(site.plates, t, weight * t.cost)) for t, weight in weighted if site.name in t.upstream]
    return sum(downstream[1:], downstream[0])


def expected(terms: Sequence[Term], xp: Any) -> Any:
    """The ELBO over the full data."""
    shares = [(weight * t.cost).sum() for t, weight in zip(terms, weights(terms, xp), strict=True)]
    return sum(shares[1:], shares[0]) / terms[0].cost.shape[0]


def tempered(terms: Sequence[Term], latents: Sequence[str], beta: Any) -> list[Term]:
    """The terms of E[log p(x | z)] − β KL(q(z) ‖ p(z)): every latent's share times β (Higgins et al. 2017, eq. 4)."""
    return [replace(t, cost=beta * t.cost) if t.name in latents else t for t in terms]


def log_weights(terms: Sequence[Term]) -> tuple[Any, float]:
    """log w of each sample and each element of the plates that all terms share, (K, 1, *plate dims), and their scale.

    The scale of a subsampled plate multiplies the bound of each of its rows: it belongs outside the logarithm, and so does
    one that a handler gives to all sites alike. One that sites do not share weighs them within it.

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
    if all(isclose(t.scale, terms[0].scale) for t in terms):
        scale = scale * terms[0].scale
    return total / scale, scale


def normalised(log_w: Any, xp: Any) -> tuple[Any, Any]:
    """log 1/K Σₖ wₖ, and the weights w̃ₖ that sum to one over the samples."""
    top = xp.max(log_w, axis=0, keepdims=True)
    w = xp.exp(log_w - top)
    total = w.sum(axis=0, keepdims=True)
    return top + xp.log(total / log_w.shape[0]), w / total


def others(log_w: Any, xp: Any) -> Any:
    """log Σ_{j≠k} wⱼ for each k, over the first axis, in O(K): only the largest weight has a sum of its own."""
    index = xp.arange(log_w.shape[0]).reshape(-1, *(1,) * (log_w.ndim - 1))
    first = index == xp.argmax(log_w, axis=0, keepdims=True)
    without = xp.where(first, -xp.inf, log_w)
    top, second = (xp.max(x, axis=0, keepdims=True) for x in (log_w, without))
    # What is left of the sum when a smaller weight goes still holds the largest, so that nothing cancels.
    left = xp.where(first, 1.0, xp.exp(log_w - top).sum(axis=0, keepdims=True) - xp.exp(log_w - top))
    return xp.where(first, second + xp.log(xp.exp(without - second).sum(axis=0, keepdims=True)), top + xp.log(left))


def bound(
    terms: Sequence[Term], controls: Mapping[str, BoundControl], auxiliary: int, xp: Any, stop: Any
) -> Objective:
    """The K-sample bound over the full data and its surrogate; the last `auxiliary` samples serve the controls alone.

    A draw without a gradient contributes through its score, ∇L_K = E[Σₖ (L_K − baselineₖ) ∇log q(zₖ) + w̃ₖ ∇log wₖ]
    (Mnih and Rezende 2016, eq. 6); sites may differ in their controls.
    """
    log_w, scale = log_weights(terms)
    samples = log_w.shape[0] - auxiliary
    log_w, more = log_w[:samples], stop(log_w[samples:])
    value, share = normalised(log_w, xp)
    surrogate = (stop(share) * log_w).sum()
    common = frozenset.intersection(*(t.plates for t in terms))
    for site in (t for t in terms if t.score is not None):
        signal = stop(value)
        if (control := controls.get(site.name)) is not None:
            signal = signal - control.baseline(stop(log_w), more, xp)
        surrogate = surrogate + (sum_to(common, site, site.score[:samples]) * signal).sum()
    return Objective(scale * value.sum(), scale * surrogate, {})


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
