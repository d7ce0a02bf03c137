"""NUTS of both libraries on Bayesian declarations, held to posteriors in closed form; what it refuses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats

from inference.mcmc import mcmc
from inference.mixtures import canonical_order
from ppl_models import GaussianMixture, InputError
from ppl_models.bayesian_gaussian_mixture import BayesianGaussianMixture
from ppl_models.datasets import from_arrays
from ppl_models.language import ENGINES

each_engine = pytest.mark.parametrize("engine", ENGINES)


def fitted_rows(x: np.ndarray) -> Any:
    return from_arrays(x, heldout=x)


@each_engine
def test_the_conjugate_posterior_is_recovered(engine: str):
    """Two clusters so far apart that every assignment is certain: each has its own Normal-Gamma posterior."""
    rng = np.random.default_rng(0)
    clusters = [rng.normal(-4, 0.5, 12), rng.normal(4, 0.5, 8)]
    x = np.concatenate(clusters)[:, None]
    model = BayesianGaussianMixture(1, 2, marginal=True, count=0.1, shape=3.0, rate=1.0)
    chains, kept = {"numpyro": (2, 300), "pyro": (1, 150)}[engine]
    draws = mcmc(model, fitted_rows(x), engine=engine, num_warmup=kept // 2, num_samples=kept, num_chains=chains,
                 dtype="float64", seed=1)  # fmt: skip
    assert draws.samples["locs"].shape == (chains, kept, 2, 1)
    assert draws.samples["weights"].shape == (chains, kept, 2)
    assert draws.diverging.shape == (chains, kept)
    assert draws.acceptance.shape == (chains,)
    assert (draws.acceptance > 0.5).all()
    assert draws.diverging.mean() < 0.02
    locs, precision = (draws.samples[name].reshape(-1, 2) for name in ("locs", "precision"))
    # A chain may start, and stay, with both locations in one cluster: those have another posterior.
    ordered = np.stack([canonical_order(pair[:, None]) for pair in locs])
    locs, precision = (np.take_along_axis(v, ordered, 1) for v in (locs, precision))
    apart = (locs[:, 0] < -2) & (locs[:, 1] > 2)
    assert apart.mean() > 0.4
    for k, rows in enumerate(clusters):
        n = len(rows)
        count, shape = model.count + n, model.shape + n / 2
        loc = rows.sum() / count
        rate = model.rate + (np.sum(rows**2) - count * loc**2) / 2
        t = stats.t(2 * shape, loc, np.sqrt(rate / shape / count))
        gamma = stats.gamma(shape, scale=1 / rate)
        effective = apart.sum() / 4  # NUTS draws are nearly independent
        for found, truth in ((locs[apart, k], t), (precision[apart, k], gamma)):
            assert abs(found.mean() - truth.mean()) < 4 * truth.std() / np.sqrt(effective)
            assert abs(found.std() / truth.std() - 1) < 0.3
    weight = draws.samples["weights"].reshape(-1, 2)
    weight = np.take_along_axis(weight, ordered, 1)[apart, 0]
    beta = stats.beta(1 + 12, 1 + 8)
    assert abs(weight.mean() - beta.mean()) < 4 * beta.std() / np.sqrt(effective)


@dataclass(frozen=True)
class Nothing:
    data_dim: int = 1

    def model(self, ppl: Any, x: Any, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("x", ppl.dist.Normal(ppl.xp.zeros(1), 1.0).to_event(1), obs=x)

    def guide(self, ppl: Any, x: Any, total: int | None = None) -> None:
        pass


@each_engine
@pytest.mark.parametrize(
    ("model", "said"),
    [(GaussianMixture(1, 2), "learns the parameter"), (BayesianGaussianMixture(1, 2), "'assignment' is discrete"),
     (Nothing(), "draws none")],
    ids=["learned", "discrete", "nothing"],
)  # fmt: skip
def test_what_nuts_cannot_draw_is_refused(engine: str, model: Any, said: str):
    with pytest.raises(InputError, match=said):
        mcmc(model, fitted_rows(np.arange(6.0)[:, None]), engine=engine, num_warmup=1, num_samples=1)


def test_settings_are_checked():
    with pytest.raises(InputError, match="num_chains"):
        mcmc(Nothing(), np.zeros((6, 1)), num_chains=0)
