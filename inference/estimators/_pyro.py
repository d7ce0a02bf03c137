"""What Pyro supplies to the estimators: the terms of one run, and a drop-in `ELBO`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from math import prod
from typing import Any, NamedTuple

import array_api_compat.torch as xp
import pyro
import pyro.distributions as dist
import torch
from pyro import infer, poutine
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO, config_enumerate
from pyro.infer.tracegraph_elbo import TrackNonReparam
from pyro.ops.provenance import get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch.distributions import kl_divergence

from ppl_models import InputError

from .._pyro import Fixed, Parameters, nodes
from . import STOCK, Latent, Plan, Spec, controls, doubly, num_samples, relaxes, resolve, stateful
from .doubly_reparameterised import doubly_bound
from .relaxed import relax
from .site import MAX_ROWS, Values, given_variant, joint, with_gradient
from .terms import Plate, Term, align, bound, elbo, expected, rows, tempered

Arrays = Mapping[str, Any]
PARTICLES = "num_particles_vectorized"  # the name Pyro's own ELBOs give this plate
stop_gradient = torch.Tensor.detach


def bare(fn: Any, inside: bool = True) -> Any:
    """`fn` without masks, nor masks inside its event, at its full batch shape."""
    shape = fn.batch_shape
    while isinstance(fn, (dist.MaskedDistribution, ExpandedDistribution)):
        fn = fn.base_dist
    if inside and isinstance(fn, dist.Independent):
        fn = bare(fn.base_dist).to_event(fn.reinterpreted_batch_ndims)
    return fn if fn.batch_shape == shape else fn.expand(shape)


def values_of(fn: Any) -> Values | None:
    """Every value of one draw of `fn`, or None if they are not finitely many."""
    shape, wrappers = (
        fn.event_shape,
        (dist.MaskedDistribution, dist.Independent, ExpandedDistribution),
    )
    while isinstance(fn, wrappers):
        fn = fn.base_dist
    if not fn.has_enumerate_support:
        return None
    single = fn.enumerate_support(expand=False)
    return Values(
        single.reshape(single.shape[0], *fn.event_shape), prod(shape[: len(shape) - len(fn.event_shape)]), tuple(shape)
    )


def kl(q: Any, p: Any) -> Any | None:
    """KL(q ‖ p) of two sites' distributions masked alike; None if no closed form is known."""
    if isinstance(q, dist.MaskedDistribution) != isinstance(p, dist.MaskedDistribution):
        return None  # log p − mask · log q has none
    try:
        value = kl_divergence(bare(q, inside=False), bare(p, inside=False))
    except NotImplementedError:
        return None
    return scale_and_mask(value, 1.0, q._mask) if isinstance(q, dist.MaskedDistribution) else value


def soft(fn: Any) -> tuple[Any, bool] | None:
    """Logits shaped as a draw of `fn`, and whether the draw is one-hot; None if it is neither that nor bits."""
    shape = fn.batch_shape + fn.event_shape
    while isinstance(fn, (dist.MaskedDistribution, dist.Independent, ExpandedDistribution)):
        fn = fn.base_dist
    if not isinstance(fn, (dist.Bernoulli, dist.OneHotCategorical)):
        return None
    return fn.logits.expand(shape), bool(fn.event_shape)


def relaxed(fn: Any, temperature: float) -> Callable[..., Any]:
    """A function that draws from the relaxation of `fn`."""
    logits, one_hot = soft(fn)  # type: ignore[misc]  # refused where it is None

    def draw(sample_shape: Any = ()) -> Any:
        u = torch.rand(torch.Size(sample_shape) + logits.shape, dtype=logits.dtype, device=logits.device)
        u = u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)
        return relax(xp, logits, -(-u.log()).log() if one_hot else u.logit(), temperature, one_hot)

    return draw


class Estimated(Messenger):
    """Runs a guide with each latent's distribution replaced by the variant that its estimator asks for."""

    def __init__(self, plan: Plan, given: Arrays) -> None:
        super().__init__()
        self.plan, self.given = plan, given

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or isinstance(msg["fn"], _Subsample) or msg["name"] not in self.plan:
            return
        name, fn = msg["name"], msg["fn"]
        if name in self.given:
            shape, value = fn.batch_shape + fn.event_shape, self.given[name]
            if value.ndim > len(shape):  # one particle, and so no particle dim
                value = value[0]
            elif value.ndim < len(shape):  # (K, *event) against (K, *plates, *event)
                value = value.reshape(value.shape[0], *(1,) * (len(shape) - value.ndim), *value.shape[1:])
            msg["fn"] = with_gradient(fn, given_variant(self.plan[name]), stop_gradient, value.expand(shape))
        elif (kind := self.plan[name].variant) == "relax":
            msg["fn"] = with_gradient(fn, kind, stop_gradient, relaxed(fn, self.plan[name].temperature))  # type: ignore[attr-defined]
        elif kind is not None:
            msg["fn"] = with_gradient(fn, "path" if kind == "path" else "score", stop_gradient)


def sites(trace: Any) -> list[tuple[str, Any]]:
    return [(n, s) for n, s in nodes(trace) if s["type"] == "sample" and not isinstance(s["fn"], _Subsample)]


def frames_of(site: Any) -> list[Any]:
    return [f for f in site["cond_indep_stack"] if f.vectorized]


def run(model: Any, guide: Any, args: tuple, kwargs: Mapping) -> tuple[Any, Any]:
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    return poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs), guide_trace


def inside(context: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` run inside a handler or plate."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with context:
            return fn(*args, **kwargs)

    return wrapped


class Inspection(NamedTuple):
    """What one dry run of model and guide tells."""

    latents: tuple[Latent, ...]
    values: dict[str, Values]
    nesting: int


def inspect(model: Any, guide: Any, args: tuple, kwargs: Mapping) -> Inspection:
    """Run model and guide once, without gradients and without moving the random state.

    Raises:
        InputError: A latent of the model has no site in the guide.
    """
    with torch.no_grad(), torch.random.fork_rng():
        model_trace, guide_trace = run(model, guide, args, kwargs)
    for name, site in sites(model_trace):
        if not site["is_observed"] and name not in guide_trace.nodes:
            raise InputError(f"latent '{name}' of the model has no site in the guide; draw '{name}' there, for example from "
                             "its exact posterior.")  # fmt: skip
    latents, values = [], {}
    for name, site in sites(guide_trace):
        if site["is_observed"]:
            continue
        fn, partner = site["fn"], dict(nodes(model_trace)).get(name)
        if (support := values_of(fn)) is not None and support.size <= MAX_ROWS:
            values[name] = support
        alike = partner is not None and (site["mask"] is None) == (partner["mask"] is None)
        closed = partner is not None and alike and fn.has_rsample and kl(fn, partner["fn"]) is not None
        known = partner is not None or bool(site["infer"].get("is_auxiliary"))  # autoguides draw auxiliary sites
        told = (name, type(fn).__name__, fn.has_rsample, support and support.size, closed, known, soft(fn) is not None)
        latents.append(Latent(*told))
    both = sites(model_trace) + sites(guide_trace)
    return Inspection(tuple(latents), values, max((-f.dim for _, site in both for f in frames_of(site)), default=0))


def provenance(model: Any, guide: Any, args: tuple, kwargs: Mapping) -> list[dict[str, frozenset[str]]]:
    """For each site of model and of guide, the latents drawn without a gradient that its log probability depends on."""
    with TrackNonReparam(), torch.no_grad(), torch.random.fork_rng():
        traces = run(model, guide, args, kwargs)
        return [{name: get_provenance(s["fn"].log_prob(s["value"])) for name, s in sites(tr)} for tr in traces]


def run_terms(
    model: Any, guide: Any, args: tuple, kwargs: Mapping, plan: Plan, inspection: Inspection,
    upstream: list[dict[str, frozenset[str]]], given: Arrays | None = None, samples: int = 1,
) -> list[Term]:  # fmt: skip
    """The terms of log p − log q at S samples × E rows; `given` forces draws, by site (S × E, *value shape)."""
    enumerated = {n: v for n, v in inspection.values.items() if n in plan and plan[n].variant == "enumerate"}
    samples, nesting = num_samples(plan, samples), inspection.nesting
    count = samples * prod(v.size for v in enumerated.values())
    forced = {**joint(enumerated, xp, samples), **(given or {})}
    if count > 1:
        particles = pyro.plate(PARTICLES, count, dim=-nesting - 1)
        model, guide = inside(particles, model), inside(particles, guide)
    # Outside the particles' plate: a distribution is replaced once all plates have expanded it.
    model_trace, guide_trace = run(model, inside(Estimated(plan, forced), guide), args, kwargs)
    terms = []

    def shape(x: Any, plates: frozenset[Plate]) -> Any:
        x = x.reshape(*(1,) * (nesting + 1 - x.ndim), *x.shape)
        return align(x.reshape(samples, -1, *x.shape[1:]), plates, nesting)

    for sign, up, trace in zip((1, -1), upstream, (model_trace, guide_trace), strict=True):
        for name, site in sites(trace):
            fn, value, estimator = site["fn"], site["value"], plan.get(name)
            frames = [f for f in frames_of(site) if f.name != PARTICLES]
            plates = frozenset(Plate(f.name, f.dim, f.size, (f.full_size or f.size) / f.size) for f in frames)
            depends, log_q = up.get(name, frozenset()), None
            if estimator is not None and getattr(estimator, "analytic_kl", False):
                if sign > 0:
                    continue
                cost = -scale_and_mask(kl(fn, model_trace.nodes[name]["fn"]), site["scale"], site["mask"])
                depends = depends | upstream[0].get(name, frozenset())
            else:
                cost = sign * scale_and_mask(fn.log_prob(value), site["scale"], site["mask"])
            if sign < 0 and estimator is not None and estimator.variant in ("score", "enumerate"):
                log_q = shape(bare(fn).log_prob(value), plates)
            scored = log_q if estimator and estimator.variant == "score" else None
            weight = log_q if estimator and estimator.variant == "enumerate" else None
            values = enumerated[name].size if weight is not None else 1
            terms.append(Term(name, plates, depends, shape(cost, plates), scored, weight, values, sign < 0))
    return terms


def draws(guide: Any, args: tuple, kwargs: Mapping, plan: Plan, nesting: int, samples: int) -> dict[str, Any]:
    """The guide's draws, by site (S, *value shape)."""
    if samples > 1:
        guide = inside(pyro.plate(PARTICLES, samples, dim=-nesting - 1), guide)
    trace = poutine.trace(guide).get_trace(*args, **kwargs)
    values = {name: trace.nodes[name]["value"] for name in plan}
    return values if samples > 1 else {name: value[None] for name, value in values.items()}


class EstimatorELBO(ELBO):
    """−ELBO with the gradient estimator of each site chosen from outside; drop-in for `pyro.infer.SVI(loss=...)`.

    The dry run that finds sites, plates and provenance is done once for each pair of callables and kept: use one object
    a fit, as with Pyro's own ELBOs.

    Args:
        estimator: A name, an estimator, a mapping from site patterns to them, or None for the default at each site.
        bound: "elbo", or "iwae" for the K-sample bound of each element of the plates that hold all of the sites.
        num_particles: K of the K-sample bound; of the ELBO, how many samples are averaged (at least).

    Example:
        SVI(model, guide, Adam({"lr": 1e-3}), loss=EstimatorELBO({"z*": Score(LeaveOneOut(4))}))
    """

    def __init__(self, estimator: Spec = None, *, bound: str = "elbo", num_particles: int = 1) -> None:
        super().__init__(num_particles=num_particles)
        self.estimator, self.bound = estimator, bound
        self.state: dict[str, Any] = {}
        self._known: dict[Any, tuple[Plan, Inspection, list[dict[str, frozenset[str]]]]] = {}

    def structure(self, model: Any, guide: Any, args: tuple, kwargs: Mapping) -> tuple[Plan, Inspection, Any]:
        if (model, guide) not in self._known:
            inspection = inspect(model, guide, args, kwargs)
            plan = resolve(self.estimator, inspection.latents, self.bound)
            upstream: list[dict[str, frozenset[str]]] = [{}, {}]
            if any(e.variant in ("score", "enumerate") for e in plan.values()):
                # Structure, and dear to track: found once, from free draws, since a forced value forgets its logits.
                upstream = provenance(model, inside(Estimated(plan, {}), guide), args, kwargs)
            self._known[model, guide] = plan, inspection, upstream
        return self._known[model, guide]

    def plan(self, model: Any, guide: Any, args: tuple, kwargs: Mapping, params: Arrays) -> tuple[Plan, Inspection]:
        with Parameters(params):
            plan, inspection, _ = self.structure(model, guide, args, kwargs)
        return plan, inspection

    def init_state(self, plan: Plan) -> dict[str, Any]:
        return {name: (torch.zeros(()), torch.zeros(())) for name in stateful(plan)}

    def evaluate(
        self,
        params: Arrays,
        state: Arrays,
        model: Any,
        guide: Any,
        args: tuple,
        kwargs: Mapping,
        given: Arrays | None = None,
        beta: Any = None,
    ) -> tuple[Any, dict[str, Any]]:
        """The loss to differentiate in `params` (constrained), and the controls' next state; draws from torch's generator.

        `beta` weighs the latents' share of the gradient; the value stays that of the bound.
        """
        with Parameters(params):
            plan, inspection, upstream = self.structure(model, guide, args, kwargs)

        def terms(given: Arrays | None, fixed: bool = False) -> list[Term]:
            lenient = pyro.validation_enabled(False) if relaxes(plan) else nullcontext()  # relaxed values lie off the support
            with Parameters(params), Fixed() if fixed else nullcontext(), lenient:
                return run_terms(model, guide, args, kwargs, plan, inspection, upstream, given, self.num_particles)

        if doubly(plan):
            with Parameters(params):
                samples = num_samples(plan, self.num_particles)
                z = given or draws(guide, args, kwargs, plan, inspection.nesting, samples)
            # Seen from the model's parameters the draws are given; seen from the draws, the parameters are.
            of_params = terms({name: value.detach() for name, value in z.items()})
            value, surrogate, state = doubly_bound(of_params, terms(z, fixed=True), xp, stop_gradient)
        elif self.bound == "iwae":
            value, surrogate, state = bound(terms(given), xp, stop_gradient)
        else:
            found = terms(given)
            weighed = found if beta is None else tempered(found, list(plan), beta)
            value, surrogate, state = elbo(weighed, controls(plan), state, xp, stop_gradient)
            value = value if beta is None else expected(found, xp)
        detached = {name: tuple(x.detach() for x in pair) for name, pair in state.items()}
        return -(surrogate + (value - surrogate).detach()), detached

    def _get_trace(self, model: Any, guide: Any, args: tuple, kwargs: Mapping) -> tuple[Any, Any]:
        return run(model, guide, args, kwargs)

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.state:
            self.state = self.init_state(self.structure(model, guide, args, kwargs)[0])
        loss, self.state = self.evaluate({}, self.state, model, guide, args, kwargs)
        return loss

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()


class StockELBO:
    """One of Pyro's own ELBO classes, as it is, behind `EstimatorELBO.evaluate`'s signature.

    Pyro's classes call `backward` themselves, so the loss returned is a leaf whose gradients are already in place:
    `evaluate` differentiates inside and returns a surrogate linear in the parameters with those gradients.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inner = getattr(infer, STOCK[name])()

    def evaluate(
        self,
        params: Arrays,
        state: Arrays,
        model: Any,
        guide: Any,
        args: tuple,
        kwargs: Mapping,
        given: Arrays | None = None,
        beta: None = None,
    ) -> tuple[Any, dict[str, Any]]:
        if given:
            guide = inside(Estimated(dict.fromkeys(given), given), guide)  # type: ignore[arg-type]
        if self.name == "stock-traceenum":
            model, guide = config_enumerate(model), config_enumerate(guide)
        leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
        with Parameters(leaves):
            value = self.inner.loss_and_grads(model, guide, *args, **kwargs)
        linear = sum(((p * leaves[n].grad).sum() for n, p in params.items() if leaves[n].grad is not None), torch.zeros(()))
        return linear + (value - linear.detach()), {}


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


def elbo_rows(params: Arrays, model: Any, guide: Any, args: tuple, kwargs: Mapping) -> Any:
    """One-sample ELBO of each row of `args[0]`, nats, shape (rows,), from plain draws; None without a data plate."""
    with torch.no_grad(), Parameters(params):
        terms = run_terms(model, guide, args, kwargs, {}, inspect(model, guide, args, kwargs), [{}, {}])
    return rows(terms, args[0].shape[0], xp)
