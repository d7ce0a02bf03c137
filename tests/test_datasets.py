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
from pathlib import Path

import numpy as np
import pytest

from ppl_models import datasets, mnist
from ppl_models.datasets import Dataset, from_arrays, load
from ppl_models.errors import InputError

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
    ("nan", "a.npy", npy(put(GREY, (4, 2), np.nan)), npy(put(GREY, (4, 2), 9)), ("nan in row 4, column 2",)),
    ("inf", "a.npz", npz(x=put(GREY, (9, 0), -np.inf)), npz(x=put(GREY, (9, 0), -9)), ("-inf in row 9, column 0",)),
    ("float32", "a.npy", npy(put(GREY, (3, 1), -1e39)), npy(put(GREY, (3, 1), -3e38)), ("-1e+39 in row 3, column 1",)),
    ("csv-text", "a.csv", b"1,2\n3,abc\n", b"1,2\n3,4\n", ("line 2, column 2", "'abc'")),
    ("csv-text-late", "a.csv", b"a,b\n\n1,2\n3,4\n5,x\n", b"a,b\n\n1,2\n3,4\n5,6\n", ("line 5, column 2", "'x'")),
    ("csv-half-header", "a.csv", b"a,2\n1,2\n3,4\n", b"a,b\n1,2\n3,4\n", ("line 1, column 1", "'a'")),
    ("csv-gap", "a.csv", b"1,2\n3,\n", b"1,2\n3,0\n", ("line 2, column 2", "''")),
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
    assert data.x.dtype == data.heldout.dtype == np.float32
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
        np.testing.assert_array_equal(data.x, np.delete(values, out, axis=0).astype(np.float32))
        np.testing.assert_array_equal(data.heldout, values[out].astype(np.float32))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.float64, ">f8"])
def test_real_dtypes_become_float32(dtype: type | str) -> None:
    data = from_arrays(np.eye(4).astype(dtype), heldout=np.eye(4).astype(dtype))
    np.testing.assert_array_equal(data.x, np.eye(4, dtype=np.float32))
    assert_sound(data)


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


def test_the_module_loads_no_engine_and_no_scikit_learn() -> None:
    code = (
        "import sys, ppl_models.datasets as d; d.from_arrays([[1], [2]]); "
        "print(sorted({'torch', 'pyro', 'jax', 'numpyro', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert set(datasets.NAMES) == set(datasets.DATASETS) == {"digits", "mnist"}
