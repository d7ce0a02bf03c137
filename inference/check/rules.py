"""What can be wrong with a model, its guide and its data, each as a sentence: what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from ppl_models import InputError

from ..checks import check_init
from .rows import Rows, place
from .walk import Failure, Frame, Site, Walk

FIXES = ("put the dimension in a plate around the site, or call .to_event({k}) on its distribution if it belongs to one datum, "
         "or permute the data so that each plate's dimension stands where the plate does")  # fmt: skip


class Problem(str):
    """A sentence; `about` says whose fault it tells of: "data", "model" or "estimator"."""

    about: str

    def __new__(cls, sentence: str, about: str = "model") -> Problem:
        self = super().__new__(cls, sentence)
        self.about = about
        return self


def broken(failure: Failure) -> Problem:
    """A run that broke off, as the three fixes of a shape where that was the reason."""
    at = f"site '{failure.site}' of the {failure.role}" if failure.site else f"the {failure.role}"
    if failure.batch_shape is not None and (wrong := misfit(failure.batch_shape, failure.frames, strict=False)):
        return shapes_problem(at, failure.batch_shape, wrong, failure.frames)
    after = "" if failure.site or failure.after is None else f" after site '{failure.after}'"
    return Problem(f"{at} cannot be run{after} ({failure.error}); check the shapes and the types of what it computes there, on "
                   "a batch of these data.")  # fmt: skip


def misfit(actual: tuple[int, ...], frames: tuple[Frame, ...], strict: bool = True) -> tuple[int | None, ...]:
    """The batch shape that plates ask for (None: any), if `actual` is not that; () if it is.

    A dim without a plate must be 1: else it is neither one datum's nor another's. Unless `strict`, the plates may still
    stretch dims of 1, as both libraries do.
    """
    expected: list[int | None] = [None] * max([0, *(-f.dim for f in frames)])
    for frame in frames:
        expected[frame.dim] = frame.rows
    for got, want in zip_longest(reversed(actual), reversed(expected), fillvalue=1):
        if want is not None and got != want and (strict or got != 1):
            return tuple(expected) or (1,)
    return ()


def shapes_problem(at: str, actual: tuple[int, ...], expected: tuple[int | None, ...], frames: tuple[Frame, ...]) -> Problem:
    """A batch shape that the plates do not give, with the three fixes that Pyro names."""
    around = ", ".join(f"'{f.name}' ({f.rows} rows, dim {f.dim})" for f in sorted(frames, key=lambda f: f.dim))
    sizes = ", ".join("any" if n is None else str(n) for n in expected)
    wanted = f"({sizes}{',' * (len(expected) == 1)})" if frames else "()"
    k = max(1, len(actual) - (0 if not frames else len(expected)))
    return Problem(f"{at}: expected log_prob of batch shape {wanted} from {f'plates {around}' if frames else 'no plates'}, got "
                   f"{actual}; {FIXES.format(k=k)}.")  # fmt: skip


def shapes(walk: Walk) -> Iterator[Problem]:
    """Values that cannot be scored, and batch dimensions that no plate accounts for, which NumPyro accepts and sums over."""
    for site in walk.sites:
        if site.error is not None:
            yield Problem(f"the value of site '{site.name}' of the {site.role}, of shape {site.value.shape}, cannot be scored "
                          f"by its {site.distribution} of batch shape {site.batch_shape} and event shape {site.event_shape} "
                          f"({site.error}); give it a value of that shape.")  # fmt: skip
        elif not site.auxiliary and (wrong := misfit(site.log_prob.shape, site.frames)):
            yield shapes_problem(f"site '{site.name}' of the {site.role}", tuple(site.log_prob.shape), wrong, site.frames)


def coverage(walk: Walk) -> Iterator[Problem]:
    """Latents of one side that the other lacks, or has elsewhere; a model that observes nothing."""
    model, guide = walk.of("model"), walk.of("guide")
    if not any(site.kind in ("observed", "factor") for site in model.values()):
        yield Problem("the model observes nothing, so that its posterior is its prior; give the data to a site, as in "
                      "sample('x', ..., obs=x).")  # fmt: skip
    for name, site in model.items():
        if site.kind == "latent" and name not in guide:
            yield Problem(f"latent '{name}' of the model has no site in the guide; draw '{name}' there, for example from its "
                          "exact posterior.")  # fmt: skip
    for name, site in guide.items():
        other = model.get(name)
        if site.kind != "latent":
            yield Problem(f"site '{name}' of the guide is {'a factor' if site.factor else 'observed'}; guides only draw "
                          "latents: move it to the model.")  # fmt: skip
        elif other is None and not site.auxiliary and site.distribution != "Delta":
            yield Problem(f"the guide draws '{name}', which the model does not have; rename one of them, or draw it in the "
                          "model.")  # fmt: skip
        elif other is not None and other.kind == "observed":
            yield Problem(f"the guide draws '{name}', which the model observes; leave it out of the guide.")
        elif other is not None and site.distribution != "Delta":
            if {f.name for f in site.frames} != {f.name for f in other.frames}:
                mine, theirs = (", ".join(s.plates) or "none" for s in (site, other))
                yield Problem(f"latent '{name}' stands in the plates {theirs} in the model but in {mine} in the guide; use the "
                              "same plates in both.")  # fmt: skip
            if site.event_shape != other.event_shape:
                yield Problem(f"latent '{name}' has event shape {other.event_shape} in the model but {site.event_shape} in the "
                              "guide; give both the same.")  # fmt: skip


def supports(walk: Walk, rows: Rows) -> Iterator[Problem]:
    """Values that a site's distribution cannot take, with where they are."""
    for site in walk.sites:
        if site.outside is None or not site.outside.any():
            continue
        bad = site.outside & ~_any_nan(site)
        if not bad.any():
            continue
        spot = tuple(int(i) for i in np.argwhere(bad)[0])
        value = np.broadcast_to(site.value, bad.shape + site.value.shape[bad.ndim :])[spot]
        what = f"{site.distribution} site '{site.name}' of the {site.role}"
        if site.observed:
            where = place(spot) if follows(site, walk, rows) else f"index {spot}"
            yield Problem(f"{what} needs {site.support}, but {where} (counting from 0) of {rows.source} is {_short(value)}; "
                          "correct or drop it, or use another distribution.", "data")  # fmt: skip
        else:
            yield Problem(f"{what} needs {site.support}, but the guide draws {_short(value)} at index {spot}; draw it from a "
                          "distribution of that support, or change the prior.")  # fmt: skip


def _any_nan(site: Site) -> np.ndarray:
    """Missing entries, which are nobody's value."""
    assert site.outside is not None
    nan = np.isnan(site.value) if site.value.dtype.kind == "f" else np.zeros(site.value.shape, bool)
    nan = nan.any(axis=tuple(range(site.outside.ndim, nan.ndim))) if nan.ndim > site.outside.ndim else nan
    return np.broadcast_to(nan, site.outside.shape)


def follows(site: Site, walk: Walk, rows: Rows) -> bool:
    """Whether the first index of a site's value counts rows of the data."""
    return site.value.ndim > 0 and bool(site.frames) and max(f.rows for f in site.frames) == site.value.shape[0]


def _short(value: Any) -> str:
    values = np.asarray(value)
    if values.size == 1:
        return f"{values.item():g}"
    if not np.isfinite(values).all():
        spot = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        return f"{values[spot]:g} (index {spot})"
    return " ".join(np.array2string(values, threshold=6, precision=4).split())


def densities(walk: Walk) -> Iterator[Problem]:
    """Where the log density at the start is no number: the first such site of the guide and of the model."""
    for role in ("guide", "model"):
        for site in walk.of(role).values():
            bad = ~np.isfinite(site.log_prob)
            if bad.any():
                spot = tuple(int(i) for i in np.argwhere(bad)[0])
                where = f" at index {spot}" if spot else ""
                what = f"site '{site.name}' of the {role} has log density {_short(site.log_prob[spot])}{where}"
                yield Problem(f"{what} at the start; check the parameters of its {site.distribution} there, and the values to "
                              "start from.")  # fmt: skip
                break


def starts(walk: Walk, init: Mapping[str, np.ndarray] | None) -> Iterator[Problem]:
    """First values outside their constraint, or not those that the model has."""
    if init is not None:
        try:
            check_init(init, {param.name: param.value.shape for param in walk.params})
        except InputError as error:
            yield Problem(str(error))
            return
    for param in walk.params:
        if not param.inside:
            yield Problem(f"parameter '{param.name}' must be {param.constraint}, but starts at {_short(param.value)}; start it "
                          "inside its constraint.")  # fmt: skip
        elif not np.isfinite(param.value).all():
            yield Problem(f"parameter '{param.name}' starts at {_short(param.value)}; start it at finite numbers.")


def unfit(init: Mapping[str, np.ndarray]) -> Iterator[Problem]:
    """Values to start from that are not finite in float32, and so cannot be run from."""
    for name, value in init.items():
        with np.errstate(over="ignore"):
            single = np.asarray(value).astype(np.float32)
        if not np.isfinite(single).all():
            yield Problem(f"parameter '{name}' starts at {_short(single)}; start it at finite numbers, or rescale the data.")


def plates(walk: Walk, other: Walk, sizes: tuple[int, int], total: int, subsamples: bool) -> Iterator[Problem]:
    """A plate over the rows that is not there, or that stands for another number of data than there are."""
    observed = [s for s in walk.of("model").values() if s.kind == "observed"]
    again = other.of("model")

    def holds(site: Site) -> dict[str, Frame]:
        after = {f.name: f.rows for f in again[site.name].frames} if site.name in again else {}
        return {f.name: f for f in site.frames if f.rows == sizes[0] and after.get(f.name) == sizes[1]}

    found = {name: frame for site in observed for name, frame in holds(site).items()}
    if subsamples and observed and not found:
        yield Problem(f"no plate of the model holds the {sizes[0]} rows, so that a minibatch cannot stand for all data; put "
                      "the observed sites in `with plate('data', total, subsample=rows)`.")  # fmt: skip
    wanted = total if subsamples else sizes[0]
    for name, frame in found.items():
        if frame.size != wanted:
            cure = "pass `total` on to the plate" if subsamples else "let the plate have as many rows as the data"
            yield Problem(f"plate '{name}' says that its {frame.rows} rows stand for {frame.size} data, but there are "
                          f"{wanted}; {cure}.")  # fmt: skip


def sizes(walk: Walk, other: Walk, at: tuple[int, int]) -> Iterator[Problem]:
    """Sites, plates and parameters that depend on how many rows a batch has."""
    between = f"at {at[0]} rows and {at[1]} rows a batch"
    for role in ("model", "guide"):
        ours, theirs = walk.of(role), other.of(role)
        for name in [*ours, *theirs]:
            if name not in ours or name not in theirs:
                yield Problem(f"site '{name}' of the {role} is not there both {between}; let the sites not depend on the "
                              "number of rows.")  # fmt: skip
        for name in (n for n in ours if n in theirs):
            names = [{(f.name, f.dim) for f in side[name].frames} for side in (ours, theirs)]
            if names[0] != names[1]:
                yield Problem(f"the plates around site '{name}' of the {role} are not the same {between}; let their names and "
                              "dims not depend on the number of rows.")  # fmt: skip
    first, second = walk.values, other.values
    for name in [*first, *(n for n in second if n not in first)]:
        shapes = [side[name].shape if name in side else None for side in (first, second)]
        if shapes[0] != shapes[1]:
            yield Problem(f"parameter '{name}' has shape {shapes[0]} at {at[0]} rows a batch but {shapes[1]} at {at[1]}; let "
                          "its shape not depend on the batch: compute what belongs to a row from the row.")  # fmt: skip


