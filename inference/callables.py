"""The door by which models enter: a declaration, or a user's own model and guide; both leave as `Bound` callables."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

from ppl_models import Bound, InputError, bind
from ppl_models.language import check_engine


@dataclass(frozen=True)
class Scaled:
    """`fn` told that its rows stand for `total` data; equal by value, so that one compiled program serves all."""

    fn: Any
    total: int

    @property
    def static(self) -> tuple[tuple[str, Any], ...]:
        return (("total", self.total),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **{"total": self.total, **kwargs})


def accepts_total(fn: Any) -> bool:
    """Whether `fn` takes the keyword `total`, the number of data that a minibatch stands for."""
    try:
        parameters = signature(fn).parameters
    except (TypeError, ValueError):
        return False
    return "total" in parameters


def as_bound(model: Any, engine: str, total: int | None = None) -> Bound:
    """`model` as plain callables of `engine`, scaled to `total` data.

    Raises:
        InputError: `model` is neither a declaration nor a (model, guide) pair, or the engine is not at hand.
    """
    check_engine(engine)
    static = {} if total is None else {"total": total}
    if callable(getattr(model, "model", None)) and callable(getattr(model, "guide", None)) and not isinstance(model, Bound):
        return bind(model, engine, **static)
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        if total is None or not all(map(accepts_total, model)):
            return Bound(*model)
        return Bound(*(Scaled(fn, total) for fn in model))
    raise InputError(f"expected a declaration (an object with methods model and guide) or a pair (model, guide), got "
                     f"{type(model).__name__}; for your own functions pass Bound(model, guide).")  # fmt: skip


def inputs_of(model: Any) -> tuple[str, ...]:
    """The names of the arrays, rows first, that the callables of `model` take: ("x",) unless a declaration says more."""
    return tuple(getattr(model, "inputs", ("x",))) if not isinstance(model, tuple) else ("x",)


def can_subsample(model: Any) -> bool:
    """Whether minibatches can stand for the whole data: a declaration always, a pair if both take `total`."""
    return not isinstance(model, tuple) or all(map(accepts_total, model))
