"""Draws from what a fit takes for the posterior, with the densities that judge them: p(x, z) and q(z), learned parameters in.

    log p = Σ log p(g) + Σₙ log p(xₙ, zₙ | g),  log q = Σ log q(g) + Σₙ log q(zₙ | xₙ, g)

with g the latents that all rows share and zₙ those of a row; either may be absent. Restarts of a fit are chains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import InputError, NumericalError

from ..callables import can_subsample, inputs_of
from ..checks import check_settings
from .drawing import Arrays, Source, Work, check_latents
from .layout import NUMBERS, Structure, evenly, kept, selection


@dataclass(frozen=True, eq=False)
class FitDraws:
    """Draws of a fit's latents, and what the model says of them.

    Attributes:
        latents: By site, (chain, draw, *shape); rows of the data come first in the shape of a local site.
        dims: By site, the names of that shape: plates are called by their name, the rest `<site>_dim_0` and on.
        coords: The indices kept of each dim that is cut, the training rows looked at among them.
        local: The sites in the plate over the data.
        log_p: Joint density of all latents and rows counted, factors of the model included, nats, (chain, draw).
        log_q: Density of the latents under the guide, nats, (chain, draw); None of Markov chains.
        elbo: (log p − log q) on the scale of the full data, nats, (chain, draw): rows count `total / counted` fold.
        log_likelihoods: By observed site, log p(xₙ | z), nats, (chain, draw, rows); none of a site without rows.
        log_weight_rows: log p(xₙ, zₙ | g) − log q(zₙ | xₙ, g), nats, (chain, draw, rows); None without local latents, and where
            the guide does not draw them in the plate over the data.
        predictive: By observed site, draws of p(x | z), (chain, draw, *shape).
        prior: By site, draws of the latents' prior.
        prior_predictive: By observed site, draws of p(x | z) there.
        observed: By observed site, what was observed, (*shape); NaN where it is missing.
        constant: The other inputs of the rows looked at, such as labels, by name.
        parameters: Learned values by name, (chain, *shape).
        rows: The training rows looked at.
        rows_dim: What their dim is called.
        counted: How many rows log_p and log_q count: all of them where latents are shared, else those looked at.
        total: How many training rows there are.
        best: The chain of the restart that was kept.
        notes: What was left out, a sentence each.
    """

    latents: dict[str, np.ndarray]
    dims: dict[str, tuple[str, ...]]
    coords: dict[str, np.ndarray]
    local: frozenset[str]
    log_p: np.ndarray
    log_q: np.ndarray | None
    elbo: np.ndarray | None
    log_likelihoods: dict[str, np.ndarray]
    log_weight_rows: np.ndarray | None
    predictive: dict[str, np.ndarray]
    prior: dict[str, np.ndarray]
    prior_predictive: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]
    constant: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    rows: np.ndarray
    rows_dim: str
    counted: int
    total: int
    best: int
    notes: tuple[str, ...]

    @property
    def shared(self) -> frozenset[str]:
        """The latents that all rows share."""
        return frozenset(self.latents) - self.local

    @property
    def log_likelihood(self) -> np.ndarray | None:
        """Of each row, all its observed sites together, nats, (chain, draw, rows); None if none has rows."""
        return np.sum(list(self.log_likelihoods.values()), axis=0) if self.log_likelihoods else None


def draw(
    fit: Any, *, num_draws: int = 500, rows: int | None = 200, seed: int = 0, dtype: str | None = None,
    device: str | None = None, chunk: int | None = None, prior: bool = True,
) -> FitDraws:  # fmt: skip
    """Draw latents from the guide of a fit, a chain for each restart.

    Args:
        fit: A `Fit` by variational inference, EM or coordinate ascent.
        num_draws: Of each chain.
        rows: How many training rows are looked at, evenly spaced; None takes all.
        seed: Of the draws, and of grey values that the fit drew anew at each step: they are drawn once here.
        dtype: "float32" or "float64"; None takes that of the fit.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        chunk: (row, draw) pairs held in memory at a time; None suits the device.
        prior: Draw from the prior too.

    Raises:
        InputError: A setting cannot be used, or the fit has no latents to draw.
        NumericalError: log p is not finite.
    """
    check_drawable(fit)
    chains = [dict(params) for params in getattr(fit, "restart_params", None) or [fit.params]]
    best = next((i for i, params in enumerate(chains) if same(params, fit.params)), 0)
    whole = Source(fit.model, fit.engine, fit.data, inputs_of(fit.model), can_subsample(fit.model), chains, best)
    found = dtype or fit.manifest.get("dtype", "float32")
    return collect(whole, None, num_draws, rows, seed, found, device, chunk, prior)


def redraw(
    found: Any, *, num_draws: int | None = None, rows: int | None = 200, seed: int = 0, dtype: str | None = None,
    device: str | None = None, chunk: int | None = None, prior: bool = True,
) -> FitDraws:  # fmt: skip
    """What the model says of the draws of Markov chains, `mcmc.Draws`; log_q is None.

    Args:
        found: The draws.
        num_draws: So many of each chain, evenly spaced; None takes all.
        rows: As of `draw`; so are the other settings and errors.
        seed: Of predictions and of the prior's draws.
        dtype: As of `draw`.
        device: As of `draw`.
        chunk: As of `draw`.
        prior: As of `draw`.
    """
    chains, length = next(iter(found.samples.values())).shape[:2]
    taken = evenly(length, num_draws or length)
    source = Source(found.model, found.engine, found.data, ("x",), False, [{}] * chains, 0)
    samples = [{name: value[i, taken] for name, value in found.samples.items()} for i in range(chains)]
    kind = dtype or found.manifest.get("dtype", "float32")
    return collect(source, samples, len(taken), rows, seed, kind, device, chunk, prior)


def check_drawable(fit: Any) -> None:
    """Raise `InputError` unless the fit has a density and a guide."""
    if hasattr(fit.model, "energy"):
        raise InputError(f"{type(fit.model).__name__} is an energy: it has no guide to draw latents from, and no log p(x) of a "
                         "row without log Z; use to_arviz, which runs its chains, and inference.log_partition.")  # fmt: skip
    if getattr(fit, "bound", None) is None:
        raise InputError(f"{type(fit.model).__name__} has no density and no guide, so nothing can be drawn; fit its "
                         "probabilistic relative (ppca for pca, gaussian_mixture for kmeans).")  # fmt: skip


def same(a: Arrays, b: Arrays) -> bool:
    """Whether these are the same values by name."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def looked_at(source: Source, rows: int | None, draws: int, seed: int) -> tuple[tuple[np.ndarray, ...], np.ndarray, list[str]]:
    """The model's inputs, all rows of them; which rows are looked at, and what there is to say of both."""
    arrays, notes = list(source.data.inputs(source.inputs)), list[str]()
    total = len(arrays[0])
    if source.data.binarisation == "dynamic":
        arrays[0] = (np.random.default_rng(seed).random(arrays[0].shape) < arrays[0]).astype(arrays[0].dtype)
        notes.append(f"grey values, drawn anew at each step of training, are drawn once (seed {seed})")
    most = max(1, NUMBERS // draws)
    looked = evenly(total, min(total if rows is None else rows, most))
    if rows is None and len(looked) < total:
        notes.append(f"{len(looked)} of {total} rows kept: more would take {NUMBERS:,} numbers; ask for fewer draws")
    return tuple(arrays), looked, notes


def collect(
    source: Source, samples: Sequence[Arrays] | None, num_draws: int, rows: int | None, seed: int, dtype: str,
    device: str | None, chunk: int | None, prior: bool,
) -> FitDraws:  # fmt: skip
    """Chain by chain: draws from the guide, or the `samples` given."""
    check_settings(seed=seed, dtype=dtype)
    for name, value in (("num_draws", num_draws), ("rows", rows), ("chunk", chunk)):
        if value is not None and not (isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1):
            raise InputError(f"expected {name} to be a whole number of at least 1, got {value!r}; change that setting.")
    args, looked, notes = looked_at(source, rows, num_draws * len(source.chains), seed)
    total = len(args[0])
    shared, engine = (import_module(f"{package}._{source.engine}") for package in ("inference", "inference.diagnostics"))
    with shared.session(dtype, device):
        seeds = np.random.SeedSequence(seed).generate_state(3 * len(source.chains)) >> np.uint32(1)
        whole = Work(engine, source, args, looked, num_draws, chunk)
        found = whole.structure(looked if source.by_rows else np.arange(total), samples is None)
        check_latents(found, samples is None, source.model)
        counts_all = any(not site.in_plate for site in found.latents)
        notes += [f"site {s.name}: has no sampler, so it is not predicted" for s in found.observed if not s.can_draw]
        picked = np.arange(len(looked)) if found.num_rows == len(looked) else looked
        cut, cuts = kept(found, len(looked), num_draws * len(source.chains))
        notes += cuts
        if len(picked) < found.num_rows:
            cut[found.rows] = picked
        blocks = whole.blocks(counts_all and source.by_rows)
        each = []
        for i, params in enumerate(source.chains):
            given = None if samples is None else samples[i]
            told = whole.chain(params, given, found, cut, blocks, picked, *(int(s) for s in seeds[2 * i : 2 * i + 2]))
            nothing = {"latents": {}, "predicted": {}}
            last = int(seeds[2 * len(source.chains) + i])
            each.append(told | {"prior": whole.prior(params, found, cut, last) if prior else nothing})
        seen = engine.observations(whole.bound(found.num_rows).model, source.chains[0], whole.rows(found), found)
    return assembled(source, found, each, seen, args, looked, cut, picked, total, counts_all, samples is None, notes)


def assembled(
    source: Source, found: Structure, each: list[dict[str, Any]], seen: Arrays, args: tuple[np.ndarray, ...],
    looked: np.ndarray, cut: dict[str, np.ndarray], picked: np.ndarray, total: int, counts_all: bool, guided: bool,
    notes: list[str],
) -> FitDraws:  # fmt: skip
    """All chains side by side."""

    def stack(pick: Any) -> Any:
        return np.stack([np.asarray(pick(one)) for one in each])

    def stacked(pick: Any) -> dict[str, np.ndarray]:
        return {name: stack(lambda one, name=name: pick(one)[name]) for name in pick(each[0])}

    log_p, log_q, counted = stack(lambda one: one["log_p"]), stack(lambda one: one["log_q"]), len(looked)
    if counts_all or not source.by_rows:
        counted = total
    if not np.isfinite(log_p).all():
        raise NumericalError(f"log p is {log_p[~np.isfinite(log_p)][0]} at a draw of the latents; use float64, or look at the "
                             "fit's parameters.")  # fmt: skip
    local = frozenset(site.name for site in found.latents if site.in_plate)
    shared_part = stack(lambda one: one["p"] - one["q"])
    elbo = shared_part + total / counted * (log_p - log_q - shared_part)
    weights = stack(lambda one: one["p_rows"] - one["q_rows"]) if local and not local & set(found.outside) else None
    if guided and local and (weights is None or found.auxiliary):
        notes = [*notes, "the guide draws latents of a row outside the plate over the data, so that rows have no weights"]
        weights = None
    observed = dict(seen)
    for site in found.observed:
        value = observed[site.name]
        x = args[0][looked] if found.num_rows == len(looked) else args[0]
        if value.shape == x.shape and np.isnan(x).any():
            value = np.where(np.isnan(x), np.nan, value)
        for axis, indices in enumerate(selection(site, cut)):
            value = value if indices is None else value.take(indices, axis)
        observed[site.name] = value
    coords = {**cut, found.rows: looked}
    parameters = {name: np.stack([params[name] for params in source.chains]) for name in source.chains[0]}
    return FitDraws(
        latents=stacked(lambda one: one["latents"]), dims={site.name: site.layout.dims for site in found.sites},
        coords=coords, local=local, log_p=log_p, log_q=log_q if guided else None, elbo=elbo if guided else None,
        log_likelihoods=stacked(lambda one: one["likelihood"]), log_weight_rows=weights if guided else None,
        predictive=stacked(lambda one: one["predicted"]), prior=stacked(lambda one: one["prior"]["latents"]),
        prior_predictive=stacked(lambda one: one["prior"]["predicted"]), observed=observed,
        constant={name: a[looked] for name, a in zip(source.inputs[1:], args[1:], strict=True)}, parameters=parameters,
        rows=looked, rows_dim=found.rows, counted=counted, total=total, best=source.best, notes=tuple(notes),
    )  # fmt: skip
