"""Every kind of fit against the functions of ArviZ: each works, or our own error says in one sentence why it cannot.

The fits are small: what is asked is whether the tree holds what the function needs, not what the function finds.
"""

from __future__ import annotations

import platform
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inference import fit
from inference.diagnostics.fit_tree import for_loo, loo, save, to_arviz
from inference.em import em
from inference.energy_training import fit_energy
from inference.mcmc import mcmc
from ppl_models import VAE, FactorAnalysis, InputError
from ppl_models.datasets import from_arrays
from ppl_models.energy import RBM
from ppl_models.likelihoods import Normal

ENGINES = ("numpyro", "pyro")
ROWS, COLUMNS, DRAWS = 12, 2, 100
KINDS = ("svi-shared", "svi-rows", "em", "nuts", "energy")


@dataclass(frozen=True)
class Location:
    """μ ~ N(0, 10² I), xₙ ~ N(μ, I); q(μ) normal with independent columns, which the posterior is."""

    data_dim: int = COLUMNS

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        mu = ppl.sample("mu", ppl.dist.Normal(ppl.xp.zeros(self.data_dim), 10.0).to_event(1))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("x", ppl.dist.Normal(mu, 1.0).to_event(1), obs=x)

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        loc = ppl.param("mu.loc", ppl.xp.zeros(self.data_dim))
        scale = ppl.param("mu.scale", ppl.xp.ones(self.data_dim), constraint=ppl.constraints.positive)
        ppl.sample("mu", ppl.dist.Normal(loc, scale).to_event(1))


def rows() -> Any:
    """Real-valued rows."""
    rng = np.random.default_rng(0)
    return from_arrays(rng.normal(1.0, 1.0, (ROWS, COLUMNS)), heldout=rng.normal(1.0, 1.0, (4, COLUMNS)))


def exact_start(x: np.ndarray) -> dict[str, np.ndarray]:
    """The posterior of `Location`: precision 1/100 + N."""
    precision = np.full(COLUMNS, 0.01 + len(x))
    return {"mu.loc": x.sum(0) / precision, "mu.scale": precision**-0.5}


def found(kind: str, engine: str) -> Any:
    """A fit of that kind, small."""
    data = rows()
    if kind == "svi-shared":
        return fit(Location(), data, engine=engine, epochs=2, lr=1e-6, restarts=2, init=exact_start(data.x), device="cpu")
    if kind == "svi-rows":
        return fit(VAE(COLUMNS, 1, (3,), Normal(1.0)), data, engine=engine, epochs=1, restarts=2, device="cpu")
    if kind == "em":
        return em(FactorAnalysis(COLUMNS, 1), data, engine=engine, iterations=20, device="cpu")
    if kind == "nuts":
        return mcmc(Location(), data, engine=engine, num_warmup=50, num_samples=DRAWS, num_chains=2, device="cpu")
    bits = from_arrays((rows().x > 1).astype(float), heldout=(rows().heldout > 1).astype(float))
    return fit_energy(RBM(COLUMNS, 2), bits, engine=engine, epochs=1, batch=ROWS, chains=4, device="cpu")


class Cell(NamedTuple):
    """A function of ArviZ with what it needs."""

    call: Callable[[Any, Callable[..., Any]], Any]  # from the fit, and a function from groups to its tree


def functions() -> dict[str, Cell]:
    """By name, what is asked of every fit."""
    import arviz_plots as plots
    import arviz_stats as stats

    def drawn(name: str, *groups: str, chains: int = 1) -> Cell:
        return Cell(lambda _, tree: getattr(plots, name)(tree(*groups, chains=chains), backend="matplotlib"))

    def told(name: str, chains: int = 1) -> Cell:
        return Cell(lambda _, tree: getattr(stats, name)(tree("posterior", chains=chains)))

    return {
        "summary": told("summary"), "rhat": told("rhat", 2), "ess": told("ess"),
        "loo_approximate_posterior": Cell(lambda fit, _: loo(fit, **settings(fit))),
        "plot_trace": drawn("plot_trace", "posterior"), "plot_rank": drawn("plot_rank", "posterior", chains=2),
        "plot_ppc_dist": drawn("plot_ppc_dist", "posterior_predictive", "observed_data"),
        "plot_loo_pit": Cell(lambda fit, _: plots.plot_loo_pit(for_loo(fit, **settings(fit)), backend="matplotlib")),
        "plot_khat": Cell(lambda fit, _: plots.plot_khat(loo(fit, **settings(fit)), backend="matplotlib")),
        "netcdf": Cell(lambda _, tree: round_trip(tree())),
    }  # fmt: skip


def settings(fit: Any) -> dict[str, Any]:
    """Few draws of a fit by optimisation; Markov chains have theirs."""
    return {"device": "cpu"} if hasattr(fit, "samples") else {"num_draws": DRAWS, "device": "cpu"}


def tree_of(fit: Any, groups: tuple[str, ...], chains: int = 1) -> Any:
    """The tree, only with the groups that the function reads."""
    wanted = {"draws": 50, "device": "cpu"} if hasattr(fit, "chains") else {"rows": None, **settings(fit)}
    return to_arviz(fit, groups=groups or None, min_chains=chains, **wanted)


def round_trip(tree: Any) -> None:
    """Write and read again: the same tree."""
    from xarray import open_datatree

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posterior.nc"
        save(tree, path)
        with open_datatree(path, engine="h5netcdf") as again:
            if not again.load().identical(tree):
                raise AssertionError("the tree read again is not the one written")


def cells(kind: str, engine: str) -> Iterator[dict[str, str]]:
    """One row a function: "works", "refused: …" with our sentence, or "failed: …"."""
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    fit = found(kind, engine)
    for name, cell in functions().items():
        try:
            cell.call(fit, lambda *groups, **chains: tree_of(fit, groups, **chains))
            result = "works"
        except InputError as error:
            result = f"refused: {error}"
        except Exception as error:
            result = f"failed: {type(error).__name__}: {error}"
        plt.close("all")
        yield {"kind": kind, "engine": engine, "function": name, "result": result}


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """The whole table on the engines that are installed."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ's own words on small samples
        for engine in (name for name in ENGINES if find_spec(name)):
            found += [row for kind in KINDS for row in cells(kind, engine)]
    names = ("arviz-base", "arviz-stats", "arviz-plots", "matplotlib", "xarray", "numpyro", "jax")
    return {
        "device": "cpu", "python": platform.python_version(), "libraries": {name: version(name) for name in names},
        "failed": sum(row["result"].startswith("failed") for row in found),
        "works": sum(row["result"] == "works" for row in found), "rows": found,
    }  # fmt: skip
