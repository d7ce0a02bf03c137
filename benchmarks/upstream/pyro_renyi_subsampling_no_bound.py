"""Pyro's RenyiELBO is no bound under subsampling: in the mean it exceeds the log evidence.

A row has z ~ Bernoulli(1/2), x | z ~ Bernoulli(0.2 + 0.6 z), x = 1; the guide is the prior, so that a particle's weight
w(z) = p(x, z) / q(z) is p(x | z). Of N independent rows that all are 1, two particles a row give, by Jensen's inequality,

    L = N E log((w(z_1) + w(z_2)) / 2) <= N log E w(z) = N log p(x) = N log 0.5.

A minibatch of 1 row that stands for N must be L in the mean: N stands outside the logarithm (all rows are alike, and so
are all minibatches). `RenyiELBO.loss` (pyro/infer/renyi_elbo.py) adds up sites' `log_prob`, which the plate has multiplied
by N, before `torch.logsumexp(log_weights, dim=0)`: it is E log((w(z_1)^N + w(z_2)^N) / 2), which as the number of
particles grows comes to log E w^N > N log E w, and lies above N log p(x) here. `loss_and_grads` does the same, so that
training maximises something that is no bound. NumPyro's RenyiELBO divides the scale out and multiplies it in outside.

All four pairs of draws are forced, each weighed by its probability: there is no Monte-Carlo error.
Numbers: 1 row of 1, 1 row of 5. Reproduced if the last exceeds 5 log 0.5 = -3.47.
"""

import json
import math
import sys
from itertools import product

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import RenyiELBO

N, P, PAIRS = 5, (0.2, 0.8), tuple(product((0, 1), repeat=2))  # P: p(x | z)


class Given(dist.Bernoulli):
    draws = iter((0, 1))

    def sample(self, sample_shape=()):
        return torch.tensor([float(next(Given.draws))])


def model(total):
    with pyro.plate("rows", total, subsample=torch.tensor([0])):
        z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=torch.ones(1))


def guide(total):
    with pyro.plate("rows", total, subsample=torch.tensor([0])):
        pyro.sample("z", Given(torch.tensor([0.5])))


def mean_bound(elbo, total):
    mean = 0.0
    for pair in PAIRS:
        Given.draws = iter(pair)
        mean -= elbo.loss(model, guide, total) / 4
    return mean


def main(elbo):
    row = sum(math.log((P[i] + P[j]) / 2) / 4 for i, j in PAIRS)
    expected, got = [row, N * row], [mean_bound(elbo, 1), mean_bound(elbo, N)]
    reproduced = got[1] > N * math.log(sum(P) / 2) + 1e-4
    print(json.dumps({"fault": "RenyiELBO exceeds the log evidence under subsampling", "library": "pyro-ppl",
                      "version": pyro.__version__, "expected": expected, "got": got, "reproduced": reproduced}))  # fmt: skip
    return 0 if reproduced else 1


if __name__ == "__main__":
    sys.exit(main(RenyiELBO(alpha=0, num_particles=2)))
