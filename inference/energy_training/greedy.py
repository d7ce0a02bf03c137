"""Greedy training of a stack, one restricted Boltzmann machine after the other (Hinton, Osindero and Teh 2006)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ppl_models.datasets import Dataset

ROWS = 4096  # at once, on the way up


class Stack(NamedTuple):
    """`params` of the whole, `parts` (what training each of the model's `rbms` gave), and one `history` row an epoch.

    Epochs are counted on through the layers; `layer` is 1 of the lowest, `seconds` those since the lowest began.
    """

    params: dict[str, Any]
    parts: list[Any]
    history: list[dict[str, Any]]


def layerwise(
    model: Any, data: Dataset, train: Callable[[Any, Dataset, int, Callable[[dict[str, Any]], bool]], Any],
    callbacks: tuple[Callable[[dict[str, Any]], bool | None], ...], words: Any, shared: Any, seed: int, dtype: str,
) -> Stack:  # fmt: skip
    """log p(x) ≥ E_q(h | x)[log p(h) + log p(x | h)] + H(q): what a layer learned of p(x | h) stays, and the next learns p(h).

    Layer l + 1 is trained on bits drawn once from q(h_l | h_{l−1}), the rows' own hidden units at layer l. An RBM with copies
    of its visible units is given each row as often. `train(rbm, rows, number, callback)` fits one; a callback that returns
    True ends a layer, and the next begins. Source: Hinton et al. 2006, section 4.
    """
    rng, history, parts = np.random.default_rng(seed), list[dict[str, Any]](), list[Any]()
    rows, heldout = data.x, data.heldout
    for number, rbm in enumerate(model.rbms, 1):
        before = history[-1]["seconds"] if history else 0.0

        def tell(row: dict[str, Any], number: int = number, before: float = before) -> bool:
            seconds = before + row["seconds"]
            history.append({**row, "epoch": len(history) + 1, "seconds": seconds, "layer": number})
            return any([callback(history[-1]) for callback in callbacks])

        copies = rbm.data_dim // rows.shape[1]
        given = tuple(np.tile(x, (1, copies)) for x in (rows, heldout))
        found = train(rbm, Dataset(f"{data.name}, layer {number}", given[0], given[1], "none"), number, tell)
        parts.append(found)
        if number < len(model.rbms):
            rows, heldout = (hidden(rbm, found.params, x, rng, words, shared, dtype) for x in given)
    return Stack(model.stacked([found.params for found in parts]), parts, history)


def hidden(rbm: Any, params: Any, x: np.ndarray, rng: np.random.Generator, words: Any, shared: Any, dtype: str) -> np.ndarray:
    """Hidden bits of each row, drawn given the row, (rows, num_hidden)."""
    out = []
    with shared.session(dtype):
        held = {name: shared.array(np.asarray(value, dtype)) for name, value in params.items()}
        for i in range(0, len(x), ROWS):
            logits = rbm.logits(words, held, {"x": shared.array(np.asarray(x[i : i + ROWS], dtype))}, "h")
            p = np.asarray(shared.to_numpy({"p": words.sigmoid(logits)})["p"])
            out.append((rng.random(p.shape) < p).astype(x.dtype))
    return np.concatenate(out)[:, : rbm.num_hidden]
