"""Semi-supervised variational autoencoder with two stochastic layers, M1+M2 (Kingma et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .language import Array, Distribution, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP, diagonal_normal, standard_normal
from .partial_labels import log_q_of_known, q_of_label


@dataclass(frozen=True)
class M1M2:
    """p(x, y, z) = 1/C · N(z₂; 0, I) p(z₁ | z₂, y) p(x | z₁),  q(y, z | x) = q(z₁ | x) q(y | z₁) q(z₂ | z₁, y).

    One joint density, trained as one: M1's features z₁ and an M2 of them. Conditionals of latents are N(μ, diag exp λ),
    μ and λ from networks. Labels (N,) are −1 where unknown; a known one makes q(y | z₁) a point mass and adds
    `classifier_weight` · log q(y | z₁) to the objective (its scale: see `M2`).
    Sites: `z1`, `z2` (latent_dim,), `y` (num_classes,), one-hot, `x` (data_dim,) and the factor `classification`, in the
    plate `data`. Parameters: `decoder.*` (z1 to x), `decoder2.*` (z2, y to z1), `encoder.*`, `encoder2.*`, `classifier.*`.
    Source: Kingma et al. 2014, section 2 ("stacked generative semi-supervised model").
    """

    data_dim: int
    num_classes: int = 10
    latent_dim: int = 50
    hidden: tuple[int, ...] = (500,)
    likelihood: Likelihood = Bernoulli()
    activation: str = "softplus"
    classifier_weight: float = 50.0
    inputs: ClassVar[tuple[str, ...]] = ("x", "labels")

    def net(self, ppl: Language, name: str, out: int, *inputs: Array) -> Array:
        widths = (sum(x.shape[-1] for x in inputs), *self.hidden, out)
        return MLP(widths, self.activation)(ppl, name, *inputs)

    def decoder(self, ppl: Language, z1: Array) -> Distribution:
        return self.likelihood(ppl, self.net(ppl, "decoder", self.likelihood.width(self.data_dim), z1))

    def decoder2(self, ppl: Language, z2: Array, y: Array) -> Distribution:
        return diagonal_normal(ppl, self.net(ppl, "decoder2", 2 * self.latent_dim, z2, y))

    def encoder(self, ppl: Language, x: Array) -> Distribution:
        return diagonal_normal(ppl, self.net(ppl, "encoder", 2 * self.latent_dim, x))

    def encoder2(self, ppl: Language, z1: Array, y: Array) -> Distribution:
        return diagonal_normal(ppl, self.net(ppl, "encoder2", 2 * self.latent_dim, z1, y))

    def classifier(self, ppl: Language, z1: Array) -> Array:
        """log q(y | z₁) of each label, nats, shape (*z1.shape[:-1], num_classes)."""
        return ppl.log_softmax(self.net(ppl, "classifier", self.num_classes, z1))

    def classify(self, ppl: Language, x: Array) -> Array:
        """log q(y | z₁) of each label at the mean of q(z₁ | x), nats, shape (*x.shape[:-1], num_classes)."""
        return self.classifier(ppl, self.encoder(ppl, x).mean)

    def model(self, ppl: Language, x: Array, labels: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            y = ppl.sample("y", ppl.one_hot_categorical(ppl.xp.zeros(self.num_classes)))
            z2 = ppl.sample("z2", standard_normal(ppl, self.latent_dim))
            z1 = ppl.sample("z1", self.decoder2(ppl, z2, y))
            ppl.sample("x", self.decoder(ppl, z1), obs=x)
            log_q = log_q_of_known(ppl, self.classifier(ppl, z1), labels)
            ppl.factor("classification", self.classifier_weight * log_q)

    def guide(self, ppl: Language, x: Array, labels: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z1 = ppl.sample("z1", self.encoder(ppl, x))
            y = ppl.sample("y", q_of_label(ppl, self.classifier(ppl, z1), labels))
            ppl.sample("z2", self.encoder2(ppl, z1, y))
