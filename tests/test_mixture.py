"""The Gaussian mixture by EM, k-means, SVI and coordinate ascent, held to scikit-learn, sums by hand and closed forms."""

from functools import cache
from importlib import import_module
from itertools import permutations, product
from typing import Any

import jax
import numpy as np
import numpyro
import pyro
import pytest
import torch
from jax import random
from numpyro import handlers
from scipy import special, stats
from sklearn import cluster, mixture
from sklearn.datasets import load_iris

from inference import fit
from inference._pyro import Parameters
from inference.coordinate_ascent import coordinate_ascent
from inference.em import em
from inference.mixtures import adjusted_rand_index, canonical_order, co_assignment, match, renumber
from ppl_models import GaussianMixture, InputError, bind
from ppl_models.bayesian_gaussian_mixture import BayesianGaussianMixture
from ppl_models.datasets import from_arrays
from ppl_models.kmeans import KMeans
from ppl_models.language import ENGINES

from .catalogue import arrays, close, exact, random_params, shared
from .exact import QUICK

KINDS: Any = ("full", "tied", "diagonal", "spherical")
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_kind = pytest.mark.parametrize("kind", KINDS)


def call(engine: str, declaration: Any, method: str, params: dict, *args: Any) -> Any:
    """A method of EM under these parameters, in float64, as numpy."""
    with exact(engine):
        run = import_module(f"inference.em._{engine}").call
        args = tuple(arrays(engine, a) if isinstance(a, dict) else shared(engine).array(a) for a in args)
        params = arrays(engine, params)
        if engine == "numpyro":
            program = jax.jit(lambda p, a: run(declaration, method, p, *a), compiler_options=QUICK)
            return jax.tree.map(np.asarray, program(params, args))
        with torch.no_grad():
            out = run(declaration, method, params, *args)
        to_numpy = shared(engine).to_numpy
        return (to_numpy(out[0]), out[1].numpy()) if isinstance(out, tuple) else to_numpy(out)


def rows_of(x: np.ndarray) -> Any:
    """All rows to train on, and the same to judge by."""
    return from_arrays(x, heldout=x)


@cache
def iris() -> Any:
    return rows_of(load_iris().data)


# --- EM ---------------------------------------------------------------------------------------------------------------

#: Total log-likelihood of iris, K = 3, as scikit-learn finds it; for diagonal there is a better optimum.
PRINTED = {"full": -180.1855, "tied": -256.354, "diagonal": -307.178, "spherical": -384.314}


@each_engine
@each_kind
def test_em_reaches_the_optimum_of_iris_and_never_descends(engine: str, kind: Any):
    found = em(GaussianMixture(4, 3, kind), iris(), engine=engine, restarts=5, dtype="float64", tolerance=1e-9, iterations=500)
    totals = 150 * np.array(found.restarts)
    printed = PRINTED[kind]
    digits = 0.5 * 10.0 ** -len(str(printed).split(".")[1])
    assert (np.abs(totals - printed) < digits + 1e-5).any(), "the printed optimum is among the restarts"
    if kind == "diagonal":
        assert totals.max() > printed + 0.3
    else:
        assert abs(totals.max() - printed) < digits + 1e-5
    climb = np.array([row["train_log_likelihood"] for row in found.history])
    assert len(climb) > 5
    assert (np.diff(climb) > -1e-13).all()
    close(found.heldout_log_likelihood.value, climb[-1], 1e-12)
    # scikit-learn, started there, stays there.
    peer = mixture.GaussianMixture(3, covariance_type="diag" if kind == "diagonal" else kind, tol=1e-12, max_iter=1,
                                   means_init=found.params["locs"], weights_init=special.softmax(found.params["logits"]),
                                   precisions_init=precisions(found.params, kind))  # fmt: skip
    with pytest.warns(match="did not converge"):
        peer.fit(iris().x)
    close(peer.score(iris().x), climb[-1], 1e-5)


def covariances(params: dict, kind: str) -> np.ndarray:
    scale = params["scale"]
    if kind == "diagonal":
        return scale**2
    if kind == "spherical":
        return scale[:, 0] ** 2
    factor = np.tril(params["lower"], -1) + scale[..., None] * np.eye(scale.shape[-1])
    return factor @ np.swapaxes(factor, -1, -2)


def precisions(params: dict, kind: str) -> np.ndarray:
    found = covariances(params, kind)
    return np.linalg.inv(found) if kind in ("full", "tied") else 1 / found


def by_hand(kind: str, x: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances of rows shared (N, K) among the components."""
    count = share.sum(0)
    means = share.T @ x / count[:, None]
    each = np.stack([((x - m).T * s) @ (x - m) / s.sum() for m, s in zip(means, share.T, strict=True)])
    if kind == "tied":
        return count / len(x), means, (each * count[:, None, None]).sum(0) / len(x)
    diagonal = np.diagonal(each, axis1=1, axis2=2)
    return count / len(x), means, {"full": each, "diagonal": diagonal, "spherical": diagonal.mean(1)}[kind]


@each_engine
@each_kind
def test_both_steps_are_those_summed_by_hand(engine: str, kind: Any):
    rng = np.random.default_rng(0)
    x, model = rng.normal(3, 2, (40, 3)), GaussianMixture(3, 2, kind)
    params = random_params(model, x, rng)
    with exact(engine):
        known = shared(engine).log_evidence(model, params, (x,))
        log_joint = np.stack([stats.multivariate_normal(m, c).logpdf(x) for m, c in
                              zip(params["locs"], spelt_out(covariances(params, kind), kind), strict=True)], 1)  # fmt: skip
    log_joint = log_joint + special.log_softmax(params["logits"])
    close(special.logsumexp(log_joint, 1), known, 1e-10)
    data = call(engine, model, "summarise", {}, x)
    statistics, total = call(engine, model, "expected", params, data)
    close(total, known.sum(), 1e-10)
    for share, found in (
        (special.softmax(log_joint, 1), statistics),
        (np.eye(2)[np.arange(40) % 2], call(engine, model, "statistics", {}, x, {"assignment": np.arange(40) % 2})),
    ):
        new = call(engine, model, "maximise", {}, found)
        weights, means, spread = by_hand(kind, x, share)
        close(special.softmax(new["logits"]), weights, 1e-12)
        close(new["locs"], means, 1e-11)
        close(covariances(new, kind), spread, 1e-10)


def spelt_out(found: np.ndarray, kind: str) -> np.ndarray:
    """Two full 3 × 3 covariances."""
    if kind == "full":
        return found
    return np.stack([found] * 2) if kind == "tied" else np.stack([np.eye(3) * np.broadcast_to(row, 3) for row in found])


@each_engine
@each_kind
def test_the_floor_holds_where_rows_coincide_and_a_column_is_constant(engine: str, kind: Any):
    x = np.repeat(np.array([[0.0, 0.0, 5.0], [3.0, 1.0, 5.0], [-3.0, 7.0, 5.0]]), 5, axis=0)
    model = GaussianMixture(3, 3, kind, floor=1e-4)
    found = em(model, rows_of(x), engine=engine, iterations=50, dtype="float64")
    spread = np.where(x.var(0) > 0, x.var(0), 1.0)
    variances = covariances(found.params, kind)
    if kind in ("full", "tied"):
        values = np.linalg.eigvalsh(variances / np.sqrt(spread[:, None] * spread))
    else:
        values = variances / (spread if kind == "diagonal" else x.var(0).mean())
    close(values, np.full(values.shape, 1e-4), 1e-5)
    assert sorted(found.params["locs"][:, 0].round(3)) == [-3, 0, 3]


@each_engine
def test_sampled_em_ends_within_its_stated_error(engine: str):
    model = GaussianMixture(4, 3, "diagonal")
    best = em(model, iris(), engine=engine, dtype="float64", seed=1)
    found = em(model, iris(), engine=engine, dtype="float64", method="sampled", iterations=200, init=best.params)
    assert abs(found.restarts[0] - best.restarts[0]) < 4 * found.manifest["standard_error"] < 0.2


# --- k-means ----------------------------------------------------------------------------------------------------------


@each_engine
def test_k_means_is_that_of_scikit_learn(engine: str):
    x, model = iris().x, KMeans(4, 3)
    start = model.initial(x, np.random.default_rng(3))
    found = em(model, iris(), engine=engine, dtype="float64", init=start, tolerance=0.0)
    peer = cluster.KMeans(3, init=start["locs"], n_init=1, algorithm="lloyd", tol=0).fit(x)
    close(-2 * 150 * found.restarts[0], peer.inertia_, 1e-12)
    close(found.params["locs"], peer.cluster_centers_, 1e-12)
    assert (np.diff([row["train_log_likelihood"] for row in found.history]) > -1e-14).all()


@each_engine
def test_a_location_without_rows_stays(engine: str):
    x, far = np.arange(6.0)[:, None], np.array([[0.0], [3.0], [99.0]])
    found = em(KMeans(1, 3), rows_of(x), engine=engine, dtype="float64", init={"locs": far})
    close(found.params["locs"], [[1.0], [4.0], [99.0]], 1e-12)


@each_engine
def test_a_narrow_mixture_assigns_as_k_means_does(engine: str):
    x, locs = iris().x, KMeans(4, 3).initial(iris().x, np.random.default_rng(4))["locs"]
    nearest = ((x[:, None] - locs) ** 2).sum(-1).argmin(1)
    model, excess = GaussianMixture(4, 3, "spherical"), []
    for scale in (1.0, 0.1, 1e-3):
        params = {"logits": np.zeros(3), "locs": locs, "scale": np.full((3, 1), scale)}
        statistics, total = call(engine, model, "expected", params, call(engine, model, "summarise", {}, x))
        known = call(engine, KMeans(4, 3), "expected", {"locs": locs}, call(engine, KMeans(4, 3), "summarise", {}, x))
        excess.append([np.abs(statistics[n] - known[0][n]).max() for n in ("count", "sum")])
        normaliser = 150 * (-np.log(3) - 4 * np.log(scale) - 2 * np.log(2 * np.pi))
    assert (np.diff(excess, axis=0) < 0).all()
    close(excess[-1], [0.0, 0.0], 1e-9)
    close(known[0]["count"], np.bincount(nearest), 1e-12)
    close(scale**2 * (total - normaliser), known[1], 1e-9)


# --- SVI --------------------------------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize(("kind", "marginal"), [("spherical", False), ("full", True)])
def test_svi_reaches_em(engine: str, kind: Any, marginal: bool):
    model = GaussianMixture(4, 3, kind, marginal=marginal)
    best = em(model, iris(), engine=engine, dtype="float64", seed=1)
    found = fit(model, iris(), engine=engine, dtype="float64", seed=1, epochs=400, batch=150, lr=0.04)
    assert abs(found.heldout_log_likelihood.value - best.restarts[0]) < 1e-3


@each_engine
@each_kind
def test_the_marginal_model_scores_the_evidence(engine: str, kind: Any):
    rng = np.random.default_rng(5)
    x, model = rng.normal(0, 2, (6, 3)), GaussianMixture(3, 2, kind, marginal=True)
    params = random_params(GaussianMixture(3, 2, kind), x, rng)
    with exact(engine):
        known = shared(engine).log_evidence(model, params, (x,))
        here, bound = shared(engine), bind(model, engine)
        rows = import_module(f"inference.estimators._{engine}").elbo_rows
        key = [random.key(0)] if engine == "numpyro" else []
        close(rows(*key, arrays(engine, params), *bound, (here.array(x),), {}), known, 1e-10)


@cache
def known_mixture() -> tuple[Any, float]:
    """5,000 rows and 5,000 held out of a mixture; the true log-likelihood of the latter, nats a datum."""
    rng = np.random.default_rng(6)
    weights, locs = np.array([0.5, 0.3, 0.2]), np.array([[0.0, 0], [4, 1], [-2, 5]])
    scales = np.array([[1.0, 0.5], [0.7, 1.5], [1.2, 0.8]])
    k = rng.choice(3, 10_000, p=weights)
    x = locs[k] + scales[k] * rng.normal(size=(10_000, 2))
    each = stats.norm(locs, scales).logpdf(x[5_000:, None]).sum(-1)
    return from_arrays(x[:5_000], heldout=x[5_000:]), special.logsumexp(each + np.log(weights), 1).mean()


@each_engine
@pytest.mark.parametrize("method", ["em", "svi"])
def test_data_of_a_known_mixture_are_learned(engine: str, method: str):
    (data, truth), model = known_mixture(), GaussianMixture(2, 3, "diagonal")
    if method == "em":
        found = em(model, data, engine=engine, restarts=3)
    else:
        found = fit(model, data, engine=engine, epochs=8, batch=500, lr=0.02)
    assert abs(found.heldout_log_likelihood.value - truth) < 0.05


# --- Bayesian mixture -------------------------------------------------------------------------------------------------


def log_evidence(model: BayesianGaussianMixture, x: np.ndarray) -> float:
    """log p(x) by summing over every assignment the closed form of w, μ and λ."""

    def cluster(rows: np.ndarray) -> float:
        n, count, shape = len(rows), model.count + len(rows), model.shape + len(rows) / 2
        loc = (model.count * model.loc + rows.sum(0)) / count
        rate = model.rate + ((rows**2).sum(0) + model.count * model.loc**2 - count * loc**2) / 2
        out = (np.log(model.count / count) - n * np.log(2 * np.pi)) / 2 + special.gammaln(shape) - special.gammaln(model.shape)
        return float((out + model.shape * np.log(model.rate) - shape * np.log(rate)).sum())

    K, terms = model.num_components, []
    for assignment in product(range(K), repeat=len(x)):
        k = np.array(assignment)
        counts = np.bincount(k, minlength=K) + model.concentration
        prior = special.gammaln(K * model.concentration) - K * special.gammaln(model.concentration)
        weights = prior + special.gammaln(counts).sum() - special.gammaln(counts.sum())
        terms.append(weights + sum(cluster(x[k == i]) for i in range(K)))
    return float(special.logsumexp(terms))


FOUR = np.array([[-1.2, 0.3], [-0.8, -0.2], [1.1, 0.9], [0.7, 0.1]])


def ascend(engine: str, model: Any, x: np.ndarray, **settings: Any) -> Any:
    return coordinate_ascent(model, rows_of(x), engine=engine, dtype="float64", tolerance=1e-13, **settings)


@pytest.mark.parametrize("engine", ["pyro"])  # `both` holds NumPyro to Pyro
def test_the_bound_is_below_the_evidence_and_tight_with_one_component(engine: str):
    two = BayesianGaussianMixture(2, 2, concentration=0.7, loc=0.1, count=0.5, shape=1.5, rate=0.8)
    found = ascend(engine, two, FOUR, restarts=2)
    gap = log_evidence(two, FOUR) - 4 * np.array(found.restarts)
    assert (gap > 1e-3).all()
    assert gap.min() < 1.5
    one = BayesianGaussianMixture(2, 1, loc=0.1, count=0.5, shape=1.5, rate=0.8)
    close(4 * ascend(engine, one, FOUR).restarts[0], log_evidence(one, FOUR), 1e-10)


@cache
def both() -> tuple[Any, Any]:
    x = iris().x - iris().x.mean(0)
    found = [ascend(engine, BayesianGaussianMixture(4, 3), x, seed=2) for engine in ENGINES]
    return found[0], found[1]


def test_coordinate_ascent_climbs_alike_on_both_engines():
    a, b = both()
    close(a.restarts, b.restarts, 1e-9)
    for name in a.params:
        close(a.params[name], b.params[name], 1e-5)
    for found in (a, b):
        climb = np.array([row["train_elbo"] for row in found.history])
        assert len(climb) > 5
        assert (np.diff(climb) > -1e-13).all()


def test_the_bound_is_the_mean_of_log_p_less_log_q_on_both_engines():
    x, model = FOUR, BayesianGaussianMixture(2, 2, concentration=2.0, count=0.5, shape=1.5, rate=0.8)
    found = ascend("pyro", model, x)
    known, particles = 4 * found.restarts[0], 4_000
    with exact("numpyro"):
        params, bound = arrays("numpyro", found.params), bind(model, "numpyro")

        def one(key: Any) -> Any:
            elbo = numpyro.infer.Trace_ELBO()
            return -elbo.loss(key, params, *bound, shared("numpyro").array(x))

        values = np.asarray(jax.jit(jax.vmap(one))(random.split(random.key(0), particles)))
    error = values.std() / np.sqrt(particles)
    assert error < 0.05
    assert abs(values.mean() - known) < 5 * error
    with exact("pyro"), torch.no_grad(), Parameters(arrays("pyro", found.params)):
        torch.manual_seed(0)
        loss = pyro.infer.Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=1).loss
        assert abs(-loss(*bind(model, "pyro"), shared("pyro").array(x)) - known) < 5 * error


def test_coordinate_ascent_in_one_dimension_is_that_of_scikit_learn():
    """In more, scikit-learn takes E log |Λ| of a Wishart for diagonal covariances too: another bound."""
    x = np.sort(iris().x[:, 2:3], 0)
    share = 0.8 * np.eye(2)[(np.arange(150) >= 50).astype(int)] + 0.1
    peer = mixture.BayesianGaussianMixture(
        n_components=2, covariance_type="diag", reg_covar=0.0, weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=0.7, mean_precision_prior=0.5, mean_prior=[1.0], degrees_of_freedom_prior=3.0,
        covariance_prior=[1.6],
    )  # fmt: skip
    peer._check_parameters(x, xp=np)
    peer._initialize(x, share)
    model = BayesianGaussianMixture(1, 2, concentration=0.7, loc=1.0, count=0.5, shape=1.5, rate=0.8)
    state = model.maximise(words_of_numpy(), model._statistics(model.summarise(words_of_numpy(), x), share.T))
    for _ in range(30):
        peer._m_step(x, peer._e_step(x)[1])
    found = ascend("pyro", model, x, init=state, iterations=30)
    assert found.stopped == "iterations" or len(found.history) <= 31
    close(found.params["weights.concentration"], peer.weight_concentration_, 1e-6)
    close(found.params["locs.loc"], peer.means_, 1e-6)
    close(found.params["locs.count"][:, 0], peer.mean_precision_, 1e-6)
    close(2 * found.params["precision.shape"][:, 0], peer.degrees_of_freedom_, 1e-6)
    close(found.params["precision.rate"] / found.params["precision.shape"], peer.covariances_, 1e-6)


def words_of_numpy() -> Any:
    return import_module("ppl_models.kmeans").NUMPY


@each_engine
def test_the_marginal_bayesian_model_sums_the_assignments_out(engine: str):
    rng = np.random.default_rng(8)
    values = {"weights": rng.dirichlet(np.ones(2)), "locs": rng.normal(size=(2, 2))}
    values["precision"] = np.exp(rng.normal(size=(2, 2)))
    with exact(engine):
        given, x = arrays(engine, values), shared(engine).array(FOUR)
        model = bind(BayesianGaussianMixture(2, 2, marginal=True), engine).model
        if engine == "numpyro":
            trace = handlers.trace(handlers.seed(handlers.substitute(model, data=given), 0)).get_trace(x)
            found = trace["x"]["fn"].log_prob(x)
        else:
            trace = pyro.poutine.trace(pyro.poutine.condition(model, data=given)).get_trace(x)
            found = trace.nodes["x"]["fn"].log_prob(x)
    each = stats.norm(values["locs"], values["precision"] ** -0.5).logpdf(FOUR[:, None]).sum(-1)
    close(found, special.logsumexp(each + np.log(values["weights"]), 1), 1e-12)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_bad_settings_are_refused():
    for make, said in [
        (lambda: GaussianMixture(2, floor=0.0), "floor"),
        (lambda: BayesianGaussianMixture(2, count=-1.0), "count"),
        (lambda: GaussianMixture(2, covariance="round"), "covariance"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(InputError, match=said):
            make()


# --- what does not depend on the numbering ----------------------------------------------------------------------------


def test_summaries_do_not_see_the_numbering():
    rng = np.random.default_rng(9)
    draws = rng.integers(0, 3, (50, 8))
    renamed = np.stack([rng.permutation(3)[row] for row in draws])
    together = (draws[:, :, None] == draws[:, None]).mean(0)
    close(co_assignment(draws), together, 1e-12)
    close(co_assignment(renamed), together, 1e-12)
    share = rng.dirichlet(np.ones(3), 8)
    off = ~np.eye(8, dtype=bool)
    close(co_assignment(share)[off], (share @ share.T)[off], 1e-12)
    assert adjusted_rand_index(draws[0], renamed[0]) == 1
    assert adjusted_rand_index(draws[0], np.zeros(8)) == 0


def test_numberings_agree_with_the_reference():
    rng = np.random.default_rng(10)
    reference = rng.normal(size=(4, 2))
    for order in permutations(range(4)):
        moved = reference[list(order)] + 0.01 * rng.normal(size=(4, 2))
        close(moved[match(moved, reference)], reference, 0.1)
        shuffled = reference[list(order)]
        close(shuffled[canonical_order(shuffled)], reference[canonical_order(reference)], 0.0)
    best = min(permutations(range(4)), key=lambda o: ((moved[list(o)] - reference) ** 2).sum())
    assert tuple(match(moved, reference)) == best
    tied = {"locs": reference, "logits": np.arange(4.0), "scale": np.arange(4.0), "lower": np.zeros((4, 4))}
    out = renumber(tied, np.array([1, 0, 2, 3]), 4)
    assert out["logits"].tolist() == [1, 0, 2, 3]
    assert out["scale"].tolist() == [0, 1, 2, 3]
    close(out["locs"][0], reference[1], 0.0)
    with pytest.raises(InputError, match="one shape"):
        match(reference, reference[:3])
