"""Where the entries of a site lie: a name for each dim, rows of the data first, and which entries are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

ELEMENTS = 200  # of a site are kept of each draw and row, evenly spaced
NUMBERS = 10_000_000  # of a latent, or of a density by row, are kept in all: 40 MB in single precision
PREDICTED = 2_500_000  # of what is observed and predicted


class Layout(NamedTuple):
    """One site: `full` is its shape as the engine has it (batch and event), `shape` and `dims` are of the arranged value."""

    full: tuple[int, ...]
    squeezed: tuple[int, ...]  # `full` without the dims of other sites' plates
    row_axis: int | None  # of `squeezed`, along which the rows of the data lie
    row_dim: int | None  # the same of `full`
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    batch: int  # how many leading dims of `full` are no event


class Site(NamedTuple):
    """A sampled site of the model."""

    name: str
    observed: bool
    layout: Layout
    in_plate: bool  # of the data
    can_draw: bool  # its distribution has a sampler


class Structure(NamedTuple):
    """What one run of model and guide tells, equal by value."""

    num_rows: int
    plate: str | None  # that holds the data
    sites: tuple[Site, ...]
    outside: tuple[str, ...]  # sites of the guide that lie outside that plate
    auxiliary: tuple[str, ...]  # those among them that the model lacks
    unknown: tuple[str, ...]  # latents of the model that the guide lacks

    @property
    def latents(self) -> tuple[Site, ...]:
        return tuple(site for site in self.sites if not site.observed)

    @property
    def observed(self) -> tuple[Site, ...]:
        return tuple(site for site in self.sites if site.observed)

    @property
    def rows(self) -> str:
        """The name of the dim of the data's rows."""
        return self.plate or "data"


def data_plate(frames: Iterable[Any], num_rows: int) -> str | None:
    """The plate that holds the data: "data", or else one of as many rows."""
    return min({f.name for f in frames if f.size == num_rows}, key=lambda name: (name != "data", name), default=None)


def layout(
    name: str, batch: Sequence[int], event: Sequence[int], frames: Iterable[Any], plate: str | None, num_rows: int,
    observed: bool,
) -> Layout:  # fmt: skip
    """Plates give dims their names, others are `<name>_dim_0` and on; rows of the data come first.

    Where nothing is in a plate of the data, the first dim of an observed site that has as many entries is that of the rows.
    """
    full, places = (*batch, *event), {len(batch) + f.dim: f.name for f in frames}
    outer = min(places, default=len(full))
    axes = [i for i, size in enumerate(full) if i in places or not (outer < i < len(batch) and size == 1)]
    if plate is None and observed and not places and full[:1] == (num_rows,) and len(batch):
        places = {0: "data"}
    rows = plate or "data"
    row_dim = next((axis for axis in axes if places.get(axis) == rows), None)
    row_axis = None if row_dim is None else axes.index(row_dim)
    numbers, dims = Counter[str](), []
    for axis in axes:
        if axis not in places:
            dims.append(f"{name}_dim_{numbers[name]}")
            numbers[name] += 1
        else:
            dims.append(places[axis])
    squeezed = tuple(full[axis] for axis in axes)
    order = list(range(len(axes))) if row_axis is None else [row_axis, *(i for i in range(len(axes)) if i != row_axis)]
    names, shape = tuple(dims[i] for i in order), tuple(squeezed[i] for i in order)
    return Layout(full, squeezed, row_axis, row_dim, names, shape, len(batch))


def arranged(xp: Any, value: Any, at: Layout, keep: Sequence[Any]) -> Any:
    """A value of the site, rows first, only those entries that `keep` lists for each dim (None: all)."""
    out = xp.reshape(xp.broadcast_to(value, at.full), at.squeezed)
    if at.row_axis:
        out = xp.moveaxis(out, at.row_axis, 0)
    for axis, indices in enumerate(keep):
        if indices is not None:
            out = xp.take(out, indices, axis=axis)
    return out


def by_row(xp: Any, log_p: Any, at: Layout) -> Any:
    """log p of a site with rows, shaped as its batch, summed over all other dims."""
    whole = xp.broadcast_to(log_p, at.full[: at.batch])
    others = tuple(axis for axis in range(at.batch) if axis != at.row_dim)
    return xp.sum(whole, axis=others) if others else whole


def evenly(size: int, count: int) -> np.ndarray:
    """`count` of `size` indices, evenly spaced, first and last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).round().astype(int))


def kept(found: Structure, rows: int, draws: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """The indices kept of each dim that is cut, and a sentence on every cut.

    Args:
        found: The sites.
        rows: Rows of the data that are kept.
        draws: Of all chains.
    """
    out: dict[str, np.ndarray] = {}
    notes = []
    for site in found.sites:
        sizes = {d: n for d, n in zip(site.layout.dims, site.layout.shape, strict=True) if d != found.rows}
        most = PREDICTED if site.observed else NUMBERS
        each = max(1, min(ELEMENTS, most // max(1, draws * (rows if site.layout.row_axis is not None else 1))))
        before, room = prod(sizes.values()), each
        # Plates of other names are shared by sites: each is cut alike everywhere, before the site's own dims.
        own = {dim for dim in sizes if dim.startswith(f"{site.name}_dim_")}
        for dim in [*(d for d in sizes if d not in own), *reversed([d for d in sizes if d in own])]:
            if dim not in own and dim not in out and sizes[dim] > ELEMENTS:
                out[dim] = evenly(sizes[dim], ELEMENTS)
            if dim in own and sizes[dim] > max(1, room):
                out[dim] = evenly(sizes[dim], max(1, room))
            sizes[dim] = len(out[dim]) if dim in out else sizes[dim]
            room //= max(1, sizes[dim])
        if prod(sizes.values()) < before:
            notes.append(f"site {site.name}: {prod(sizes.values())} of {before} entries kept of each draw"
                         f"{' and row' if site.layout.row_axis is not None else ''}")  # fmt: skip
    return out, notes


def selection(site: Site, cut: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
    """What `arranged` keeps of the site."""
    return tuple(cut.get(dim) for dim in site.layout.dims)
