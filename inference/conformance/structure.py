"""Checks of what a model is made of: its sites, plates and parameters, and how guide and model fit together."""

from __future__ import annotations

from collections.abc import Iterable

from ..callables import accepts_total
from ..check import rules
from ..check.walk import Walk
from .subject import Skipped, Subject


def first(problems: Iterable[str]) -> str | None:
    """The first of these sentences, None if there is none."""
    return next(map(str, problems), None)


def runs(s: Subject, engine: str) -> str | None:
    """Guide and model run on a batch of the data."""
    s.walk(engine)


def observes_its_data(s: Subject, engine: str) -> str | None:
    """Some site or factor of the model is given data."""
    return first(p for p in rules.coverage(s.walk(engine)) if "observes nothing" in p)


def guide_covers_latents(s: Subject, engine: str) -> str | None:
    """Every latent of the model is drawn by the guide."""
    return first(p for p in rules.coverage(s.walk(engine)) if "no site in the guide" in p)


def guide_draws_latents_only(s: Subject, engine: str) -> str | None:
    """The guide draws what the model draws, in the same plates and with the same event shape, and nothing else."""
    return first(p for p in rules.coverage(s.walk(engine)) if "observes nothing" not in p and "no site in the guide" not in p)


def shapes_fit_plates(s: Subject, engine: str) -> str | None:
    """Every batch dimension belongs to a plate."""
    return first(rules.shapes(s.walk(engine)))


def _sizes(s: Subject, engine: str) -> tuple[Walk, Walk, tuple[int, int]]:
    at = (s.total, s.total - 1)
    return s.walk(engine), s.walk(engine, size=at[1], numbers=False), at


def sites_free_of_batch(s: Subject, engine: str) -> str | None:
    """The same sites at two batch sizes."""
    return first(p for p in rules.sizes(*_sizes(s, engine)) if p.startswith("site"))


def plates_free_of_batch(s: Subject, engine: str) -> str | None:
    """The same plates around each site at two batch sizes."""
    return first(p for p in rules.sizes(*_sizes(s, engine)) if p.startswith("the plates"))


def parameters_free_of_batch(s: Subject, engine: str) -> str | None:
    """The same shape of each parameter at two batch sizes."""
    return first(p for p in rules.sizes(*_sizes(s, engine)) if p.startswith("parameter"))


def total_is_taken(s: Subject, engine: str) -> str | None:
    """Model and guide of a declaration take the keyword `total`, so that minibatches can stand for all data."""
    s.needs()
    missing = [name for name in ("model", "guide") if not accepts_total(getattr(s.model, name))]
    return f"{missing[0]} does not take the keyword `total`; add it, and pass it to the plate." if missing else None


def latents_reach_data(s: Subject, engine: str) -> str | None:
    """In the graph, every latent of the model has a way to something observed."""
    sites, parents = s.walk(engine).of("model"), s.relations(engine).parents
    reached = {name for name, site in sites.items() if site.kind != "latent"}
    for _ in sites:
        reached |= {parent for name in reached for parent in parents.get(name, ())}
    lost = [name for name in sites if name not in reached]
    cure = "so that its posterior is its prior; leave it out"
    return f"nothing observed depends on latent '{lost[0]}', {cure}." if lost else None


def _both(s: Subject) -> tuple[str, str]:
    if len(s.engines) < 2:
        raise Skipped("needs both engines")
    return s.engines[0], s.engines[1]


def engines_agree_on_sites(s: Subject, engine: str) -> str | None:
    """Both engines have the same sites in the same order, with the same distributions, plates and shapes."""
    told = []
    for other in _both(s):
        sites = s.walk(other).sites
        told.append([(x.role, x.name, x.kind, x.distribution, x.frames, x.batch_shape, x.event_shape) for x in sites])
    for a, b in zip(*told, strict=False):
        if a != b:
            return (f"site '{a[1]}' of the {a[0]} is not the same on both engines: {a[2:]} and {(b[1], *b[2:])}; branch on "
                    "neither.")  # fmt: skip
    return None if len(told[0]) == len(told[1]) else "one engine has more sites than the other; branch on neither."


def engines_agree_on_parameters(s: Subject, engine: str) -> str | None:
    """Both engines have the same names and shapes of parameters."""
    a, b = ({p.name: (p.value.shape, p.constraint) for p in s.walk(other).params} for other in _both(s))
    for name in [*a, *b]:
        if a.get(name) != b.get(name):
            return f"parameter '{name}' is {a.get(name)} on one engine and {b.get(name)} on the other; branch on neither."
    return None


CHECKS = (runs, observes_its_data, guide_covers_latents, guide_draws_latents_only, shapes_fit_plates, sites_free_of_batch,
          plates_free_of_batch, parameters_free_of_batch, total_is_taken, latents_reach_data, engines_agree_on_sites,
          engines_agree_on_parameters)  # fmt: skip
