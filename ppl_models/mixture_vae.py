"""Variational autoencoder with a mixture prior, for clustering (VaDE; Jiang et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from .language import Array, Distribution, Language
from .networks import constant
from .vae import VAE


@dataclass(frozen=True)
class MixtureVAE(VAE):
    """p(z) = Σₖ softmax(π)ₖ N(z; μₖ, diag σₖ²), p(x | z) and q(z | x) as in `VAE`; p(k | z) is in closed form.

    The component is summed out: draws of z stay differentiable, and no estimator sees a discrete site.
    Sites: `z` (latent_dim,) and `x` (data_dim,) in the plate `data`. Parameters: those of `VAE`, `prior.logits` (K,),
    `prior.locs` (K, latent_dim), which start apart, and `prior.scale` (K, latent_dim).
    Source: Jiang et al. 2017, section 3: with their q(k | x) = p(k | z), draw by draw, the bound is this one.
    """

    latent_dim: int = 10
    num_components: int = 10

    def components(self, ppl: Language) -> tuple[Array, Distribution]:
        """Logits (K,) and the components, batch (K,) and event (latent_dim,)."""
        K, shape = self.num_components, (self.num_components, self.latent_dim)
        logits = ppl.param("prior.logits", constant(ppl, 0.0, K))
        locs = ppl.param("prior.locs", lambda *key: ppl.dist.Normal(ppl.xp.zeros(shape), ppl.xp.ones(shape)).sample(*key))
        scale = ppl.param("prior.scale", constant(ppl, 1.0, *shape), constraint=ppl.constraints.positive)
        return logits, ppl.dist.Normal(locs, scale).to_event(1)

    def prior(self, ppl: Language) -> Distribution:
        logits, components = self.components(ppl)
        return ppl.dist.MixtureSameFamily(ppl.dist.Categorical(logits=logits), components)

    def log_responsibilities(self, ppl: Language, z: Array) -> Array:
        """log p(k | z), shape (*z.shape[:-1], K)."""
        logits, components = self.components(ppl)
        return ppl.log_softmax(logits + components.log_prob(z[..., None, :]))

    def responsibilities(self, ppl: Language, z: Array) -> Array:
        """p(k | z), shape (*z.shape[:-1], K)."""
        return ppl.xp.exp(self.log_responsibilities(ppl, z))

    def classify(self, ppl: Language, x: Array) -> Array:
        """log p(k | z) at the encoder's mean of z, shape (*x.shape[:-1], K)."""
        return self.log_responsibilities(ppl, self.encoder(ppl, x).mean)
