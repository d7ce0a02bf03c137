"""Gradient estimators, chosen for each site from outside a model, for both engines.

An estimator is named (`"leave-one-out"`), given as an object (`Score(LeaveOneOut(4))`), or given by site pattern
(`{"z*": Pathwise(), "y": Enumerate()}`); sites not named get the default: pathwise if the draw is differentiable,
enumeration if the site has few values, leave-one-out otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import prod
from typing import Any, ClassVar, Protocol

from ppl_models import InputError

from .doubly_reparameterised import DoublyReparameterised
from .enumerate import Enumerate
from .leave_one_out import LeaveOneOut
from .path_only import PathOnly
from .pathwise import Pathwise
from .relaxed import Relaxed
from .running_mean import RunningMean
from .score import Score
from .site import MAX_ROWS, Latent, Variant

#: By name, with the two-sample leave-one-out that compares at the cost of two plain samples.
ESTIMATORS: dict[str, Callable[[], SiteEstimator]] = {
    "pathwise": Pathwise,
    "pathwise-kl": lambda: Pathwise(analytic_kl=True),
    "path-only": PathOnly,
    "doubly-reparameterised": DoublyReparameterised,
    "relaxed": Relaxed,
    "score": Score,
    "running-mean": lambda: Score(RunningMean()),
    "leave-one-out": lambda: Score(LeaveOneOut()),
    "enumerate": Enumerate,
}

#: The libraries' own ELBO classes, measured as they are.
STOCK: dict[str, str] = {
    "stock-trace": "Trace_ELBO",
    "stock-tracegraph": "TraceGraph_ELBO",
    "stock-tracemeanfield": "TraceMeanField_ELBO",
    "stock-traceenum": "TraceEnum_ELBO",
}

#: Sites of at most this many values are enumerated by default.
FEW = 64


class SiteEstimator(Protocol):
    """How the gradient at one site is estimated; a frozen dataclass in a file of its own."""

    variant: ClassVar[Variant | None]

    @property
    def name(self) -> str: ...
    @property
    def num_particles(self) -> int: ...
    @property
    def unbiased_for(self) -> tuple[str, ...]: ...
    def refusal(self, site: Latent) -> str | None:
        """Why it does not apply at `site` and what does, or None if it applies."""
        ...


#: What is maximised: the ELBO, or the K-sample bound L_K of importance-weighted autoencoders.
NAMES = {"elbo": "ELBO", "iwae": "K-sample bound"}
BOUNDS = tuple(NAMES)

Spec = str | SiteEstimator | Mapping[str, "str | SiteEstimator"] | None
Plan = dict[str, SiteEstimator]


def named(name: str) -> SiteEstimator:
    """The estimator of that name.

    Raises:
        InputError: There is none.
    """
    if name not in ESTIMATORS:
        known = [*ESTIMATORS, *STOCK]
        close = get_close_matches(name, known, 1)
        hint = f"did you mean '{close[0]}'?" if close else "choose one of those."
        raise InputError(f"expected an estimator among {', '.join(known)}, got '{name}'; {hint}")
    return ESTIMATORS[name]()


def default(site: Latent) -> SiteEstimator:
    if site.has_rsample:
        return Pathwise()
    if site.num_values is not None and site.num_values <= FEW:
        return Enumerate()
    return Score(LeaveOneOut())


def resolve(spec: Spec, latents: Sequence[Latent], bound: str = "elbo") -> Plan:
    """The estimator of each latent site.

    Raises:
        InputError: A name is unknown, a pattern matches no site, or a named estimator does not apply at its site or to
            the bound.
    """
    patterns: Mapping[str, Any] = spec if isinstance(spec, Mapping) else {} if spec in (None, "auto") else {"*": spec}
    chosen = {pattern: named(e) if isinstance(e, str) else e for pattern, e in patterns.items()}
    names = [site.name for site in latents]
    for pattern in patterns:
        if pattern != "*" and not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"no latent site matches '{pattern}'; the guide's sites are {', '.join(names) or 'none'}.")
    plan: Plan = {}
    drawn = {site.name for site in latents if site.distribution != "Delta"}
    for site in latents:
        if not site.in_model:
            raise InputError(f"the guide draws '{site.name}', which the model does not have; rename one of them.")
        if site.distribution == "Delta":  # a function of other draws (autoguides have them), not a draw
            plan[site.name] = Pathwise()
            continue
        estimator = next((e for pattern, e in chosen.items() if fnmatchcase(site.name, pattern)), None) or default(site)
        if (reason := estimator.refusal(site)) is not None:
            raise InputError(f"estimator '{estimator.name}' does not apply: {reason}.")
        if bound not in getattr(estimator, "bounds", estimator.unbiased_for):
            use = {"elbo": "path-only, which it comes to there", "iwae": "pathwise or doubly-reparameterised"}[bound]
            raise InputError(f"estimator '{estimator.name}' does not apply: at site '{site.name}' it does not estimate the "
                             f"{NAMES[bound]}; use {use}.")  # fmt: skip
        plan[site.name] = estimator
    if len({isinstance(e, DoublyReparameterised) for n, e in plan.items() if n in drawn}) > 1:
        raise InputError("doubly-reparameterised is an estimator of all latents together; name it for every site or for none.")
    rows = prod(s.num_values or 1 for s in latents if plan[s.name].variant == "enumerate")
    if rows > MAX_ROWS:
        raise InputError(f"the enumerated sites have {rows} joint values, more than the {MAX_ROWS} that are enumerated; "
                         "use leave-one-out at some of them.")  # fmt: skip
    return plan


def num_samples(plan: Plan, at_least: int = 1) -> int:
    """How many independent samples of the program the plan draws at each row of enumerated values."""
    return max([at_least, *(e.num_particles for e in plan.values())])


def doubly(plan: Plan) -> bool:
    """Whether the plan is the doubly reparameterised one."""
    return any(isinstance(e, DoublyReparameterised) for e in plan.values())


def relaxes(plan: Plan) -> bool:
    """Whether some draw is relaxed."""
    return any(e.variant == "relax" for e in plan.values())


def evaluations(plan: Plan, latents: Sequence[Latent], num_particles: int = 1) -> int:
    """Evaluations of model and guide that one gradient costs."""
    rows = prod(s.num_values or 1 for s in latents if plan[s.name].variant == "enumerate")
    return (1 + doubly(plan)) * num_samples(plan, num_particles) * rows


def controls(plan: Plan) -> dict[str, Any]:
    """The controls by site name."""
    return {name: e.control for name, e in plan.items() if isinstance(e, Score) and e.control is not None}


def stateful(plan: Plan) -> tuple[str, ...]:
    """The sites whose control carries state."""
    return tuple(name for name, control in controls(plan).items() if isinstance(control, RunningMean))


__all__ = ["BOUNDS", "ESTIMATORS", "STOCK", "DoublyReparameterised", "Enumerate", "Latent", "LeaveOneOut", "PathOnly",
           "Pathwise", "Relaxed", "RunningMean", "Score", "SiteEstimator", "Spec", "resolve"]  # fmt: skip
