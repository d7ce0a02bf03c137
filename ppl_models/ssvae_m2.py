"""Semi-supervised variational autoencoder, M2 (Kingma, Rezende, Mohamed and Welling 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .language import Array, Distribution, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP, diagonal_normal, standard_normal
from .partial_labels import log_q_of_known, q_of_label


@dataclass(frozen=True)
class M2:
    """p(x, y, z) = 1/C · N(z; 0, I) p(x | f(z, y)),  q(y, z | x) = q(y | x) N(z; μ(x, y), diag exp λ(x, y)).

    Labels (N,) are −1 where unknown; a known one makes q(y | x) a point mass and adds `classifier_weight` · log q(y | x)
    to the objective. The weight is for each labelled datum: the paper's α = 0.1 N is 0.1 N / N_labelled here, 50 for 100
    labels among 50,000 rows. The objective is a bound only without that term, as on rows without a label.
    Sites: `y` (num_classes,), one-hot, `z` (latent_dim,), `x` (data_dim,) and the factor `classification`, in the plate
    `data`. Parameters: `decoder.i.*`, `encoder.i.*`, `classifier.i.*`. Source: Kingma et al. 2014, eqs 6 to 9.
    """

    data_dim: int
    num_classes: int = 10
    latent_dim: int = 50
    hidden: tuple[int, ...] = (500,)
    likelihood: Likelihood = Bernoulli()
    activation: str = "softplus"
    classifier_weight: float = 50.0
    inputs: ClassVar[tuple[str, ...]] = ("x", "labels")

    def decoder(self, ppl: Language, z: Array, y: Array) -> Distribution:
        widths = (self.latent_dim + self.num_classes, *self.hidden, self.likelihood.width(self.data_dim))
        return self.likelihood(ppl, MLP(widths, self.activation)(ppl, "decoder", z, y))

    def encoder(self, ppl: Language, x: Array, y: Array) -> Distribution:
        widths = (self.data_dim + self.num_classes, *reversed(self.hidden), 2 * self.latent_dim)
        return diagonal_normal(ppl, MLP(widths, self.activation)(ppl, "encoder", x, y))

    def classify(self, ppl: Language, x: Array) -> Array:
        """log q(y | x) of each label, nats, shape (*x.shape[:-1], num_classes)."""
        widths = (self.data_dim, *reversed(self.hidden), self.num_classes)
        return ppl.log_softmax(MLP(widths, self.activation)(ppl, "classifier", x))

    def model(self, ppl: Language, x: Array, labels: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            y = ppl.sample("y", ppl.one_hot_categorical(ppl.xp.zeros(self.num_classes)))
            z = ppl.sample("z", standard_normal(ppl, self.latent_dim))
            ppl.sample("x", self.decoder(ppl, z, y), obs=x)
            log_q = log_q_of_known(ppl, self.classify(ppl, x), labels)
            ppl.factor("classification", self.classifier_weight * log_q)

    def guide(self, ppl: Language, x: Array, labels: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            y = ppl.sample("y", q_of_label(ppl, self.classify(ppl, x), labels))
            ppl.sample("z", self.encoder(ppl, x, y))
