"""The course of a training up to an epoch, and how it is kept on disk and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..checkpoint import Checkpoints
from ..estimate import Estimate
from ..identity import check_same, check_types, tells_counts
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


ROW = {"epoch", "step", "seconds", *ESTIMATES, "skipped"}  # what a history row tells


def resumed(
    checkpoints: Checkpoints, same: Mapping[str, Any], other_versions: bool, start: Callable[..., Iterator[Epoch]]
) -> tuple[Iterator[Epoch], Epoch, Course]:
    """The stream of epochs that goes on from the last checkpoint that is whole and of the same training; what is not is noted.

    `start(saved=state, done=step)` makes the stream, whose first epoch is the one gone on from.

    Raises:
        InputError: There is no such checkpoint; the sentence says what is wrong with the last one.
    """

    def gone_on(step: int, tensors: dict[str, np.ndarray], facts: dict[str, Any]) -> tuple[Iterator[Epoch], Epoch, Course]:
        state, course = restore(tensors, facts, same, checkpoints.folder, other_versions)
        stream = start(saved=state, done=step)
        first = next(stream)  # thaws the state
        check(step, state[0], first, course)
        return stream, first, course

    saved = checkpoints.load(gone_on)
    stream, first, course = saved.value
    course.passed_over = saved.damaged
    return stream, first, course


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
    tail = course.tail
    check_types(state, first.freeze()[0])
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
    rows = (row for row in course.history if set(row) >= ROW and tells_counts(row, "step", "seconds", "skipped"))
    numbers = [row["epoch"] for row in rows]
    whole = len(numbers) == step + 1 and numbers == list(range(len(numbers)))
    if not whole or len(course.finals) != (restarts if step else 0) or tail.count < 0:
        raise ValueError("its history is not that of so many epochs")


def estimate(kept: Mapping[str, float | None] | None) -> Estimate | None:
    """An estimate as JSON holds it, whose ends are null where the interval has none."""
    if kept is None:
        return None
    ends = {"value": np.nan, "low": -np.inf, "high": np.inf}
    return Estimate(*(end if kept[name] is None else float(kept[name]) for name, end in ends.items()))  # type: ignore[arg-type]
