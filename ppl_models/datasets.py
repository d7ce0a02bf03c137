"""Data by name or file, with the scale, the split and the binarisation stated exactly, and the labels that are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from . import jsb, mnist, readers
from .binarisation import BINARISATIONS, DONE, SEED, Binarisation, binarised, check_binarise, check_unit
from .errors import InputError
from .tables import check_columns, labels, rows

__all__ = ["BINARISATIONS", "DATASETS", "NAMES", "Binarisation", "Dataset", "from_arrays", "load", "with_labels"]

DATASETS: dict[str, str] = {
    "digits": "handwritten digits of 8 x 8 pixels, 1437 training and 360 held-out rows, shipped with scikit-learn",
    "mnist": "handwritten digits of 28 x 28 pixels, 60000 training and 10000 held-out rows, downloaded once (11 MB)",
    "iris": "iris flowers of three species in 4 lengths (cm), 120 training and 30 held-out rows, shipped with scikit-learn",
    "wine": "wines of three growers in 13 standardised measures, 143 training and 35 held-out rows, shipped with scikit-learn",
    "jsb": "JSB chorales as piano rolls of 88 keys, 229 training and 77 held-out sequences, never downloaded",
}
NAMES: tuple[str, ...] = tuple(DATASETS)
HELDOUT_SHARE = 0.2
UNKNOWN = -1  # a label


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows to train on and rows to judge by; a row is a vector (D,) or a sequence (T, D).

    Attributes:
        name: one of `NAMES`, the file's name, or what `from_arrays` was given.
        x: (N, D) or (N, T, D), C-contiguous, float64 where the user's values were, else float32; NaN is a missing entry,
            and steps past a sequence's length are 0. Where `binarisation` is 'dynamic' these are probabilities in [0, 1],
            which the trainer draws anew at each step, otherwise final values.
        heldout: (M, D) or (M, T, D), like `x` and of its dtype, always final values.
        binarisation: what was done, or for 'dynamic' remains to be done, to `x`.
        image_shape: (height, width) with height * width = D, where rows are images.
        y: (N,) int64 true labels of `x`, -1 where unknown.
        heldout_y: (M,) int64 true labels of `heldout`, -1 where unknown.
        origin: where the values come from and their scale.
        split: how the held-out rows were chosen.
        places: rows of the source that `x` and `heldout` are, where one source was split.
        lengths: (N,) int64 steps of each sequence of `x`; None where rows are not sequences.
        heldout_lengths: (M,) int64 steps of each sequence of `heldout`.
        labels: (N,) int64, the part of `y` that training may use, -1 elsewhere (see `with_labels`); None for all of `y`.
        labels_seed: what drew that part.
    """

    name: str
    x: np.ndarray
    heldout: np.ndarray
    binarisation: Binarisation
    image_shape: tuple[int, int] | None = None
    y: np.ndarray | None = None
    heldout_y: np.ndarray | None = None
    origin: str = "values as given"
    split: str = "held-out rows as given"
    places: tuple[np.ndarray, np.ndarray] | None = None
    lengths: np.ndarray | None = None
    heldout_lengths: np.ndarray | None = None
    labels: np.ndarray | None = None
    labels_seed: int | None = None

    @property
    def card(self) -> str:
        """One line: source, sizes, scale, split, binarisation, missing entries and known labels exactly as they are."""
        kind = "rows" if self.lengths is None else f"sequences of up to {self.x.shape[1]} steps"
        shape = "" if self.image_shape is None else " ({} x {} pixels)".format(*self.image_shape)
        parts = [
            f"{self.name}: {self.origin}",
            f"{len(self.x)} training and {len(self.heldout)} held-out {kind} of {self.x.shape[-1]} columns{shape}",
            self.split,
            DONE[self.binarisation],
        ]
        if absent := int(np.isnan(self.x).sum() + np.isnan(self.heldout).sum()):
            parts.append(f"{absent} of {self.x.size + self.heldout.size} entries missing")
        if self.labels is not None:
            drawn = "" if self.labels_seed is None else f" (seed {self.labels_seed})"
            parts.append(f"{(self.labels >= 0).sum()} of {len(self.labels)} labels known{drawn}")
        return "; ".join(parts)

    @property
    def num_classes(self) -> int:
        """1 + the largest label.

        Raises:
            InputError: no label is known.
        """
        largest = max((int(part.max()) for part in (self.y, self.heldout_y, self.labels) if part is not None), default=UNKNOWN)
        if largest < 0:
            raise InputError(f"labels were expected but {self.name} has none; {_LABELS_CURE}")
        return 1 + largest

    def inputs(self, names: tuple[str, ...], heldout: bool = False) -> tuple[np.ndarray, ...]:
        """The arrays that a declaration asks for by name, rows first.

        Args:
            names: 'x', the rows; 'y', true labels; 'labels', int64 labels that a semi-supervised model may use, -1 where
                unknown, as all held-out ones are; 'lengths', steps of each sequence.
            heldout: of the held-out rows, not the training rows.

        Raises:
            InputError: the data do not have what is asked for.
            ValueError: no array has such a name.
        """
        return tuple(self._input(name, heldout) for name in names)

    def _input(self, name: str, heldout: bool) -> np.ndarray:
        part = "held-out" if heldout else "training"
        x, y, lengths = (self.heldout, self.heldout_y, self.heldout_lengths) if heldout else (self.x, self.y, self.lengths)
        if name == "x":
            return x
        if name == "y":
            if y is None:
                raise InputError(f"the model needs labels but the {part} rows of {self.name} have none; {_LABELS_CURE}")
            if (y < 0).any():
                raise InputError(
                    f"the model needs a label for every row but {part} row {np.argmax(y < 0)} (counting from 0) of "
                    f"{self.name} has {y[np.argmax(y < 0)]}; drop the rows without, or use a semi-supervised model"
                )
            return y
        if name == "labels":
            known = None if heldout else y if self.labels is None else self.labels
            return np.full(len(x), UNKNOWN, np.int64) if known is None else known
        if name == "lengths":
            if lengths is None:
                raise InputError(
                    f"the model needs sequences and their lengths but the {part} rows of {self.name} are not sequences; "
                    "use data such as jsb, or a model of plain rows"
                )
            return lengths
        raise ValueError(f"no input of a model is called {name!r}: x, y, labels, lengths")


_LABELS_CURE = "give an .npz file with the key y, or a named dataset with labels"


def load(
    source: str | Path,
    *,
    binarise: Binarisation | None = None,
    data_dir: str | Path | None = None,
    heldout: str | Path | None = None,
    missing: bool = False,
) -> Dataset:
    """A named dataset, or a user's own `.npy`, `.npz` (keys `x`, optional `y`) or comma-separated `.csv` file.

    Named images are scaled to [0, 1]; a user's values are never rescaled, and float64 is kept. Rows keep the order of
    their source.

    Args:
        source: a name of `NAMES`, or a path that ends in one of `readers.SUFFIXES` and holds a 2-D array of numbers.
        binarise: None means 'threshold' for digits, 'dynamic' for mnist and 'none' for all else; anything but 'none'
            needs values in [0, 1].
        data_dir: directory that holds `mnist/` and `jsb/` (see `mnist.read` and `jsb.read`); other sources ignore it.
        heldout: file with the held-out rows; without it a fixed permutation holds out 20 % of a file's rows. Named
            data have a split of their own and take none.
        missing: whether a file's rows may have missing entries: NaN, or in a `.csv` file an empty or NA cell.

    Raises:
        InputError: the source cannot be found, read or used as asked.
    """
    if binarise is not None:
        check_binarise(binarise)
    source = str(source)
    if source in NAMES:
        if heldout is not None:
            raise InputError(
                f"expected no held-out file because {source} has a fixed split of its own but {heldout} came; "
                "leave it out, or give the training rows as a file too"
            )
        return _NAMED[source](binarise, data_dir)
    path = readers.find(source, NAMES)
    values, y = readers.read(path, missing=missing)
    x = rows(values, f"{path}", fewest=2, missing=missing)
    y = labels(y, len(x), f"{path} key 'y'")
    if heldout is None:
        return _split(path.name, x, y, binarise or "none", origin="values as in the file")
    other = readers.find(str(heldout), NAMES)
    values, held_y = readers.read(other, missing=missing)
    held = rows(values, f"{other}", columns=x.shape[1], missing=missing)
    return _dataset(
        path.name,
        x,
        held,
        binarise or "none",
        wheres=(f"{path}", f"{other}"),
        y=y,
        heldout_y=labels(held_y, len(held), f"{other} key 'y'"),
        origin="values as in the file",
        split=f"held-out rows from {other.name}",
    )


def from_arrays(
    x: Any,
    *,
    heldout: Any = None,
    name: str = "array",
    binarise: Binarisation = "none",
    y: Any = None,
    heldout_y: Any = None,
    missing: bool = False,
) -> Dataset:
    """A dataset of anything `np.asarray` takes, with the checks and the split of `load`; the arguments are copied.

    Args:
        x: (N, D) numbers, N at least 2, never rescaled.
        heldout: (M, D) numbers; None holds out 20 % of the rows of `x` by a fixed permutation.
        name: what cards and errors call these data.
        binarise: as for `load`.
        y: (N,) integer labels of `x`, split along with it.
        heldout_y: (M,) integer labels of `heldout`.
        missing: whether NaN may stand for a missing entry.

    Raises:
        InputError: the values cannot be used as asked.
    """
    check_binarise(binarise)
    table = rows(x, f"{name} x", fewest=2, missing=missing)
    known = labels(y, len(table), f"{name} y")
    if heldout is None:
        if heldout_y is not None:
            raise InputError(f"{name} heldout_y was expected to come with heldout rows but came alone; give heldout too")
        return _split(name, table, known, binarise)
    held = rows(heldout, f"{name} heldout", columns=table.shape[1], missing=missing)
    held_known = labels(heldout_y, len(held), f"{name} heldout_y")
    wheres = (f"{name} x", f"{name} heldout")
    return _dataset(name, table, held, binarise, wheres=wheres, y=known, heldout_y=held_known)


def with_labels(data: Dataset, count: int, seed: int = 0) -> Dataset:
    """`data` with `count` of its training labels kept and the others unknown, for semi-supervised models.

    Each of the C classes keeps count // C, the remainder goes to random classes; a class with fewer labels keeps all it
    has and the others share the rest.

    Raises:
        InputError: the data have no labels, fewer than `count`, or more classes than `count`.
    """
    classes, sizes = np.unique([] if data.y is None else data.y[data.y >= 0], return_counts=True)
    if data.y is None or not len(classes):
        raise InputError(f"labels were expected but {data.name} has none; {_LABELS_CURE}")
    if not len(classes) <= count <= sizes.sum():
        raise InputError(
            f"the number of known labels was expected to be from {len(classes)}, one for each class of {data.name}, to "
            f"{sizes.sum()}, all that it has, but is {count}; choose one in between"
        )
    rng = np.random.default_rng(seed)
    quota = np.zeros(len(classes), np.int64)
    while left := count - quota.sum():
        open_ = np.flatnonzero(quota < sizes)
        if left < len(open_):
            quota[rng.choice(open_, left, replace=False)] += 1
        else:
            quota[open_] = np.minimum(quota[open_] + left // len(open_), sizes[open_])
    known = np.full(len(data.y), UNKNOWN, np.int64)
    for label, kept in zip(classes, quota, strict=True):
        known[rng.permutation(np.flatnonzero(data.y == label))[:kept]] = label
    return replace(data, labels=known, labels_seed=seed)


def _carried(name: str, file: str, head: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of a table that scikit-learn carries, read from its file: importing its own loader takes seconds."""
    spec = find_spec("sklearn")
    found = [Path(place) / "datasets" / "data" / file for place in (spec and spec.submodule_search_locations) or ()]
    if not found or not found[0].is_file():
        return getattr(import_module("sklearn.datasets"), f"load_{name}")(return_X_y=True)
    table = np.loadtxt(found[0], delimiter=",", skiprows=head)
    return table[:, :-1], table[:, -1]


def _digits(binarise: Binarisation | None, data_dir: str | Path | None) -> Dataset:
    images, y = _carried("digits", "digits.csv.gz")
    x = np.asarray(images / 16.0, np.float32)
    origin = "scikit-learn's load_digits, divided by 16 into [0, 1]"
    return _split("digits", x, y.astype(np.int64), binarise or "threshold", held=360, image_shape=(8, 8), origin=origin)


def _mnist(binarise: Binarisation | None, data_dir: str | Path | None) -> Dataset:
    x, y, held, held_y = mnist.read(data_dir)
    return _dataset(
        "mnist",
        _scaled(x),
        _scaled(held),
        binarise or "dynamic",
        wheres=("mnist", "mnist"),
        image_shape=(x.shape[1], x.shape[2]),
        y=y.astype(np.int64),
        heldout_y=held_y.astype(np.int64),
        origin="the MNIST IDX files, divided by 255 into [0, 1]",
        split="held-out rows are the usual test files",
    )


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _iris(binarise: Binarisation | None, data_dir: str | Path | None) -> Dataset:
    x, y = _carried("iris", "iris.csv", head=1)
    return _split("iris", x, y.astype(np.int64), binarise or "none", origin="scikit-learn's load_iris, in centimetres")


def _wine(binarise: Binarisation | None, data_dir: str | Path | None) -> Dataset:
    x, y = _carried("wine", "wine_data.csv", head=1)
    origin = (
        f"scikit-learn's load_wine, columns standardised by the mean and standard deviation (ddof 0) of all {len(x)} rows, "
        "training and held-out together"
    )
    return _split("wine", (x - x.mean(0)) / x.std(0), y.astype(np.int64), binarise or "none", origin=origin)


def _jsb(binarise: Binarisation | None, data_dir: str | Path | None) -> Dataset:
    x, lengths, held, held_lengths = jsb.read(data_dir)
    return _dataset(
        "jsb",
        x.astype(np.float32),
        held.astype(np.float32),
        binarise or "none",
        wheres=("jsb", "jsb"),
        lengths=lengths,
        heldout_lengths=held_lengths,
        origin="JSB chorales as piano rolls, 1 where a key sounds, 0 past a sequence's end",
        split="held-out sequences are the usual test split (the validation split is left out)",
    )


_NAMED: dict[str, Callable[[Binarisation | None, str | Path | None], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "iris": _iris,
    "wine": _wine,
    "jsb": _jsb,
}


def _split(
    name: str, x: np.ndarray, y: np.ndarray | None, binarise: Binarisation, held: int | None = None, **about: Any
) -> Dataset:
    """Hold out `held` rows (default 20 %, at least one) by the first entries of a fixed permutation."""
    count = max(1, int(HELDOUT_SHARE * len(x))) if held is None else held
    out = np.zeros(len(x), bool)
    out[np.random.default_rng(SEED).permutation(len(x))[:count]] = True
    if y is not None:
        about |= {"y": y[~out], "heldout_y": y[out]}
    about["places"] = (np.flatnonzero(~out), np.flatnonzero(out))
    check_unit(x, name, binarise)  # before the split, so that an error counts rows as the source does
    about["split"] = f"{count} of {len(x)} rows held out by a fixed permutation (seed {SEED})"
    return _dataset(name, x[~out], x[out], binarise, wheres=(name, name), **about)


def _dataset(
    name: str, x: np.ndarray, heldout: np.ndarray, binarise: Binarisation, wheres: tuple[str, str], **about: Any
) -> Dataset:
    """The parts put together, in one dtype."""
    dtype = np.result_type(x, heldout)
    x, heldout = x.astype(dtype, copy=False), heldout.astype(dtype, copy=False)
    check_columns(x, wheres[0])
    for values, where in zip((x, heldout), wheres, strict=True):
        check_unit(values, where, binarise)
    return Dataset(name, *binarised(x, heldout, binarise), binarise, **about)
