"""Gradient estimators, chosen for each site from outside a model, for both engines.

An estimator is named (`"leave-one-out"`), given as an object (`Score(LeaveOneOut(4))`), or given by site pattern
(`{"z*": Pathwise(), "y": Enumerate()}`); sites not named get the default: pathwise if the draw is differentiable,
enumeration if the site has few values, leave-one-out otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import product
from math import prod
from typing import Any, ClassVar, Protocol

import numpy as np

from ppl_models import InputError

from .arm import Arm
from .disarm import Disarm
from .doubly_reparameterised import DoublyReparameterised
from .enumerate import Enumerate
from .leave_one_out import LeaveOneOut
from .local_enumeration import LocalEnumeration
from .measure_valued import MeasureValued
from .nvil import Nvil
from .ovis import Ovis
from .path_only import PathOnly
from .pathwise import Pathwise
from .rebar import Rebar
from .reinmax import ReinMax
from .relax import Relax
from .relaxed import Relaxed
from .running_mean import RunningMean
from .score import Score
from .site import MAX_ROWS, Latent, Variant
from .straight_through import StraightThrough
from .vimco import Vimco
from .wake_sleep import WakeSleep

#: By name, with the two-sample leave-one-out that compares at the cost of two plain samples.
ESTIMATORS: dict[str, Callable[[], SiteEstimator]] = {
    "pathwise": Pathwise,
    "pathwise-kl": lambda: Pathwise(analytic_kl=True),
    "path-only": PathOnly,
    "doubly-reparameterised": DoublyReparameterised,
    "measure-valued": MeasureValued,
    "relaxed": Relaxed,
    "straight-through": StraightThrough,
    "reinmax": ReinMax,
    "score": Score,
    "running-mean": lambda: Score(RunningMean()),
    "nvil": lambda: Score(Nvil()),
    "leave-one-out": lambda: Score(LeaveOneOut()),
    "vimco": lambda: Score(Vimco()),
    "ovis": lambda: Score(Ovis()),
    "wake-sleep": WakeSleep,
    "arm": Arm,
    "disarm": Disarm,
    "rebar": Rebar,
    "relax": Relax,
    "enumerate": Enumerate,
    "enumerate-local": LocalEnumeration,
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


def named(text: str) -> SiteEstimator:
    """The estimator of that name, with settings if they are given: "relaxed", "relaxed(temperature=0.1)".

    Raises:
        InputError: There is none, or it has no such setting.
    """
    name, _, given = text.partition("(")
    if name not in ESTIMATORS or (given and not given.endswith(")")):
        known = [*ESTIMATORS, *STOCK]
        close = get_close_matches(name, known, 1)
        hint = f"did you mean '{close[0]}'?" if close else "choose one of those."
        raise InputError(f"expected an estimator among {', '.join(known)}, got '{text}'; {hint}")
    estimator = ESTIMATORS[name]()
    return with_settings(estimator, text, [part.partition("=") for part in given[:-1].split(",") if part.strip()])


def listed(text: str) -> list[str]:
    """The estimators of a comma-separated list; "relaxed(temperature=0.1|0.5)" stands for two."""
    out = []
    for part in re.findall(r"[^,(]+(?:\([^)]*\))?", text):
        if part.strip():
            choices = [choice.split("|") for choice in re.split(r"(\d[^,)=]*\|[^,)]*)", part.strip())]
            out += ["".join(words) for words in product(*choices)]
    return out


def with_settings(estimator: Any, text: str, pairs: Sequence[tuple[str, str, str]]) -> Any:
    """The estimator with other settings, of its own or of its control."""
    for key, _, value in pairs:
        held = estimator.control if isinstance(estimator, Score) and estimator.control is not None else estimator
        kinds = {f.name: type(getattr(held, f.name)) for f in fields(held)}
        known = [name for name, kind in kinds.items() if kind in (int, float)]
        if (key := key.strip()) not in known:
            raise InputError(f"'{text}' has no setting '{key}'; its settings are {', '.join(known) or 'none'}.")
        try:
            number = kinds[key](value)
        except ValueError:
            raise InputError(f"expected {key} of '{text}' to be a number, got '{value.strip()}'; give one.") from None
        changed = replace(held, **{key: number})
        estimator = changed if held is estimator else replace(estimator, control=changed)
    return estimator


def default(site: Latent, bound: str = "elbo") -> SiteEstimator:
    if site.has_rsample:
        return Pathwise()
    if bound == "iwae":
        return Score(Vimco())
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
        estimator = next((e for pattern, e in chosen.items() if fnmatchcase(site.name, pattern)), None) or default(site, bound)
        if (reason := estimator.refusal(site)) is not None:
            raise InputError(f"estimator '{estimator.name}' does not apply: {reason}.")
        if bound not in getattr(estimator, "bounds", estimator.unbiased_for):
            use = {"elbo": "path-only or, where draws have no gradient, leave-one-out",
                   "iwae": "pathwise, doubly-reparameterised or, where draws have no gradient, vimco"}[bound]  # fmt: skip
            raise InputError(f"estimator '{estimator.name}' does not apply: at site '{site.name}' it does not estimate the "
                             f"{NAMES[bound]}; use {use}.")  # fmt: skip
        plan[site.name] = estimator
    for joint in (DoublyReparameterised, WakeSleep):
        if len({isinstance(e, joint) for n, e in plan.items() if n in drawn}) > 1:
            raise InputError(f"{joint.name} is an estimator of all latents together; name it for every site or for none.")
    rows = prod(s.num_values or 1 for s in latents if plan[s.name].variant == "enumerate")
    if rows > MAX_ROWS:
        raise InputError(f"the enumerated sites have {rows} joint values, more than the {MAX_ROWS} that are enumerated; "
                         "use leave-one-out at some of them.")  # fmt: skip
    return plan


def num_samples(plan: Plan, at_least: int = 1) -> int:
    """How many independent samples of the program the plan draws at each row of enumerated values."""
    return max([at_least, *(e.num_particles for e in plan.values())]) + auxiliary(plan)


def auxiliary(plan: Plan) -> int:
    """How many of the samples serve the controls alone."""
    return max((getattr(control, "auxiliary", 0) for control in controls(plan).values()), default=0)


def doubly(plan: Plan) -> bool:
    """Whether the plan is the doubly reparameterised one."""
    return any(isinstance(e, DoublyReparameterised) for e in plan.values())


def wakes(plan: Plan) -> bool:
    """Whether the plan is that of wake-sleep."""
    return any(isinstance(e, WakeSleep) for e in plan.values())


def replays(plan: Plan) -> bool:
    """Whether some draw is compared with other values."""
    return any(e.variant == "replay" for e in plan.values())


def relaxes(plan: Plan) -> bool:
    """Whether some draw is relaxed."""
    return any(e.variant == "relax" for e in plan.values())


def evaluations(plan: Plan, latents: Sequence[Latent], num_particles: int = 1) -> int:
    """Evaluations of model and guide that one gradient costs."""
    rows = prod(s.num_values or 1 for s in latents if plan[s.name].variant == "enumerate")
    more = sum(plan[s.name].replays(s) for s in latents if plan[s.name].variant == "replay")  # type: ignore[attr-defined]
    return (1 + doubly(plan) + more) * num_samples(plan, num_particles) * rows


def controls(plan: Plan) -> dict[str, Any]:
    """The controls by site name."""
    return {name: e.control for name, e in plan.items() if isinstance(e, Score) and e.control is not None}


def stateful(plan: Plan) -> dict[str, Any]:
    """What carries state from one gradient to the next, by site name: controls, or estimators."""
    carriers = {name: getattr(e, "control", None) if isinstance(e, Score) else e for name, e in plan.items()}
    return {name: carrier for name, carrier in carriers.items() if hasattr(carrier, "start")}


def begun(plan: Plan, latents: Sequence[Latent], args: Sequence[Any]) -> dict[str, tuple[np.ndarray, ...]]:
    """The first state of each of those; `args` are the program's."""
    shape = np.shape(args[0]) if args else ()
    columns, sites = prod(shape[1:]), {site.name: site for site in latents}
    return {name: carrier.start(sites[name], columns) for name, carrier in stateful(plan).items()}


def softened(plan: Plan) -> Plan:
    """The plan in which what has a relaxed cost for control is relaxed."""
    return {name: Relaxed(e.temperature, e.num_particles) if isinstance(e, Rebar) else e for name, e in plan.items()}


__all__ = [
    "BOUNDS", "ESTIMATORS", "STOCK", "Arm", "Disarm", "DoublyReparameterised", "Enumerate", "Latent", "LeaveOneOut",
    "LocalEnumeration", "MeasureValued", "Nvil", "Ovis", "PathOnly", "Pathwise", "Rebar", "ReinMax", "Relax", "Relaxed",
    "RunningMean", "Score", "SiteEstimator", "Spec", "StraightThrough", "Vimco", "WakeSleep", "resolve",
]  # fmt: skip
