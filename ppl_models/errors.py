"""Two errors a user can meet: bad input (exit 2) and a computation that broke (exit 4).

Each carries one sentence: what was expected, what came, and what to do about it.
"""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used; the message names the thing and the cure."""


class NumericalError(ArithmeticError):
    """A computation left the finite numbers; the message names where and what to try."""
