"""What a fit draws, against closed forms: linear models have an answer to every question."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inference import explore
from inference.pictures import pictures
from ppl_models import M1, VAE, FactorAnalysis, InputError, SigmoidBeliefNet
from ppl_models.cvae import CVAE
from ppl_models.language import ENGINES
from ppl_models.likelihoods import Normal
from ppl_models.ssvae_m2 import M2

from .catalogue import close, random_params
from .test_evaluate import posterior, trained

each_engine = pytest.mark.parametrize("engine", ENGINES)


def factors(engine: str, rows: int = 6) -> tuple[Any, dict, np.ndarray]:
    rng = np.random.default_rng(0)
    x, declaration = rng.normal(0, 2, (rows, 4)), FactorAnalysis(4, 2)
    params = random_params(declaration, x, rng)
    return trained(declaration, params, x, engine), params, x


@each_engine
def test_factor_analysis_encodes_decodes_and_walks_as_its_algebra_says(engine: str):
    fit, params, x = factors(engine)
    mean, covariance = posterior(params, x)
    code = explore.encode(fit, x)["z"]
    close(code.mean, mean, 1e-9)
    close(code.scale, np.broadcast_to(np.sqrt(np.diag(covariance)), (6, 2)), 1e-9)

    def show(z: np.ndarray) -> np.ndarray:
        return z @ params["loading"].T + params["loc"]

    close(explore.decode(fit, {"z": mean}), show(mean), 1e-9)
    close(explore.reconstruct(fit, x), show(mean), 1e-9)
    share = np.linspace(0, 1, 5)[:, None]
    lines = np.stack([(1 - share) * mean[i] + share * mean[3 + i] for i in range(3)])
    close(explore.interpolate(fit, x[:3], x[3:], 5), show(lines), 1e-9)
    walk = explore.traverse(fit, x[0], "z", [1, 0], [-2.0, 0.0, 2.0])
    moved = np.tile(mean[0], (2, 3, 1))
    moved[0, :, 1] = moved[1, :, 0] = [-2, 0, 2]
    close(walk, show(moved), 1e-9)
    plane = explore.manifold(fit, 3)
    close(plane[1, 1], params["loc"], 1e-9)
    close(plane[1, 2] - plane[1, 1], 2.0537489106 * params["loading"][:, 0], 1e-6)  # the 98 % quantile
    drawn = explore.generate(fit, 6, seed=1)
    close(drawn.mean, show(drawn.latents["z"]), 1e-9)
    assert (drawn.draw != drawn.mean).all()
    assert (explore.generate(fit, 6, seed=1).draw == drawn.draw).all()


@each_engine
def test_missing_entries_are_filled_with_their_conditional_mean(engine: str):
    fit, params, x = factors(engine, rows=4)
    covariance = params["loading"] @ params["loading"].T + np.diag(params["scale"] ** 2)
    holes = x.copy()
    holes[0, 1], holes[1, [0, 3]], holes[3, 2] = np.nan, np.nan, np.nan
    known = x.copy()
    for row, missing in zip(known, np.isnan(holes), strict=True):
        if missing.any():
            gain = np.linalg.solve(covariance[np.ix_(~missing, ~missing)], covariance[np.ix_(~missing, missing)]).T
            row[missing] = params["loc"][missing] + gain @ (row[~missing] - params["loc"][~missing])
    exact = explore.impute(fit, holes, iterations=150, draws=False)
    close(exact, known, 1e-6)
    sampled = np.mean([explore.impute(fit, holes, iterations=30, seed=100 * s) for s in range(4)], 0)
    spread = 4 * np.sqrt(np.diag(covariance).max()) / np.sqrt(4 * 15 / 4)  # as if one draw in four were independent
    assert abs(sampled - known).max() < spread
    assert (sampled[~np.isnan(holes)] == x[~np.isnan(holes)]).all()


def labelled(kind: str, engine: str) -> tuple[Any, dict, np.ndarray, np.ndarray]:
    """A linear model with three classes; parameters, rows and labels."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(5, 4)), np.array([0, 2, 1, 1, 0])
    shared = {"num_classes": 3, "latent_dim": 2, "hidden": (), "likelihood": Normal(0.5)}
    declaration = CVAE(4, learned_prior=False, **shared) if kind == "cvae" else M2(4, **shared)  # type: ignore[arg-type]
    params = {
        "decoder.0.weight": rng.normal(0, 0.4, (5, 4)), "decoder.0.bias": rng.normal(size=4),
        "encoder.0.weight": rng.normal(0, 0.4, (7, 4)), "encoder.0.bias": rng.normal(0, 0.4, 4),
    }  # fmt: skip
    if kind == "m2":
        params |= {"classifier.0.weight": rng.normal(size=(4, 3)), "classifier.0.bias": rng.normal(size=3)}
    return trained(declaration, params, x, engine, y=y, heldout_y=y), params, x, y


def show(params: dict, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.concatenate([z, np.eye(3)[y]], -1) @ params["decoder.0.weight"] + params["decoder.0.bias"]


@each_engine
@pytest.mark.parametrize("kind", ["cvae", "m2"])
def test_styles_under_every_class(engine: str, kind: str):
    fit, params, x, y = labelled(kind, engine)
    rows = [3, 1, 4]
    z = (np.concatenate([x, np.eye(3)[y]], -1) @ params["encoder.0.weight"] + params["encoder.0.bias"])[rows, :2]
    known = np.stack([show(params, z, np.full(3, c)) for c in range(3)], 1)
    close(explore.analogies(fit, rows), known, 1e-9)
    grid = explore.by_class(fit, 4, seed=5)
    assert grid.shape == (4, 3, 4)
    step = params["decoder.0.weight"][3:] - params["decoder.0.weight"][2]
    close(grid[:, 1:] - grid[:, :1], np.tile(step, (4, 1, 1)), 1e-9)  # one style, other classes
    assert np.ptp(grid[:, 0], 0).min() > 1e-3


@each_engine
def test_a_semi_supervised_model_classifies_and_reconstructs(engine: str):
    fit, params, x, _ = labelled("m2", engine)
    logits = x @ params["classifier.0.weight"] + params["classifier.0.bias"]
    close(explore.classify(fit, x), logits - np.logaddexp.reduce(logits, 1)[:, None], 1e-9)
    found = explore.reconstruct(fit, x)
    options = []
    for c in range(3):
        y = np.full(5, c)
        code = np.concatenate([x, np.eye(3)[y]], -1) @ params["encoder.0.weight"] + params["encoder.0.bias"]
        options.append(show(params, code[:, :2], y))
    assert abs(found - np.stack(options)).max(-1).min(0).max() < 1e-9  # the class is drawn, z is its mean
    given = explore.generate(fit, 5, condition={"y": np.eye(3)[[2, 2, 0, 1, 0]]})
    close(given.mean, show(params, given.latents["z"], np.array([2, 2, 0, 1, 0])), 1e-9)


@each_engine
def test_a_class_that_depends_on_the_latent_is_no_condition(engine: str):
    """Fixing it would change no draw of x."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 2, (5, 4)).astype(float), np.array([0, 2, 1, 1, 0])
    declaration = M1(4, 2, (), num_classes=3)
    fit = trained(declaration, random_params(declaration, (x, y), rng), x, engine, y=y, heldout_y=y)
    with pytest.raises(InputError, match="expected conditions among labels, z, got 'y'"):
        explore.generate(fit, 5, condition={"y": np.eye(3)[y]})


def test_pictures_are_those_that_a_model_can_give():
    always = {"data", "reconstructions", "samples", "imputations"}
    fit, _, _ = factors("pyro")
    assert set(pictures(fit, strict=True)) == always | {"manifold", "interpolations", "traversals"}
    for kind, more in (("cvae", {"interpolations", "traversals"}), ("m2", set())):
        drawn = pictures(labelled(kind, "pyro")[0], strict=True)
        assert set(drawn) == always | {"classes", "analogies"} | more
        assert drawn["classes"].shape == (6, 3, 4)
        assert np.isnan(drawn["imputations"][:, 1]).sum() == np.isnan(drawn["imputations"]).sum() == 5 * 2
    broken = replace(fit, params={"loading": np.zeros(3)})  # a model that cannot run at all
    assert set(pictures(broken)) == {"data"}
    with pytest.raises(RuntimeError):
        pictures(broken, strict=True)


@each_engine
def test_what_a_model_cannot_do_is_said_in_one_sentence(engine: str):
    fit, _, x = factors(engine)
    conditional, _, rows, y = labelled("cvae", engine)
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2, (3, 4)).astype(float)
    discrete = trained(SigmoidBeliefNet(4, 2), random_params(SigmoidBeliefNet(4, 2), bits, rng), bits, engine)
    wide = trained(VAE(4, 3, (2,)), random_params(VAE(4, 3, (2,)), bits, rng), bits, engine)
    wrong = [
        (lambda: explore.classify(fit, x), "classes apart"),
        (lambda: explore.analogies(fit, [0]), "classes y"),
        (lambda: explore.by_class(fit, 2), "classes y"),
        (lambda: explore.reconstruct(conditional, rows), "'y' beside x"),
        (lambda: explore.reconstruct(conditional, rows, inputs={"y": y[:2]}), "as many"),
        (lambda: explore.reconstruct(fit, x[:, :2]), "rows of shape"),
        (lambda: explore.generate(fit, 2, condition={"w": x[:2]}), "got 'w'"),
        (lambda: explore.interpolate(discrete, bits, bits), "continuous latents"),
        (lambda: explore.traverse(fit, x[0], "w", [0], [0.0]), "latent site among z"),
        (lambda: explore.traverse(fit, x[0], "z", [2], [0.0]), "from 0 to 1"),
        (lambda: explore.manifold(wide), "latent of size 2"),
        (lambda: explore.manifold(discrete), "latent of size 2"),
    ]  # fmt: skip
    for attempt, match in wrong:
        with pytest.raises(InputError, match=match) as caught:
            attempt()
        assert "\n" not in str(caught.value)
