"""`check`: what is wrong with a model, a guide or data is one sentence, the same on both engines, and nothing is compiled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import numpyro
import numpyro.distributions as nd
import pyro
import pyro.distributions as pd
import pytest
from jax import lax
from numpyro.infer import autoguide as numpyro_autoguide
from pyro.infer import autoguide as pyro_autoguide
from scipy import stats

import ppl_models
from benchmarks.bad_inputs import tried, twin
from benchmarks.bad_kinds import KINDS, TWINS, Attempt, cases
from inference import check
from inference.broken_models import BROKEN, Sound
from inference.check import Checked
from inference.check._numpyro import evaluate
from inference.estimators import Pathwise
from ppl_models import (
    PCA,
    RBM,
    VAE,
    BayesianGaussianMixture,
    BoltzmannMachine,
    Bound,
    DeepBeliefNet,
    DeepBoltzmannMachine,
    InputError,
    KMeans,
    NeuralEnergy,
    SigmoidBeliefNet,
    bind,
)
from ppl_models.datasets import from_arrays
from ppl_models.language import ENGINES

from .catalogue import CATALOGUE
from .command import run, strict

each_engine = pytest.mark.parametrize("engine", ENGINES)
ROWS = 6


def real(rows: int = ROWS, columns: int = 4) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(rows, columns))


def counts(**spots: float) -> np.ndarray:
    x = np.random.default_rng(4).poisson(2.0, (ROWS, 4)).astype(float)
    for row, value in spots.items():
        x[int(row[3:]), 2] = value
    return x


def binary() -> np.ndarray:
    return (real() > 0).astype(float)


# --- models that are wrong --------------------------------------------------------------------------------------------


class Counts(Sound):
    def decoder(self, ppl: Any, z: Any) -> Any:
        return ppl.dist.Poisson(ppl.softplus(self.loc(ppl, z))).to_event(1)


class Unevent(Sound):
    def decoder(self, ppl: Any, z: Any) -> Any:
        return ppl.dist.Normal(self.loc(ppl, z), 1.0)


class NoPlate(Sound):
    """In Pyro an error, in NumPyro a sum over rows and columns alike."""

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        z = ppl.sample("z", ppl.dist.Normal(ppl.xp.zeros((x.shape[0], 2)), 1.0).to_event(2))
        ppl.sample("x", ppl.dist.Normal(self.loc(ppl, z), 1.0).to_event(1), obs=x)

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        ppl.sample("z", ppl.dist.Normal(ppl.xp.zeros((x.shape[0], 2)), 1.0).to_event(2))


class EventAll(NoPlate):
    """The rows are one datum, so that no minibatch can stand for others."""

    def decoder(self, ppl: Any, z: Any) -> Any:
        return ppl.dist.Normal(self.loc(ppl, z), 1.0).to_event(2)

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        z = ppl.sample("z", ppl.dist.Normal(ppl.xp.zeros((x.shape[0], 2)), 1.0).to_event(2))
        ppl.sample("x", self.decoder(ppl, z), obs=x)


class SevenRows(Sound):
    def plate(self, ppl: Any, x: Any, total: int | None) -> Any:
        return ppl.plate("data", 7)


class ForgetsTotal(Sound):
    def plate(self, ppl: Any, x: Any, total: int | None) -> Any:
        return ppl.plate("data", x.shape[0])


class OtherPlate(Sound):
    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        with ppl.plate("rows", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", self.posterior(ppl, x))


class DrawsData(Sound):
    def besides(self, ppl: Any, x: Any) -> None:
        ppl.sample("x", ppl.dist.Normal(ppl.xp.zeros(4), 1.0).to_event(1))


class Outside(Sound):
    """A prior on the positive half line beside a guide on all of it."""

    def prior(self, ppl: Any, x: Any) -> Any:
        return ppl.dist.Exponential(ppl.xp.ones(2)).to_event(1)


class OtherEvent(Sound):
    def posterior(self, ppl: Any, x: Any) -> Any:
        return ppl.dist.Normal(ppl.xp.zeros(3), 1.0).to_event(1)

    def decoder(self, ppl: Any, z: Any) -> Any:
        return ppl.dist.Normal(ppl.xp.zeros(4), 1.0).to_event(1)


class Boundless(Sound):
    """A density that is −∞ at the start."""

    def beside(self, ppl: Any, x: Any, total: int | None) -> None:
        ppl.factor("penalty", ppl.xp.log(0.0 * x.sum(-1) ** 2))


#: id, model, data, about, and the words of the sentence.
FAULTS: list[tuple[str, Any, Any, str, tuple[str, ...]]] = [
    ("count-negative", Counts(), counts(row3=-1), "data", ("Poisson site 'x' of the model", "row 3, column 2", "is -1",
     "whole numbers of at least 0", "correct or drop it")),
    ("count-fraction", Counts(), counts(row5=1.5), "data", ("Poisson site 'x'", "row 5, column 2", "is 1.5")),
    ("nan", Sound(), np.where(np.eye(ROWS, 4, k=-2) > 0, np.nan, real()), "data", ("nan", "row 2, column 0", "replace it")),
    ("columns", Sound(), real(columns=5), "data", ("data_dim=4", "5", "set data_dim=5")),
    ("dtype", Sound(), real().astype(str), "data", ("real numbers", "dtype <U32", "astype")),
    ("to-event", Unevent(), real(), "model", ("site 'x' of the model", "batch shape (6,)", "'data' (6 rows, dim -1)",
     "got (6, 4)", "in a plate", ".to_event(1)", "permute")),
    ("to-event-square", Unevent(), real(rows=4), "model", ("site 'x' of the model", "batch shape (4,)", "got (4, 4)",
     ".to_event(1)")),
    ("plate-missing", NoPlate(), real(), "model", ("site 'x' of the model", "shape () from no plates",
     "got (6,)", ".to_event(1)")),
    ("plate-of-rows-missing", EventAll(), real(), "model", ("no plate of the model holds the 6 rows", "minibatch")),
    ("plate-of-seven", SevenRows(), real(), "model", ("batch shape (7,)", "got (6,)")),
    ("plate-without-total", ForgetsTotal(), real(rows=200), "model", ("plate 'data'", "128 rows stand for 128", "there are 200",
     "`total`")),
    ("plate-renamed", OtherPlate(), real(), "model", ("latent 'z'", "plates data in the model", "rows in the guide")),
    ("guide-lacks", BROKEN["guide_covers_latents"].model, real(), "model", ("latent 'w'", "no site in the guide", "draw 'w'")),
    ("guide-has-more", BROKEN["guide_draws_latents_only"].model, real(), "model", ("guide draws 'w'", "model does not have")),
    ("guide-draws-data", DrawsData(), real(), "model", ("guide draws 'x'", "model observes", "leave it out")),
    ("nothing-observed", BROKEN["observes_its_data"].model, real(), "model", ("observes nothing", "obs=x")),
    ("event", OtherEvent(), real(), "model", ("latent 'z'", "(2,) in the model", "(3,) in the")),
    ("parameter-by-batch", BROKEN["parameters_free_of_batch"].model, real(), "model",
     ("parameter 'locs' has shape (6, 2) at 6 rows", "(5, 2) at 5")),
    ("site-by-batch", BROKEN["sites_free_of_batch"].model, real(rows=5), "model", ("site 'large'", "5 rows and 4 rows")),
    ("plate-by-batch", BROKEN["plates_free_of_batch"].model, real(), "model", ("plates around site 'z'", "6 rows and 5 rows")),
    ("product", BROKEN["runs"].model, real(), "model", ("the model cannot be run after site 'z'", "check the shapes")),
    ("latent-outside", Outside(), real(), "model", ("Exponential site 'z' of the model", "numbers", "guide draws -")),
    ("start-outside", BROKEN["starts_inside_constraints"].model, real(), "model", ("'rate' must be numbers above 0", "inside")),
    ("not-finite", Boundless(), real(), "model", ("site 'penalty' of the model", "log density -inf at index (0,)", "start")),
]  # fmt: skip


@pytest.mark.parametrize(("model", "data", "about", "expected"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_fault_is_one_sentence_and_the_same_on_both_engines(model, data, about, expected):
    told = []
    for engine in ENGINES:
        found = check(model, data, engine=engine, raises=False)
        assert found.problems
        assert not found.fine
        assert found.problems[0].about == about
        for word in expected:
            assert word in found.problems[0]
        assert str(found.problems[0]).endswith(".") or about == "data"
        with pytest.raises(InputError) as raised:
            check(model, data, engine=engine)
        assert str(raised.value) == found.problems[0]
        told.append(found.problems[0])
    if "cannot be run" not in told[0] and "guide draws -" not in told[0]:  # the libraries' own words; a draw
        assert told[0] == told[1]


@each_engine
@pytest.mark.parametrize(("estimator", "model", "expected"), [
    ("pathwise", SigmoidBeliefNet(4, 2), ("'pathwise' does not apply", "'z1'", "use leave-one-out")),
    ("enumerate", Sound(), ("'enumerate' does not apply", "'z'", "use pathwise")),
    ({"y": Pathwise()}, Sound(), ("no latent site matches 'y'", "sites are z")),
    (None, BROKEN["default_estimator_applies"].model, ("64000 joint values", "use leave-one-out")),
], ids=["pathwise", "enumerate", "pattern", "default"])  # fmt: skip
def test_an_estimator_that_does_not_apply_is_refused(engine, estimator, model, expected):
    data = binary() if isinstance(model, SigmoidBeliefNet) else real()
    (problem,) = check(model, data, engine=engine, estimator=estimator, raises=False).problems
    assert problem.about == "estimator"
    for word in expected:
        assert word in problem


@each_engine
@pytest.mark.parametrize(("change", "expected"), [
    ({"scale": None}, ("init", "a value for 'scale'", "got none")),
    ({"extra": np.ones(2)}, ("init", "no such parameter for 'extra'")),
    ({"scale": np.ones(3)}, ("init", "shape (2,) for 'scale'", "got (3,)")),
    ({"scale": -np.ones(2)}, ("'scale' must be numbers above 0", "[-1. -1.]")),
    ({"loading": np.full((2, 4), np.inf)}, ("'loading'", "inf")),
], ids=["missing", "extra", "shape", "constraint", "infinite"])  # fmt: skip
def test_values_to_start_from_are_checked(engine, change, expected):
    init = {"loading": np.ones((2, 4)), "encoder": np.ones((4, 2)), "scale": np.ones(2)}
    assert check(Sound(), real(), engine=engine, init=init).fine
    changed = {name: value for name, value in {**init, **change}.items() if value is not None}
    with pytest.raises(InputError) as raised:
        check(Sound(), real(), engine=engine, init=changed)
    for word in expected:
        assert word in str(raised.value)


@pytest.mark.parametrize(("settings", "expected"), [
    ({"engine": "stan"}, "numpyro, pyro"), ({"estimator": "scor"}, "did you mean 'score'"), ({"batch": 0}, "batch"),
    ({"seed": -1}, "seed"), ({"bound": "elbow"}, "elbo or iwae"),
])  # fmt: skip
def test_settings_are_checked_by_name(settings: Mapping[str, Any], expected: str):
    with pytest.raises(InputError, match=expected):
        check(Sound(), real(), **settings)


# --- users' own functions ---------------------------------------------------------------------------------------------


def numpyro_model(x):
    w, s = numpyro.sample("w", nd.Normal(0.0, 1.0)), numpyro.sample("s", nd.HalfNormal(1.0))
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("x", nd.Normal(w, s).expand([x.shape[1]]).to_event(1), obs=x)


def pyro_model(x):
    w, s = pyro.sample("w", pd.Normal(0.0, 1.0)), pyro.sample("s", pd.HalfNormal(1.0))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("x", pd.Normal(w, s).expand([x.shape[1]]).to_event(1), obs=x)


@pytest.mark.parametrize(("engine", "model", "guide"), [
    ("numpyro", numpyro_model, numpyro_autoguide.AutoDiagonalNormal), ("pyro", pyro_model, pyro_autoguide.AutoDiagonalNormal),
    ("pyro", pyro_model, pyro_autoguide.AutoNormal),
])  # fmt: skip
def test_an_autoguide_is_fine(engine, model, guide):
    assert check(Bound(model, guide(model)), real(), engine=engine).fine
    assert list(pyro.get_param_store().keys()) == []


@each_engine
def test_a_pair_says_where_its_data_cannot_be(engine):
    """All rows of a pair are looked at, and they are counted as the source does, though a fifth of them is held out."""
    x = np.abs(real(rows=2000).round())
    x[1234, 1] = -3
    pair = bind(Counts(), engine)
    with pytest.raises(InputError, match="row 1234, column 1 .* is -3"):
        check(Bound(*pair), x, engine=engine)
    assert check(Bound(*pair), np.abs(x), engine=engine).fine


@each_engine
def test_a_masked_entry_may_be_anything(engine):
    class Masked(Counts):
        def decoder(self, ppl: Any, z: Any) -> Any:
            fn = ppl.dist.Poisson(ppl.softplus(self.loc(ppl, z)))
            return fn.mask(ppl.xp.asarray(np.arange(4) < 3)).to_event(1)

    x = counts()
    x[:, 3] = -1
    assert check(Masked(), x, engine=engine).fine
    x[1, 0] = -1
    with pytest.raises(InputError, match="row 1, column 0"):
        check(Masked(), x, engine=engine)


# --- the table and the graph ------------------------------------------------------------------------------------------

#: Declared parents of the sites of some models of the catalogue.
PARENTS: dict[str, dict[str, set[str]]] = {
    "vae-bernoulli": {"x": {"z"}},
    "hierarchical-vae": {"z1": {"z2"}, "x": {"z1"}},
    "conditional-baseline": {},
    "m1": {"x": {"z"}, "y": {"z"}},
    "m2": {"x": {"y", "z"}},
    "m1m2": {"z1": {"y", "z2"}, "x": {"z1"}, "classification": {"z1"}},
    "sbn-2": {"z1": {"z2"}, "x": {"z1"}},
    "factor-analysis": {"x": {"z"}},
    "mixture-full": {"x": {"assignment"}},
    "mixture-marginal": {},
    "flow-vae": {"x": {"z"}},
    "markov-vae": {"x": {"z"}},
    "bayesian": {"assignment": {"weights"}, "locs": {"precision"}, "x": {"assignment", "locs", "precision"}},
    "rbm": {"energy": {"x", "h"}},
    "dbn": {"energy": {"h1", "h2"}, "x": {"h1"}},
}
MODELS = {row.id: (row.declaration, row.data) for row in CATALOGUE} | {
    "bayesian": (BayesianGaussianMixture(4, 3), lambda rng: (real(),)), "rbm": (RBM(4, 3), lambda rng: (binary(),)),
    "dbn": (DeepBeliefNet(4, (3, 2)), lambda rng: (binary(),)),
}  # fmt: skip


def looked_at(name: str, engine: str) -> Checked:
    declaration, draw = MODELS[name]
    data = draw(np.random.default_rng(0))
    return check(declaration, data if len(data) > 1 else data[0], engine=engine)


@pytest.mark.parametrize("name", PARENTS)
def test_the_graph_has_the_declared_edges(name):
    tables = []
    for engine in ENGINES:
        found = looked_at(name, engine)
        assert set(found.edges) == {(parent, site) for site, parents in PARENTS[name].items() for parent in parents}
        tables.append(found)
    assert tables[0].table == tables[1].table
    assert tables[0].graph == tables[1].graph
    assert tables[0].params == tables[1].params


def test_the_table_names_what_each_site_reads():
    found = looked_at("m2", "pyro")
    lines = {(line.role, line.site): line for line in found.table}
    x = lines["model", "x"]
    assert (x.kind, x.distribution, x.plates, x.batch_shape, x.event_shape, x.log_prob_shape) == (
        "observed", "Bernoulli", ("data",), (5,), (6,), (5,))  # fmt: skip
    assert x.params == {"decoder.0.bias": (4,), "decoder.0.weight": (5, 4), "decoder.1.bias": (6,), "decoder.1.weight": (4, 6)}
    assert lines["model", "classification"].kind == "factor"
    assert {name for line in found.table for name in line.params} == set(found.params)
    assert found.graph.splitlines() == [
        "flowchart TD", '  subgraph plate_s0_0["data: 5"]', '    s0(["y ~ OneHotCategorical"])', '    s1(["z ~ Normal"])',
        '    s2["x ~ Bernoulli"]', '    s3{{"classification"}}', "  end", "  s0 --> s2", "  s1 --> s2",
    ]  # fmt: skip
    assert "y → x" in found.text()
    assert found.rows == (5, 5)


# --- energies, and what has no density --------------------------------------------------------------------------------

ENERGIES = [RBM(4, 3), RBM(4, 3, visible="normal"), RBM(4, 3, centred=True), BoltzmannMachine(4), BoltzmannMachine(4, 2),
            DeepBeliefNet(4, (3, 2)), DeepBoltzmannMachine(4, (3, 2)), NeuralEnergy(4, (3,)),
            NeuralEnergy(4, (3,), visible="normal"), KMeans(4), PCA(4)]  # fmt: skip


@each_engine
@pytest.mark.parametrize("model", ENERGIES, ids=repr)
def test_an_energy_is_looked_at_too(engine, model):
    bits = getattr(model, "visible", "bernoulli") == "bernoulli" and not isinstance(model, (KMeans, PCA))
    found = check(model, binary() if bits else real(), engine=engine)
    assert found.fine
    assert found.params
    if bits:
        wrong = binary()
        wrong[2, 1] = 2.0
        with pytest.raises(InputError, match="row 2, column 1"):
            check(model, wrong, engine=engine)
    if hasattr(model, "energy"):
        assert {line.site for line in found.table} == {*model.sites, "energy"}
        with pytest.raises(InputError, match="leave it out"):
            check(model, binary(), engine=engine, estimator="score")


@dataclass(frozen=True)
class Infinite(RBM):
    """Starts at an infinite bias."""

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return super().initial(x, rng) | {"x.bias": np.full(4, np.inf)}


@dataclass(frozen=True)
class Summed(RBM):
    """Sums over rows too."""

    def energy(self, ppl: Any, params: Any, values: Any) -> Any:
        return super().energy(ppl, params, values).sum()


@each_engine
@pytest.mark.parametrize(("model", "words"), [(Infinite(4, 3), ("the energy is", "at training row", "`initial`")),
                                              (Summed(4, 3), ("shape (5,)", "has ()", "keep the others"))])  # fmt: skip
def test_an_energy_that_is_wrong_is_told(engine, model, words):
    with pytest.raises(InputError) as raised:
        check(model, np.maximum(binary(), np.eye(ROWS, 4)), engine=engine)
    for word in words:
        assert word in str(raised.value)


# --- nothing is compiled ----------------------------------------------------------------------------------------------


def test_a_check_compiles_nothing():
    seen: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, seconds, **_: seen.append(name))
    x = from_arrays(binary())
    seen.clear()
    assert check(VAE(4, 3, (17,)), x).fine
    assert not [name for name in seen if "backend_compile" in name]
    jax.jit(lambda v: v * 1.2345)(np.ones(7))
    assert [name for name in seen if "backend_compile" in name], "compiling is not seen at all"


def test_a_traced_program_run_by_numpy_gives_what_jax_gives():
    def program(x: Any, i: Any) -> Any:
        xp = jax.numpy
        scanned = lax.scan(lambda c, row: (c + row.sum(), c * row), 0.5, x, reverse=True)
        halved = lax.while_loop(lambda v: v.sum() > 1, lambda v: v / 2, xp.abs(x))
        square = x @ x.T + 3 * xp.eye(len(x))
        return [
            x[i], x[:, ::-1][1:], xp.take_along_axis(x, i[:, None], 1), scanned, halved, xp.cumsum(x, 1), xp.argmax(x, 1),
            xp.linalg.solve(square, x), xp.linalg.cholesky(square), xp.linalg.inv(square), jax.nn.softmax(x),
            jax.scipy.special.gammaln(xp.abs(x) + 1), jax.scipy.special.erf(x), xp.round(x), x // 0.7, (i * 5) // 3, -i % 3,
            lax.cond(x[0, 0] > 0, lambda v: v + 1, lambda v: v - 1, x), xp.sort(x, 1), xp.tril(square),
            xp.where(x > 0, x, i[0]),
            lax.dynamic_slice(x, (2, 9), (2, 2)), x.at[i].set(0.0), xp.clip(x, -0.5, 0.5), xp.einsum("ij,kj->ik", x, x),
            jax.vmap(lambda row: row[i])(x), xp.pad(x, ((1, 0), (0, 2))), xp.exp2(x), xp.logaddexp(x, 1.0), x.astype(int),
        ]  # fmt: skip

    x, i = real(4, 4).astype(np.float32), np.array([3, 0, 2, 1])
    ours, theirs = (jax.tree.leaves(v) for v in (evaluate(program, x, i), jax.jit(program)(x, i)))
    assert len(ours) == len(theirs)
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.shape == b.shape, number
        assert a.dtype == b.dtype, number
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5, err_msg=str(number))


def test_its_draws_follow_their_laws():
    """Kolmogorov and Smirnov at a family-wise rate of 1e-6: of 20,000 draws a shift of 0.03 deviations would be seen."""
    def program(seed: Any) -> Any:
        keys = jax.random.split(jax.random.key(seed), 4)
        gamma = jax.random.gamma(keys[2], 2.5 * jax.numpy.ones(20_000))
        return jax.random.normal(keys[0], (20_000,)), jax.random.uniform(keys[1], (20_000,)), gamma

    drawn = evaluate(program, np.uint32(5))
    for values, law in zip(drawn, (stats.norm(), stats.uniform(), stats.gamma(2.5)), strict=True):
        assert stats.kstest(values, law.cdf).pvalue > 1e-6 / 3
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.05


# --- ppl check --------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "good.npy", np.random.default_rng(0).integers(0, 2, (20, 4)).astype(float))
    return tmp_path


@each_engine
def test_ppl_check_tells_that_all_is_fine(files, capsys, monkeypatch, engine):
    asked = ("check", "sbn", "--data", files / "good.npy", "--set", "latent_dim=3", "--engine", engine)
    ran = run(capsys, monkeypatch, *asked)
    assert ran.code == 0, ran
    assert "fine: sbn on good.npy runs" in ran.out
    assert "z1 → x" in ran.out
    told = strict(run(capsys, monkeypatch, *asked, "--json").out)
    assert told["problems"] == []
    assert told["edges"] == [["z1", "x"]]
    assert [site["site"] for site in told["sites"]] == ["z1", "x", "z1"]
    assert told["graph"].startswith("flowchart TD")
    assert sorted(path.name for path in files.iterdir()) == ["good.npy"]


def test_ppl_check_refuses_bad_input_with_2_and_a_wrong_model_with_3(files, capsys, monkeypatch):
    monkeypatch.setitem(ppl_models.CATALOGUE, "wrong", (Boundless, {}))
    asked = ("check", "wrong", "--data", files / "good.npy")
    ran = run(capsys, monkeypatch, *asked, "--json")
    assert ran.code == 3
    assert "'penalty'" in json.loads(ran.out)["problems"][0]
    ran = run(capsys, monkeypatch, *asked)
    assert ran.code == 3
    assert "wrong is not fine on good.npy" in ran.out
    ran = run(capsys, monkeypatch, "check", "sbn", "--data", files / "good.npy", "--estimator", "pathwise", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "'pathwise' does not apply" in ran.err
    ran = run(capsys, monkeypatch, "check", "iwae", "--data", files / "good.npy", "--estimator", "path-only")
    assert ran.code == 2
    assert "K-sample bound" in ran.err


# --- bad inputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ssvae_m2", "markov_vae", "rbm"])
def test_bad_inputs_are_refused(name, tmp_path, monkeypatch):
    """A slice of `benchmarks/bad_inputs.py`: all kinds, one engine each."""
    monkeypatch.chdir(tmp_path)
    case = next(case for case in cases() if case.name == name)
    attempts = {kind.name: attempt for kind in KINDS if not isinstance(attempt := kind.make(case), str)}
    assert len(attempts) >= 40
    faults = [f"{kind}: {wrong}" for kind, attempt in attempts.items() if (wrong := tried(attempt, "pyro")[0])]
    assert faults == []
    assert list(tmp_path.iterdir()) == []
    assert [twin(case, change, "pyro") for change in TWINS.values()] == [None] * len(TWINS)


def test_an_input_that_is_taken_or_refused_in_other_words_is_a_fault():
    case = next(case for case in cases() if case.name == "rbm")
    assert tried(Attempt(lambda engine: check(case.model, case.x, engine=engine), ()), "pyro")[0] == "accepts it"
    wrong = tried(Attempt(lambda engine: check(case.model, case.x[:, :-1], engine=engine), ("column 7",)), "pyro")[0]
    assert wrong is not None
    assert "does not say 'column 7'" in wrong
    assert "raises TypeError" in str(tried(Attempt(lambda engine: len(3), ()), "pyro")[0])  # type: ignore[arg-type]
