"""NumPyro's RenyiELBO has a gradient of the wrong sign at discrete sites.

z ~ Bernoulli(1/2), x | z ~ Bernoulli(0.2 + 0.6 z), x = 1; the guide is q(z = 1) = s(a), s the logistic function. With the
weights w(z) = p(x, z) / q(z) and two particles, the objective at alpha = 0 is the bound of Burda et al. (2016). As q is in
its expectation and in its weights, the derivative has two parts: with v_k = w(z_k) / (w(z_1) + w(z_2)),

    L(a) = E log((w(z_1) + w(z_2)) / 2) = sum over z_1, z_2 of q(z_1) q(z_2) log((w(z_1) + w(z_2)) / 2),
    dL/da = E[log((w(z_1) + w(z_2)) / 2) d/da sum_k log q(z_k)] - E[sum_k v_k d/da log q(z_k)].

`RenyiELBO.loss` (numpyro/infer/elbo.py) differentiates `weighted_elbo = (stop_gradient(weights) * elbos).mean(0)`: at a
discrete draw the second part alone, s(a) (1 - s(a)) (w(0) - w(1)) / (w(0) + w(1)), which drives q away from the posterior
at every a. `SVI.init` warns of discrete latents, and goes on. All four pairs of draws are forced (particles run in turn),
each weighed by its probability: there is no Monte-Carlo error.
"""

import json
import sys
from itertools import product

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import RenyiELBO

A, P, PAIRS = 0.3, (0.2, 0.8), tuple(product((0, 1), repeat=2))  # P: p(x | z)


class Given(dist.BernoulliLogits):
    draws = iter((0, 1))

    def sample(self, key, sample_shape=()):
        return jnp.full(sample_shape + self.batch_shape, float(next(Given.draws)))


def model():
    z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=1.0)


def guide():
    numpyro.sample("z", Given(numpyro.param("a", A)))


def bound(a):
    q = jax.nn.sigmoid(jnp.array([-a, a]))
    return sum(q[i] * q[j] * jnp.log((0.5 * P[i] / q[i] + 0.5 * P[j] / q[j]) / 2) for i, j in PAIRS)


def mean_gradient(elbo):
    q, mean, key = jax.nn.sigmoid(jnp.array([-A, A])), 0.0, jax.random.PRNGKey(0)
    elbo.vectorize_particles_fn = lambda one, keys: jax.tree.map(lambda *x: jnp.stack(x), *map(one, keys))
    for i, j in PAIRS:
        Given.draws = iter((i, j))
        mean -= float(q[i] * q[j] * jax.jit(jax.grad(lambda a: elbo.loss(key, {"a": a}, model, guide)))(A))
    return mean


def main(elbo):
    expected, got = float(jax.grad(bound)(A)), mean_gradient(elbo)
    reproduced = abs(got - expected) > 1e-4
    print(json.dumps({"fault": "RenyiELBO's gradient has the wrong sign at discrete sites", "library": "numpyro",
                      "version": numpyro.__version__, "expected": expected, "got": got, "reproduced": reproduced}))  # fmt: skip
    return 0 if reproduced else 1


if __name__ == "__main__":
    sys.exit(main(RenyiELBO(num_particles=2)))
