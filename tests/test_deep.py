"""Deep machines and nets: log p(x) by enumeration, its bound, draws from above, and training layer by layer."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import chi2

from inference.energy_runs import drawn
from inference.energy_training import EnergyFit, fit_energy
from inference.log_partition import directed, exact, layered, log_likelihood, mixture, summed
from inference.log_partition.mixture import log_mixture
from ppl_models import InputError
from ppl_models.datasets import Dataset, load
from ppl_models.energy import RBM, DeepBeliefNet, DeepBoltzmannMachine, ReplicatedRBM

from .catalogue import close, shared
from .catalogue import exact as session
from .stationary import LAYERED, NETS, energies, log_marginals, parameters, target, transposed, words
from .test_kernels import each_engine
from .transition import Tape, forced, index_of, states

#: What is slow where each of many programs is compiled; that both engines follow the same gradients is shown elsewhere.
on_pyro = pytest.mark.parametrize("engine", ["pyro"])


def law(model: Any, params: dict[str, np.ndarray]) -> np.ndarray:
    """p over `states`."""
    with session("pyro"):
        return target(model, "pyro", {key: shared("pyro").array(value) for key, value in params.items()}, 1.0)


# --- exactly ----------------------------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("colour", [0, 1])
@pytest.mark.parametrize("name", LAYERED)
def test_log_likelihood_is_the_marginal_by_either_colour(name: str, colour: int, engine: str, monkeypatch: Any):
    """To 1e-12, in chunks that leave a rest; over all x it sums to one."""
    model, params = LAYERED[name], parameters(LAYERED[name])
    x, truth = log_marginals(model, params)
    monkeypatch.setattr(layered, "cheaper", lambda model, rows: tuple(n for n in model.colours[colour] if n != "x"))
    monkeypatch.setattr(layered, "AT_ONCE", 5 * sum(model.sites.values()))
    monkeypatch.setattr(mixture, "ROWS", 3)
    found = log_likelihood(model, params, x, engine=engine)
    close(found, truth, 1e-12)
    close(logsumexp(found), 0.0, 1e-12)
    if (log_z := summed(model, params, x, engine=engine).log_partition) is not None:
        close(log_z, exact(model, params, engine), 1e-12)


def test_single_precision_is_near():
    """To 1e-5 nats a layer: only what is made of products is in float32."""
    model, params = LAYERED["two"], parameters(LAYERED["two"])
    x, truth = log_marginals(model, params)
    found = log_likelihood(model, params, x, dtype="float32")
    assert 0 < np.abs(found - truth).max() < 1e-5


@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
@pytest.mark.parametrize("units", [1, 2, 5, 8])
def test_a_mixture_of_products_is_summed_whatever_its_range(units: int, scale: float, monkeypatch: Any):
    """Halves multiplied while that is safe, and else term by term: 3,000 nats apart, most rows are."""
    rng, slow = np.random.default_rng(units), list[int]()
    a, rest = scale * rng.normal(size=(700, units)), scale * rng.normal(size=2**units)
    by_terms = mixture.term_by_term
    monkeypatch.setattr(mixture, "STATES", 4)
    monkeypatch.setattr(mixture, "term_by_term", lambda a, rest: slow.append(len(a)) or by_terms(a, rest))
    close(log_mixture(a, rest), logsumexp(a @ states({"s": units})["s"].T + rest, axis=1), 1e-12)
    assert sum(slow) == 0 if scale == 1.0 else sum(slow) > 100 if scale == 3000.0 and units > 2 else True


def test_whichever_colour_is_less_work_is_enumerated():
    assert layered.cheaper(DeepBoltzmannMachine(784, (20, 1000)), 10_000) == ("h1",)
    assert layered.cheaper(DeepBoltzmannMachine(784, (500, 8)), 1000) == ("h2",)
    assert layered.cheaper(RBM(784, 500), 1000) == ()
    with pytest.raises(InputError, match=r"at most 26 hidden units to enumerate, got 30 \(h2\)"):
        log_likelihood(DeepBoltzmannMachine(3, (40, 30)), {}, np.zeros((1, 3)))


@each_engine
@pytest.mark.parametrize("name", NETS)
def test_the_likelihood_of_a_belief_net_is_the_marginal(name: str, engine: str):
    model, params = NETS[name], parameters(NETS[name])
    x, truth = log_marginals(model, params)
    found, log_z = directed.log_likelihood(model, params, x, engine=engine)
    close(found, truth, 1e-12)
    close(log_z, exact(model, params, engine), 1e-12)
    with session(engine):
        close(log_z, logsumexp(-energies(model, engine, {k: shared(engine).array(v) for k, v in params.items()})), 1e-12)


@each_engine
def test_a_second_layer_that_is_the_first_transposed_leaves_the_law(engine: str):
    """Hinton et al. 2006: the net of an RBM and its transpose has the RBM's p(x), and q is then the posterior of h1."""
    rbm, params = RBM(4, 3), parameters(RBM(4, 3))
    turned = {"weight": params["weight"].T, "x.bias": params["h.bias"], "h.bias": params["x.bias"]}
    net = DeepBeliefNet(4, (3, 4))
    stacked = net.stacked([params, turned])
    x, truth = log_marginals(rbm, params)
    close(directed.log_likelihood(net, stacked, x, engine=engine)[0], truth, 1e-12)
    close(*transposed(engine), 1e-12)  # each weight is p(x) Z


# --- recognition and draws --------------------------------------------------------------------------------------------


def outcomes(run: Any, engine: str, rows: int) -> tuple[np.ndarray, Any]:
    """log probabilities (rows, outcomes) of all that the draws of `run(words, tape, repeat)` can be, and what it gives."""
    array, arities = shared(engine).array, list[int]()
    run(forced(words(engine), arities), Tape(array(np.zeros((rows, 0))), 0, array(np.zeros(rows))), 1)
    every = list(product(*(range(n) for n in arities)))
    written = np.array(every, float).reshape(len(every), len(arities))
    tape = Tape(array(np.tile(written, (rows, 1))), 0, array(np.zeros(rows * len(written))))
    after, found = run(forced(words(engine)), tape, len(written))
    return np.asarray(after.log_weight).reshape(rows, -1), found


@each_engine
@pytest.mark.parametrize("name", NETS)
def test_weights_of_recognition_have_the_likelihood_as_their_mean(name: str, engine: str):
    """E_q[w] = p(x) Z to 1e-12 over all draws of q, and E_q[log w] lies below by KL(q ‖ p(h | x)), from the joint law."""
    model, params = NETS[name], parameters(NETS[name])
    x, truth = log_marginals(model, params)
    with session(engine):
        array, held = shared(engine).array, {key: shared(engine).array(value) for key, value in params.items()}
        log_q, log_w = outcomes(
            lambda ppl, tape, n: directed.log_weights(ppl, model, tape, held, array(np.repeat(x, n, 0))), engine, len(x)
        )
    log_w = np.asarray(log_w).reshape(log_q.shape) - exact(model, params, engine)
    close(logsumexp(log_q, axis=1), np.zeros(len(x)), 1e-12)
    close(logsumexp(log_q + log_w, axis=1), truth, 1e-12)
    below = (np.exp(log_q) * log_w).sum(1)
    joint = np.log(law(model, params).reshape(*log_q.shape, -1).sum(2))  # over the last layer: x, then layers upwards
    close(below, truth - (np.exp(log_q) * (log_q - joint + truth[:, None])).sum(1), 1e-12)
    assert (below < truth + 1e-12).all()
    if len(model.hidden) > 1:
        assert (truth - below).max() > 0.1
    told = directed.recognised(model, params, x, samples=500, engine=engine)
    spread = np.sqrt((np.exp(log_q) * (log_w - below[:, None]) ** 2).sum(1))
    gap = np.abs(told.elbo - exact(model, params, engine) - below)
    assert (gap <= 5.5 * spread / np.sqrt(500) + 1e-12).all()
    assert (told.importance >= told.elbo - 1e-12).all()


@each_engine
@pytest.mark.parametrize("name", NETS)
def test_ancestral_draws_follow_the_law(name: str, engine: str):
    """From the exact law of the top: all outcomes to 1e-12; from chains of it, 20,000 draws by Pearson's test at 1e-6 / 6."""
    model, params = NETS[name], parameters(NETS[name])
    p, top = law(model, params), tuple(model.sites)[-2:]
    starts = states({site: model.sites[site] for site in top})
    count = len(starts[top[0]])
    with session(engine):
        array, held = shared(engine).array, {key: shared(engine).array(value) for key, value in params.items()}
        log_p, found = outcomes(
            lambda ppl, tape, n: model.generate(ppl, tape, held, {k: array(np.repeat(v, n, 0)) for k, v in starts.items()}),
            engine, count,
        )  # fmt: skip
        base = target(model.top, engine, {k: array(v) for k, v in model.top_parameters(params).items()}, 1.0)
    total = np.bincount(index_of(model.sites, found), (base[:, None] * np.exp(log_p)).ravel(), len(p))
    close(total, p, 1e-12)
    small = {key: value.astype(np.float32) for key, value in params.items()}
    fit = EnergyFit(model, engine, Dataset("x", np.zeros((9, model.data_dim)), np.zeros((1, model.data_dim)), "none"), "greedy",
                    small, [], None, 0.0)  # fmt: skip
    counts = np.bincount(index_of(model.sites, drawn(fit, 20_000, 60, 0)), minlength=len(p))
    order = np.argsort(p)
    cells = np.minimum(np.cumsum(p[order]) * 20_000 // 20, 20_000 // 20 - 1).astype(int)  # at least 20 expected in a cell
    wanted, seen = np.bincount(cells, p[order] * 20_000), np.bincount(cells, counts[order])
    wanted, seen = wanted[wanted > 0], seen[wanted > 0]
    statistic = ((seen - wanted) ** 2 / wanted).sum()
    assert statistic < chi2.isf(1e-6 / 6, len(wanted) - 1), (statistic, len(wanted))


# --- layer by layer ---------------------------------------------------------------------------------------------------


@each_engine
def test_copies_are_an_rbm_of_repeated_weights(engine: str):
    model, params = ReplicatedRBM(2, 3, (2, 2)), parameters(ReplicatedRBM(2, 3, (2, 2)))
    wide = {"weight": np.tile(params["weight"], (2, 2)), "x.bias": np.tile(params["x.bias"], 2),
            "h.bias": np.tile(params["h.bias"], 2)}  # fmt: skip
    with session(engine):
        array, ppl = shared(engine).array, words(engine)
        held, spread = ({k: array(v) for k, v in one.items()} for one in (params, wide))
        close(energies(model, engine, held), energies(RBM(4, 6), engine, spread), 1e-12)
        values = {name: array(v[::37]) for name, v in states(model.sites).items()}
        for site in ("x", "h"):
            close(model.logits(ppl, held, values, site), RBM(4, 6).logits(ppl, spread, values, site), 1e-12)


@each_engine
def test_a_stacked_machine_hears_the_mean_of_what_its_parts_say(engine: str):
    """log odds of each layer: half from the RBM below, half from that above; the ends from their only one, in full."""
    model = DeepBoltzmannMachine(3, (2, 4, 3))
    parts = [parameters(rbm, seed) for seed, rbm in enumerate(model.rbms)]
    rng = np.random.default_rng(0)
    bits = {name: rng.integers(0, 2, (7, size)).astype(float) for name, size in model.sites.items()}
    with session(engine):
        array, ppl = shared(engine).array, words(engine)
        held = {k: array(v) for k, v in model.stacked(parts).items()}
        values = {k: array(v) for k, v in bits.items()}
        names, told = tuple(model.sites), dict[str, list[Any]]()
        for rbm, part, (below, above) in zip(model.rbms, parts, zip(names, names[1:], strict=False), strict=True):
            pair = {"x": bits[below], "h": bits[above]}
            pair = {k: array(np.tile(v, (1, rbm.sites[k] // v.shape[1]))) for k, v in pair.items()}
            for name, site in ((below, "x"), (above, "h")):
                heard = np.asarray(rbm.logits(ppl, {k: array(v) for k, v in part.items()}, pair, site))
                told.setdefault(name, []).append(heard[:, : model.sites[name]])
        for name, heard in told.items():
            close(np.asarray(model.logits(ppl, held, values, name)), np.mean(heard, 0), 1e-12)
    assert [len(heard) for heard in told.values()] == [1, 2, 2, 1]


@on_pyro
def test_greedy_training_of_a_belief_net_learns_digits(engine: str):
    """Above what its first layer reaches as an RBM less 0.5 nats (the top starts from nothing), far above single pixels."""
    data = load("digits")
    seen = list[dict[str, Any]]()
    model = DeepBeliefNet(64, (12, 12))
    found = fit_energy(model, data, method="greedy", engine=engine, epochs=8, lr=0.02, batch=50, callbacks=(seen.append,))
    assert [(row["epoch"], row["layer"]) for row in found.history] == [(i + 1, 1 + i // 8) for i in range(16)]
    assert seen == found.history
    assert (np.diff([row["seconds"] for row in found.history]) > 0).all()
    assert found.chains is not None
    assert {name: v.shape for name, v in found.chains.items()} == {name: (100, n) for name, n in model.sites.items()}
    rbm = {"weight": found.params["h1.weight"], "x.bias": found.params["x.bias"], "h.bias": found.params["h1.recognition"]}
    alone = log_likelihood(RBM(64, 12), rbm, data.heldout, engine=engine).mean()
    reached = directed.log_likelihood(model, found.params, data.heldout, engine=engine)[0].mean()
    told = directed.recognised(model, found.params, data.heldout, engine=engine, samples=20)
    log_z = exact(model, found.params, engine)
    assert told.elbo.mean() - log_z < told.importance.mean() - log_z < reached + 0.05
    assert alone - 0.5 < reached
    assert reached > -26


@on_pyro
def test_a_greedy_start_beats_as_many_epochs_from_scratch(engine: str):
    """Eight epochs in all of a deep machine of 64-12-12 units on digits: more held-out log p(x), enumerated, with the start.

    From scratch the couplings take as long to leave zero; once they have, this small machine gains nothing by a start.
    """
    data, model = load("digits"), DeepBoltzmannMachine(64, (12, 12))
    settings: dict[str, Any] = {"engine": engine, "lr": 0.005, "batch": 50}
    scratch, begun = fit_energy(model, data, epochs=8, **settings), fit_energy(model, data, greedy=3, epochs=2, **settings)
    assert [row.get("layer") for row in begun.history] == [1] * 3 + [2] * 3 + [None] * 2
    assert begun.history[-1]["epoch"] == begun.manifest["epochs"] == 8
    reached = [log_likelihood(model, one.params, data.heldout, engine=engine).mean() for one in (scratch, begun)]
    print(reached)
    assert reached[1] > reached[0] + 0.05


@pytest.mark.parametrize(
    ("model", "settings", "match"),
    [
        (RBM(4, 2), {"greedy": 3}, "stacks of layers, which RBM is not"),
        (DeepBoltzmannMachine(4, (2, 2)), {"greedy": -1}, "at least 0, got -1"),
        (DeepBoltzmannMachine(4, (2, 2)), {"greedy": 1, "init": {}}, "init or a greedy start, got both"),
        (DeepBeliefNet(4, (2, 2)), {"greedy": 1, "method": "greedy"}, "give `epochs` alone"),
        (DeepBeliefNet(4, (2, 2)), {"method": "greedy", "init": {}}, "leave out kernel and init"),
        (DeepBeliefNet(4, (2, 2)), {"method": "pcd"}, "use greedy"),
    ],
)
def test_what_cannot_be_stacked_is_refused(model: Any, settings: dict[str, Any], match: str):
    with pytest.raises(InputError, match=match):
        fit_energy(model, np.zeros((9, 4)), **settings)


def test_a_net_without_hidden_layers_is_refused():
    with pytest.raises(InputError, match="at least one hidden layer"):
        DeepBeliefNet(4, ())
    with pytest.raises(InputError, match="at least 1 sample, got 0"):
        directed.recognised(NETS["two"], {}, np.zeros((1, 3)), samples=0)
    with pytest.raises(InputError, match="at most 26 units in each layer between, got 27"):
        directed.log_likelihood(model := DeepBeliefNet(3, (27, 2)), parameters(model), np.zeros((1, 3)))
