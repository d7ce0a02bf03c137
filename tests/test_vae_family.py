"""The VAE family against its own formulas: sums over labels by hand, models that coincide, pixels counted by eye."""

from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import random
from numpyro import handlers

from inference._pyro import Parameters
from inference.estimators import Enumerate, Pathwise
from ppl_models import CVAE, M1, M1M2, M2, VAE, ConditionalBaseline, HierarchicalVAE, InputError, bind
from ppl_models.conditions import Quadrants
from ppl_models.language import ENGINES, Program
from ppl_models.networks import ConvDecoder, ConvEncoder

from .catalogue import KNOWN, MIXED, UNKNOWN, arrays, close, exact, inputs, random_params, record, shared, words
from .exact import QUICK, bernoulli, normal
from .test_parity import numpyro_densities, pyro_densities

D, C, Z, N = 6, 3, 2, 5
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_labels = pytest.mark.parametrize("labels", [MIXED, KNOWN, UNKNOWN], ids=["mixed", "known", "unknown"])


def setting(declaration: Any, labels: tuple[int, ...] | None = None, columns: int = D) -> tuple[dict, tuple]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (N, columns)).astype(float)
    data = (x,) if labels is None else (x, np.array(labels))
    return random_params(declaration, data, rng), data


def program(engine: str, declaration: Any, method: str, params: dict, *args: np.ndarray) -> np.ndarray:
    """What a method that draws nothing returns."""
    with exact(engine):
        args, params = tuple(map(shared(engine).array, args)), arrays(engine, params)
        if engine == "numpyro":
            return np.asarray(handlers.substitute(Program(declaration, method, "numpyro"), data=params)(*args))
        with torch.no_grad(), Parameters(params):
            return Program(declaration, method, "pyro")(*args).numpy()


def loss_and_gradients(engine: str, declaration: Any, params: dict, data: tuple, given: dict) -> tuple[float, dict]:
    """−ELBO under the default estimators, and its gradient in constrained coordinates; `given` forces draws."""
    bound, elbo = bind(declaration, engine), import_module(f"inference.estimators._{engine}").EstimatorELBO()
    with exact(engine):
        here, params = shared(engine), arrays(engine, params)
        data, given = tuple(map(here.array, data)), arrays(engine, given)
        if engine == "numpyro":

            def loss(params: Any) -> Any:
                return elbo.evaluate(random.key(0), params, {}, *bound, data, {}, given)[0]

            value, gradients = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)(params)
            return float(value), here.to_numpy(gradients)
        torch.manual_seed(0)
        leaves = {n: v.requires_grad_() for n, v in params.items()}
        value = elbo.evaluate(leaves, {}, *bound, data, {}, given)[0]
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return value.item(), {n: g.numpy() for n, g in zip(leaves, found, strict=True)}


# --- the models once more, in plain arithmetic ------------------------------------------------------------------------


def mlp(params: Any, name: str, *inputs: Any) -> Any:
    """Softplus layers on the inputs side by side."""
    shape = jnp.broadcast_shapes(*(x.shape[:-1] for x in inputs))
    h = jnp.concatenate([jnp.broadcast_to(x, (*shape, x.shape[-1])) for x in inputs], -1)
    layer = 0
    while f"{name}.{layer}.weight" in params:
        h = (jax.nn.softplus(h) if layer else h) @ params[f"{name}.{layer}.weight"] + params[f"{name}.{layer}.bias"]
        layer += 1
    return h


def log_normal(output: Any, value: Any) -> Any:
    loc, log_variance = jnp.split(output, 2, -1)
    return normal(loc, jnp.exp(log_variance / 2), value).sum(-1)


def over_labels(terms: list[Any], logits: Any, labels: np.ndarray, weight: float) -> Any:
    """Σ_y q(y) (term_y − log q(y)) of rows without a label; the label's term and weight · log q(label) of rows with one."""
    terms, log_q = jnp.stack(terms, -1), jax.nn.log_softmax(logits)
    summed = (jnp.exp(log_q) * (terms - log_q)).sum(-1)
    known = (terms + weight * log_q)[np.arange(N), labels]
    return (-jnp.log(C) + jnp.where(labels < 0, summed, known)).sum()


def m2_by_hand(params: Any, x: Any, labels: np.ndarray, z: Any, weight: float) -> Any:
    terms = [bernoulli(mlp(params, "decoder", z, y), x).sum(-1) + normal(0.0, 1.0, z).sum(-1)
             - log_normal(mlp(params, "encoder", x, y), z) for y in jnp.eye(C)]  # fmt: skip
    return over_labels(terms, mlp(params, "classifier", x), labels, weight)


def m1m2_by_hand(params: Any, x: Any, labels: np.ndarray, z1: Any, z2: Any, weight: float) -> Any:
    outer = bernoulli(mlp(params, "decoder", z1), x).sum(-1) - log_normal(mlp(params, "encoder", x), z1)
    terms = [outer + normal(0.0, 1.0, z2).sum(-1) + log_normal(mlp(params, "decoder2", z2, y), z1)
             - log_normal(mlp(params, "encoder2", z1, y), z2) for y in jnp.eye(C)]  # fmt: skip
    return over_labels(terms, mlp(params, "classifier", z1), labels, weight)


# --- semi-supervised --------------------------------------------------------------------------------------------------


@each_engine
@each_labels
@pytest.mark.parametrize("model", [M2, M1M2])
def test_the_objective_is_the_sum_over_labels_by_hand(engine: str, labels: tuple[int, ...], model: Any):
    """At draws of z that are fixed and the same for every label: value and gradients, all of them finite."""
    declaration = model(D, C, Z, (4,), classifier_weight=7.0)
    params, data = setting(declaration, labels)
    rng = np.random.default_rng(1)
    z = {name: rng.normal(size=(N, Z)) for name in (["z"] if model is M2 else ["z1", "z2"])}
    value, gradients = loss_and_gradients(engine, declaration, params, data, {n: np.stack([v] * C) for n, v in z.items()})
    by_hand = m2_by_hand if model is M2 else m1m2_by_hand
    with exact("numpyro"):
        arguments = jnp.asarray(data[0]), data[1], *map(jnp.asarray, z.values()), 7.0
        hand = jax.jit(jax.value_and_grad(lambda p: -by_hand(p, *arguments)), compiler_options=QUICK)
        known, slopes = hand(arrays("numpyro", params))
    close(value, known, 1e-9)
    assert gradients.keys() == slopes.keys()
    for name, slope in slopes.items():
        close(gradients[name], slope, 1e-9)
        assert slope.any(), name


@each_engine
def test_m2_with_every_label_is_the_conditional_autoencoder(engine: str):
    """Its bound is that of p(x | y), plus log 1/C, plus the classification term; so are the gradients of what they share."""
    semi, conditional = M2(D, C, Z, (4,), classifier_weight=3.0), CVAE(D, Z, (4,), num_classes=C, learned_prior=False)
    params, data = setting(semi, KNOWN)
    common = {n: v for n, v in params.items() if not n.startswith("classifier")}
    z = np.random.default_rng(2).normal(size=(1, N, Z))
    a, slopes_a = loss_and_gradients(engine, semi, params, data, {"z": np.repeat(z, C, 0)})
    b, slopes_b = loss_and_gradients(engine, conditional, common, data, {"z": z})
    log_q = program(engine, semi, "classify", params, data[0])[np.arange(N), data[1]]
    close(a, b + N * np.log(C) - 3.0 * log_q.sum(), 1e-9)
    for name, slope in slopes_b.items():
        close(slopes_a[name], slope, 1e-9)


@each_engine
@pytest.mark.parametrize("declaration", [M2(D, C, Z, (4,)), M1M2(D, C, Z, (4,))], ids=["m2", "m1m2"])
def test_by_default_z_is_pathwise_and_y_enumerated(engine: str, declaration: Any):
    params, data = setting(declaration, MIXED)
    bound, elbo = bind(declaration, engine), import_module(f"inference.estimators._{engine}").EstimatorELBO()
    with exact(engine):
        data = tuple(map(shared(engine).array, data))
        plan, inspection = elbo.plan(*bound, data, {}, arrays(engine, params))
    assert {n: type(e) for n, e in plan.items()} == {n: Enumerate if n == "y" else Pathwise for n in plan}
    assert {s.name: s.num_values for s in inspection.latents}["y"] == C
    assert len(plan) == (2 if isinstance(declaration, M2) else 3)


@each_engine
def test_labels_teach_m1s_classifier_and_not_its_features(engine: str):
    declaration = M1(D, Z, (4,), num_classes=C)
    params, known = setting(declaration, KNOWN)
    _, unknown = setting(declaration, UNKNOWN)
    (a, slopes_a), (b, slopes_b) = (loss_and_gradients(engine, declaration, params, data, {}) for data in (known, unknown))
    assert a > b  # −log p(y | z) is positive
    for name in params:
        if name.startswith("classifier"):
            assert slopes_a[name].any()
            assert not slopes_b[name].any()
        else:
            close(slopes_a[name], slopes_b[name], 1e-12)


@pytest.mark.parametrize("declaration", [M1(D, Z, (4,), num_classes=C), M2(D, C, Z, (4,)), M1M2(D, C, Z, (4,))],
                         ids=["m1", "m2", "m1m2"])  # fmt: skip
def test_both_engines_classify_alike(declaration: Any):
    params, (x, _) = setting(declaration, UNKNOWN)
    a, b = (program(engine, declaration, "classify", params, np.stack([x, 1 - x])) for engine in ENGINES)
    assert a.shape == (2, N, C)
    close(a, b, 1e-10)
    close(np.exp(a).sum(-1), np.ones((2, N)), 1e-12)
    features = [np.asarray(x)] if isinstance(declaration, M2) else [np.split(mlp_64(params, "encoder", x), 2, -1)[0]]
    known = mlp_64(params, "classifier", *features)
    close(a[0], known - np.logaddexp.reduce(known, -1, keepdims=True), 1e-10)


def mlp_64(params: dict, name: str, *inputs: np.ndarray) -> np.ndarray:
    with exact("numpyro"):
        return np.asarray(mlp(arrays("numpyro", params), name, *map(jnp.asarray, inputs)))


@each_engine
def test_a_one_hot_label_is_a_category_scored_linearly(engine: str):
    rng = np.random.default_rng(3)
    logits, relaxed = rng.normal(size=(4, C)), rng.dirichlet(np.ones(C), (2, 4))
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    with exact(engine):
        here, ppl = shared(engine), words(engine)
        fn = ppl.one_hot_categorical(here.array(logits))
        assert not fn.has_rsample
        assert (tuple(fn.batch_shape), tuple(fn.event_shape)) == ((4,), (C,))
        assert tuple(fn.enumerate_support(expand=False).shape) == (C, 1, C)
        values = fn.enumerate_support()
        close(np.asarray(values), np.broadcast_to(np.eye(C)[:, None], (C, 4, C)), 0)
        close(np.asarray(fn.log_prob(values)), log_p.T, 1e-12)
        close(np.asarray(fn.log_prob(here.array(relaxed))), (relaxed * log_p).sum(-1), 1e-12)
        close(np.asarray(fn.mean), np.exp(log_p), 1e-12)
        wide, count = fn.expand((10_000, 4)), 10_000
        torch.manual_seed(0)
        draws = np.asarray(wide.sample(random.key(0)) if engine == "numpyro" else wide.sample())
    assert draws.shape == (count, 4, C)
    assert set(np.unique(draws)) == {0, 1}
    assert (draws.sum(-1) == 1).all()
    error = np.sqrt(np.exp(log_p) * (1 - np.exp(log_p)) / count)
    assert (np.abs(draws.mean(0) - np.exp(log_p)) <= 5 * error).all()


# --- conditional ------------------------------------------------------------------------------------------------------


def test_quadrants_are_those_of_the_paper():
    def seen(side: int, count: int) -> np.ndarray:
        target, condition = Quadrants(side**2, count).columns()
        assert sorted(target + condition) == list(range(side**2))
        assert Quadrants(side**2, count).widths == (len(target), len(condition))
        picture = np.zeros(side**2, int)
        picture[condition] = 1
        assert target == sorted(target)
        assert condition == sorted(condition)
        return picture.reshape(side, side)

    blocks = {1: [[0, 0], [1, 0]], 2: [[1, 0], [1, 0]], 3: [[1, 0], [1, 1]]}
    for side in (4, 8, 28):
        for count, block in blocks.items():
            np.testing.assert_array_equal(seen(side, count), np.kron(block, np.ones((side // 2,) * 2, int)))
    assert Quadrants(64, 1).columns()[1] == [32, 33, 34, 35, 40, 41, 42, 43, 48, 49, 50, 51, 56, 57, 58, 59]
    assert Quadrants(784, 1).columns()[1][:3] == [392, 393, 394]  # row 14, column 0
    assert Quadrants(784, 1).columns()[1][13:15] == [405, 420]
    assert Quadrants(784, 3).columns()[0][:1] == [14]
    assert Quadrants(784, 3).columns()[0][-1] == 13 * 28 + 27


@pytest.mark.parametrize(("count", "learned"), [(1, True), (2, False), (3, True)])
def test_only_pixels_that_are_not_given_are_scored(count: int, learned: bool):
    declaration = CVAE(16, Z, (4,), condition="quadrants", quadrants=count, learned_prior=learned)
    params, (x,) = setting(declaration, columns=16)
    target, given = Quadrants(16, count).columns()
    z = np.random.default_rng(4).normal(size=(N, Z))
    assert {"prior.0.weight" in params} == {learned}
    for densities in (numpyro_densities, pyro_densities):
        for rows in (x, np.where(np.isin(np.arange(16), given), 1 - x, x), np.where(np.isin(np.arange(16), target), 1 - x, x)):
            sites = densities(declaration, params, {"z": z}, (rows,)).sites
            scale = 20 / N  # `total` over rows
            with exact("numpyro"):
                p, c, t, latent = arrays("numpyro", params), *map(jnp.asarray, (rows[:, given], rows[:, target], z))
                known = bernoulli(mlp(p, "decoder", latent, c), t).sum(-1)
                prior = log_normal(mlp(p, "prior", c), latent) if learned else normal(0.0, 1.0, latent).sum(-1)
                guide = log_normal(mlp(p, "encoder", t, c), latent)
            close(sites["model"]["x"], scale * np.asarray(known), 1e-10)
            close(sites["model"]["z"], scale * np.asarray(prior), 1e-10)
            close(sites["guide"]["z"], scale * np.asarray(guide), 1e-10)


def test_the_baseline_is_the_decoder_without_a_latent():
    """With the latent's weights at zero the autoencoder scores as the baseline does."""
    cvae = CVAE(16, Z, (4,), activation="relu", condition="quadrants", quadrants=2)
    params, data = setting(cvae, columns=16)
    params["decoder.0.weight"][:Z] = 0
    baseline = ConditionalBaseline(16, (4,), condition="quadrants", quadrants=2)
    own = {n: v for n, v in params.items() if n.startswith("decoder")} | {"decoder.0.weight": params["decoder.0.weight"][Z:]}
    assert record(baseline, data)["guide"].sites == []
    for densities in (numpyro_densities, pyro_densities):
        a = densities(cvae, params, {"z": np.ones((N, Z))}, data).sites["model"]["x"]
        close(densities(baseline, own, {}, data).sites["model"]["x"], a, 1e-10)


# --- two stochastic layers --------------------------------------------------------------------------------------------


def test_the_hierarchical_defaults_are_those_of_the_paper():
    sites = record(HierarchicalVAE(784), np.zeros((2, 784)))
    weights = {s[1]: s[2] for r in sites.values() for s in r.sites if s[0] == "param" and s[1].endswith("weight")}
    nets = {"encoder": (784, 200, 200, 200), "encoder2": (100, 100, 100, 100), "decoder2": (50, 100, 100, 200),
            "decoder": (100, 200, 200, 784)}  # fmt: skip
    assert weights == {f"{n}.{i}.weight": widths[i : i + 2] for n, widths in nets.items() for i in range(3)}
    assert [s[1] for s in sites["guide"].sites if s[0] == "sample"] == ["z1", "z2"]
    assert [s[1] for s in sites["model"].sites if s[0] == "sample"] == ["z2", "z1", "x"]


def test_one_layer_of_the_hierarchy_is_the_plain_autoencoder():
    a, b = HierarchicalVAE(D, (Z,), (4,)), VAE(D, Z, (4, 4), activation="tanh")
    params, data = setting(a)
    z = np.random.default_rng(5).normal(size=(N, Z))
    for densities in (numpyro_densities, pyro_densities):
        mine, plain = densities(a, params, {"z1": z}, data).sites, densities(b, params, {"z": z}, data).sites
        close(mine["model"]["x"], plain["model"]["x"], 1e-12)
        close(mine["guide"]["z1"], plain["guide"]["z"], 1e-12)


# --- convolutions -----------------------------------------------------------------------------------------------------


def with_params(engine: str, net: Any, params: dict, x: np.ndarray) -> np.ndarray:
    class Part:
        def run(self, ppl: Any, x: Any) -> Any:
            return net(ppl, "net", x)

    return program(engine, Part(), "run", params, x)


@each_engine
def test_a_convolution_sees_the_image_row_by_row(engine: str):
    """A kernel with a single one keeps every other pixel of every other row; the decoder puts them back there."""
    kernel = np.zeros((1, 1, 4, 4))
    kernel[0, 0, 1, 1] = 1
    params = {"net.conv.0.weight": kernel, "net.conv.0.bias": np.zeros((1, 1, 1)),
              "net.dense.0.weight": np.eye(16), "net.dense.0.bias": np.zeros(16)}  # fmt: skip
    image = np.random.default_rng(6).uniform(1, 2, (2, 3, 8, 8))
    small = image[..., ::2, ::2].reshape(2, 3, 16)
    encoded = with_params(engine, ConvEncoder(8, (1,), (16,), "relu"), params, image.reshape(2, 3, 64))
    close(encoded, small, 1e-12)
    decoded = with_params(engine, ConvDecoder(8, (16,), (1, 1), "relu"), params, small).reshape(image.shape)
    close(decoded[..., ::2, ::2], image[..., ::2, ::2], 1e-12)
    assert not decoded[..., 1::2, :].any()
    assert not decoded[..., 1::2].any()


@each_engine
def test_the_channels_of_a_pixel_are_neighbours(engine: str):
    """As a categorical likelihood reads them."""
    params = {"net.conv.0.weight": np.zeros((1, 3, 4, 4)), "net.conv.0.bias": np.arange(3.0)[:, None, None],
              "net.dense.0.weight": np.zeros((2, 4)), "net.dense.0.bias": np.zeros(4)}  # fmt: skip
    out = with_params(engine, ConvDecoder(4, (2,), (1, 3)), params, np.ones((5, 2)))
    close(out, np.tile([0.0, 1.0, 2.0], (5, 16)), 1e-12)


@pytest.mark.parametrize("side", [8, 28])
def test_the_convolutional_networks_fit_digits_and_mnist(side: int):
    sites = record(VAE(side**2, 3, (7,), network="conv"), np.zeros((2, side**2)))
    shapes = {s[1]: s[2] for r in sites.values() for s in r.sites if s[0] == "param"}
    flat = 64 * (side // 4) ** 2
    assert shapes["encoder.conv.1.weight"] == (64, 32, 4, 4)
    assert shapes["decoder.conv.1.weight"] == (32, 1, 4, 4)
    assert (shapes["encoder.dense.0.weight"], shapes["decoder.dense.1.weight"]) == ((flat, 7), (7, flat))
    assert [s[2] for s in sites["model"].sites if s[1] == "x"] == [(2, side**2)]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VAE(60, network="conv"), "square images .* 60 pixels"),
        (lambda: VAE(36, network="conv"), "multiple of 4"),
        (lambda: VAE(64, network="cnn"), "mlp or conv, got 'cnn'"),  # type: ignore[arg-type]
        (lambda: HierarchicalVAE(8, (3, 2), (4,)), "one hidden width for each stochastic layer"),
        (lambda: CVAE(64, condition="columns"), "labels or quadrants, got 'columns'"),  # type: ignore[arg-type]
        (lambda: CVAE(64, condition="quadrants", quadrants=4), "1, 2 or 3 observed quadrants, got 4"),
        (lambda: CVAE(25, condition="quadrants"), "even side, got rows of 25"),
        (lambda: ConditionalBaseline(60, condition="quadrants"), "even side, got rows of 60"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(make: Any, said: str):
    with pytest.raises(InputError, match=said):
        make()


def test_what_each_takes_is_said():
    assert [getattr(d, "inputs", ("x",)) for d in (VAE(4), CVAE(4), CVAE(4, condition="quadrants"), M1(4), M2(4), M1M2(4))] == [
        ("x",), ("x", "y"), ("x",), ("x", "labels"), ("x", "labels"), ("x", "labels")]  # fmt: skip
    assert inputs(np.zeros(2))[0].shape == (2,)
