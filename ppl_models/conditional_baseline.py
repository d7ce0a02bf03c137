"""The network without a latent that a conditional autoencoder must beat (Sohn, Lee and Yan 2015, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from .conditions import Kind, Label, Quadrants, condition
from .language import Array, Distribution, Language
from .likelihoods import Bernoulli, Likelihood
from .networks import MLP


@dataclass(frozen=True)
class ConditionalBaseline:
    """p(x | c) = p(x | f(c)), dimensions independent given the condition c; the guide draws nothing.

    `condition`, `num_classes` and `quadrants` as of `CVAE`. Site: `x` (the target's width,) in the plate `data`.
    Parameters: `decoder.i.*`.

    Raises:
        InputError: The condition is unknown, or the rows do not have such quadrants.
    """

    data_dim: int
    hidden: tuple[int, ...] = (500, 500)
    likelihood: Likelihood = Bernoulli()
    activation: str = "relu"
    condition: Kind = "labels"
    num_classes: int = 10
    quadrants: int = 1

    def __post_init__(self) -> None:
        _ = self.given

    @property
    def given(self) -> Label | Quadrants:
        return condition(self.condition, self.data_dim, self.num_classes, self.quadrants)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.given.inputs

    def decoder(self, ppl: Language, c: Array) -> Distribution:
        net = MLP((c.shape[-1], *self.hidden, self.likelihood.width(self.given.widths[0])), self.activation)
        return self.likelihood(ppl, net(ppl, "decoder", c))

    def model(self, ppl: Language, *inputs: Array, total: int | None = None) -> None:
        x, c = self.given.split(ppl, *inputs)
        with ppl.plate("data", total or x.shape[0], subsample=x.shape[0]):
            ppl.sample("x", self.decoder(ppl, c), obs=x)

    def guide(self, ppl: Language, *inputs: Array, total: int | None = None) -> None:
        """There is nothing to infer."""
