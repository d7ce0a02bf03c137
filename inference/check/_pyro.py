"""What Pyro shows of a model and a guide, run once without gradients, its global store and random state left alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.distributions.util import is_validation_enabled, scale_and_mask
from pyro.infer.inspect import get_model_relations
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.subsample_messenger import _Subsample

from ppl_models import InputError
from ppl_models.language import Program

from .._pyro import Parameters, nodes
from ..estimators._pyro import EstimatorELBO, make
from ..svi.finite import explained
from .walk import Failure, Frame, Param, Relations, Role, Site, Walk, first_line, in_words, last_message

WRAPPERS = (dist.Independent, ExpandedDistribution, dist.MaskedDistribution)


def named(fn: Any) -> str:
    """The distribution's name without what is wrapped around it, as both libraries know it."""
    return type(base(fn)).__name__


def base(fn: Any) -> Any:
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    return fn


def outside(fn: Any, value: Any, observed: bool) -> Any:
    """Entries that `fn` cannot take; masked ones are none of them. Observed bits may be grey, as probabilities of bits."""
    if isinstance(fn, dist.MaskedDistribution):
        out = outside(fn.base_dist, value, observed)
        mask = torch.as_tensor(fn._mask).expand(fn.batch_shape)
        return out & mask.reshape(mask.shape + (1,) * (out.ndim - mask.ndim))
    if isinstance(fn, WRAPPERS):
        return outside(fn.base_dist, value, observed)
    if observed and type(fn.support) is type(dist.constraints.boolean):
        return (value < 0) | (value > 1)
    return ~fn.support.check(value)


class Given(Messenger):
    """Gives the values of latents in place of draws, and notes the sites that went well."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.values, self.seen = values, list[str]()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]

    def _pyro_post_sample(self, msg: Any) -> None:
        if not isinstance(msg["fn"], _Subsample):
            self.seen.append(msg["name"])


def walk(
    model: Any, guide: Any, args: tuple, *, seed: int = 0, init: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None, numbers: bool = True, particles: int = 0, nesting: int = 1,
) -> Walk:  # fmt: skip
    """Run guide and model once, draws of the one replayed in the other; `numbers` cost nothing here and always come.

    Args and result as those of NumPyro's `walk`.
    """
    given, role = Given(values or {}), "guide"
    with ExitStack() as stack:
        stack.enter_context(pyro.get_param_store().scope())
        for context in (torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), Parameters(init or {})):
            stack.enter_context(context)
        torch.manual_seed(seed)
        if particles:
            stack.enter_context(pyro.plate("particles", particles, dim=-1 - nesting))
        try:
            with given:
                guide_trace = poutine.trace(guide).get_trace(*args)
            given.seen.clear()
            role = "model"
            with given:
                model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args)
            return _gathered([("guide", guide_trace), ("model", model_trace)], init or {})
        except InputError:
            raise
        except Exception as error:
            return Walk(failure=_failure(error, role, given.seen))  # type: ignore[arg-type]


def frames(stack: Any) -> tuple[Frame, ...]:
    return tuple(Frame(f.name, int(f.dim), int(f.size), int(f.full_size or f.size)) for f in stack if f.vectorized)


def _failure(error: Exception, role: Role, seen: list[str]) -> Failure:
    message, after = last_message(error), seen[-1] if seen else None
    if message is None or isinstance(message["fn"], _Subsample):
        return Failure(role, first_line(error), after=after)
    shape = getattr(message["fn"], "batch_shape", None)
    around = frames(message["cond_indep_stack"])
    return Failure(role, first_line(error), message["name"], None if shape is None else tuple(shape), around, after)


def _outside(fn: Any, site: Any) -> np.ndarray | None:
    if isinstance(base(fn), dist.Unit):
        return None
    try:
        out = outside(fn, site["value"], site["is_observed"])
        if torch.is_tensor(site["mask"]):
            mask = site["mask"].expand(fn.batch_shape)
            out = out & mask.reshape(mask.shape + (1,) * (out.ndim - mask.ndim))
        return out.numpy() if site["mask"] is not False else None
    except Exception:  # a distribution that does not name its support
        return None


def _gathered(traces: Any, init: Mapping[str, Any]) -> Walk:
    sites, params = [], dict[str, Param]()
    for role, trace in traces:
        for name, site in nodes(trace):
            if site["type"] == "param":
                rule = site["kwargs"].get("constraint", dist.constraints.real)
                roles = params[name].roles | {role} if name in params else frozenset({role})
                value = site["value"].detach()
                inside = bool(rule.check(value).all())
                if not inside and name not in init and len(site["args"]) > 1:  # what the store made of it may be NaN
                    first = site["args"][1]
                    value = torch.as_tensor(first() if callable(first) else first).detach()
                params[name] = Param(name, value.numpy().copy(), in_words(rule), inside, roles)
            elif site["type"] == "sample" and not isinstance(site["fn"], _Subsample):
                fn, value = site["fn"], site["value"]
                try:
                    log_prob, wrong = scale_and_mask(fn.log_prob(value), 1.0, site["mask"]), None
                except Exception as unscored:
                    log_prob, wrong = torch.zeros(()), first_line(unscored)
                out, factor = _outside(fn, site), isinstance(base(fn), dist.Unit)
                scale = site["scale"]
                sites.append(Site(
                    name, role, site["is_observed"], factor, named(fn), frames(site["cond_indep_stack"]),
                    tuple(fn.batch_shape), tuple(fn.event_shape), np.asarray(value), np.asarray(log_prob), float(scale), out,
                    "" if factor or out is None else in_words(base(fn).support), bool(site["infer"].get("is_auxiliary")),
                    wrong,
                ))  # fmt: skip
    return Walk(tuple(sites), tuple(params.values()))


def relations(program: Any, args: tuple) -> Relations:
    """Direct dependencies by Pyro's own provenance."""
    with pyro.get_param_store().scope():
        found = get_model_relations(program, args)
    parents = {name: tuple(found["sample_sample"][name]) for name in found["sample_dist"]}
    return Relations(parents, {name: tuple(sorted(found["sample_param"][name])) for name in parents})


def evaluate(fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)`, its array as NumPy's own."""
    with torch.no_grad():
        return fn(*args)


def try_estimator(
    estimator: Any, model: Any, guide: Any, args: tuple, params: Mapping[str, np.ndarray], bound: str = "elbo"
) -> None:
    """Raise `InputError` where the estimator does not apply."""
    elbo: Any = make(estimator, bound, 2 if bound == "iwae" else 1)
    given = {name: torch.as_tensor(value) for name, value in params.items()}
    with warnings.catch_warnings(), pyro.get_param_store().scope(), torch.random.fork_rng(), ExitStack() as stack:
        warnings.simplefilter("ignore")  # the stock ELBOs warn of what `compare` measures
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(explained(estimator, "pyro"))
        state = elbo.init_state(elbo.plan(model, guide, args, {}, given)[0]) if isinstance(elbo, EstimatorELBO) else {}
        elbo.evaluate(given, state, model, guide, args, {})


def method(declaration: Any, name: str, params: Mapping[str, Any], args: tuple) -> np.ndarray:
    """What a further method of a declaration, such as `log_evidence`, gives at these parameters."""
    with torch.no_grad(), Parameters(params):
        return Program(declaration, name, "pyro")(*args).numpy()


def state() -> dict[str, Any]:
    """What is global in PyTorch and Pyro, to be compared with itself."""
    return {
        "torch's default dtype": torch.get_default_dtype(), "torch's random state": torch.get_rng_state().tolist(),
        "Pyro's parameter store": sorted(pyro.get_param_store().keys()), "Pyro's validation": is_validation_enabled(),
        "Pyro's handlers": list(_PYRO_STACK),
    }  # fmt: skip
