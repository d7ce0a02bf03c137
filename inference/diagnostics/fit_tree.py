"""Any fit as an ArviZ tree, and leave-one-out as draws from an approximation need it; imports ArviZ when called.

Plain `arviz.loo` takes draws for the posterior's own: on those of variational inference it is calm just where the guide is
too narrow. `loo` and `for_loo` weigh them by p / q (Magnusson et al. 2019, eq. 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models import InputError

from .draws import FitDraws, draw, redraw

GROUPS = ("posterior", "posterior_predictive", "prior", "prior_predictive", "log_likelihood", "sample_stats", "observed_data",
          "constant_data", "parameters")  # fmt: skip
OF_ENERGY = ("posterior", "sample_stats")
NO_ROWS = 'leave-one-out needs an observed site that lies along the rows, got none; put the data into plate("data", ...).'
PARAMETERS = 10_000  # entries of a learned array that goes into the tree


def to_arviz(found: Any, *, groups: Sequence[str] | None = None, min_chains: int = 1, **settings: Any) -> Any:
    """A `DataTree` for every function of ArviZ; restarts of a fit are chains.

    `posterior` holds latents, given the learned parameters, which stand in `parameters`; `log_likelihood` log p(xₙ | z) of
    the rows looked at; `sample_stats` log_p and log_q (nats), elbo (nats, of the full data) and lp = log_p, of Markov chains
    lp, diverging and acceptance. What was left out is listed in the attribute `notes`.

    Args:
        found: A `Fit` (SVI, EM, coordinate ascent), `mcmc.Draws` or an `EnergyFit`.
        groups: Those wanted; None takes all there are.
        min_chains: Refuse fewer: 2 where chains are to be compared, as R-hat and rank plots do.
        settings: Those of `draws.draw`, of `draws.redraw` for Markov chains, of `observe` for an energy.

    Raises:
        InputError: A group is unknown or this kind of fit has none, there are too few chains, a setting cannot be used, or
            nothing can be drawn.
    """
    check_groups(found, groups)
    check_chains(found, min_chains)
    if is_energy(found):
        tree = found.to_arviz(**settings)
        return tree if groups is None else chosen(tree, groups)
    settings = {"prior": groups is None or any("prior" in group for group in groups), **settings}
    if hasattr(found, "samples"):
        check_kept(found)
        seen = redraw(found, **settings)
        return tree_of(seen, groups, chain_stats(found, seen))
    return tree_of(draw(found, **settings), groups)


def is_energy(found: Any) -> bool:
    """Whether this is an `EnergyFit`."""
    return hasattr(getattr(found, "model", None), "energy") and hasattr(found, "chains")


def check_groups(found: Any, groups: Sequence[str] | None) -> None:
    """Raise `InputError` for the first group that the kind of fit cannot have."""
    for group in groups or ():
        if group not in GROUPS:
            raise InputError(f"expected groups among {', '.join(GROUPS)}, got '{group}'; choose among those.")
        if is_energy(found) and group not in OF_ENERGY:
            why = "without log Z log p(x) of a row is not known; estimate it by inference.log_partition"
            if group != "log_likelihood":
                why = f"its tree holds what chains do; ask for {' and '.join(OF_ENERGY)}"
            raise InputError(f"{type(found.model).__name__} is an energy and has no {group}: {why}.")


def check_chains(found: Any, fewest: int) -> None:
    """Raise `InputError` where a fit has fewer restarts, or a sampler fewer chains, than are to be compared."""
    if is_energy(found):
        return
    chains = len(getattr(found, "restart_params", None) or [None])
    cure = "fit by inference.fit, which keeps every restart, with more of them"
    if hasattr(found, "samples"):
        chains, cure = len(found.diverging), "draw with a larger num_chains"
    if chains < fewest:
        raise InputError(f"expected at least {fewest} chains to compare, got {chains}; {cure}.")


def check_kept(found: Any) -> None:
    """Raise `InputError` unless Markov chains come with what they were drawn from."""
    if getattr(found, "data", None) is None:
        raise InputError("these draws do not hold their model and data, so nothing can be computed from them; draw again by "
                         "inference.mcmc.mcmc.")  # fmt: skip


def chosen(tree: Any, groups: Sequence[str]) -> Any:
    """The tree with only these groups."""
    return type(tree).from_dict({"/": tree.to_dataset(), **{group: tree[group].to_dataset() for group in groups}})


def chain_stats(found: Any, seen: FitDraws) -> dict[str, np.ndarray]:
    """`diverging` of each draw, and acceptance, which is known as a mean of each chain only."""
    length = found.diverging.shape[1]
    taken = np.unique(np.linspace(0, length - 1, seen.log_p.shape[1]).round().astype(int))
    return {"diverging": found.diverging[:, taken], "mean_acceptance": np.asarray(found.acceptance, float)}


def tree_of(seen: FitDraws, groups: Sequence[str] | None = None, stats: Mapping[str, np.ndarray] | None = None) -> Any:
    """`draws` as a tree; `stats` join `sample_stats`: (chain, draw), or a number a chain."""
    from arviz_base import dict_to_dataset
    from xarray import DataTree

    parts = {
        "posterior": seen.latents, "posterior_predictive": seen.predictive, "prior": seen.prior,
        "prior_predictive": seen.prior_predictive, "log_likelihood": seen.log_likelihoods,
        "sample_stats": {"lp": seen.log_p, "log_p": seen.log_p, "log_q": seen.log_q, "elbo": seen.elbo, **(stats or {})},
        "observed_data": seen.observed, "constant_data": seen.constant, "parameters": seen.parameters,
    }  # fmt: skip
    notes, out = list(seen.notes), {}
    if stats is not None:
        parts["sample_stats"] = {"lp": seen.log_p, **stats}
    for name, values in seen.parameters.items():
        if values[0].size > PARAMETERS:
            notes.append(f"parameter {name}: left out, {values[0].size} entries")
    for group, values in parts.items():
        kept = {name: value for name, value in values.items() if value is not None and value.dtype.kind != "O"}
        if group == "parameters":
            kept = {name: value for name, value in kept.items() if value[0].size <= PARAMETERS}
        if groups is not None and group not in groups or not kept:
            continue
        dims, first = dimensions(seen, group, kept)
        used = {dim for name in kept for dim in dims[name]}
        coords: dict[Any, Any] = {dim: values for dim, values in seen.coords.items() if dim in used}
        whole = {name: value for name, value in kept.items() if value.ndim >= len(first)}
        out[group] = dict_to_dataset(whole, sample_dims=first, dims=dims, coords=coords, check_conventions=False)
        out[group].update({name: ("chain", value) for name, value in kept.items() if name not in whole})
    if missing := [group for group in groups or () if group not in out]:
        raise InputError(f"this fit has no {missing[0]}: no latent has a prior that can be drawn, no observed site lies along "
                         "the rows, or nothing is learned; leave that group out.")  # fmt: skip
    told: dict[str, Any] = {"rows_counted": seen.counted, "rows_total": seen.total, "best_chain": seen.best}
    tree = DataTree.from_dict(out)
    tree.attrs.update(told | {"inference_library": "ppl-models", "notes": "\n".join(notes)})
    return tree


def dimensions(seen: FitDraws, group: str, values: Mapping[str, np.ndarray]) -> tuple[dict[Any, Any], list[str]]:
    """Of each variable of a group the names of its dims but the leading ones, and of those."""
    if group in ("observed_data", "constant_data"):
        own = {name: list(seen.dims.get(name, ())) for name in values}
        return {n: own[n] or [seen.rows_dim, *numbered(n, v.ndim - 1)] for n, v in values.items()}, []
    if group == "parameters":
        return {name: ["chain", *numbered(name, value.ndim - 1)] for name, value in values.items()}, []
    if group == "log_likelihood":
        return {name: [seen.rows_dim] for name in values}, ["chain", "draw"]
    return {name: list(seen.dims.get(name, ())) for name in values}, ["chain", "draw"]


def numbered(name: str, count: int) -> list[str]:
    """Names of dims that belong to no plate."""
    return [f"{name}_dim_{i}" for i in range(count)]


def save(tree: Any, path: str | Path) -> None:
    """Write the tree as NetCDF; `xarray.open_datatree(path)` reads it, and no code runs.

    Raises:
        InputError: The library that writes it is not installed.
    """
    if not all(map(find_spec, ("h5netcdf", "h5py"))):
        raise InputError("NetCDF needs h5netcdf and h5py, which are not installed; run pip install 'h5netcdf[h5py]'.")
    tree.to_netcdf(path, engine="h5netcdf")


def loo(found: Any, *, pointwise: bool = True, var_name: str | None = None, **settings: Any) -> Any:
    """Expected log predictive density of a row left out, an ArviZ `ELPDData`; all rows unless `rows` is set.

    Of variational fits by `loo_approximate_posterior` on draws of the restart that was kept, of Markov chains by plain `loo`.

    Args:
        found: A `Fit` with latents that all rows share, or `mcmc.Draws`.
        pointwise: Keep the value and k-hat of each row, as `plot_khat` needs them.
        var_name: Of several observed sites, the one to judge.
        settings: Those of `to_arviz`.

    Raises:
        InputError: Leaving one row out means nothing for this fit: its latents are local, points, or those of an energy.
    """
    import arviz_stats

    tree, corrected = judged(found, settings)
    name = observed_site(tree, var_name)
    if not corrected:
        return arviz_stats.loo(tree, pointwise=pointwise, var_name=name)  # pyright: ignore[reportPrivateImportUsage]
    stats = tree.sample_stats
    run = arviz_stats.loo_approximate_posterior  # pyright: ignore[reportPrivateImportUsage]
    return run(tree, stats.log_p, stats.log_q, pointwise=pointwise, var_name=name)


def for_loo(found: Any, **settings: Any) -> Any:
    """A tree for those functions of ArviZ that weigh draws by exp(−log_likelihood), such as `plot_loo_pit` and `loo_pit`.

    Its `log_likelihood` is log p(xₙ | z) − (log p − log q) up to a constant, so that those weights are the right ones: at each
    entry of x that of the whole row, which leaves together. Args and errors are those of `loo`.
    """
    tree, corrected = judged(found, settings)
    if "log_likelihood" not in tree.children:
        raise InputError(NO_ROWS)
    values = tree.log_likelihood.to_dataset()
    if corrected:
        ratio = tree.sample_stats.log_p - tree.sample_stats.log_q
        values = values - (ratio - ratio.max())
    like = tree.observed_data.to_dataset()
    tree["log_likelihood"] = values.map(lambda value: value.broadcast_like(like[value.name]).transpose("chain", "draw", ...))
    return tree


def judged(found: Any, settings: Mapping[str, Any]) -> tuple[Any, bool]:
    """The tree of the draws that leave-one-out may weigh, and whether p / q must enter their weights."""
    if is_energy(found):
        check_groups(found, ("log_likelihood",))
    wanted = {"rows": None, "prior": False, **settings}
    if hasattr(found, "samples"):
        return to_arviz(found, **wanted), False
    seen = draw(found, **wanted)
    name = "this pair" if isinstance(found.model, tuple) else type(found.model).__name__
    if not seen.shared:
        raise InputError(f"leave-one-out needs latents that all rows share, but those of {name} belong to a row each and leave "
                         "with it; judge it by log p(x) of held-out rows (inference.evaluate).")  # fmt: skip
    if all(np.ptp(seen.latents[site], axis=1).max(initial=0) == 0 for site in seen.shared):
        raise InputError(f"leave-one-out needs draws that differ, but the guide of {name} is a point; give its latents a "
                         "distribution there.")  # fmt: skip
    return tree_of(seen).isel(chain=[seen.best]), True


def observed_site(tree: Any, name: str | None) -> str:
    """The observed site to judge."""
    sites = list(tree.log_likelihood.data_vars) if "log_likelihood" in tree.children else []
    if not sites:
        raise InputError(NO_ROWS)
    if name is None and len(sites) > 1 or name is not None and name not in sites:
        raise InputError(f"expected var_name among {', '.join(sites)}, got {name!r}; choose one of those.")
    return name or sites[0]
