"""What NumPyro shows of a model and a guide: traced by JAX, run by NumPy, nothing compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as xp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import random
from numpyro import handlers
from numpyro.distributions.distribution import validation_enabled
from numpyro.infer.inspect import get_model_relations
from numpyro.primitives import _PYRO_STACK, Messenger

from ppl_models import InputError
from ppl_models.language import Program

from ..estimators._numpyro import EstimatorELBO, make
from ..svi.finite import explained
from . import jaxpr
from .walk import Failure, Frame, Param, Relations, Role, Site, Walk, first_line, in_words, last_message

WRAPPERS = (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)


def named(fn: Any) -> str:
    """The distribution's name without what is wrapped around it, as both libraries know it."""
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    name = type(fn).__name__
    for ending in ("Logits", "Probs"):
        name = name.removesuffix(ending)
    return name


def outside(fn: Any, value: Any, observed: bool) -> Any:
    """Entries that `fn` cannot take; masked ones are none of them. Observed bits may be grey, as probabilities of bits."""
    if isinstance(fn, dist.MaskedDistribution):
        out = outside(fn.base_dist, value, observed)
        mask = xp.broadcast_to(xp.asarray(fn._mask), fn.batch_shape)
        return out & mask.reshape(mask.shape + (1,) * (out.ndim - mask.ndim))
    if isinstance(fn, WRAPPERS):
        return outside(fn.base_dist, value, observed)
    if observed and type(fn.support) is type(dist.constraints.boolean):
        return (value < 0) | (value > 1)
    return ~xp.asarray(fn.support(value))


class Steps(Messenger):
    """Counts the sites that went well."""

    def __init__(self, fn: Callable[..., Any], seen: list[str]) -> None:
        super().__init__(fn)
        self.seen = seen

    def postprocess_message(self, msg: Any) -> None:
        if msg["type"] == "sample":
            self.seen.append(msg["name"])


def walk(
    model: Any, guide: Any, args: tuple, *, seed: int = 0, init: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None, numbers: bool = True, particles: int = 0, nesting: int = 1,
) -> Walk:  # fmt: skip
    """Run guide and model once, draws of the one replayed in the other.

    Args:
        model: A NumPyro program.
        guide: Its guide.
        args: Arrays of the session.
        seed: Of initial parameters and draws.
        init: Constrained parameters to start from, in place of the program's own.
        values: Latents in place of draws.
        numbers: Without them shapes alone are found.
        particles: If not 0, everything runs in an outer plate of so many particles.
        nesting: How many plates may stand inside that one.
    """
    facts: list[tuple[dict[str, Any], dict[str, Any]]] = []
    given = {**(init or {}), **(values or {})}
    seen: list[str] = []
    role: list[Role] = ["guide"]

    def run(seed: Any) -> list[Any]:
        static, arrays = [], []
        guide_key, model_key = random.split(random.key(seed))
        outer = numpyro.plate("particles", particles, dim=-1 - nesting) if particles else nullcontext()
        with outer, handlers.substitute(data=given):
            guide_trace = handlers.trace(handlers.seed(Steps(guide, seen), guide_key)).get_trace(*args)
        role[0] = "model"
        known = {name: s["value"] for name, s in guide_trace.items() if s["type"] == "param"}
        seen.clear()
        outer = numpyro.plate("particles", particles, dim=-1 - nesting) if particles else nullcontext()
        with outer, handlers.substitute(data={**known, **given}):
            replayed = handlers.replay(Steps(model, seen), guide_trace)
            model_trace = handlers.trace(handlers.seed(replayed, model_key)).get_trace(*args)
        for name, trace in (("guide", guide_trace), ("model", model_trace)):
            for site in trace.values():
                if site["type"] == "param":
                    static.append(("param", name, site))
                    rule = site["kwargs"].get("constraint", dist.constraints.real)
                    arrays.append((xp.asarray(site["value"]), xp.all(xp.asarray(rule(site["value"])))))
                elif site["type"] == "sample":
                    fn, value = site["fn"], site["value"]
                    try:
                        log_prob, error = fn.log_prob(value), None
                    except Exception as unscored:
                        log_prob, error = xp.zeros(()), first_line(unscored)
                    static.append(("sample", name, {**site, "frames": frames(site, trace), "error": error}))
                    arrays.append((value, log_prob, scale_of(site), _outside(fn, value, site["is_observed"])))
        facts[:] = [(static, arrays)]  # type: ignore[list-item]
        return arrays

    try:
        with validation_enabled(False):  # which would compile its questions one by one
            arrays = evaluate(run, np.uint32(seed), numbers=numbers)
    except InputError:
        raise
    except Exception as error:
        return Walk(failure=_failure(error, role[0], seen))
    return _gathered(facts[0][0], arrays, numbers)  # type: ignore[arg-type]


def scale_of(site: Any) -> Any:
    return xp.asarray(1.0 if site["scale"] is None else site["scale"])


def _outside(fn: Any, value: Any, observed: bool) -> Any:
    if type(fn).__name__ == "Unit":
        return None
    try:
        return outside(fn, value, observed)
    except Exception:  # a distribution that does not name its support
        return None


def frames(site: Any, trace: Any) -> tuple[Frame, ...]:
    found = []
    for f in site["cond_indep_stack"]:
        plate = trace.get(f.name)
        full = int(plate["args"][0]) if plate is not None else f.size
        found.append(Frame(f.name, int(f.dim), int(f.size), full))
    return tuple(found)


def _failure(error: Exception, role: Role, seen: list[str]) -> Failure:
    message = last_message(error)
    after = seen[-1] if seen else None
    if message is None:
        return Failure(role, first_line(error), after=after)
    around = tuple(Frame(f.name, f.dim, f.size, f.size) for f in message["cond_indep_stack"])
    shape = getattr(message["fn"], "batch_shape", None)
    return Failure(role, first_line(error), message["name"], None if shape is None else tuple(shape), around, after)


def _gathered(static: list[Any], arrays: Any, numbers: bool) -> Walk:
    sites, params = [], dict[str, Param]()
    for (kind, role, site), found in zip(static, arrays, strict=True):
        name = site["name"]
        if kind == "param":
            roles = params[name].roles | {role} if name in params else frozenset({role})
            rule = site["kwargs"].get("constraint", dist.constraints.real)
            value, inside = np.asarray(found[0]), bool(found[1]) or not numbers
            params[name] = Param(name, value, in_words(rule), inside, frozenset(roles))
            continue
        fn, (value, log_prob, scale, out) = site["fn"], found
        factor = type(fn).__name__ == "Unit"
        sites.append(Site(
            name, role, site["is_observed"], factor, named(fn), site["frames"], tuple(fn.batch_shape), tuple(fn.event_shape),
            np.asarray(value), np.asarray(log_prob), float(scale), None if out is None else np.asarray(out, bool),
            "" if factor or out is None else in_words(_base(fn).support), bool(site["infer"].get("is_auxiliary")),
            site["error"],
        ))  # fmt: skip
    return Walk(tuple(sites), tuple(params.values()))


def _base(fn: Any) -> Any:
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    return fn


def relations(program: Any, args: tuple) -> Relations:
    """Direct dependencies by NumPyro's own provenance."""
    with validation_enabled(False):
        found = get_model_relations(program, args)
    parents = {name: tuple(found["sample_sample"][name]) for name in found["sample_dist"]}
    return Relations(parents, {name: tuple(sorted(found["sample_param"][name])) for name in parents})


def evaluate(fn: Callable[..., Any], *args: Any, numbers: bool = True) -> Any:
    """`fn(*args)` by NumPy: what it returns, its arrays as NumPy's own, without `numbers` zeros of their shapes."""
    with validation_enabled(False):  # which would compile its questions one by one
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        leaves, tree = jax.tree.flatten(shapes)
        if not numbers:
            return jax.tree.unflatten(tree, [np.zeros(v.shape, bool if v.dtype == bool else float) for v in leaves])
        try:
            return jax.tree.unflatten(tree, jaxpr.run(closed.jaxpr, closed.consts, jax.tree.leaves(args)))
        except Exception:  # what NumPy cannot run is compiled after all
            return jax.tree.map(np.asarray, jax.jit(fn)(*args))


def try_estimator(
    estimator: Any, model: Any, guide: Any, args: tuple, params: Mapping[str, np.ndarray], bound: str = "elbo"
) -> None:
    """Raise `InputError` where the estimator does not apply; shapes only."""
    elbo: Any = make(estimator, bound, 2 if bound == "iwae" else 1)

    def run(params: dict[str, Any]) -> Any:
        own = isinstance(elbo, EstimatorELBO)
        state = elbo.init_state(elbo.plan(model, guide, args, {}, params)[0]) if own else {}
        return elbo.evaluate(random.key(0), params, state, model, guide, args, {})[0]

    with warnings.catch_warnings(), validation_enabled(False), explained(estimator, "numpyro"):
        warnings.simplefilter("ignore")  # the stock ELBOs warn of what `compare` measures
        jax.eval_shape(run, {name: jax.ShapeDtypeStruct(v.shape, v.dtype) for name, v in params.items()})


def method(declaration: Any, name: str, params: Mapping[str, Any], args: tuple) -> np.ndarray:
    """What a further method of a declaration, such as `log_evidence`, gives at these parameters."""
    program = Program(declaration, name, "numpyro")
    return evaluate(lambda p, a: handlers.substitute(program, data=dict(p))(*a), dict(params), args)


def state() -> dict[str, Any]:
    """What is global in JAX and NumPyro, to be compared with itself."""
    settings = {name: str(value) for name, value in jax.config.values.items()}
    return {"jax.config": settings, "NumPyro's handlers": list(_PYRO_STACK)}
