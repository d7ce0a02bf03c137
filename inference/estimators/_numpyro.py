"""What NumPyro supplies to the estimators: the terms of one run, and a drop-in `ELBO`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as xp
import numpyro.distributions as dist
from jax import random
from jax.lax import stop_gradient
from numpyro import handlers
from numpyro.distributions.distribution import validation_enabled
from numpyro.infer import elbo as stock
from numpyro.infer.util import get_importance_trace
from numpyro.primitives import Messenger, mutable

from ppl_models import InputError

from . import STOCK, Latent, Plan, Spec, controls, doubly, num_samples, relaxes, resolve, stateful
from .doubly_reparameterised import doubly_bound
from .relaxed import relax
from .site import MAX_ROWS, Values, given_variant, joint, with_gradient
from .terms import Plate, Term, align, bound, elbo, expected, rows, tempered

Arrays = Mapping[str, Any]


def bare(fn: Any, inside: bool = True) -> Any:
    """`fn` without masks, nor masks inside its event, at its full batch shape."""
    shape = fn.batch_shape
    while isinstance(fn, (dist.MaskedDistribution, dist.ExpandedDistribution)):
        fn = fn.base_dist
    if inside and isinstance(fn, dist.Independent):
        fn = bare(fn.base_dist).to_event(fn.reinterpreted_batch_ndims)
    return fn if fn.batch_shape == shape else fn.expand(shape)


def values_of(fn: Any) -> Values | None:
    """Every value of one draw of `fn`, or None if they are not finitely many."""
    shape = fn.event_shape
    while isinstance(fn, (dist.MaskedDistribution, dist.ExpandedDistribution, dist.Independent)):
        fn = fn.base_dist
    if not fn.has_enumerate_support:
        return None
    single = fn.enumerate_support(expand=False)
    return Values(single.reshape(single.shape[0], *fn.event_shape), prod(shape[: len(shape) - len(fn.event_shape)]), shape)


def kl(q: Any, p: Any) -> Any | None:
    """KL(q ‖ p) of two sites' distributions masked alike; None if no closed form is known."""
    if isinstance(q, dist.MaskedDistribution) != isinstance(p, dist.MaskedDistribution):
        return None  # log p − mask · log q has none
    try:
        value = dist.kl_divergence(bare(q, inside=False), bare(p, inside=False))
    except NotImplementedError:
        return None
    return xp.where(q._mask, value, 0.0) if isinstance(q, dist.MaskedDistribution) else value


def soft(fn: Any) -> tuple[Any, bool] | None:
    """Logits shaped as a draw of `fn`, and whether the draw is one-hot; None if it is neither that nor bits."""
    shape = fn.batch_shape + fn.event_shape
    while isinstance(fn, (dist.MaskedDistribution, dist.ExpandedDistribution, dist.Independent)):
        fn = fn.base_dist
    if not (isinstance(fn, dist.BernoulliLogits) or type(fn).__name__ == "OneHotCategorical"):
        return None
    return xp.broadcast_to(fn.logits, shape), bool(fn.event_shape)


def relaxed(fn: Any, temperature: float) -> Callable[..., Any]:
    """A function that draws from the relaxation of `fn`."""
    logits, one_hot = soft(fn)  # type: ignore[misc]  # refused where it is None
    noise = random.gumbel if one_hot else random.logistic

    def draw(key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        return relax(xp, logits, noise(key, sample_shape + logits.shape, logits.dtype), temperature, one_hot)

    return draw


class Estimated(Messenger):
    """Runs a guide with each latent's distribution replaced by the variant that its estimator asks for."""

    def __init__(self, fn: Callable[..., Any], plan: Plan, given: Arrays) -> None:
        super().__init__(fn)
        self.plan, self.given = plan, given

    def process_message(self, msg: Any) -> None:
        if msg["type"] != "sample" or msg["is_observed"] or msg["name"] not in self.plan:
            return
        name, fn = msg["name"], msg["fn"]
        if name in self.given:
            value = xp.broadcast_to(self.given[name], fn.batch_shape + fn.event_shape)
            msg["fn"] = with_gradient(fn, given_variant(self.plan[name]), stop_gradient, value)
        elif (kind := self.plan[name].variant) == "relax":
            msg["fn"] = with_gradient(fn, kind, stop_gradient, relaxed(fn, self.plan[name].temperature))  # type: ignore[attr-defined]
        elif kind is not None:
            msg["fn"] = with_gradient(fn, "path" if kind == "path" else "score", stop_gradient)


class Inspection(NamedTuple):
    """What one dry run of model and guide tells: the latents, and the values of those that have finitely many."""

    latents: tuple[Latent, ...]
    values: dict[str, Values]


def inspect(model: Any, guide: Any, args: tuple, kwargs: Mapping, params: Arrays) -> Inspection:
    """Run model and guide once, shapes only.

    Raises:
        InputError: A latent of the model has no site in the guide.
    """
    found: list[Inspection] = []

    def run() -> None:
        guide_trace = handlers.trace(handlers.substitute(handlers.seed(guide, 0), data=dict(params))).get_trace(*args, **kwargs)
        replayed = handlers.replay(handlers.seed(model, 0), guide_trace)
        model_trace = handlers.trace(handlers.substitute(replayed, data=dict(params))).get_trace(*args, **kwargs)
        for name, site in model_trace.items():
            if site["type"] == "sample" and not site["is_observed"] and name not in guide_trace:
                raise InputError(f"latent '{name}' of the model has no site in the guide; draw '{name}' there, for example "
                                 "from its exact posterior.")  # fmt: skip
        latents, values = [], {}
        for name, site in guide_trace.items():
            if site["type"] != "sample" or site["is_observed"]:
                continue
            fn, partner = site["fn"], model_trace.get(name)
            with jax.ensure_compile_time_eval():
                support = values_of(fn)
            if support is not None and support.size <= MAX_ROWS:
                values[name] = support
            closed = partner is not None and fn.has_rsample and kl(fn, partner["fn"]) is not None
            known = partner is not None or bool(site["infer"].get("is_auxiliary"))  # autoguides draw auxiliary sites
            told = (name, type(fn).__name__, fn.has_rsample, support and support.size, closed, known, soft(fn) is not None)
            latents.append(Latent(*told))
        found.append(Inspection(tuple(latents), values))

    jax.eval_shape(run)
    return found[0]


def run_terms(
    rng_key: Any, params: Arrays, model: Any, guide: Any, args: tuple, kwargs: Mapping, plan: Plan,
    values: Mapping[str, Values], given: Arrays | None = None, samples: int = 1,
) -> list[Term]:  # fmt: skip
    """The terms of log p − log q at S samples × E rows; `given` forces draws, by site (S × E, *value shape)."""
    enumerated = {name: v for name, v in values.items() if name in plan and plan[name].variant == "enumerate"}
    samples = num_samples(plan, samples)
    forced = {**joint(enumerated, xp, samples), **(given or {})}
    deps: list[dict[str, frozenset[str]]] = [{}, {}]
    if any(e.variant in ("score", "enumerate") for e in plan.values()):
        # Provenance is structure: found once, from free draws, since a forced value forgets what its logits depend on.
        deps = list(stock.get_nonreparam_deps(model, Estimated(guide, plan, {}), args, dict(kwargs), dict(params)))
    shared, keys = random.split(rng_key)
    count = samples * prod(v.size for v in enumerated.values())
    static: list[tuple[str, frozenset[Plate], frozenset[str], int, bool]] = []
    nesting = 0

    def particle(key: Any, given: Arrays) -> list[tuple[Any, Any, Any]]:
        nonlocal static, nesting
        run_model, run_guide = random.split(key)
        # The shared key draws plates' rows, so that all particles see one minibatch.
        hide = ["sample", "prng_key", "control_flow"]
        traces = get_importance_trace(
            handlers.seed(handlers.seed(model, shared, hide_types=hide), run_model),
            handlers.seed(handlers.seed(Estimated(guide, plan, given), shared, hide_types=hide), run_guide),
            args, dict(kwargs), dict(params),
        )  # fmt: skip
        model_trace, guide_trace = traces
        static, arrays, nesting = [], [], 0
        for sign, up, trace in zip((1, -1), deps, traces, strict=True):
            for name, site in trace.items():
                if site["type"] != "sample":
                    continue
                frames = site["cond_indep_stack"]
                nesting = max([nesting, *(-f.dim for f in frames)])
                plates = frozenset(Plate(f.name, f.dim, f.size, trace[f.name]["args"][0] / f.size) for f in frames)
                estimator = plan.get(name)
                cost, upstream, log_q = sign * xp.asarray(site["log_prob"]), up.get(name, frozenset()), None
                if estimator is not None and getattr(estimator, "analytic_kl", False):
                    if sign > 0:
                        continue
                    scale = 1.0 if site["scale"] is None else site["scale"]
                    cost = -scale * xp.asarray(kl(site["fn"], model_trace[name]["fn"]))
                    upstream = upstream | deps[0].get(name, frozenset())
                if sign < 0 and estimator is not None and estimator.variant in ("score", "enumerate"):
                    log_q = bare(site["fn"]).log_prob(site["value"])
                scored = log_q if estimator and estimator.variant == "score" else None
                weight = log_q if estimator and estimator.variant == "enumerate" else None
                num_values = enumerated[name].size if weight is not None else 1
                static.append((name, plates, upstream, num_values, sign < 0))
                arrays.append((cost, scored, weight))
        return arrays

    if count == 1:  # a batch of one would turn every product into a batched one, which is slower
        arrays = jax.tree.map(lambda x: x[None], particle(keys, {name: v[0] for name, v in forced.items()}))
    else:
        arrays = jax.vmap(particle)(random.split(keys, count), forced)

    def shape(x: Any, plates: frozenset[Plate]) -> Any:
        return None if x is None else align(x.reshape(samples, -1, *x.shape[1:]), plates, nesting)

    return [
        Term(name, plates, upstream, shape(cost, plates), shape(score, plates), shape(weight, plates), num_values, in_guide)
        for (name, plates, upstream, num_values, in_guide), (cost, score, weight) in zip(static, arrays, strict=True)
    ]


def draws(rng_key: Any, params: Arrays, guide: Any, args: tuple, kwargs: Mapping, plan: Plan, samples: int) -> dict[str, Any]:
    """The guide's draws, by site (S, *value shape), as `run_terms` makes them from the same key."""
    shared, keys = random.split(rng_key)

    def particle(key: Any) -> dict[str, Any]:
        seeded = handlers.seed(guide, shared, hide_types=["sample", "prng_key", "control_flow"])
        program = handlers.substitute(handlers.seed(seeded, random.split(key)[1]), data=dict(params))
        trace = handlers.trace(program).get_trace(*args, **kwargs)
        return {name: trace[name]["value"] for name in plan}

    return jax.vmap(particle)(random.split(keys, samples))


class EstimatorELBO(stock.ELBO):
    """−ELBO with the gradient estimator of each site chosen from outside; drop-in for `numpyro.infer.SVI(loss=...)`.

    Args:
        estimator: A name, an estimator, a mapping from site patterns to them, or None for the default at each site.
        bound: "elbo", or "iwae" for the K-sample bound of each element of the plates that hold all of the sites.
        num_particles: K of the K-sample bound; of the ELBO, how many samples are averaged (at least).

    Example:
        SVI(model, guide, optax.adam(1e-3), loss=EstimatorELBO({"z*": Score(LeaveOneOut(4))}))
    """

    can_infer_discrete = True

    def __init__(self, estimator: Spec = None, *, bound: str = "elbo", num_particles: int = 1) -> None:
        super().__init__(num_particles=num_particles)
        self.estimator, self.bound = estimator, bound

    # Equal by what they estimate, so that equal fits share one compilation.
    def _what(self) -> tuple:
        return self.estimator, self.bound, self.num_particles

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._what() == self._what()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        spec = tuple(self.estimator.items()) if isinstance(self.estimator, Mapping) else self.estimator
        return hash((spec, self.bound, self.num_particles))

    def plan(self, model: Any, guide: Any, args: tuple, kwargs: Mapping, params: Arrays) -> tuple[Plan, Inspection]:
        inspection = inspect(model, guide, args, kwargs, params)
        return resolve(self.estimator, inspection.latents, self.bound), inspection

    def init_state(self, plan: Plan) -> dict[str, Any]:
        return {name: (xp.zeros(()), xp.zeros(())) for name in stateful(plan)}

    def evaluate(
        self, rng_key: Any, params: Arrays, state: Arrays, model: Any, guide: Any, args: tuple, kwargs: Mapping,
        given: Arrays | None = None, beta: Any = None,
    ) -> tuple[Any, dict[str, Any]]:  # fmt: skip
        """The loss to differentiate in `params` (constrained), and the controls' next state.

        `beta` weighs the latents' share of the gradient; the value stays that of the bound.
        """
        plan, inspection = self.plan(model, guide, args, kwargs, params)

        def terms(params: Arrays, given: Arrays | None) -> list[Term]:
            with validation_enabled(False) if relaxes(plan) else nullcontext():  # relaxed values lie off the support
                return run_terms(
                    rng_key, params, model, guide, args, kwargs, plan, inspection.values, given, self.num_particles
                )

        if doubly(plan):
            z = given or draws(rng_key, params, guide, args, kwargs, plan, num_samples(plan, self.num_particles))
            # Seen from the model's parameters the draws are given; seen from the draws, the parameters are.
            of_params = terms(params, jax.tree.map(stop_gradient, z))
            value, surrogate, state = doubly_bound(of_params, terms(jax.tree.map(stop_gradient, params), z), xp, stop_gradient)
        elif self.bound == "iwae":
            value, surrogate, state = bound(terms(params, given), xp, stop_gradient)
        else:
            found = terms(params, given)
            weighed = found if beta is None else tempered(found, list(plan), beta)
            value, surrogate, state = elbo(weighed, controls(plan), state, xp, stop_gradient)
            value = value if beta is None else expected(found, xp)
        return -(surrogate + stop_gradient(value - surrogate)), jax.tree.map(stop_gradient, state)

    def loss(self, rng_key: Any, param_map: Arrays, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        return self.loss_with_mutable_state(rng_key, param_map, model, guide, *args, **kwargs)["loss"]

    def loss_with_mutable_state(
        self, rng_key: Any, param_map: Arrays, model: Any, guide: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        plan, _ = self.plan(model, guide, args, kwargs, param_map)
        names = stateful(plan)
        missing = [name for name in names if _slot(name) not in param_map]
        if missing:
            raise InputError(f"the running mean of site '{missing[0]}' has nowhere to be carried; give SVI the guide "
                             "`carrying(guide, sites)` instead of `guide`.")  # fmt: skip
        state = {name: param_map[_slot(name)] for name in names}
        loss, state = self.evaluate(rng_key, param_map, state, model, guide, args, kwargs)
        return {"loss": loss, "mutable_state": {_slot(name): state[name] for name in names} or None}


def _slot(name: str) -> str:
    return f"{name}$control"


def carrying(guide: Callable[..., Any], *sites: str) -> Callable[..., Any]:
    """`guide` that also declares, as NumPyro mutable state, the running means of `sites`, so that stock SVI carries them."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for name in sites:
            mutable(_slot(name), (xp.zeros(()), xp.zeros(())))  # pyright: ignore[reportArgumentType]
        return guide(*args, **kwargs)

    return wrapped


class StockELBO:
    """One of NumPyro's own ELBO classes, as it is, behind `EstimatorELBO.evaluate`'s signature."""

    def __init__(self, name: str) -> None:
        self.name, self.inner = name, getattr(stock, STOCK[name])()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StockELBO) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def evaluate(
        self, rng_key: Any, params: Arrays, state: Arrays, model: Any, guide: Any, args: tuple, kwargs: Mapping,
        given: Arrays | None = None, beta: None = None,
    ) -> tuple[Any, dict[str, Any]]:  # fmt: skip
        if given:
            guide = Estimated(guide, dict.fromkeys(given), {name: value[0] for name, value in given.items()})  # type: ignore[arg-type]
        if self.name == "stock-traceenum":
            from numpyro.contrib.funsor import config_enumerate  # loads funsor, which nothing else here needs

            model, guide = config_enumerate(model), config_enumerate(guide)
        return self.inner.loss(rng_key, dict(params), model, guide, *args, **kwargs), {}


def make(estimator: Spec, bound: str = "elbo", num_particles: int = 1) -> EstimatorELBO | StockELBO:
    """The ELBO for a spec or a `stock-…` name.

    Raises:
        InputError: A library's own ELBO is asked for another bound, or for several samples.
    """
    if not (isinstance(estimator, str) and estimator in STOCK):
        return EstimatorELBO(estimator, bound=bound, num_particles=num_particles)
    if bound != "elbo" or num_particles != 1:
        raise InputError(f"'{estimator}' is the library's own ELBO as it is, with one sample; leave out bound and particles.")
    return StockELBO(estimator)


def elbo_rows(rng_key: Any, params: Arrays, model: Any, guide: Any, args: tuple, kwargs: Mapping) -> Any:
    """One-sample ELBO of each row of `args[0]`, nats, shape (rows,), from plain draws; None without a data plate."""
    terms = run_terms(rng_key, params, model, guide, args, kwargs, {}, {})
    return rows(terms, args[0].shape[0], xp)
