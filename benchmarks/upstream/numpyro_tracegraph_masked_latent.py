"""NumPyro's TraceGraph_ELBO gives no gradient at a masked latent, though an unmasked site depends on it.

z ~ Bernoulli(1/2), x | z ~ Bernoulli(0.2 + 0.6 z), x = 1; the guide is q(z = 1) = s(a), s the logistic function. The mask at
z takes log p(z) and log q(z) out of the objective. What is left is sum_z q(z) log p(x | z), and

    d/da sum_z q(z) log p(x | z) = s(a) (1 - s(a)) (log 0.8 - log 0.2) = s(a) (1 - s(a)) log 4.

A mask takes away a cost, not the draw's influence on the costs that stay: a reparameterised latent that is masked keeps
its gradient through x. Here it is 0.

A masked distribution's `log_prob` is 0, and `TraceGraph_ELBO.loss` (numpyro/infer/elbo.py) takes the site's `log_prob`
for the score: `surrogate = jnp.sum(guide_site["log_prob"] * stop_gradient(downstream_cost))`. Pyro's
`ScoreParts.scale_and_mask` leaves the score unmasked.

Both outcomes of z are forced, each weighed by its probability: there is no Monte-Carlo error.
"""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import mask
from numpyro.infer import TraceGraph_ELBO

A = 0.3
Q = 1 / (1 + math.exp(-A))


class Given(dist.BernoulliLogits):
    outcome = 0.0

    def sample(self, key, sample_shape=()):
        return jnp.full(sample_shape + self.batch_shape, Given.outcome)


def model():
    with mask(mask=False):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=1.0)


def guide():
    with mask(mask=False):
        numpyro.sample("z", Given(numpyro.param("a", A)))


def mean_gradient(elbo):
    mean, key = 0.0, jax.random.PRNGKey(0)
    for Given.outcome, probability in ((0.0, 1 - Q), (1.0, Q)):
        mean -= probability * float(jax.jit(jax.grad(lambda a: elbo.loss(key, {"a": a}, model, guide)))(A))
    return mean


def main(elbo):
    expected, got = Q * (1 - Q) * math.log(4), mean_gradient(elbo)
    reproduced = abs(got - expected) > 1e-4
    print(json.dumps({"fault": "TraceGraph_ELBO gives no gradient at a masked latent", "library": "numpyro",
                      "version": numpyro.__version__, "expected": expected, "got": got, "reproduced": reproduced}))  # fmt: skip
    return 0 if reproduced else 1


if __name__ == "__main__":
    sys.exit(main(TraceGraph_ELBO()))
