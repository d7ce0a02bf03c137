"""What a command tells: results on stdout, all else on stderr, a bar on a terminal, a line an epoch in a file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .files import to_json


class Progress:
    """The data's card once the fit has begun, then a bar on a terminal, a line now and then elsewhere; changes no number."""

    def __init__(self, epochs: int, card: str) -> None:
        from rich.console import Console

        self.epochs, self.card, self.console, self.bar = epochs, card, Console(stderr=True), None

    def __enter__(self) -> Progress:
        from rich import progress

        if self.console.is_terminal:
            columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TimeRemainingColumn())
            self.bar = progress.Progress(*columns, console=self.console)
            self.bar.start()
            self.task = self.bar.add_task("compiling", total=self.epochs)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, row: dict[str, Any]) -> None:
        if row["epoch"] == 0:
            note(self.card)
        elbo = row.get("heldout_elbo")
        text = f"epoch {row['epoch']}" + (f", held-out ELBO {elbo.value:.2f} nats" if elbo else "")
        if self.bar is not None:
            self.bar.update(self.task, completed=row["epoch"], description=text)
        elif row["epoch"] and row["epoch"] % max(1, self.epochs // 10) == 0:
            note(text)


class Status:
    """The data's card, then what `compare` is doing: one line that changes on a terminal, lines elsewhere."""

    def __init__(self, card: str) -> None:
        self.card = card

    def __call__(self, message: str) -> None:
        if self.card:
            note(self.card)
            self.card = ""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{message} ")
            sys.stderr.flush()
        elif not message.startswith("training with") or message.endswith("seed 0"):
            note(message)


class History:
    """Appends a flushed line an epoch to `history.jsonl`, which begins with the rows of a fit that is resumed."""

    def __init__(self, out: Path, before: Sequence[dict[str, Any]] = ()) -> None:
        self.path, self.before = out / "history.jsonl", before
        self.started = False

    def __call__(self, row: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a" if self.started else "w", encoding="utf-8") as file:
            for line in (row,) if self.started else (*self.before, row):
                file.write(to_json(line, indent=None) + "\n")
        self.started = True


def note(text: str) -> None:
    """Print what accompanies a result, on stderr."""
    print(text, file=sys.stderr)


def command() -> str:
    """What was typed."""
    return shlex.join(["ppl", *sys.argv[1:]])


def emit(value: Any) -> None:
    """Print one strict JSON object on stdout."""
    print(to_json(value))


def echo(text: str) -> None:
    """Print a result."""
    print(text)
