"""Every bad input is refused in one sentence that names it, and its good twin is read; splits and draws are fixed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from inference.data import baseline, prepare
from ppl_models import Bound, datasets, mnist
from ppl_models.datasets import Dataset, from_arrays, load, with_labels
from ppl_models.errors import InputError
from ppl_models.likelihoods import Bernoulli, Categorical, Normal

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("PPL_DATA_DIR") or ROOT.parent / "shared" / "data")
GREY = np.random.default_rng(7).random((10, 3)).astype(np.float32)


def npy(values: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return buffer.getvalue()


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{key: np.asarray(value) for key, value in arrays.items()})
    return buffer.getvalue()


def put(values: np.ndarray, spot: tuple[int, ...], value: float) -> np.ndarray:
    changed = values.astype(np.float64)
    changed[spot] = value
    return changed


def flipped(data: bytes) -> bytes:
    middle = len(data) // 4
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


def last_byte_changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def one_sentence(message: str) -> bool:
    return "\n" not in message and ". " not in message and not message.endswith(".")


# file name, bad contents, good twin, words the error must hold
FILES: list[tuple[str, str, bytes, bytes, tuple[str, ...]]] = [
    ("empty-npy", "a.npy", b"", npy(GREY), ("empty file",)),
    ("empty-csv", "a.csv", b"", b"1,2\n3,4\n", ("empty file",)),
    ("zero-rows", "a.npy", npy(np.zeros((0, 3))), npy(np.zeros((2, 3))), ("(0, 3)",)),
    ("zero-columns", "a.npy", npy(np.zeros((3, 0))), npy(np.zeros((3, 1))), ("(3, 0)",)),
    ("one-row", "a.npy", npy(np.zeros((1, 3))), npy(np.zeros((2, 3))), ("at least 2 rows", "has 1")),
    ("rank-0", "a.npy", npy(1.0), npy([[1.0], [2.0]]), ("0-D", "reshape")),
    ("rank-1", "a.npy", npy([1.0, 2.0]), npy([[1.0], [2.0]]), ("1-D", "(2,)", "(-1, 1)")),
    ("rank-3", "a.npy", npy(np.zeros((4, 2, 2))), npy(np.zeros((4, 4))), ("3-D", "(4, 2, 2)", "(4, -1)")),
    ("strings", "a.npy", npy([["1", "2"], ["3", "4"]]), npy([[1, 2], [3, 4]]), ("dtype", "<U1")),
    ("complex", "a.npy", npy([[1j], [2j]]), npy([[1], [2]]), ("complex128",)),
    ("structured", "a.npy", npy(np.zeros((2, 2), "f4,i4")), npy(np.zeros((2, 2))), ("dtype",)),
    ("dates", "a.npy", npy(np.zeros((2, 2), "M8[s]")), npy(np.zeros((2, 2), bool)), ("datetime64",)),
    ("objects", "a.npy", npy(GREY.astype(object)), npy(GREY), ("Python objects", "never unpickled")),
    ("objects-npz", "a.npz", npz(x=GREY.astype(object)), npz(x=GREY), ("Python objects",)),
    ("pickle", "a.npy", b"\x80\x04K\x01.", npy(GREY), ("does not begin like one",)),
    ("npz-called-npy", "a.npy", npz(x=GREY), npy(GREY), ("does not begin like one",)),
    ("npy-called-npz", "a.npz", npy(GREY), npz(x=GREY), ("does not begin like one",)),
    ("truncated-npy", "a.npy", npy(GREY)[:-5], npy(GREY), ("broken or truncated",)),
    ("half-header", "a.npy", npy(GREY)[:20], npy(GREY), ("broken or truncated",)),
    ("truncated-npz", "a.npz", npz(x=GREY)[:-30], npz(x=GREY), ("broken or truncated",)),
    ("flipped-npz", "a.npz", flipped(npz(x=GREY)), npz(x=GREY), ("broken or truncated",)),
    ("no-x", "a.npz", npz(data=GREY, y=[0]), npz(data=GREY, x=GREY), ("'x'", "'data', 'y'")),
    ("no-keys", "a.npz", npz(), npz(x=GREY), ("no keys",)),
    ("x-is-text", "a.npz", zipped("x", b"hello"), zipped("x.npy", npy(GREY)), ("dtype",)),
    ("y-length", "a.npz", npz(x=GREY, y=range(9)), npz(x=GREY, y=range(10)), ("'y'", "10 rows", "(9,)")),
    ("y-rank", "a.npz", npz(x=GREY, y=np.eye(10)), npz(x=GREY, y=np.ones(10)), ("'y'", "(10, 10)")),
    ("y-half", "a.npz", npz(x=GREY, y=[0] * 9 + [0.5]), npz(x=GREY, y=[0] * 9 + [1.0]), ("0.5 in row 9",)),
    ("y-nan", "a.npz", npz(x=GREY, y=[np.nan] * 10), npz(x=GREY, y=[True] * 10), ("nan in row 0",)),
    ("y-large", "a.npz", npz(x=GREY, y=[2**31] * 10), npz(x=GREY, y=[2**31 - 1] * 10), ("2147483648 in row 0",)),
    ("nan", "a.npy", npy(put(GREY, (4, 2), np.nan)), npy(put(GREY, (4, 2), 9)), ("nan in row 4, column 2", "missing=true")),
    ("inf", "a.npz", npz(x=put(GREY, (9, 0), -np.inf)), npz(x=put(GREY, (9, 0), -9)), ("-inf in row 9, column 0",)),
    ("float32", "a.npy", npy(put(GREY, (3, 1), -1e39)), npy(put(GREY, (3, 1), -3e38)), ("-1e+39 in row 3, column 1",)),
    ("csv-text", "a.csv", b"1,2\n3,abc\n", b"1,2\n3,4\n", ("line 2, column 2", "'abc'")),
    ("csv-text-late", "a.csv", b"a,b\n\n1,2\n3,4\n5,x\n", b"a,b\n\n1,2\n3,4\n5,6\n", ("line 5, column 2", "'x'")),
    ("csv-half-header", "a.csv", b"a,2\n1,2\n3,4\n", b"a,b\n1,2\n3,4\n", ("line 1, column 1", "'a'")),
    ("csv-gap", "a.csv", b"1,2\n3,\n", b"1,2\n3,0\n", ("line 2, column 2", "''", "missing=true")),
    ("csv-ragged", "a.csv", b"1,2\n3,4,5\n", b"1,2\n3,4\n\n", ("line 2", "2 columns", "has 3")),
    ("csv-semicolons", "a.csv", b"a;b\n1;2\n3;4\n", b"a,b\n1,2\n3,4\n", ("line 2, column 1", "'1;2'", "commas")),
    ("csv-header-only", "a.csv", b"a,b\n", b'\xef\xbb\xbf"a","b, c"\r\n1,2\r\n3,4\r\n', ("rows of numbers",)),
    ("csv-one-row", "a.csv", b"1\n", b"\xef\xbb\xbf1\n2\n", ("at least 2 rows",)),
    ("csv-nan", "a.csv", b"a,b\n1,2\n3,nan\n", b"a,b\n1,2\n3,1e2\n", ("nan in row 1, column 1",)),
    ("csv-latin", "a.csv", "é\n1\n2\n".encode("latin-1"), "é\n1\n2\n".encode(), ("UTF-8",)),
    ("csv-latin-late", "a.csv", b"1\n" * 9999 + b"\xe9", b"1\n" * 9999, ("UTF-8",)),
    ("csv-binary", "a.csv", npy(GREY), b"1\n2\n", ("UTF-8",)),
]


@pytest.mark.parametrize(("file", "bad", "good", "words"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_bad_file_is_refused_and_its_twin_read(
    tmp_path: Path, file: str, bad: bytes, good: bytes, words: tuple[str, ...]
) -> None:
    path = tmp_path / file
    path.write_bytes(good)
    data = load(str(path))
    assert_sound(data)
    assert_sound(load(str(path), missing=True))
    assert data.name == file
    assert data.binarisation == "none"
    path.write_bytes(bad)
    with pytest.raises(InputError) as caught:
        load(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert all(word in message for word in words), message
    assert one_sentence(message.replace(str(path), "")), message


# arguments of from_arrays, bad and good, and words the error must hold
ARRAYS: list[tuple[str, dict, dict, tuple[str, ...]]] = [
    ("ragged", {"x": [[1, 2], [3]]}, {"x": [[1, 2], [3, 4]]}, ("some x",)),
    ("none", {"x": [[1, None], [2, 3]]}, {"x": [[1, 0], [2, 3]]}, ("object",)),
    ("masked", {"x": np.ma.array(GREY, mask=GREY > 0.5)}, {"x": np.ma.array(GREY)}, ("masked",)),
    ("huge", {"x": [[10**400], [1]]}, {"x": [[10**18], [1]]}, ("object",)),
    ("above", {"x": [[0], [1.5]], "binarise": "dynamic"}, {"x": [[0], [1]], "binarise": "dynamic"}, ("1.5 in row 1",)),
    ("below", {"x": [[-1], [0]], "binarise": "static"}, {"x": [[-1], [0]], "binarise": "none"}, ("-1.0 in row 0",)),
    (
        "heldout-above",
        {"x": GREY, "heldout": [[0, 2, 0]], "binarise": "threshold"},
        {"x": GREY, "heldout": [[0, 1, 0]], "binarise": "threshold"},
        ("some heldout", "2.0 in row 0, column 1"),
    ),
    ("heldout-columns", {"x": GREY, "heldout": [[1, 2]]}, {"x": GREY, "heldout": [[1, 2, 3]]}, ("3 columns", "has 2")),
    ("heldout-nan", {"x": GREY, "heldout": [[1, 2, np.nan]]}, {"x": GREY, "heldout": [[1, 2, 3]]}, ("some heldout",)),
    ("y", {"x": GREY, "y": range(9)}, {"x": GREY, "y": range(10)}, ("some y", "(9,)")),
    ("heldout-y", {"x": GREY, "heldout_y": [1]}, {"x": GREY, "heldout": GREY[:1], "heldout_y": [1]}, ("alone",)),
    ("binarise", {"x": GREY, "binarise": "dynamics"}, {"x": GREY, "binarise": "dynamic"}, ("did you mean dynamic?",)),
]


@pytest.mark.parametrize(("bad", "good", "words"), [row[1:] for row in ARRAYS], ids=[row[0] for row in ARRAYS])
def test_bad_arrays_are_refused_and_their_twins_taken(bad: dict, good: dict, words: tuple[str, ...]) -> None:
    assert_sound(from_arrays(**good, name="some"))
    with pytest.raises(InputError) as caught:
        from_arrays(**bad, name="some")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert one_sentence(str(caught.value)), str(caught.value)


def assert_sound(data: Dataset) -> None:
    assert data.x.dtype == data.heldout.dtype
    assert data.x.dtype in (np.float32, np.float64)
    assert data.x.flags.c_contiguous
    assert data.heldout.flags.c_contiguous
    assert data.x.shape[1] == data.heldout.shape[1]
    assert len(data.x) >= 1
    assert len(data.heldout) >= 1
    assert "\n" not in data.card


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("digit", ("digits, mnist", "did you mean digits?", ".npy, .npz, .csv")),
        ("MNIST", ("did you mean mnist?",)),
        ("rows.txt", ("rows.txt", ".npy, .npz, .csv")),
        ("", ("''",)),
        ("absent.npy", ("absent.npy", "does not exist")),
        ("folder.npy", ("folder.npy", "directory")),
        ("n" * 300 + ".csv", ("cannot be opened",)),
        ("~nobody-of-this-name/a.csv", ("cannot be opened",)),
    ],
)
def test_a_source_that_is_no_dataset_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npy").mkdir()
    Path("good.csv").write_text("1\n2\n")
    assert_sound(load("good.csv", heldout="good.csv"))
    for ask in (lambda: load(source), lambda: load("good.csv", heldout=source)):
        with pytest.raises(InputError) as caught:
            ask()
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_digits_are_scaled_split_and_thresholded() -> None:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    raw, labels = sklearn_datasets.load_digits(return_X_y=True)
    data, grey = load("digits"), load("digits", binarise="none")
    assert_sound(data)
    assert data.x.shape == (1437, 64)
    assert data.heldout.shape == (360, 64)
    assert data.image_shape == (8, 8)
    assert data.binarisation == "threshold"
    held = np.zeros(1797, bool)
    held[np.random.default_rng(0).permutation(1797)[:360]] = True
    np.testing.assert_array_equal(grey.x, (raw[~held] / 16).astype(np.float32))
    np.testing.assert_array_equal(grey.heldout, (raw[held] / 16).astype(np.float32))
    np.testing.assert_array_equal(data.x, raw[~held] > 8)
    np.testing.assert_array_equal(data.heldout, raw[held] > 8)
    np.testing.assert_array_equal(data.y, labels[~held])
    np.testing.assert_array_equal(data.heldout_y, labels[held])


@pytest.mark.parametrize("binarise", datasets.BINARISATIONS)
def test_splits_and_draws_are_the_same_every_time(binarise: datasets.Binarisation) -> None:
    first, second = load("digits", binarise=binarise), load("digits", binarise=binarise)
    grey = load("digits", binarise="none")
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.heldout, second.heldout)
    final = {"none": (), "dynamic": (first.heldout,)}.get(binarise, (first.x, first.heldout))
    for values in final:
        assert set(np.unique(values)) == {0.0, 1.0}
    if binarise in ("none", "dynamic"):
        np.testing.assert_array_equal(first.x, grey.x)
    if binarise in ("static", "dynamic"):
        np.testing.assert_array_equal(first.heldout, load("digits", binarise="static").heldout)
        # Certain pixels keep their value; the others' sum is within 5 standard deviations of its mean.
        p = grey.heldout.astype(np.float64)
        np.testing.assert_array_equal(first.heldout[(p == 0) | (p == 1)], p[(p == 0) | (p == 1)])
        assert abs(first.heldout.sum() - p.sum()) < 5 * np.sqrt((p * (1 - p)).sum())
        assert not np.array_equal(first.heldout, p > 0.5)


def test_training_and_heldout_rows_are_drawn_independently() -> None:
    half = np.full((50, 40), 0.5)
    data = from_arrays(half, heldout=half, binarise="static")
    agree = (data.x == data.heldout).mean()
    assert abs(agree - 0.5) < 5 * 0.5 / np.sqrt(half.size)


def test_without_a_heldout_file_a_fifth_is_held_out_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = np.arange(33).reshape(11, 3)
    np.savez(tmp_path / "a.npz", x=rows, y=np.arange(11))
    data = load(tmp_path / "a.npz")
    out = np.sort(np.random.default_rng(0).permutation(11)[:2])
    assert data.y is not None
    np.testing.assert_array_equal(data.heldout_y, out)
    np.testing.assert_array_equal(data.heldout, rows[out])
    np.testing.assert_array_equal(data.y, np.delete(np.arange(11), out))
    np.testing.assert_array_equal(data.x, rows[data.y])
    assert "2 of 11 rows held out by a fixed permutation (seed 0)" in data.card
    assert "not binarised" in data.card


def test_a_heldout_file_leaves_every_training_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    np.savez(tmp_path / "b.npz", x=GREY[:1], y=[3])
    data = load(tmp_path / "a.npy", heldout=tmp_path / "b.npz")
    np.testing.assert_array_equal(data.x, GREY)
    np.testing.assert_array_equal(data.heldout, GREY[:1])
    assert data.y is None
    np.testing.assert_array_equal(data.heldout_y, [3])
    assert "held-out rows from b.npz" in data.card
    np.save(tmp_path / "c.npy", GREY[:, :2])
    with pytest.raises(InputError, match=r"c\.npy was expected to have 3 columns .* has 2"):
        load(tmp_path / "a.npy", heldout=tmp_path / "c.npy")
    with pytest.raises(InputError, match="split of its own"):
        load("digits", heldout=tmp_path / "b.npz")


def test_user_values_are_never_rescaled_and_formats_agree(tmp_path: Path) -> None:
    values = np.array([[255, -3.5], [16, 0], [1e-3, 7], [2, 2], [5, 1]])
    np.save(tmp_path / "a.npy", np.asfortranarray(values))
    np.savez(tmp_path / "a.NPZ.npz", x=values)
    np.savetxt(tmp_path / "a.csv", values, delimiter=",", header="u,v", comments="")
    out = np.random.default_rng(0).permutation(5)[:1]
    for name in ("a.npy", "a.NPZ.npz", "a.csv"):
        data = load(tmp_path / name)
        assert data.x.dtype == np.float64
        np.testing.assert_array_equal(data.x, np.delete(values, out, axis=0))
        np.testing.assert_array_equal(data.heldout, values[out])


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        *[(dtype, np.float32) for dtype in (bool, np.int8, np.uint64, np.float16, np.float32, ">f4")],
        *[(dtype, np.float64) for dtype in (np.float64, ">f8", np.longdouble)],
    ],
)
def test_real_dtypes_become_float32_and_double_precision_stays(dtype: type | str, kept: type) -> None:
    data = from_arrays(np.eye(4).astype(dtype), heldout=np.eye(4).astype(dtype))
    assert data.x.dtype == kept
    np.testing.assert_array_equal(data.x, np.eye(4))
    assert_sound(data)


def test_no_value_is_rounded() -> None:
    tenth = np.array([[0.1], [0.7]])
    np.testing.assert_array_equal(from_arrays(tenth, heldout=tenth).x, tenth)
    for most in (2**24, -(2**24), 2**24 + 1, -(2**24) - 1):
        data = from_arrays([[0], [1]], heldout=[[most]])  # each part by its own values, then one dtype for both
        assert int(data.heldout[0, 0]) == most  # as Python numbers: numpy would compare in float32
        assert_sound(data)
    assert from_arrays([[2**24], [0]]).x.dtype == np.float32
    assert from_arrays([[True], [False]], heldout=[[0.1]]).heldout.item() == 0.1


@pytest.mark.parametrize("binarise", ["threshold", "static", "dynamic"])
def test_binary_values_do_not_depend_on_the_precision(binarise: datasets.Binarisation) -> None:
    single, double = from_arrays(GREY, binarise=binarise), from_arrays(GREY.astype(np.float64), binarise=binarise)
    np.testing.assert_array_equal(single.x, double.x)
    np.testing.assert_array_equal(single.heldout, double.heldout)
    assert_sound(double)


@pytest.mark.parametrize("binarise", datasets.BINARISATIONS)
def test_the_arguments_are_neither_changed_nor_shared(binarise: datasets.Binarisation) -> None:
    x, heldout = GREY.copy(), GREY[:2].copy()
    x.flags.writeable = heldout.flags.writeable = False
    data = from_arrays(x, heldout=heldout, binarise=binarise)
    data.x[:] = data.heldout[:] = 0
    np.testing.assert_array_equal(x, GREY)
    np.testing.assert_array_equal(heldout, GREY[:2])


def test_reading_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    real = np.load
    monkeypatch.setattr(np, "load", lambda *args, **kwargs: calls.append(kwargs["allow_pickle"]) or real(*args, **kwargs))
    np.save(tmp_path / "a.npy", GREY)
    np.savez(tmp_path / "a.npz", x=GREY)
    load(tmp_path / "a.npy")
    load(tmp_path / "a.npz")
    assert calls == [False, False]


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a five-image MNIST whose checksums the reader is made to expect."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for part, count in (("train", 5), ("t10k", 2)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        for name, data in ((f"{part}-images-idx3-ubyte", idx(images)), (f"{part}-labels-idx1-ubyte", idx(labels))):
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            monkeypatch.setitem(mnist.MD5, name, hashlib.md5(data, usedforsecurity=False).hexdigest())
    monkeypatch.delenv("PPL_DATA_DIR", raising=False)
    monkeypatch.setattr(mnist, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("the network was used"))
    return tmp_path / "data"


def test_mnist_is_read_from_a_directory_by_argument_or_environment(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("mnist", data_dir=tiny)
    assert_sound(data)
    assert data.x.shape == (5, 784)
    assert data.heldout.shape == (2, 784)
    assert data.binarisation == "dynamic"
    assert data.image_shape == (28, 28)
    packed = (tiny / "mnist" / "train-images-idx3-ubyte.gz").read_bytes()
    pixels = np.frombuffer(gzip.decompress(packed)[16:], np.uint8)
    np.testing.assert_array_equal(np.rint(data.x.ravel() * 255), pixels)
    assert data.x.max() <= 1
    assert set(np.unique(data.heldout)) == {0.0, 1.0}
    monkeypatch.setenv("PPL_DATA_DIR", str(tiny))
    np.testing.assert_array_equal(load("mnist").heldout, data.heldout)
    for path in (tiny / "mnist").iterdir():  # unpacked files serve as well
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    np.testing.assert_array_equal(load("mnist").x, data.x)


@pytest.mark.parametrize("name", list(mnist.MD5))
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda data: gzip.compress(last_byte_changed(gzip.decompress(data))), "md5"),
        (lambda data: data[:-9], "cannot be read"),
        (lambda data: b"", "md5"),
    ],
    ids=["one-byte", "truncated", "empty"],
)
def test_tampered_mnist_is_refused(tiny: Path, name: str, damage: Callable[[bytes], bytes], word: str) -> None:
    path = tiny / "mnist" / f"{name}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError) as caught:
        load("mnist", data_dir=tiny)
    assert str(path) in str(caught.value)
    assert word in str(caught.value)


@pytest.mark.parametrize("contents", [b"\x00\x00\x08", b"\x00\x00\x0d\x01\x00\x00\x00\x00", idx(np.zeros(3, np.uint8))])
def test_a_file_that_is_no_idx_of_its_kind_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch, contents: bytes) -> None:
    name = "train-images-idx3-ubyte"
    (tiny / "mnist" / f"{name}.gz").write_bytes(contents)
    monkeypatch.setitem(mnist.MD5, name, hashlib.md5(contents, usedforsecurity=False).hexdigest())
    with pytest.raises(InputError, match="mnist.* was|were expected"):
        load("mnist", data_dir=tiny)


def test_a_named_directory_without_the_files_is_refused_at_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nowhere.*t10k-labels-idx1-ubyte\.gz are not in .*does not exist"):
        load("mnist", data_dir=tiny / "nowhere")
    (tiny / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("PPL_DATA_DIR", str(tiny))
    with pytest.raises(InputError, match=r"four files but t10k-labels-idx1-ubyte\.gz is not in"):
        load("mnist")


class Response(io.BytesIO):
    """What `urlopen` returns, as far as the download uses it."""

    headers: dict[str, str] = {}


def test_mnist_is_downloaded_once_with_one_retry_and_checked(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> Response:
        assert timeout == 10
        asked.append(url.removeprefix(mnist.URL))
        data = (tiny / "mnist" / asked[-1]).read_bytes()
        return Response(data[:-20] if len(asked) == 1 else data)  # the first answer breaks off

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    data = load("mnist")
    assert asked == [f"{name}.gz" for name in (next(iter(mnist.MD5)), *mnist.MD5)]
    assert sorted(path.name for path in (mnist.CACHE / "mnist").iterdir()) == sorted(set(asked))
    np.testing.assert_array_equal(data.x, load("mnist", data_dir=tiny).x)
    load("mnist")
    assert len(asked) == 5


@pytest.mark.parametrize("answer", [urllib.error.URLError("no route to host"), b"<html>sign in</html>"])
def test_a_failed_download_says_where_the_files_belong(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, answer: Exception | bytes
) -> None:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> Response:
        asked.append(url)
        if isinstance(answer, Exception):
            raise answer
        return Response(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(InputError) as caught:
        load("mnist")
    message = str(caught.value)
    for word in (*(f"{name}.gz" for name in mnist.MD5), str(mnist.CACHE / "mnist"), "PPL_DATA_DIR", "--data-dir"):
        assert word in message
    assert ("no route to host" if isinstance(answer, Exception) else "md5") in message
    assert one_sentence(message)
    assert len(asked) == 2
    assert list((mnist.CACHE / "mnist").iterdir()) == []


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="the real MNIST is not here")
def test_the_real_mnist() -> None:
    data = load("mnist", data_dir=REAL)
    assert_sound(data)
    assert data.x.shape == (60000, 784)
    assert data.heldout.shape == (10000, 784)
    assert data.y is not None
    assert data.heldout_y is not None
    np.testing.assert_array_equal(data.y[:5], [5, 0, 4, 1, 9])
    np.testing.assert_array_equal(data.heldout_y[:5], [7, 2, 1, 0, 4])
    assert data.x.mean(dtype=np.float64) == pytest.approx(0.13066, abs=1e-5)
    assert data.heldout.mean() == pytest.approx(0.1325, abs=1e-3)
    assert data.card == (
        "mnist: the MNIST IDX files, divided by 255 into [0, 1]; 60000 training and 10000 held-out rows of 784 columns "
        "(28 x 28 pixels); held-out rows are the usual test files; binarised by a Bernoulli draw, training rows anew "
        "at each step and held-out rows once (seed 0)"
    )


# --- iris and wine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("iris", 150), ("wine", 178)])
def test_named_tables_are_split_and_scaled_as_their_cards_say(name: str, count: int) -> None:
    raw, labels = getattr(pytest.importorskip("sklearn.datasets"), f"load_{name}")(return_X_y=True)
    data = load(name)
    assert_sound(data)
    assert data.places is not None
    out = np.sort(np.random.default_rng(0).permutation(count)[: count // 5])
    np.testing.assert_array_equal(data.places[1], out)
    whole = np.empty(raw.shape)
    whole[data.places[0]], whole[data.places[1]] = data.x, data.heldout
    if name == "iris":
        np.testing.assert_array_equal(whole, raw)
        assert "in centimetres" in data.card
    else:
        np.testing.assert_allclose(whole, stats.zscore(raw, ddof=0), rtol=0, atol=1e-12)
        assert "mean and standard deviation (ddof 0) of all 178 rows" in data.card
    np.testing.assert_array_equal(data.y, np.delete(labels, out))
    np.testing.assert_array_equal(data.heldout_y, labels[out])
    assert data.num_classes == 3
    assert "not binarised" in data.card
    assert f"{count // 5} of {count} rows held out" in data.card
    with pytest.raises(InputError, match=r"in \[0, 1\] to be binarised"):
        load(name, binarise="static")


# --- JSB chorales -----------------------------------------------------------------------------------------------------

LENGTHS = {"train": [3, 1, 4], "valid": [9], "test": [2, 5]}


@pytest.fixture
def chorales(tmp_path: Path) -> Path:
    """A data directory with six random chorales, packed as the real ones are."""
    rng, parts = np.random.default_rng(5), {}
    for part, lengths in LENGTHS.items():
        parts[part] = np.packbits(rng.integers(0, 2, (sum(lengths), 88), np.uint8), axis=1)
        parts[f"{part}_lengths"] = np.array(lengths)
    (tmp_path / "jsb").mkdir()
    (tmp_path / "jsb" / "jsb_chorales.npz").write_bytes(npz(num_keys=88, **parts))
    return tmp_path


def test_chorales_are_unpacked_and_padded(chorales: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("jsb", data_dir=chorales)
    assert data.x.shape == (3, 5, 88)  # 5 steps: the longest training or test sequence, not the validation's 9
    assert data.heldout.shape == (2, 5, 88)
    assert data.x.dtype == data.heldout.dtype == np.float32
    stored = np.load(chorales / "jsb" / "jsb_chorales.npz")
    for part, rows, lengths in (("train", data.x, data.lengths), ("test", data.heldout, data.heldout_lengths)):
        assert lengths is not None
        assert lengths.dtype == np.int64
        np.testing.assert_array_equal(lengths, LENGTHS[part])
        steps = np.concatenate([row[:length] for row, length in zip(rows, lengths, strict=True)])
        np.testing.assert_array_equal(np.packbits(steps.astype(np.uint8), axis=1), stored[part])
        assert all(not row[length:].any() for row, length in zip(rows, lengths, strict=True))
    assert "3 training and 2 held-out sequences of up to 5 steps of 88 columns" in data.card
    assert data.inputs(("lengths", "x"))[0] is data.lengths
    assert data.inputs(("lengths", "x"), heldout=True)[1] is data.heldout
    monkeypatch.setenv("PPL_DATA_DIR", str(chorales))
    np.testing.assert_array_equal(load("jsb").x, data.x)


def test_absent_chorales_are_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PPL_DATA_DIR", raising=False)
    monkeypatch.setattr(mnist, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("the network was used"))
    for folder, ask in (("cache", lambda: load("jsb")), ("named", lambda: load("jsb", data_dir=tmp_path / "named"))):
        with pytest.raises(InputError) as caught:
            ask()
        message = str(caught.value)
        assert str(tmp_path / folder / "jsb" / "jsb_chorales.npz") in message
        assert "not downloaded" in message
        assert one_sentence(message), message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": None}, "'train'"),
        ({"test_lengths": None}, "'test_lengths'"),
        ({"train_lengths": [3, 1, 5]}, "add up"),
        ({"train_lengths": [3, 0, 5]}, "add up"),
        ({"train_lengths": [3.0, 1.0, 4.0]}, "add up"),
        ({"test": np.zeros((7, 10), np.uint8)}, "88 keys"),
        ({"test": np.zeros((7, 11))}, "bit-packed"),
        ({"test": np.array([object()])}, "never unpickled"),
    ],
)
def test_a_file_that_does_not_hold_chorales_is_refused(chorales: Path, change: dict, words: str) -> None:
    path = chorales / "jsb" / "jsb_chorales.npz"
    parts = {**np.load(path), **change}
    path.write_bytes(npz(**{key: value for key, value in parts.items() if value is not None}))
    with pytest.raises(InputError, match=words) as caught:
        load("jsb", data_dir=chorales)
    assert str(path) in str(caught.value)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="broken or truncated"):
        load("jsb", data_dir=chorales)


@pytest.mark.skipif(not (REAL / "jsb").is_dir(), reason="the real chorales are not here")
def test_the_real_chorales() -> None:
    data = load("jsb", data_dir=REAL)
    assert data.x.shape == (229, 160, 88)
    assert data.heldout.shape == (77, 160, 88)
    assert data.lengths is not None
    assert data.heldout_lengths is not None
    assert (data.lengths.sum(), data.heldout_lengths.sum()) == (13807, 4725)
    assert data.x.sum(2).max() == data.heldout.sum(2).max() == 4  # four voices
    keys = np.flatnonzero(np.concatenate([data.x, data.heldout]).any((0, 1)))
    assert (keys[0] + 21, keys[-1] + 21) == (43, 96)  # MIDI numbers: the known range of the set; wrong bit order shifts it


# --- labels and inputs ------------------------------------------------------------------------------------------------


def labelled(y: object, **more: object) -> Dataset:
    count = len(np.asarray(y))
    return from_arrays(np.eye(count), heldout=np.eye(count)[:2], name="some", y=y, **more)  # pyright: ignore


def test_known_labels_are_balanced_true_and_drawn_by_the_seed() -> None:
    data = load("digits")
    some = with_labels(data, 103, seed=4)
    assert data.y is not None
    assert some.labels is not None
    assert some.labels.dtype == np.int64
    known = some.labels >= 0
    np.testing.assert_array_equal(some.labels[known], data.y[known])
    assert set(some.labels[~known]) == {-1}
    assert sorted(np.bincount(some.labels[known])) == [10] * 7 + [11] * 3
    assert "; 103 of 1437 labels known (seed 4)" in some.card
    assert data.labels is None
    np.testing.assert_array_equal(with_labels(some, 103, seed=4).labels, some.labels)
    assert not np.array_equal(with_labels(data, 103, seed=5).labels, some.labels)
    np.testing.assert_array_equal(with_labels(data, len(data.y)).labels, data.y)
    ones = [with_labels(data, 11, seed).inputs(("labels",))[0] for seed in range(20)]
    gainers = {tuple(np.bincount(part[part >= 0])) for part in ones}
    assert len(gainers) > 3  # the remainder goes to random classes


def test_known_labels_fall_on_every_row_of_a_class() -> None:
    data = labelled(np.repeat([0, 1], 4))
    counts = sum(with_labels(data, 4, seed).inputs(("labels",))[0] >= 0 for seed in range(400))
    # Each row is kept with probability 1/2: within 5 standard deviations.
    assert np.abs(counts - 200).max() < 5 * np.sqrt(100)


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((5, 5, 5), 9, [[3, 3, 3]]),
        ((1, 9, 9), 9, [[1, 4, 4]]),
        ((1, 2, 9), 10, [[1, 2, 7]]),
        ((1, 9, 9), 10, [[1, 4, 5], [1, 5, 4]]),
        ((2, 2, 2), 6, [[2, 2, 2]]),
    ],
)
def test_small_classes_give_all_and_others_share_the_rest(sizes: tuple, count: int, expected: list) -> None:
    data = labelled(np.repeat([0, 1, 4], sizes))  # classes need not be consecutive
    for seed in range(5):
        (known,) = with_labels(data, count, seed).inputs(("labels",))
        assert [int((known == label).sum()) for label in (0, 1, 4)] in expected


def test_a_number_of_labels_that_cannot_be_known_is_refused() -> None:
    data = labelled([0, 1, 1, 2, -1])
    for count in (3, 4):
        assert with_labels(data, count).labels is not None
    for count in (2, 0, 5):
        with pytest.raises(InputError, match=rf"from 3, one for each class of some, to 4, all that it has, but is {count};"):
            with_labels(data, count)
    for bare in (from_arrays(GREY), labelled([-1, -1])):
        with pytest.raises(InputError, match="has none; give an .npz file with the key y"):
            with_labels(bare, 3)


def test_inputs_are_what_a_declaration_asks_for() -> None:
    data = labelled([2, 0, 1, -1], heldout_y=[1, 5])
    x, labels = data.inputs(("x", "labels"))
    assert x is data.x
    np.testing.assert_array_equal(labels, [2, 0, 1, -1])
    held_labels, held_x = data.inputs(("labels", "x"), heldout=True)
    assert held_x is data.heldout
    np.testing.assert_array_equal(held_labels, [-1, -1])  # a semi-supervised model never sees them
    assert held_labels.dtype == np.int64
    np.testing.assert_array_equal(data.inputs(("y",), heldout=True)[0], [1, 5])
    assert data.num_classes == 6
    with pytest.raises(InputError, match="training row 3 .* has -1"):
        data.inputs(("y",))
    np.testing.assert_array_equal(with_labels(data, 3).inputs(("labels",))[0], [2, 0, 1, -1])
    np.testing.assert_array_equal(replace(data, labels=np.array([-1, 0, -1, -1])).inputs(("labels",))[0], [-1, 0, -1, -1])

    bare = from_arrays(GREY, name="some")
    np.testing.assert_array_equal(bare.inputs(("labels",))[0], [-1] * 8)
    for ask, words in (
        (lambda: bare.inputs(("y",)), "training rows of some have none; give an .npz file with the key y"),
        (lambda: labelled([0, 1]).inputs(("y",), heldout=True), "held-out rows of some have none"),
        (lambda: data.inputs(("x", "lengths")), "training rows of some are not sequences"),
        (lambda: bare.num_classes, "labels were expected but some has none"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            ask()
        assert one_sentence(str(caught.value).replace(".npz", "")), str(caught.value)
    with pytest.raises(ValueError, match="'z'") as wrong:
        data.inputs(("x", "z"))
    assert not isinstance(wrong.value, InputError)  # the declaration is wrong, not the data


# --- missing entries --------------------------------------------------------------------------------------------------

HOLES = put(put(GREY, (4, 2), np.nan), (0, 0), np.nan)


def test_missing_entries_are_kept_where_allowed(tmp_path: Path) -> None:
    text = "\n".join(",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in HOLES)
    (tmp_path / "empty.csv").write_text(f",a,b\n{text}\n")
    (tmp_path / "mixed.csv").write_text(f"{text}\n".replace(",,", ", NaN ,").replace(",\n", ",NA\n"))
    np.save(tmp_path / "a.npy", HOLES)
    np.savez(tmp_path / "a.npz", x=HOLES)
    for name in ("empty.csv", "mixed.csv", "a.npy", "a.npz"):
        data = load(tmp_path / name, missing=True)
        assert data.places is not None
        np.testing.assert_array_equal(data.x, HOLES[data.places[0]])
        np.testing.assert_array_equal(data.heldout, HOLES[data.places[1]])
        assert "; 2 of 30 entries missing" in data.card
        with pytest.raises(InputError, match="missing=true"):
            load(tmp_path / name)
        data = load(tmp_path / name, heldout=tmp_path / "a.npy", missing=True)
        np.testing.assert_array_equal(data.heldout, HOLES)
    assert "missing" not in from_arrays(GREY, missing=True).card


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"x": put(HOLES, (1, 1), np.inf)}, "inf in row 1, column 1 .*; replace it or drop the row$"),
        ({"heldout": put(HOLES, (1, 1), np.inf)}, "some heldout .* inf in row 1"),
        ({"x": put(HOLES, (4, 1), 1e39)}, "1e\\+39 in row 4"),
        ({"x": np.where(np.arange(10)[:, None] == 7, np.nan, HOLES)}, "some x .* row 7 .* is entirely missing"),
        ({"heldout": [[0, 1, 2], [np.nan] * 3]}, "some heldout .* row 1 .* is entirely missing"),
        ({"x": np.where(np.arange(3) == 1, np.nan, HOLES)}, "some .* column 1 .* is entirely missing in the training rows"),
        ({"binarise": "static"}, "to be binarised but has nan in row 0, column 0"),
    ],
)
def test_what_stays_refused_among_missing_entries(more: dict, words: str) -> None:
    assert_sound(from_arrays(HOLES, heldout=HOLES, name="some", missing=True))
    with pytest.raises(InputError, match=words) as caught:
        from_arrays(**{"x": HOLES, "name": "some", "missing": True, **more})
    assert one_sentence(str(caught.value)), str(caught.value)


def test_a_column_seen_only_among_heldout_rows_is_refused() -> None:
    held = np.random.default_rng(0).permutation(10)[:2]
    holes = GREY.copy()
    holes[np.delete(np.arange(10), held), 1] = np.nan
    with pytest.raises(InputError, match="column 1 .* in the training rows"):
        from_arrays(holes, missing=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3,n/a\n", "line 2, column 2 .* 'n/a'"),
        ("1,2\n,1_000\n", "line 2, column 2 .* '1_000'"),
        ("1,2\n3,\n4\n", "line 3 .* 2 columns .* has 1"),
        (",\n1,2\n3,4\n", "row 0 .* entirely missing"),  # no header: it names nothing
    ],
)
def test_a_csv_with_gaps_is_still_checked(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        load(tmp_path / "a.csv", missing=True)


# --- data meets model -------------------------------------------------------------------------------------------------


def test_missing_entries_meet_only_models_that_take_them() -> None:
    data = from_arrays(HOLES, name="some", missing=True)
    assert data.places is not None
    takes, refuses = (SimpleNamespace(data_dim=3, likelihood=Normal(), missing=missing) for missing in (True, False))
    assert prepare(data, takes) is data
    assert prepare(data, Bound(print, print)) is data  # a user's own functions answer for themselves
    np.testing.assert_array_equal(prepare(HOLES, takes).x, data.x)
    with pytest.raises(InputError, match=r"no missing entries, but row 0, column 0 \(counting from 0\) of some is missing"):
        prepare(data, refuses)
    with pytest.raises(InputError, match="no missing entries"):
        prepare(data, SimpleNamespace(data_dim=3))
    with pytest.raises(InputError, match="nan in row 0, column 0 .* [(]--set missing=true[)]"):
        prepare(HOLES, refuses)
    for likelihood in (Bernoulli(), Categorical(2)):
        holes = np.where(np.isnan(HOLES), np.nan, HOLES > 0.5)
        prepare(holes, SimpleNamespace(data_dim=3, likelihood=likelihood, missing=True))
        with pytest.raises(InputError, match="row 3, column 1 .* is 2.5"):
            prepare(put(holes, (3, 1), 2.5), SimpleNamespace(data_dim=3, likelihood=likelihood, missing=True))


def test_sequences_meet_models_of_their_columns(chorales: Path) -> None:
    data = load("jsb", data_dir=chorales)
    model = SimpleNamespace(data_dim=88, likelihood=Bernoulli(), inputs=("x", "lengths"))
    assert prepare(data, model) is data
    with pytest.raises(InputError, match="takes plain rows, but those of jsb are sequences"):
        prepare(data, SimpleNamespace(data_dim=88, likelihood=Bernoulli()))
    with pytest.raises(InputError, match="data_dim=5 columns, but jsb has 88"):
        prepare(data, SimpleNamespace(data_dim=5))
    data.heldout[1, 4, 7] = 3
    with pytest.raises(InputError, match="held-out row 1, step 4, column 7 .* is 3"):
        prepare(data, model)


def test_the_baseline_counts_each_step_and_each_observed_entry_once(chorales: Path) -> None:
    data = load("jsb", data_dir=chorales)
    assert data.lengths is not None
    on = np.zeros(88) + 0.5
    for row, length in zip(data.x, data.lengths, strict=True):
        on += row[:length].sum(0)
    p = on / (data.lengths.sum() + 1)
    known = [stats.bernoulli(p).logpmf(row[:length]).sum() for row, length in zip(data.heldout, LENGTHS["test"], strict=True)]
    found = baseline(SimpleNamespace(likelihood=Bernoulli()), data)
    assert found is not None
    assert found.value == pytest.approx(np.mean(known), rel=1e-9)

    data = from_arrays(HOLES, heldout=HOLES[:5], missing=True)
    known = stats.norm(np.nanmean(HOLES, 0), np.nanstd(HOLES, 0)).logpdf(HOLES[:5])
    found = baseline(SimpleNamespace(), data)
    assert found is not None
    assert found.value == pytest.approx(np.nansum(known, 1).mean(), rel=1e-9)


def test_the_module_loads_no_engine_and_no_scikit_learn() -> None:
    code = (
        "import sys, ppl_models.datasets as d; d.from_arrays([[1], [2]]); "
        "print(sorted({'torch', 'pyro', 'jax', 'numpyro', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert set(datasets.NAMES) == set(datasets.DATASETS) == {"digits", "mnist", "iris", "wine", "jsb"}
