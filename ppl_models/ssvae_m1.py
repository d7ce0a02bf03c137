"""Semi-supervised learning by latent features, M1 (Kingma, Rezende, Mohamed and Welling 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .language import Array, Language
from .networks import MLP, one_hot
from .vae import VAE


@dataclass(frozen=True)
class M1(VAE):
    """p(x, y, z) = N(z; 0, I) p(x | f(z)) softmax(W z + b)_y,  q(z | x) = N(z; μ(x), diag exp λ(x)).

    The features z are learned from x alone: no gradient of log p(y | z) reaches the encoder. Labels (N,) are −1 where
    unknown, which masks y. Sites: `z` (latent_dim,), `x` (data_dim,), `y` (num_classes,), one-hot, in the plate `data`.
    Parameters: those of `VAE`, `classifier.0.*`. Source: Kingma et al. 2014, section 3.1.
    """

    latent_dim: int = 50
    hidden: tuple[int, ...] = (500, 500)
    num_classes: int = 10
    inputs: ClassVar[tuple[str, ...]] = ("x", "labels")

    def classifier(self, ppl: Language, z: Array) -> Array:
        return MLP((self.latent_dim, self.num_classes))(ppl, "classifier", z)

    def classify(self, ppl: Language, x: Array) -> Array:
        """Logits of each label at the features' mean, shape (*x.shape[:-1], num_classes)."""
        return ppl.log_softmax(self.classifier(ppl, self.encoder(ppl, x).mean))

    def model(self, ppl: Language, x: Array, labels: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", self.prior(ppl))
            ppl.sample("x", self.decoder(ppl, z), obs=x)
            y = ppl.one_hot_categorical(self.classifier(ppl, ppl.stop_gradient(z)))
            ppl.sample("y", y.mask(labels >= 0), obs=one_hot(ppl, labels, self.num_classes))

    def guide(self, ppl: Language, x: Array, labels: Array, total: int | None = None) -> None:
        super().guide(ppl, x, total)
