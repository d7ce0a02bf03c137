"""Labels of which some are known: the guide's distribution of y, and the classification term."""

from __future__ import annotations

from .language import Array, Distribution, Language
from .networks import one_hot

IMPOSSIBLE = -1e4  # exp of it is 0 in both precisions, and 0 times it is 0


def q_of_label(ppl: Language, logits: Array, labels: Array) -> Distribution:
    """softmax(logits) where the label is −1, a point mass where it is known; one-hot, batch shape as of the logits."""
    point = IMPOSSIBLE * (1.0 - one_hot(ppl, labels, logits.shape[-1]))
    return ppl.one_hot_categorical(ppl.xp.where(labels[..., None] < 0, logits, point))


def log_q_of_known(ppl: Language, logits: Array, labels: Array) -> Array:
    """log softmax(logits) at the label, nats; 0 where it is −1."""
    return (one_hot(ppl, labels, logits.shape[-1]) * ppl.log_softmax(logits)).sum(-1)
