"""Draws of fits against hand computation on both engines, leave-one-out against closed forms, and ArviZ's own functions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
from scipy import special, stats

from benchmarks.arviz_table import COLUMNS, Location, cells, exact_start, functions
from inference.diagnostics import drawing as module
from inference.diagnostics.draws import draw
from inference.diagnostics.fit_tree import for_loo, loo, save, to_arviz
from inference.diagnostics.layout import NUMBERS, Site, Structure, arranged, by_row, data_plate, evenly, kept, layout
from inference.em import em
from inference.mcmc import Draws
from inference.svi import Fit
from ppl_models import PCA, VAE, Bound, FactorAnalysis, GaussianMixture, InputError, KMeans, bind
from ppl_models.datasets import Dataset, from_arrays
from ppl_models.energy import RBM
from ppl_models.language import ENGINES

from .catalogue import CATALOGUE, IDS, Row, close, exact, random_params

each_engine = pytest.mark.parametrize("engine", ENGINES)
DOUBLE: dict[str, Any] = {"dtype": "float64", "device": "cpu"}


def handed(model: Any, engine: str, data: Dataset | np.ndarray, *restarts: dict[str, Any]) -> Fit:
    """A fit with the parameters of these restarts; the last one was kept."""
    rows = data if isinstance(data, Dataset) else from_arrays(data, heldout=data)
    blank: dict[str, Any] = {f.name: None for f in dataclasses.fields(Fit)}
    bound = model if isinstance(model, Bound) else bind(model, engine)
    fit = Fit(**blank | {"model": model, "bound": bound, "engine": engine, "data": rows, "params": restarts[-1],
                         "manifest": {"dtype": "float64"}})  # fmt: skip
    object.__setattr__(fit, "restart_params", list(restarts))
    return fit


# --- densities by hand ------------------------------------------------------------------------------------------------


def by_hand(model: Any, params: dict, z: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p(x | z) and log p(z), nats, of draws (draw, rows, …)."""
    if isinstance(model, VAE):
        hidden = np.logaddexp(z["z"] @ params["decoder.0.weight"] + params["decoder.0.bias"], 0)
        logits = hidden @ params["decoder.1.weight"] + params["decoder.1.bias"]
        return (x * logits - np.logaddexp(0, logits)).sum(-1), stats.norm.logpdf(z["z"]).sum(-1)
    if isinstance(model, FactorAnalysis):
        mean = z["z"] @ params["loading"].T + params["loc"]
        return stats.norm(mean, params["scale"]).logpdf(x).sum(-1), stats.norm.logpdf(z["z"]).sum(-1)
    k = z["assignment"].astype(int)
    factor = np.tril(params["lower"], -1) + params["scale"][..., None] * np.eye(x.shape[1])
    of = [stats.multivariate_normal(m, f @ f.T).logpdf(x) for m, f in zip(params["locs"], factor, strict=True)]
    return np.stack(of, -1)[np.arange(len(x)), k], special.log_softmax(params["logits"])[k]


MODELS = [VAE(4, 2, (3,)), FactorAnalysis(4, 2), GaussianMixture(4, 3)]


@each_engine
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_densities_are_those_of_the_learned_parameters(engine, model):
    """Each restart under its own parameters, rows evenly spaced; a parameter left at its start would be off by nats."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (7, 4)).astype(float)
    restarts = [random_params(model, x, rng) for _ in range(2)]
    found = draw(handed(model, engine, x, *restarts), num_draws=40, rows=3, prior=False, **DOUBLE)
    assert found.rows.tolist() == [0, 3, 6]
    assert (found.best, found.counted, found.total, found.rows_dim) == (1, 3, 7, "data")
    assert found.local == set(found.latents)
    assert found.log_q is not None
    assert found.elbo is not None
    assert found.log_weight_rows is not None
    for chain, params in enumerate(restarts):
        z = {name: value[chain] for name, value in found.latents.items()}
        likelihood, prior = by_hand(model, params, z, x[found.rows])
        close(found.log_likelihoods["x"][chain], likelihood, 1e-9)
        close(found.log_p[chain], (likelihood + prior).sum(-1), 1e-9)
        if not isinstance(model, VAE):  # guides that are exact: log p(x, z) − log q(z | x) is log p(x), whatever z
            with exact(engine):
                evidence = import_module(f"inference._{engine}").log_evidence(model, params, (x[found.rows],))
            close(found.log_weight_rows[chain], np.broadcast_to(evidence, (40, 3)), 1e-9)
    close(found.log_p - found.log_q, found.log_weight_rows.sum(-1), 1e-9)
    close(found.elbo, 7 / 3 * (found.log_p - found.log_q), 1e-9)
    close(found.observed["x"], x[found.rows], 0)


@dataclass(frozen=True)
class Hierarchy:
    """μ ~ N(0, 1), zₙ ~ N(μ, 1), xₙ ~ N(zₙ, 1) with the exact q(zₙ | xₙ, μ): log p(xₙ, zₙ | μ) − log q = log N(xₙ; μ, 2)."""

    data_dim: int = 1

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        mu = ppl.sample("mu", ppl.dist.Normal(ppl.xp.zeros(()), 1.0))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", ppl.dist.Normal(mu, 1.0))
            ppl.sample("x", ppl.dist.Normal(z[..., None], 1.0).to_event(1), obs=x)

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        mu = ppl.sample("mu", ppl.dist.Normal(ppl.param("loc", ppl.xp.zeros(())), 0.5))
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", ppl.dist.Normal((mu + x[..., 0]) / 2, 0.5**0.5))


@each_engine
def test_draws_of_shared_latents_and_of_rows(engine, monkeypatch):
    """Three rows are looked at; the other five count too, in blocks of two, the last of them filled up.

    Means and variances of draws are held to a false-alarm rate of 1e-6 in all: a scale that is off by a fifth is caught.
    """
    monkeypatch.setattr(module, "BLOCK", 2)
    x, S = np.random.default_rng(2).normal(size=(8, 1)), 500
    found = draw(handed(Hierarchy(), engine, x, {"loc": np.array(0.3)}), num_draws=S, rows=3, **DOUBLE)
    mu = found.latents["mu"]
    assert (found.counted, found.shared, found.local) == (8, {"mu"}, {"z"})
    assert {n: v.shape for n, v in found.latents.items()} == {"mu": (1, S), "z": (1, S, 3)}
    rows = stats.norm(mu[..., None], 2**0.5).logpdf(x[:, 0])
    expected = stats.norm.logpdf(mu) - stats.norm(0.3, 0.5).logpdf(mu) + rows.sum(-1)
    close(found.log_p - found.log_q, expected, 1e-9)
    close(found.elbo, expected, 1e-9)
    close(found.log_weight_rows, rows[..., found.rows], 1e-9)
    close(found.log_likelihood, stats.norm(found.latents["z"], 1).logpdf(x[found.rows, 0]), 1e-9)
    z, mu = found.latents["z"][0, :, 0], mu[0]
    standard = {
        "q(mu)": (mu - 0.3) / 0.5, "q(z | mu)": (z - (mu + x[0]) / 2) / 0.5**0.5, "prior": found.prior["mu"][0],
        "prior z": found.prior["z"][0, :, 0] - found.prior["mu"][0],
        "predictive": found.predictive["x"][0, :, 0, 0] - z,
        "prior predictive": found.prior_predictive["x"][0, :, 0, 0] - found.prior["z"][0, :, 0],
    }  # fmt: skip
    limit = stats.norm.isf(1e-6 / 2 / (2 * len(standard)))
    for name, value in standard.items():
        assert abs(value.mean()) * S**0.5 < limit, name
        assert abs((value**2).mean() - 1) * (S / 2) ** 0.5 < limit, name
    assert limit * (2 / S) ** 0.5 < 1.2**2 - 1


# --- names and sizes --------------------------------------------------------------------------------------------------


def structures(row: Row, guided: bool) -> list[Structure]:
    data = row.data(np.random.default_rng(0))
    params = random_params(row.declaration, data, np.random.default_rng(1))
    out = []
    for engine in ENGINES:
        model, guide = bind(row.declaration, engine)
        with exact(engine):
            inspect = import_module(f"inference.diagnostics._{engine}").structure
            out.append(inspect(model, guide if guided else None, params, data))
    return out


@pytest.mark.parametrize("row", CATALOGUE, ids=IDS)
def test_both_engines_find_the_same_sites(row):
    one, other = structures(row, True)
    assert one == other
    assert one.plate == "data"
    assert not one.unknown
    assert all(site.layout.dims[0] == "data" and site.layout.shape[0] == one.num_rows for site in one.sites)


def test_dims_are_named_by_plates_and_rows_come_first():
    plates = {"time": -2, "data": -1, "groups": -3}

    def at(batch: tuple[int, ...], event: tuple[int, ...], *names: str, observed: bool = False) -> Any:
        frames = [SimpleNamespace(name=name, dim=plates[name], size=batch[plates[name]]) for name in names]
        return layout("z", batch, event, frames, data_plate(frames, 5), 5, observed)

    inside = at((3, 5), (2,), "time", "data")
    assert (inside.dims, inside.shape, inside.row_dim) == (("data", "time", "z_dim_0"), (5, 3, 2), 1)
    assert at((3, 1), (2,), "time").dims == ("time", "z_dim_0")
    assert at((7, 1, 5), (), "groups", "data").dims == ("data", "groups")
    assert at((1,), (3,)).dims == ("z_dim_0", "z_dim_1")  # its own dim of size one
    assert at((5, 2), (), observed=True).dims == ("data", "z_dim_0")  # rows without a plate
    assert at((5, 2), ()).row_dim is None
    assert data_plate([SimpleNamespace(name="b", size=5), SimpleNamespace(name="a", size=5)], 5) == "a"


def test_values_are_arranged_and_densities_summed_by_row():
    frames = [SimpleNamespace(name="time", dim=-2, size=3), SimpleNamespace(name="data", dim=-1, size=5)]
    at = layout("z", (3, 5), (2,), frames, "data", 5, False)
    value = np.arange(30.0).reshape(3, 5, 2)
    close(arranged(np, value, at, (None, np.array([0, 2]), None)), value.transpose(1, 0, 2)[:, [0, 2]], 0)
    close(by_row(np, value[..., 0], at), value[..., 0].sum(0), 0)
    outer = [SimpleNamespace(name="data", dim=-2, size=5)]
    at = layout("z", (5, 1), (), outer, "data", 5, False)
    close(arranged(np, np.ones((5, 1)), at, (None,)), np.ones(5), 0)
    close(by_row(np, np.arange(5.0)[:, None], at), np.arange(5.0), 0)


def test_large_sites_are_cut_and_said_to_be():
    def site(name: str, *event: int, rows: bool = False) -> Site:
        frames = [SimpleNamespace(name="data", dim=-1, size=9)] * rows
        return Site(name, False, layout(name, (9,) * rows, event, frames, "data", 9, False), rows, True)

    found = Structure(9, "data", (site("w", 300, 2), site("z", 50, rows=True), site("v", 28, 28)), (), (), ())
    cut, notes = kept(found, 9, 1000)
    assert {name: len(value) for name, value in cut.items()} == {"w_dim_0": 100, "v_dim_0": 7}
    assert cut["w_dim_0"][[0, -1]].tolist() == [0, 299]
    assert notes == ["site w: 200 of 600 entries kept of each draw", "site v: 196 of 784 entries kept of each draw"]
    cut, notes = kept(found, 9, NUMBERS // 90)
    assert len(cut["z_dim_0"]) == 10
    assert "site z: 10 of 50 entries kept of each draw and row" in notes
    assert evenly(10, 20).tolist() == list(range(10))


def test_what_is_cut_is_cut_alike_on_both_engines(monkeypatch):
    monkeypatch.setattr(import_module("inference.diagnostics.layout"), "ELEMENTS", 2)
    x = np.random.default_rng(0).normal(size=(6, 4))
    params = random_params(FactorAnalysis(4, 3), x, np.random.default_rng(1))
    found = draw(handed(FactorAnalysis(4, 3), "pyro", x, params), num_draws=5, rows=2, **DOUBLE)
    assert {n: v.shape for n, v in found.latents.items()} == {"z": (1, 5, 2, 2)}
    assert found.coords["x_dim_0"].tolist() == [0, 3]
    close(found.observed["x"], x[[0, 5]][:, [0, 3]], 0)
    tree = to_arviz(handed(FactorAnalysis(4, 3), "pyro", x, params), num_draws=5, rows=2, **DOUBLE)
    assert tree.posterior.z.dims == ("chain", "draw", "data", "z_dim_0")
    assert tree.posterior_predictive.x_dim_0.values.tolist() == [0, 3]
    assert tree.observed_data.data.values.tolist() == [0, 5]
    assert tree.attrs["notes"].splitlines() == list(found.notes)


def test_inputs_missing_entries_and_grey_values():
    rng = np.random.default_rng(0)
    labelled = next(row for row in CATALOGUE if row.id == "m2")
    x, labels = labelled.data(rng)
    data = Dataset("rows", x, x, "none", y=labels)
    found = draw(handed(labelled.declaration, "pyro", data, random_params(labelled.declaration, (x, labels), rng)),
                 num_draws=3, rows=4, **DOUBLE)  # fmt: skip
    assert found.constant["labels"].tolist() == labels[found.rows].tolist()
    assert set(found.log_likelihoods) == {"x"}  # and not the factor
    gaps = next(row for row in CATALOGUE if row.id == "factor-analysis-missing")
    (x,) = gaps.data(rng)
    found = draw(handed(gaps.declaration, "pyro", Dataset("gaps", x, x, "none"), random_params(gaps.declaration, x, rng)),
                 num_draws=3, rows=None, **DOUBLE)  # fmt: skip
    assert np.array_equal(found.observed["x"], x, equal_nan=True)
    assert np.isfinite(found.log_likelihood).all()
    grey = Dataset("grey", np.full((50, 4), 0.3), np.zeros((1, 4)), "dynamic")
    model = VAE(4, 2, (3,))
    found = draw(handed(model, "pyro", grey, random_params(model, grey.x, rng)), num_draws=3, rows=None, **DOUBLE)
    assert set(np.unique(found.observed["x"])) == {0, 1}
    assert any("drawn once" in note for note in found.notes)


# --- a user's own functions -------------------------------------------------------------------------------------------


def test_an_autoguide_of_the_library_has_its_density_in_the_models_coordinates():
    """A log-normal q of a positive latent, its draws in a plate of their own name and rows without a plate."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer.autoguide import AutoNormal

    def model(x: Any) -> None:
        with pyro.plate("side", 2):
            scale = pyro.sample("scale", dist.LogNormal(torch.zeros(()), 1.0))
        pyro.sample("x", dist.Normal(0.0, scale.sum()).expand([len(x)]), obs=x[:, 0])

    guide = AutoNormal(model)
    with exact("pyro"), pyro.get_param_store().scope():
        guide(torch.zeros(3, 1))
        names = {key: value.detach().numpy() for key, value in pyro.get_param_store().items()}
    assert len(names) == 2
    params = {name: np.array([0.4, -0.2]) if "loc" in name else np.array([0.3, 0.6]) for name in names}
    x = np.random.default_rng(0).normal(size=(3, 1))
    found = draw(handed(Bound(model, guide), "pyro", x, params), num_draws=4, rows=2, **DOUBLE)
    s = found.latents["scale"]
    assert (found.dims["scale"], found.local) == (("side",), frozenset())
    close(found.log_q, stats.lognorm(s=[0.3, 0.6], scale=np.exp([0.4, -0.2])).logpdf(s).sum(-1), 1e-9)
    likelihood = stats.norm(0, s.sum(-1)[..., None]).logpdf(x[:, 0])
    close(found.log_p, stats.lognorm(s=1.0).logpdf(s).sum(-1) + likelihood.sum(-1), 1e-9)
    close(found.log_likelihood, likelihood[..., found.rows], 1e-9)
    assert found.log_weight_rows is None


# --- leave one out ----------------------------------------------------------------------------------------------------


def location(engine: str, share: float) -> tuple[Fit, np.ndarray]:
    """`Location` with a guide of the exact mean and `share` times the exact scale."""
    x = np.random.default_rng(3).normal(size=(12, COLUMNS))
    params = exact_start(x)
    return handed(Location(), engine, x, {**params, "mu.scale": share * params["mu.scale"]}), x


def left_out(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (rows, columns) and scale of p(xₙ | the others)."""
    precision = 0.01 + len(x) - 1
    return (x.sum(0) - x) / precision, np.sqrt(1 + 1 / precision)


def test_leave_one_out_weighs_draws_of_a_wrong_guide_right():
    """A guide 1.3 times too wide: elpd within six Monte-Carlo errors (0.03 nats) of the closed form, plain `loo` 2 nats off."""
    import arviz_stats

    settings: dict[str, Any] = {"num_draws": 4000, "dtype": "float32", "device": "cpu"}
    wide, x = location("numpyro", 1.3)
    mean, scale = left_out(x)
    exactly = stats.norm(mean, scale).logpdf(x).sum()
    close(loo(wide, **settings).elpd, exactly, 0.2 / abs(exactly))
    plain = to_arviz(wide, rows=None, groups=("posterior", "log_likelihood"), **settings)
    close(plain.log_likelihood.x, stats.norm(plain.posterior.mu.values[..., None, :], 1).logpdf(x).sum(-1), 1e-5)
    assert abs(arviz_stats.loo(plain).elpd - exactly) > 1  # it takes the guide's draws for the posterior's
    pit = arviz_stats.loo_pit(for_loo(wide, **settings)).x.values
    close(pit, stats.norm(mean, scale).cdf(x), 0.06)
    narrow, _ = location("numpyro", 0.25)
    calm = to_arviz(narrow, rows=None, groups=("posterior", "log_likelihood"), **settings)
    assert arviz_stats.loo(calm, pointwise=True).pareto_k.max() < 0.5
    with pytest.warns(UserWarning, match="Pareto"):
        assert loo(narrow, **settings).pareto_k.max() > 0.7


# --- refusals ---------------------------------------------------------------------------------------------------------


def pair(guide: Any) -> Bound:
    """Pyro's, of one shared latent."""
    import pyro
    import pyro.distributions as dist

    def model(x: Any) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0).expand([1]).to_event(1), obs=x)

    return Bound(model, guide)


def point(x: Any) -> None:
    import pyro
    import pyro.distributions as dist
    import torch

    pyro.sample("mu", dist.Delta(torch.zeros(())))


def refusals() -> dict[str, tuple[Any, str]]:
    x = np.random.default_rng(0).normal(size=(6, COLUMNS))
    fit = handed(Location(), "pyro", x, exact_start(x))
    mixture = GaussianMixture(COLUMNS, marginal=True)
    energy: Any = SimpleNamespace(model=RBM(COLUMNS, 2), chains=None)
    bare = Draws({"mu": np.zeros((1, 4))}, np.zeros((1, 4), bool), np.ones(1), 0.0)
    return {
        "pca": (lambda: to_arviz(em(PCA(COLUMNS, 1), x, iterations=1)), "PCA has no density and no guide"),
        "k-means": (lambda: to_arviz(em(KMeans(COLUMNS), x, iterations=1, engine="pyro")), "KMeans has no density"),
        "no latents": (lambda: draw(handed(mixture, "pyro", x, random_params(mixture, x, np.random.default_rng(0)))),
                       "draws no latents"),
        "no site": (lambda: draw(handed(pair(lambda x: None), "pyro", x[:, :1], {})), "'mu' of the model has no site"),
        "point": (lambda: loo(handed(pair(point), "pyro", x[:, :1], {}), num_draws=3), "is a point"),
        "unknown group": (lambda: to_arviz(fit, groups=("predictions",)), "got 'predictions'"),
        "energy": (lambda: to_arviz(energy, groups=("log_likelihood",)), "without log Z"),
        "energy's predictions": (lambda: to_arviz(energy, groups=("posterior_predictive",)), "no posterior_predictive"),
        "energy drawn": (lambda: draw(energy), "no guide"),
        "energy left out": (lambda: loo(energy), "without log Z"),
        "constants": (lambda: to_arviz(fit, groups=("constant_data",), num_draws=3), "no constant_data"),
        "draws": (lambda: draw(fit, num_draws=0), "num_draws"), "rows": (lambda: draw(fit, rows=2.5), "rows"),  # type: ignore[arg-type]
        "variable": (lambda: loo(fit, var_name="y", num_draws=3), "var_name among x"),
        "one chain": (lambda: to_arviz(fit, min_chains=2), "got 1; fit by inference.fit"),
        "one chain of NUTS": (lambda: to_arviz(bare, min_chains=2), "larger num_chains"),
        "chains of old": (lambda: to_arviz(bare), "do not hold their model and data"),
    }  # fmt: skip


@pytest.mark.parametrize("name", refusals())
def test_what_cannot_be_is_refused_in_one_sentence(name):
    call, words = refusals()[name]
    with pytest.raises(InputError) as caught:
        call()
    assert words in str(caught.value)
    assert str(caught.value).count(". ") == 0


def test_netcdf_without_its_library_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("inference.diagnostics.fit_tree.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        save(None, tmp_path / "posterior.nc")


# --- ArviZ ------------------------------------------------------------------------------------------------------------

ROWS_ONLY, NO_LOG_Z = "belong to a row each", "without log Z"
REFUSED = {
    **{(kind, name): ROWS_ONLY for kind in ("svi-rows", "em")
       for name in ("loo_approximate_posterior", "plot_loo_pit", "plot_khat")},
    **{("energy", name): NO_LOG_Z for name in ("loo_approximate_posterior", "plot_loo_pit", "plot_khat")},
    ("energy", "plot_ppc_dist"): "no posterior_predictive",
    ("em", "rhat"): "at least 2 chains", ("em", "plot_rank"): "at least 2 chains",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "engine"), [("svi-shared", "pyro"), ("svi-rows", "pyro"), ("em", "pyro"), ("nuts", "pyro"), ("energy", "numpyro")]
)
def test_functions_of_arviz_work_or_are_refused(kind, engine):
    before = matplotlib.get_backend()
    found = {row["function"]: row["result"] for row in cells(kind, engine)}
    matplotlib.use(before)
    assert found.keys() == functions().keys()
    for name, result in found.items():
        refused = REFUSED.get((kind, name))
        assert result == "works" if refused is None else result.startswith("refused: ") and refused in result, (name, result)


def test_chains_are_those_of_nuts():
    """What the sampler says of its draws reaches the tree, and densities are those of the model."""
    x = np.random.default_rng(0).normal(size=(5, COLUMNS))
    mu = np.random.default_rng(1).normal(size=(2, 6, COLUMNS))
    diverging = np.arange(12).reshape(2, 6) % 5 == 0
    data = from_arrays(x, heldout=x)
    chains = Draws({"mu": mu}, diverging, np.array([0.8, 0.9]), 1.0, {"dtype": "float64"}, Location(), "pyro", data)
    tree = chains.to_arviz(rows=2, device="cpu")
    close(tree.posterior.mu.values, mu, 0)
    likelihood = stats.norm(mu[:, :, None], 1).logpdf(x).sum(-1)
    close(tree.log_likelihood.x.values, likelihood[..., [0, 4]], 1e-9)
    close(tree.sample_stats.lp.values, likelihood.sum(-1) + stats.norm(0, 10).logpdf(mu).sum(-1), 1e-9)
    assert tree.sample_stats.diverging.values.tolist() == diverging.tolist()
    assert tree.sample_stats.mean_acceptance.dims == ("chain",)
    assert "log_q" not in tree.sample_stats
    half = chains.to_arviz(num_draws=3, device="cpu")
    close(half.posterior.mu.values, mu[:, evenly(6, 3)], 0)
    assert half.sample_stats.diverging.values.tolist() == diverging[:, evenly(6, 3)].tolist()
