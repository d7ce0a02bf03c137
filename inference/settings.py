"""A declaration from what is typed on a command line: a catalogue name, `key=value` settings and a likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from math import isfinite
from typing import Any

from ppl_models import CATALOGUE, InputError
from ppl_models.likelihoods import LIKELIHOODS, Bernoulli


def closest(name: str, known: Sequence[str]) -> str:
    """The end of a sentence that refuses `name`."""
    close = get_close_matches(name, known, 1)
    return f"did you mean '{close[0]}'?" if close else "choose one of those."


def known_model(name: str) -> str:
    """`name`, if the catalogue has it."""
    if name not in CATALOGUE:
        raise InputError(f"expected a model among {', '.join(CATALOGUE)}, got '{name}'; {closest(name, list(CATALOGUE))}")
    return name


def declare(
    name: str, data_dim: int, settings: Sequence[str] = (), likelihood: str | None = None, num_classes: int | None = None
) -> Any:
    """The declaration `name` for data of `data_dim` columns, labelled by `num_classes` classes if it takes labels.

    Raises:
        InputError: The name, a key, a value or the likelihood is unknown or wrong.
    """
    cls, preset = CATALOGUE[known_model(name)]
    defaults = {f.name: f.default for f in fields(cls)}
    keys = [key for key in defaults if key != "likelihood"]
    values: dict[str, Any] = {"data_dim": data_dim, **preset}
    if num_classes is not None and "num_classes" in defaults:
        values["num_classes"] = num_classes
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign:
            raise InputError(f"expected --set key=value, got '{setting}'; the keys of {name} are {', '.join(keys)}.")
        if key not in keys:
            raise InputError(f"{name} has no setting '{key}'; its settings are {', '.join(keys)}: {closest(key, keys)}")
        values[key] = parse(key, text, 0 if key == "data_dim" else defaults[key])
    if likelihood is not None:
        if "likelihood" not in defaults:
            raise InputError(f"{name} has its likelihood built in, got --likelihood {likelihood}; leave that option out.")
        values["likelihood"] = parse_likelihood(likelihood)
    return cls(**values)


def parse(key: str, text: str, default: Any) -> Any:
    """`text` as the type of the field's default."""
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(default, int):
            value = int(text)
            if value < 1:
                raise ValueError
            return value
        if isinstance(default, float):
            value = float(text)
            if not isfinite(value):
                raise ValueError
            return value
        if isinstance(default, tuple):
            widths = tuple(int(part) for part in text.split(",") if part)
            if any(width < 1 for width in widths):
                raise ValueError
            return widths
    except (ValueError, KeyError):
        kinds = {bool: "true or false", int: "a whole number of at least 1", float: "a number"}
        kind = kinds.get(type(default), "whole numbers such as 200,200")
        raise InputError(f"expected {key} to be {kind}, got '{text}'; change --set {key}=….") from None
    if key == "activation" and text not in ("softplus", "relu", "sigmoid", "tanh"):
        raise InputError(f"expected activation softplus, relu, sigmoid or tanh, got '{text}'; choose one of those.")
    return text


def sweep(name: str, settings: Sequence[str]) -> tuple[str, list[tuple[str, ...]]] | None:
    """`latent_dim=2,5,10`: the setting that takes several values in turn, and the settings of each fit; None if none does.

    Raises:
        InputError: Two settings do.
    """
    cls, _ = CATALOGUE[known_model(name)]
    single = {f.name for f in fields(cls) if isinstance(f.default, int) and not isinstance(f.default, bool)}
    several = [s for s in settings if s.partition("=")[0] in single and "," in s]
    if len(several) > 1:
        keys = " and ".join(s.partition("=")[0] for s in several)
        raise InputError(f"expected one setting with several values, got {keys}; give all but one of them a single value.")
    if not several:
        return None
    key, _, values = several[0].partition("=")
    others = [s for s in settings if s not in several]
    return key, [(*others, f"{key}={value}") for value in values.split(",") if value]


def parse_likelihood(text: str) -> Any:
    """`name` or `name:argument`: bernoulli, normal, normal:0.5, normal:per-dim, categorical:16, continuous-bernoulli."""
    name, _, argument = text.partition(":")
    if name not in LIKELIHOODS:
        raise InputError(
            f"expected a likelihood among {', '.join(LIKELIHOODS)}, got '{name}'; {closest(name, list(LIKELIHOODS))}"
        )
    if not argument:
        return LIKELIHOODS[name]()
    try:
        if name == "normal":
            return LIKELIHOODS[name](argument if argument in ("learned", "per-dim") else float(argument))
        if name == "categorical":
            return LIKELIHOODS[name](int(argument))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read '{argument}' in --likelihood {text}; write normal:0.5, normal:per-dim or "
                         "categorical:16.") from None  # fmt: skip
    raise InputError(f"likelihood {name} takes no argument, got '{argument}'; write --likelihood {name}.")


def is_energy(name: str) -> bool:
    """Whether the model is declared by an energy."""
    return hasattr(CATALOGUE[known_model(name)][0], "energy")


def takes_binary(name: str, likelihood: str | None, settings: Sequence[str] = ()) -> bool:
    """Whether the model scores binary data, so that a data set's own binarisation is wanted."""
    cls, _ = CATALOGUE[known_model(name)]
    default = next((f.default for f in fields(cls) if f.name == "likelihood"), None)
    if is_energy(name):
        return "visible=normal" not in settings
    return isinstance(default if likelihood is None else parse_likelihood(likelihood), Bernoulli)
