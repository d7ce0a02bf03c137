"""Variational autoencoder (Kingma and Welling 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import InputError
from .language import Array, Distribution, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP, ConvDecoder, ConvEncoder, diagonal_normal, square_side, standard_normal


@dataclass(frozen=True)
class VAE:
    """p(x) = ∫ N(z; 0, I) p(x | f(z)) dz,  q(z | x) = N(z; μ(x), diag exp λ(x)).

    `network`: "mlp", dense layers of the `hidden` widths, or "conv", for square images, which puts convolutions with the
    given `channels`, each halving the side, between the image and those layers.
    Sites: `z` (latent_dim,) and `x` (data_dim,) in the plate `data`. Parameters: `decoder.i.*`, `encoder.i.*` (with
    conv `decoder.dense.i.*`, `decoder.conv.i.*` and the same of `encoder`), and `likelihood.scale` where a Normal
    likelihood learns it. Source: Kingma and Welling 2014, eq. 10 and appendix C.

    Raises:
        InputError: The network is unknown, or it is "conv" and the rows are not square images of a fitting side.
    """

    data_dim: int
    latent_dim: int = 20
    hidden: tuple[int, ...] = (400,)
    likelihood: Likelihood = Bernoulli()
    activation: str = "softplus"
    network: Literal["mlp", "conv"] = "mlp"
    channels: tuple[int, ...] = (32, 64)

    def __post_init__(self) -> None:
        if self.network not in ("mlp", "conv"):
            raise InputError(f"expected network mlp or conv, got '{self.network}'; choose one of those.")
        if self.network == "conv":
            square_side(self.data_dim, len(self.channels))

    def prior(self, ppl: Language) -> Distribution:
        return standard_normal(ppl, self.latent_dim)

    def decoder(self, ppl: Language, z: Array) -> Distribution:
        widths, out = (self.latent_dim, *self.hidden), self.likelihood.width(self.data_dim)
        if self.network == "conv":
            side, channels = square_side(self.data_dim, len(self.channels)), (*reversed(self.channels), out // self.data_dim)
            net = ConvDecoder(side, widths, channels, self.activation)
        else:
            net = MLP((*widths, out), self.activation)
        return self.likelihood(ppl, net(ppl, "decoder", z))

    def encoder(self, ppl: Language, x: Array) -> Distribution:
        widths = (*reversed(self.hidden), 2 * self.latent_dim)
        if self.network == "conv":
            net = ConvEncoder(square_side(self.data_dim, len(self.channels)), self.channels, widths, self.activation)
        else:
            net = MLP((self.data_dim, *widths), self.activation)
        return diagonal_normal(ppl, net(ppl, "encoder", x))

    def model(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            z = ppl.sample("z", self.prior(ppl))
            ppl.sample("x", self.decoder(ppl, z), obs=x)

    def guide(self, ppl: Language, x: Array, total: int | None = None) -> None:
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("z", self.encoder(ppl, x))
