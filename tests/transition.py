"""The transition matrix of a shipped kernel, by forcing every outcome of its draws and weighing it.

A `Tape` takes the place of the random key: each draw takes the outcome written on it and multiplies the weight by that
outcome's probability. All start states times all outcomes run as chains of one batch.
"""

from __future__ import annotations

from itertools import product
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from inference.kernels import State


class Tape(NamedTuple):
    """`outcomes` (chains, draws) as written, `place` the next to be read, `log_weight` (chains,) of those read."""

    outcomes: Any
    place: Any
    log_weight: Any


def forced(words: ModuleType, arities: list[int] | None = None) -> Any:
    """The kernel words of an engine, whose draws read a tape; with `arities` they only note how many outcomes each has."""
    xp = words.xp

    def read(tape: Tape, like: Any, values: int) -> tuple[Tape, Any]:
        """The outcomes written for an array shaped as `like`, each of so many values."""
        shape, axis = tuple(like.shape), chain_axis(tape, like)
        width = int(np.prod(shape)) // shape[axis]
        if arities is not None:
            arities.extend([values] * width)
            return tape, xp.zeros_like(like)
        found = tape.outcomes[:, tape.place + np.arange(width)]
        found = found.reshape(shape[axis], *(n for i, n in enumerate(shape) if i != axis))
        return tape._replace(place=tape.place + width), xp.moveaxis(found, 0, axis)

    def uniform(tape: Tape, like: Any) -> tuple[Tape, Any]:
        return read(tape, like, 2)

    def chain_axis(tape: Tape, x: Any) -> int:
        return tuple(x.shape).index(len(tape.log_weight))  # after the replicas, if there are any

    def weighed(tape: Tape, log_prob: Any) -> Tape:
        per_chain = xp.moveaxis(log_prob, chain_axis(tape, log_prob), 0).reshape(len(tape.log_weight), -1)
        return tape._replace(log_weight=tape.log_weight + per_chain.sum(-1))

    def flip(tape: Tape, u: Any, logits: Any) -> tuple[Tape, Any]:
        return weighed(tape, -words.softplus((1.0 - 2.0 * u) * logits)), u

    def accept(tape: Tape, u: Any, log_ratio: Any) -> tuple[Tape, Any]:
        probability = xp.exp(xp.clip(log_ratio, max=0.0)) + 0.0 * u
        return weighed(tape, xp.log(xp.where(u > 0, probability, 1.0 - probability))), u > 0

    def categorical(tape: Tape, logits: Any) -> tuple[Tape, Any]:
        tape, written = read(tape, logits[..., 0], logits.shape[-1])
        index = xp.astype(written, xp.int64)
        log_p = logits - words.logsumexp(logits)[..., None]
        return weighed(tape, (words.one_hot(index, logits.shape[-1], logits) * log_p).sum(-1)), index

    def loop(steps: int, body: Any, carry: Any) -> Any:
        for i in range(steps):
            carry = body(i, carry)
        return carry

    own = {"uniform": uniform, "flip": flip, "accept": accept, "categorical": categorical}
    return SimpleNamespace(**{**vars(words), **own, **({} if arities is None else {"loop": loop})})


def states(sites: dict[str, int]) -> dict[str, np.ndarray]:
    """Every state of binary sites, (states, size) a site."""
    total = sum(sites.values())
    bits = np.array(list(product([0.0, 1.0], repeat=total))).reshape(-1, total)
    ends = np.cumsum([0, *sites.values()])
    return {name: bits[:, ends[i] : ends[i + 1]] for i, name in enumerate(sites)}


def index_of(sites: dict[str, int], values: Any) -> np.ndarray:
    """The number of each state in `states`."""
    bits = np.concatenate([np.asarray(values[name]) for name in sites], -1)
    return (bits @ 2.0 ** np.arange(bits.shape[-1])[::-1]).round().astype(int)


def matrix(step: Any, words: ModuleType, array: Any, sites: dict[str, int]) -> np.ndarray:
    """T(x, y) of `step(ppl, state) -> (state, info)`, over the states of `sites`."""
    starts, arities = states(sites), list[int]()
    count = len(next(iter(starts.values())))
    dry = Tape(array(np.zeros((count, 0))), 0, array(np.zeros(count)))
    step(forced(words, arities), State(dry, {name: array(v) for name, v in starts.items()}))
    outcomes = np.array(list(product(*(range(n) for n in arities))), float)
    tape = Tape(array(np.tile(outcomes, (count, 1))), 0, array(np.zeros(count * len(outcomes))))
    values = {name: array(np.repeat(v, len(outcomes), 0)) for name, v in starts.items()}
    after, _ = step(forced(words), State(tape, values))
    T = np.zeros((count, count))
    rows = np.repeat(np.arange(count), len(outcomes))
    np.add.at(T, (rows, index_of(sites, after.values)), np.exp(np.asarray(after.rng_key.log_weight, float)))
    return T
