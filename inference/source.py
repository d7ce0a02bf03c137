"""What a run was asked for, as typed: how it is opened, written down and opened again from any directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ppl_models import InputError
from ppl_models.datasets import DATASETS, Dataset, load, with_labels
from ppl_models.language import check_engine

from .callables import inputs_of
from .settings import declare, is_energy, takes_binary


@dataclass(frozen=True)
class Source:
    """A declaration and its data."""

    model: str
    data: str
    engine: str
    settings: tuple[str, ...] = ()
    likelihood: str | None = None
    binarise: str | None = None
    heldout: str | None = None
    data_dir: str | None = None
    device: str | None = None
    labels: int | None = None
    seed: int = 0

    def open(self) -> tuple[Any, Dataset]:
        """The declaration and its data, all checked before an engine is imported.

        Raises:
            InputError: Something is unknown, missing or does not fit together.
        """
        check_engine(self.engine)
        if self.device not in (None, "cpu", "cuda"):
            raise InputError(f"expected --device cpu or cuda, got '{self.device}'; choose one of those or leave it out.")
        # A data set's own binarisation is for models that score binary data.
        binary = takes_binary(self.model, self.likelihood, self.settings)
        chosen = self.binarise if self.binarise is not None else "none" if self.data in DATASETS and not binary else None
        if chosen is None and self.data == "mnist" and is_energy(self.model):
            chosen = "static"  # an energy's rows are bits, drawn once
        missing = any(setting.lower() in ("missing=true", "missing=1") for setting in self.settings)
        rows = load(self.data, binarise=chosen, data_dir=self.data_dir, heldout=self.heldout, missing=missing)  # type: ignore[arg-type]
        classes = rows.num_classes if rows.y is not None else None
        declaration = declare(self.model, rows.x.shape[-1], self.settings, self.likelihood, classes)
        if "labels" in inputs_of(declaration):
            rows = with_labels(rows, 100 if self.labels is None else self.labels, self.seed)
        elif self.labels is not None:
            raise InputError(f"--labels is for models of partly known labels, which {self.model} is not; leave it out.")
        return declaration, rows


def asked(source: Source) -> dict[str, Any]:
    """What was asked for, so that the run opens from any directory."""
    out = {f.name: getattr(source, f.name) for f in fields(source)}
    for name in ("data", "heldout"):
        if out[name] is not None and out[name] not in DATASETS:
            out[name] = str(Path(out[name]).expanduser().resolve())
    return out


def source_of(asked: Mapping[str, Any], data_dir: str | None = None) -> Source:
    """What `asked` wrote; data sets may lie elsewhere now."""
    return Source(**{**asked, "settings": tuple(asked["settings"]), "data_dir": data_dir or asked["data_dir"]})
