"""Pyro's RenyiELBO(alpha=0) gives no gradient to the guide at discrete sites.

z ~ Bernoulli(1/2), x | z ~ Bernoulli(0.2 + 0.6 z), x = 1; the guide is q(z = 1) = s(a), s the logistic function. With the
weights w(z) = p(x, z) / q(z), `RenyiELBO(alpha=0, num_particles=2).loss` is in the mean the bound of Burda et al. (2016),

    L(a) = E log((w(z_1) + w(z_2)) / 2) = sum over z_1, z_2 of q(z_1) q(z_2) log((w(z_1) + w(z_2)) / 2).

L(a) rises to log p(x) as q comes to the posterior. Pyro's derivative is 0 at every draw, for any number of particles:
`RenyiELBO.loss_and_grads` (pyro/infer/renyi_elbo.py) puts `(self.alpha / (1.0 - self.alpha)) * log_prob_sum` for both the
score and the -log q of the weights. That is the derivative of log(E w^(1 - alpha)) / (1 - alpha), the limit of infinitely
many particles, which at alpha = 0 is log p(x) and does not depend on the guide. The gradient of what `loss` returns is
log_mean_weight * (all scores) - (normalised weight) * score. All four pairs of draws are forced, each weighed by its
probability: there is no Monte-Carlo error.
"""

import json
import sys
from itertools import product

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import RenyiELBO

A, P, PAIRS = 0.3, (0.2, 0.8), tuple(product((0, 1), repeat=2))  # P: p(x | z)


class Given(dist.Bernoulli):
    draws = iter((0, 1))

    def sample(self, sample_shape=()):
        return torch.tensor(float(next(Given.draws)))


def model():
    z = pyro.sample("z", dist.Bernoulli(0.5))
    pyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=torch.tensor(1.0))


def guide():
    pyro.sample("z", Given(logits=pyro.param("a", torch.tensor(A))))


def bound(a):
    q = torch.stack([-a, a]).sigmoid()
    return sum(q[i] * q[j] * torch.log((0.5 * P[i] / q[i] + 0.5 * P[j] / q[j]) / 2) for i, j in PAIRS)


def mean_gradient(elbo):
    q, mean = torch.tensor([-A, A]).sigmoid().tolist(), 0.0
    for i, j in PAIRS:
        Given.draws = iter((i, j))
        with pyro.get_param_store().scope():
            elbo.loss_and_grads(model, guide)
            slope = pyro.param("a").grad  # None if the loss does not depend on it
        mean -= q[i] * q[j] * float(slope or 0.0)
    return mean


def main(elbo):
    expected, got = float(torch.func.grad(bound)(torch.tensor(A))), mean_gradient(elbo)
    reproduced = abs(got - expected) > 1e-4
    print(json.dumps({"fault": "RenyiELBO(alpha=0) gives no gradient to the guide at discrete sites", "library": "pyro-ppl",
                      "version": pyro.__version__, "expected": expected, "got": got, "reproduced": reproduced}))  # fmt: skip
    return 0 if reproduced else 1


if __name__ == "__main__":
    sys.exit(main(RenyiELBO(alpha=0, num_particles=2)))
