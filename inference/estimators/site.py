"""What an estimator asks of one site: facts about it, and variants of its distribution that change the gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

Variant = Literal["path", "score", "enumerate", "given", "relax"]

#: Rows of joint values above which enumeration is refused.
MAX_ROWS = 1 << 14


class Latent(NamedTuple):
    """Facts about a latent site of a guide, by which estimators decide whether they apply."""

    name: str
    distribution: str
    has_rsample: bool
    num_values: int | None  # of one draw (2ᵈ for d Bernoullis in an event); None if not finite
    has_analytic_kl: bool
    in_model: bool
    relaxable: bool = False  # one-hot or bits, by logits


@cache
def _variant(cls: type, kind: Variant, stop: Callable[[Any], Any]) -> type:
    def path_log_prob(self: Any, value: Any, *intermediates: Any) -> Any:
        # The gradient through the value only: what the parameters contribute directly cancels.
        fixed = cls.log_prob(self, stop(value))
        return cls.log_prob(self, value) - fixed + stop(fixed)

    def given(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.given_value

    def given_with_intermediates(self: Any, *args: Any, **kwargs: Any) -> Any:  # NumPyro draws wrappers by this one
        return self.given_value, []

    def drawn(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.given_value(*args, **kwargs)

    def drawn_and_no_more(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.given_value(*args, **kwargs), []

    forced = {"sample": given, "sample_with_intermediates": given_with_intermediates}
    members = {
        "path": {"log_prob": path_log_prob},
        "score": {"has_rsample": False},
        "enumerate": {"has_rsample": False, **forced},
        "given": {"rsample": given, **forced},
        "relax": {"has_rsample": True, "rsample": drawn, "sample": drawn, "sample_with_intermediates": drawn_and_no_more},
    }[kind]
    return type(cls)(cls.__name__, (cls,), members)


def with_gradient(fn: Any, kind: Variant, stop: Callable[[Any], Any], value: Any = None) -> Any:
    """The same distribution with another gradient; parameters are shared, `fn` is left alone.

    "path": log_prob differentiates through the value only (Roeder et al. 2017). "score": draws carry no gradient.
    "enumerate": the draw is `value`, which carries none. "given": the draw is `value`, with whatever gradient it carries.
    "relax": `value` is the function that draws.
    """
    fn = copy.copy(fn)
    fn.__class__ = _variant(type(fn), kind, stop)
    if kind in ("enumerate", "given", "relax"):
        fn.given_value = value
    return fn


def given_variant(estimator: Any) -> Variant:
    """The variant by which a draw is given from outside, under an estimator (None: a library's own)."""
    return "enumerate" if getattr(estimator, "variant", "score") in ("score", "enumerate") else "given"


class Values(NamedTuple):
    """All joint values of `count` independent copies of a site with the values `single`, built only when asked for."""

    single: Any  # (n, *event shape of one copy)
    count: int
    shape: tuple[int, ...]  # event shape of the whole draw

    @property
    def size(self) -> int:
        return self.single.shape[0] ** self.count

    def rows(self, xp: Any, repeat: int, tile: int) -> Any:
        """Every value in order (the last copy varies fastest), each `repeat` times, the whole list `tile` times."""
        n = self.single.shape[0]
        index = [row for _ in range(tile) for row in range(self.size) for _ in range(repeat)]
        digits = [[row // n**i % n for i in reversed(range(self.count))] for row in index]
        return self.single[xp.asarray(digits)].reshape(len(index), *self.shape)


def joint(values: dict[str, Values], xp: Any, num_samples: int) -> dict[str, Any]:
    """Every joint value of several sites, each `num_samples` times: by site (S × E, *event shape), rows fastest."""
    total = 1
    for v in values.values():
        total *= v.size
    out, tile = {}, num_samples
    for name, v in values.items():
        total //= v.size
        out[name] = v.rows(xp, total, tile)
        tile *= v.size
    return out
