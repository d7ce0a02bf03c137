"""Checks of log densities: finite, in the dtype asked for, scaled once, row by row, and the same however they are asked."""

from __future__ import annotations

from math import sqrt

import numpy as np

from ppl_models import InputError

from ..check import rules
from ..check.rows import enter
from .structure import first
from .subject import Broke, Skipped, Subject, differing, same

PARTICLES = 64  # of the ELBO's estimate
EXACT = 1e-10


def density_is_finite(s: Subject, engine: str) -> str | None:
    """Log densities at the first parameters and draws are finite numbers."""
    return first(rules.densities(s.walk(engine)))


def float32_and_float64(s: Subject, engine: str) -> str | None:
    """Log densities are of the session's dtype, and of nearly the same value in both."""
    double, single = s.walk(engine, at=engine), s.walk(engine, at=engine, dtype="float32")
    for dtype, walk in (("float64", double), ("float32", single)):
        for site in walk.sites:
            if str(site.log_prob.dtype) != dtype:
                return (f"log_prob of site '{site.name}' of the {site.role} is {site.log_prob.dtype} in a session of {dtype}; "
                        "let arrays take their dtype from others.")  # fmt: skip
    wrong = differing(single, double, 1e-3)
    return f"{wrong} in float32 and float64; rearrange what cancels there." if wrong else None


def scaled_once(s: Subject, engine: str) -> str | None:
    """Of rows that stand for four times as many data, sites in the plate of the rows count four times and no others."""
    if not s.scales:
        raise Skipped("the programs do not take `total`")
    plain, scaled = s.walk(engine, at=engine), s.walk(engine, at=engine, total=4 * s.total)
    if wrong := differing(scaled, plain, EXACT):
        return f"{wrong} with total {4 * s.total} and {s.total}; leave the scale to the plate."
    for site in scaled.sites:
        expected = 1.0 if s.data_dim_of(site) is None and site.kind == "latent" else 4.0
        if abs(site.scale - expected) > EXACT:
            return (f"site '{site.name}' of the {site.role} counts {site.scale:g} times where {s.total} rows stand for "
                    f"{4 * s.total}, not {expected:g}; pass `total` to the plate around it.")  # fmt: skip
    return None


def rows_are_independent(s: Subject, engine: str) -> str | None:
    """A row's log density does not change with the other rows."""
    altered = tuple(np.concatenate([part[:1], np.repeat(part[:1], s.total - 1, 0)]) for part in s.rows.arrays)
    start = s.walk(engine)
    plain = s.walk(engine, at=engine)
    other = s.fresh(engine, rows=altered, init=start.values, values=start.draws)
    for x, y in zip(plain.sites, other.sites, strict=True):
        dim = s.data_dim_of(x)
        if dim is None or x.log_prob.ndim < -dim:
            continue
        ours, theirs = (np.take(walk.log_prob, 0, axis=walk.log_prob.ndim + dim) for walk in (x, y))
        if not same(ours, theirs, EXACT):
            return (f"log density of row 0 at site '{x.name}' of the {x.role} changes from {ours.sum():.6g} to "
                    f"{theirs.sum():.6g} with the other rows; compute each row from itself.")  # fmt: skip
    return None


def particles_broadcast(s: Subject, engine: str) -> str | None:
    """Two draws side by side in a further left dimension have the densities that each has alone."""
    start = s.walk(engine)
    alone = [s.walk(engine, at=engine), s.walk(engine, seed=1)]
    alone[1] = s.fresh(engine, seed=1, init=start.values)
    nesting = max([1, *(-frame.dim for site in start.sites for frame in site.frames)])
    latents = {**start.of("model"), **start.of("guide")}
    stacked = {}
    for name in start.draws:
        lead = (1,) * (nesting - len(latents[name].batch_shape))
        pair = [walk.draws[name] for walk in alone]
        stacked[name] = np.stack(pair).reshape(2, *lead, *pair[0].shape)
    if not stacked:
        raise Skipped("there are no latents")
    both = s.fresh(engine, init=start.values, values=stacked, particles=2, nesting=nesting)
    for i, one in enumerate(alone):
        for x, y in zip(one.sites, both.sites, strict=True):
            batch = np.broadcast_to(y.log_prob, (2, *(1,) * (nesting - x.log_prob.ndim), *x.log_prob.shape))
            if y.log_prob.size not in (x.log_prob.size, 2 * x.log_prob.size) or not same(
                batch[i].reshape(x.log_prob.shape), x.log_prob, EXACT
            ):
                return (f"two draws at once do not give site '{x.name}' of the {x.role} the log density that each has alone; "
                        "count dimensions from the right.")  # fmt: skip
    return None


def engines_agree_on_density(s: Subject, engine: str) -> str | None:
    """At the same parameters and draws both engines have the same log density of every site."""
    if len(s.engines) < 2:
        raise Skipped("needs both engines")
    ours, theirs = (s.walk(other, at=s.engines[0]) for other in s.engines)
    wrong = differing(ours, theirs, EXACT, common=True)
    return f"{wrong} on the two engines; use a word that both have." if wrong else None


def elbo_below_evidence(s: Subject, engine: str) -> str | None:
    """The ELBO is at most log p(x), where that has a closed form, but for its standard error."""
    s.needs("log_evidence")
    start = s.walk(engine)
    with s.session(engine):
        params = s.arrays(engine, start.values) or {}
        evidence = float(s.here(engine).method(s.model, "log_evidence", params, s.args(engine)).sum())
    nesting = max([1, *(-frame.dim for site in start.sites for frame in site.frames)])
    walk = s.fresh(engine, init=start.values, particles=PARTICLES, nesting=nesting)
    bound = np.zeros(PARTICLES)
    for site in walk.sites:
        share = np.broadcast_to(site.log_prob, (PARTICLES, *site.log_prob.shape[1:])) if site.log_prob.ndim > nesting else None
        value = site.log_prob.sum() if share is None else share.reshape(PARTICLES, -1).sum(1)
        bound += (1 if site.role == "model" else -1) * value
    margin = 6 * bound.std(ddof=1) / sqrt(PARTICLES) + 1e-6 * max(1, abs(evidence))
    if bound.mean() <= evidence + margin:
        return None
    return (f"the ELBO {bound.mean():.6g} of {s.total} rows is above log p(x) = {evidence:.6g}; correct `log_evidence`, or the "
            "guide.")  # fmt: skip


def classes_sum_to_one(s: Subject, engine: str) -> str | None:
    """The probabilities that `classify` gives sum to one."""
    s.needs("classify")
    with s.session(engine):
        params = s.arrays(engine, s.walk(engine).values) or {}
        log_p = s.here(engine).method(s.model, "classify", params, s.args(engine)[:1])
    total = np.exp(log_p).sum(-1)
    if same(total, np.ones_like(total), 1e-9):
        return None
    return f"`classify` gives probabilities with sum {total.flat[0]:.6g}, not 1; take log_softmax of its logits."


def missing_values(s: Subject, engine: str) -> str | None:
    """NaN in the data is refused, or where the declaration takes missing entries, scored."""
    s.needs()
    holed = np.array(s.rows.arrays[0], float)
    holed[(1,) + (0,) * (holed.ndim - 1)] = np.nan
    given = (holed, *s.rows.arrays[1:])
    try:
        rows = enter(given if len(given) > 1 else holed, s.model)
    except InputError:
        return None
    try:
        return first(rules.densities(s.fresh(engine, rows=rows.arrays)))
    except Broke as broke:
        return str(broke)


CHECKS = (density_is_finite, float32_and_float64, scaled_once, rows_are_independent, particles_broadcast,
          engines_agree_on_density, elbo_below_evidence, classes_sum_to_one, missing_values)  # fmt: skip
