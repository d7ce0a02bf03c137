"""NumPyro's Trace_ELBO drops the score term at discrete sites: the guide's gradient is 0 in the mean.

z ~ Bernoulli(1/2), x | z ~ Bernoulli(0.2 + 0.6 z), x = 1; the guide is q(z = 1) = s(a), s the logistic function. With
c(z) = log p(x, z) - log q(z) the ELBO is sum_z q(z) c(z), and as sum_z q(z) d/da log q(z) = 0,

    d/da ELBO = sum_z q(z) c(z) d/da log q(z) = s(a) (1 - s(a)) (log 4 - a).

`Trace_ELBO.loss_with_mutable_state` (numpyro/infer/elbo.py) returns the sum of log p - log q and nothing else. A draw
that is not differentiable carries no gradient, so -d/da log q(z) is left, whose mean is 0: the guide does not learn, it
wanders. `SVI.init` (numpyro/infer/svi.py) says so in a warning and goes on; for continuous draws without `has_rsample`
it says nothing. An error would be right, or the score term, as in TraceGraph_ELBO and Pyro's Trace_ELBO.

Both outcomes of z are forced, each weighed by its probability: there is no Monte-Carlo error.
"""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import Trace_ELBO

A = 0.3
Q = 1 / (1 + math.exp(-A))


class Given(dist.BernoulliLogits):
    outcome = 0.0

    def sample(self, key, sample_shape=()):
        return jnp.full(sample_shape + self.batch_shape, Given.outcome)


def model():
    z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=1.0)


def guide():
    numpyro.sample("z", Given(numpyro.param("a", A)))


def mean_gradient(elbo):
    mean, key = 0.0, jax.random.PRNGKey(0)
    for Given.outcome, probability in ((0.0, 1 - Q), (1.0, Q)):
        mean -= probability * float(jax.jit(jax.grad(lambda a: elbo.loss(key, {"a": a}, model, guide)))(A))
    return mean


def main(elbo):
    expected, got = Q * (1 - Q) * (math.log(4) - A), mean_gradient(elbo)
    reproduced = abs(got - expected) > 1e-4
    print(json.dumps({"fault": "Trace_ELBO drops the score term at discrete sites", "library": "numpyro",
                      "version": numpyro.__version__, "expected": expected, "got": got, "reproduced": reproduced}))  # fmt: skip
    return 0 if reproduced else 1


if __name__ == "__main__":
    sys.exit(main(Trace_ELBO()))
