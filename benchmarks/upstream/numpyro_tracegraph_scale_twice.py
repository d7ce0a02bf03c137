"""NumPyro's TraceGraph_ELBO multiplies the score of a draw that is not reparameterised by the site's scale twice.

A row has z ~ Bernoulli(1/2), x | z ~ Bernoulli(0.2 + 0.6 z), x = 1; the guide is q(z = 1) = s(a), s the logistic function.
With the cost c(z) = log p(x, z) - log q(z), the ELBO of N such rows is N sum_z q(z) c(z); as sum_z q(z) d/da log q(z) = 0,

    d/da ELBO = N sum_z q(z) c(z) d/da log q(z) = N s(a) (1 - s(a)) (log 4 - a).

A minibatch of 1 row that stands for N = 5 must have this gradient in the mean (rows and so minibatches are alike), and so
must 1 row under `handlers.scale(5)`. The scale belongs to the cost, not to the score: here the factor is 25, not 5.

`get_importance_trace` (numpyro/infer/util.py) keeps scale * log q(z) as the site's `log_prob`, which `TraceGraph_ELBO.loss`
(numpyro/infer/elbo.py) takes for the score: `surrogate = jnp.sum(guide_site["log_prob"] * stop_gradient(downstream_cost))`.
Pyro's `ScoreParts.scale_and_mask` scales the cost alone.

Both outcomes of z are forced, each weighed by its probability: there is no Monte-Carlo error.
Numbers: 1 row of 1; 1 row of 5; 1 row under `handlers.scale(5)`.
"""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import scale
from numpyro.infer import TraceGraph_ELBO

A, N = 0.3, 5
Q = 1 / (1 + math.exp(-A))


class Given(dist.BernoulliLogits):
    outcome = 0.0

    def sample(self, key, sample_shape=()):
        return jnp.full(sample_shape + self.batch_shape, Given.outcome)


def model(total):
    with numpyro.plate("rows", total, subsample_size=1):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
        numpyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=jnp.ones(1))


def guide(total):
    with numpyro.plate("rows", total, subsample_size=1):
        numpyro.sample("z", Given(numpyro.param("a", A)))


def mean_gradient(elbo, total, factor=1.0):
    mean, key, programs = 0.0, jax.random.PRNGKey(0), (scale(model, factor), scale(guide, factor))
    for Given.outcome, probability in ((0.0, 1 - Q), (1.0, Q)):
        mean -= probability * float(jax.jit(jax.grad(lambda a: elbo.loss(key, {"a": a}, *programs, total)))(A))
    return mean


def main(elbo):
    expected = [factor * Q * (1 - Q) * (math.log(4) - A) for factor in (1, N, N)]
    got = [mean_gradient(elbo, 1), mean_gradient(elbo, N), mean_gradient(elbo, 1, N)]
    reproduced = any(abs(a - b) > 1e-4 for a, b in zip(expected, got, strict=True))
    print(json.dumps({"fault": "TraceGraph_ELBO multiplies the score by the site's scale twice", "library": "numpyro",
                      "version": numpyro.__version__, "expected": expected, "got": got, "reproduced": reproduced}))  # fmt: skip
    return 0 if reproduced else 1


if __name__ == "__main__":
    sys.exit(main(TraceGraph_ELBO()))
