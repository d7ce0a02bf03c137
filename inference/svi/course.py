"""The course of a training up to an epoch, and how it is kept on disk and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppl_models import InputError, NumericalError

from ..checkpoint import Checkpoints
from ..energy_training.resume import check_same
from ..estimate import Estimate
from .epoch import Epoch, Frozen
from .stopping import Tail, begun

ESTIMATES = ("train_elbo", "heldout_elbo")  # of a history row


@dataclass(eq=False)
class Course:
    """What the loop over epochs gathers.

    Attributes:
        history: One row an epoch.
        tail: The late iterates.
        finals: Mean training ELBO of each restart in the last epoch, nats per datum; empty before the first.
        skipped: Steps, of all restarts, that moved nothing because they were not finite.
        stopped: The rule that ended training.
        passed_over: What was wrong with later checkpoints than the one gone on from.
    """

    tail: Tail | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    skipped: int = 0
    stopped: str = "epochs"
    passed_over: list[str] = field(default_factory=list)

    @property
    def winner(self) -> int:
        """The restart with the best training ELBO."""
        return int(np.argmax(self.finals)) if self.finals else 0


def save(checkpoints: Checkpoints, same: Mapping[str, Any], epoch: Epoch, course: Course) -> None:
    """Keep the state after an epoch."""
    (tensors, facts), tail = epoch.freeze(), course.tail
    assert tail is not None
    kept = {f"state/{name}": value for name, value in tensors.items()}
    kept |= {"tail/places": tail.places, "tail/iterates": tail.iterates}
    for i, total in enumerate(tail.total or ()):
        kept |= {f"tail/total/{i}/{name}": value for name, value in total.items()}
    told = {"finals": course.finals, "skipped": course.skipped, "averaged": tail.count,
            "averaging": tail.total is not None}  # fmt: skip
    checkpoints.save(epoch.number, kept, {"training": same, "state": facts, "history": course.history, "course": told})


#: What contents that were forged, or are those of other code, raise where they are read.
FORGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, ArithmeticError, AssertionError)
ROW = {"epoch", "step", "seconds", *ESTIMATES, "skipped"}  # what a history row tells


def resumed(
    checkpoints: Checkpoints, same: Mapping[str, Any], other_versions: bool, start: Callable[..., Iterator[Epoch]]
) -> tuple[Iterator[Epoch], Epoch, Course]:
    """The stream of epochs that goes on from the last checkpoint that is whole and of the same training; what is not is noted.

    `start(saved=state, done=step)` makes the stream, whose first epoch is the one gone on from.

    Raises:
        InputError: There is no such checkpoint; the sentence says what is wrong with the last one.
    """
    wrong = list[str]()
    for path in checkpoints.folder.iterdir() if checkpoints.folder.is_dir() else ():
        if path.is_dir() and path.stem.isdecimal():
            raise InputError(f"{path} is a directory where a checkpoint's file belongs; remove it, then resume.")
        if path.name.startswith(".") and path.suffix == ".partial":  # of a process that was killed while it wrote
            path.unlink(missing_ok=True)
    for step in reversed(checkpoints.steps()):
        try:
            tensors, facts = checkpoints._read(step)
            state, course = restore(tensors, facts, same, checkpoints.folder, other_versions)
            stream = start(saved=state, done=step)
            first = next(stream)  # thaws the state
            check(step, state[0], first, course)
        except (InputError, NumericalError) as error:
            wrong.append(str(error))
        except FORGED as error:
            wrong.append(f"checkpoint {step} of {checkpoints.folder} holds no state of this training ({reason(error)}); resume "
                         "from an earlier one, or fit again.")  # fmt: skip
        else:
            course.passed_over = wrong
            return stream, first, course
    raise InputError(wrong[0] if wrong else f"{checkpoints.folder} holds no checkpoint; fit with --out, which keeps some.")


def reason(error: Exception) -> str:
    """What is wrong, in a line."""
    return f"it lacks {error}" if isinstance(error, KeyError) else (str(error).splitlines() or [type(error).__name__])[0]


def restore(
    tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any], same: Mapping[str, Any], folder: Any, other_versions: bool
) -> tuple[Frozen, Course]:
    """What `save` kept: the trainer's state, and the course.

    Raises:
        InputError: It is of another training than `same`.
    """
    check_same(facts["training"], same, folder, other_versions)
    told, totals = facts["course"], dict[int, dict[str, np.ndarray]]()
    for name, value in tensors.items():
        if name.startswith("tail/total/"):
            i, rest = name.removeprefix("tail/total/").split("/", 1)
            totals.setdefault(int(i), {})[rest] = value
    total = tuple(totals[i] for i in sorted(totals)) if told["averaging"] else None
    tail = Tail(tensors["tail/places"], tensors["tail/iterates"], total, int(told["averaged"]))
    history = [{name: estimate(v) if name in ESTIMATES else v for name, v in row.items()} for row in facts["history"]]
    state = {name.removeprefix("state/"): value for name, value in tensors.items() if name.startswith("state/")}
    finals = [-np.inf if v is None else float(v) for v in told["finals"]]  # of a restart none of whose steps was finite yet
    return (state, facts["state"]), Course(tail, history, finals, int(told["skipped"]))


def check(step: int, state: Mapping[str, np.ndarray], first: Epoch, course: Course) -> None:
    """Raise unless the whole of a checkpoint is such as this training writes after that epoch: names, types, shapes, finite."""
    again, tail = first.freeze()[0], course.tail
    types = [{name: value.dtype for name, value in tensors.items()} for tensors in (state, again)]
    if types[0] != types[1]:
        odd = sorted(name for name in {**types[0], **types[1]} if types[0].get(name) != types[1].get(name))
        raise ValueError(f"'{odd[0]}' is {types[0].get(odd[0], 'missing')}, not {types[1].get(odd[0], 'there')}")
    assert tail is not None
    parts = [*first.params, *(tail.total or ()), {"the late iterates": tail.iterates}]
    for name, value in (pair for part in parts for pair in part.items()):
        if not np.isfinite(value).all():
            raise ValueError(f"'{name}' is not finite")
    fresh, restarts = begun(first.params), len(first.params)
    if not np.array_equal(tail.places, fresh.places) or tail.iterates.shape[1:] != fresh.iterates.shape[1:]:
        raise ValueError("its late iterates are of other parameters")
    shapes = [{name: np.shape(value) for name, value in one.items()} for one in first.params]
    if tail.total is not None and [{n: np.shape(v) for n, v in one.items()} for one in tail.total] != shapes:
        raise ValueError("its averages are of other parameters")
    numbers = [row["epoch"] for row in course.history if set(row) >= ROW and row["step"] >= 0 and row["seconds"] >= 0]
    whole = len(numbers) == step + 1 and numbers == list(range(len(numbers)))
    if not whole or len(course.finals) != (restarts if step else 0) or tail.count < 0:
        raise ValueError("its history is not that of so many epochs")


def estimate(kept: Mapping[str, float | None] | None) -> Estimate | None:
    """An estimate as JSON holds it, whose ends are null where the interval has none."""
    if kept is None:
        return None
    ends = {"value": np.nan, "low": -np.inf, "high": np.inf}
    return Estimate(*(end if kept[name] is None else float(kept[name]) for name, end in ends.items()))  # type: ignore[arg-type]
