"""Matrices in files: what is written is read, and what is wrong is said."""

import io
import os
import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from mplinalg.bench import matrix_market
from mplinalg.bench.files import check_target, read_array, write_array

SUFFIXES = [".npy", ".npz", ".mtx", ".csv"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["f8", "c16", "f4", "c8", "f2", ">f8", "i8", "i1", "u8", "?"])
@pytest.mark.parametrize("shape", [(3, 4), (5,), (1, 1)])
def test_round_trip(tmp_path, rng, suffix, dtype, shape):
    x = np.abs(50 * rng.standard_normal(shape)) + 1
    x = (x + (1j * rng.standard_normal(shape) if "c" in dtype else 0)).astype(dtype)
    write_array(tmp_path / f"x{suffix}", x)
    y = read_array(tmp_path / f"x{suffix}")
    if suffix in (".npy", ".npz"):
        assert (y.dtype, y.shape) == (x.dtype.newbyteorder("="), x.shape)
    else:
        assert y.shape == (shape if len(shape) == 2 else (5, 1))
    np.testing.assert_array_equal(y.reshape(shape), x)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_of_special_numbers(tmp_path, suffix):
    x = np.array([[np.nan, np.inf, -np.inf], [-0.0, 5e-324, 1.7976931348623157e308]])
    write_array(tmp_path / f"x{suffix}", x)
    y = read_array(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(np.signbit(y[1]), np.signbit(x[1]))


def test_batches_and_column_order_in_npy(tmp_path, rng):
    x = np.asfortranarray(rng.standard_normal((2, 3, 4)))
    write_array(tmp_path / "x.npy", x)
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy"), x)


def test_npz_with_several_arrays_wants_a_name(tmp_path):
    np.savez(tmp_path / "two.npz", A=np.eye(2), b=np.ones(2))
    assert read_array(f"{tmp_path}/two.npz:b").shape == (2,)
    with pytest.raises(ValueError, match=r"two\.npz: holds 2 arrays \(A, b\); choose .* two.npz:A"):
        read_array(tmp_path / "two.npz")
    with pytest.raises(ValueError, match=r"holds no array 'c', only A, b"):
        read_array(f"{tmp_path}/two.npz:c")


def test_compressed_npz(tmp_path):
    np.savez_compressed(tmp_path / "one.npz", whatever=np.eye(30))
    np.testing.assert_array_equal(read_array(tmp_path / "one.npz"), np.eye(30))


def test_csv_as_people_write_it(tmp_path):
    (tmp_path / "x.csv").write_text("\ufeff# a comment\n1, 2e3\n\n 3 - 4i,1+2J # more\n")
    np.testing.assert_array_equal(read_array(tmp_path / "x.csv"), [[1, 2000], [3 - 4j, 1 + 2j]])


# -- Matrix Market, against SciPy's writer -------------------------------------------------------


KINDS = [
    *[(field, kind) for field in ("real", "complex") for kind in ("general", "symmetric")],
    *[("real", "skew-symmetric"), ("complex", "skew-symmetric"), ("complex", "hermitian")],
]


@pytest.mark.parametrize("layout", ["array", "coordinate"])
@pytest.mark.parametrize(("field", "symmetry"), KINDS)
def test_matrix_market_of_every_kind(tmp_path, rng, layout, field, symmetry):
    x = rng.standard_normal((7, 7))
    if field == "complex":
        x = x + 1j * rng.standard_normal((7, 7))
    x = {
        "general": x,
        "symmetric": x + x.T,
        "skew-symmetric": x - x.T,
        "hermitian": x + x.conj().T,
    }[symmetry]
    if layout == "coordinate":
        x = np.where(np.abs(x) > 0.8, x, 0)
    source = scipy.sparse.coo_array(x) if layout == "coordinate" else x
    scipy.io.mmwrite(tmp_path / "x.mtx", source, symmetry=symmetry, precision=17)
    np.testing.assert_array_equal(read_array(tmp_path / "x.mtx"), x)


def test_matrix_market_is_read_by_scipy(tmp_path, rng):
    x = rng.standard_normal((4, 3)) + 1j * rng.standard_normal((4, 3))
    write_array(tmp_path / "x.mtx", x)
    np.testing.assert_array_equal(scipy.io.mmread(tmp_path / "x.mtx"), x)


def test_matrix_market_pattern_and_repeated_entries(tmp_path):
    banner = "%%MatrixMarket matrix coordinate"
    (tmp_path / "p.mtx").write_text(f"{banner} pattern symmetric\n% c\n\n2 2 2\n1 1\n2 1\n")
    np.testing.assert_array_equal(read_array(tmp_path / "p.mtx"), [[1, 1], [1, 0]])
    (tmp_path / "r.mtx").write_text(f"{banner} integer general\n2 2 2\n1 2 3\n1 2 4\n")
    np.testing.assert_array_equal(read_array(tmp_path / "r.mtx"), [[0, 7], [0, 0]])


def test_large_sparse_matrices_are_refused_without_making_them_dense(tmp_path):
    text = "%%MatrixMarket matrix coordinate real general\n100000 100000 1\n1 1 1.0\n"
    (tmp_path / "x.mtx").write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"100000 x 100000 with 1 entries .* 74\.5 GiB"):
            read_array(tmp_path / "x.mtx")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_the_limit_on_sparse_matrices_counts_bytes(tmp_path, monkeypatch):
    text = "%%MatrixMarket matrix coordinate real general\n4 4 1\n1 1 1.0\n"
    (tmp_path / "x.mtx").write_text(text)
    monkeypatch.setattr(matrix_market, "DENSE_LIMIT", 127)
    with pytest.raises(ValueError, match="use a sparse solver"):
        read_array(tmp_path / "x.mtx")
    monkeypatch.setattr(matrix_market, "DENSE_LIMIT", 128)
    assert read_array(tmp_path / "x.mtx").shape == (4, 4)


# -- bad files -----------------------------------------------------------------------------------


class Bomb:
    """Unpickling this leaves a trace."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def npy(x):
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, x, allow_pickle=True)
    return stream.getvalue()


EYE = npy(np.eye(10))
MTX = b"%%MatrixMarket matrix "
BAD = {
    "empty.npy": (b"", "the file is empty"),
    "empty.csv": (b"", "the file is empty"),
    "text.npy": (b"1 2\n3 4\n", "cannot be read as .npy"),
    "pickle.npy": (pickle.dumps(Bomb()), "cannot be read as .npy"),
    "object.npy": (npy(np.array([Bomb(), None])), "Python objects"),
    "header.npy": (EYE[:50], "cannot be read as .npy"),
    "short.npy": (EYE[:-8], r"truncated: shape \(10, 10\) .* 800 bytes and 792 are there"),
    "strings.npy": (npy(np.array(["a"])), "holds dtype <U1, not numbers"),
    "record.npy": (npy(np.zeros(2, dtype=[("p", "f8")])), "not numbers"),
    "nothing.npy": (npy(np.zeros((0, 3))), r"holds no numbers \(shape \(0, 3\)\)"),
    "scalar.npy": (npy(np.float64(3)), "a single number"),
    "text.npz": (b"hello", "cannot be read as .npz"),
    "words.csv": (b"1,2\n3,four\n", "line 2: 'four' is not a number"),
    "gap.csv": (b"1,,2\n", "line 1: '' is not a number"),
    "ragged.csv": (b"1,2\n# c\n3\n", "ragged: line 3 has 1 numbers, the first row has 2"),
    "comments.csv": (b"# nothing\n\n", "holds no numbers"),
    "binary.csv": (b"\xff\xfe\x00", "cannot be read as .csv"),
    "banner.mtx": (b"hello\n1 1\n1\n", "not that of a Matrix Market file"),
    "kind.mtx": (MTX + b"array pattern general\n1 1\n", "array pattern general"),
    "sizes.mtx": (MTX + b"array real general\n2\n1\n", "expected a line of 2 sizes"),
    "negative.mtx": (MTX + b"array real general\n-1 2\n1\n", "expected a line of 2 sizes"),
    "nosizes.mtx": (MTX + b"array real general\n", "expected a line of 2 sizes"),
    "short.mtx": (MTX + b"array real general\n2 2\n1\n2\n3\n", "truncated: 3 of 4 entries"),
    "long.mtx": (MTX + b"array real general\n1 2\n1\n2\n3\n", "more than the 2 entries"),
    "huge.mtx": (MTX + b"array real general\n1000000 1000000\n1\n", "truncated"),
    "sparse.mtx": (MTX + b"coordinate real general\n2 2 2\n1 1 1\n", "truncated: 1 of 2 entries"),
    "index.mtx": (
        MTX + b"coordinate real general\n2 2 1\n1 3 1\n",
        "column 3 is not within",
    ),
    "fraction.mtx": (MTX + b"coordinate real general\n2 2 1\n1.5 1 1\n", "row 1.5 is not within"),
    "oblong.mtx": (MTX + b"array real symmetric\n1 2\n1\n1\n", "not square"),
    "diagonal.mtx": (
        MTX + b"array complex hermitian\n2 2\n1 0\n1 1\n3 -4\n",
        r"hermitian, yet entry \(2, 2\) is \(3-4j\), not real",
    ),
    "sparse-diagonal.mtx": (
        MTX + b"coordinate complex hermitian\n2 2 1\n1 1 0 2\n",
        r"hermitian, yet entry \(1, 1\) is 2j, not real",
    ),
    "skew.mtx": (
        MTX + b"coordinate real skew-symmetric\n2 2 1\n2 2 5\n",
        r"skew-symmetric, yet entry \(2, 2\) is 5.0, not 0",
    ),
    "zero.mtx": (MTX + b"array real general\n0 0\n", "holds no numbers"),
    "word.mtx": (MTX + b"array real general\n1 1\none\n", "'one'"),
    "x.txt": (b"1", "unknown extension '.txt'; known are .npy .npz .mtx .csv"),
    "x": (b"1", "no extension"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_what_is_wrong(tmp_path, monkeypatch, name):
    content, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_array(name)
    assert str(caught.value).startswith(f"{name}: ")
    assert os.listdir(tmp_path) == [name]  # no unpickling took place


def test_a_header_that_promises_too_much_allocates_nothing(tmp_path):
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000, 10), }"
    body = text.ljust(117).encode() + b"\n"
    (tmp_path / "x.npy").write_bytes(EYE[:8] + len(body).to_bytes(2, "little") + body)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="takes 8000000000 bytes and 0 are there"):
            read_array(tmp_path / "x.npy")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_damaged_archives(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.arange(1000.0))
    good = (tmp_path / "x.npz").read_bytes()
    for damaged in (good[:-30], good[:60] + bytes(40) + good[100:]):
        (tmp_path / "x.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x\.npz: cannot be read as \.npz"):
            read_array(tmp_path / "x.npz")


def test_an_archive_of_nothing(tmp_path):
    np.savez(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="holds no arrays"):
        read_array(tmp_path / "x.npz")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ValueError, match=r"x\.npy: no such file"):
        read_array(tmp_path / "x.npy")
    (tmp_path / "x.npy").mkdir()
    with pytest.raises(ValueError, match=r"x\.npy: not a regular file"):
        read_array(tmp_path / "x.npy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission(tmp_path):
    write_array(tmp_path / "x.npy", np.eye(2))
    (tmp_path / "x.npy").chmod(0)
    with pytest.raises(ValueError, match="no permission"):
        read_array(tmp_path / "x.npy")


# -- what cannot be written ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_files_are_kept_unless_forced(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    write_array(path, np.eye(2))
    with pytest.raises(ValueError, match="exists already"):
        write_array(path, np.ones((2, 2)))
    np.testing.assert_array_equal(read_array(path), np.eye(2))
    write_array(path, np.ones((2, 2)), force=True)
    np.testing.assert_array_equal(read_array(path), np.ones((2, 2)))
    assert os.listdir(tmp_path) == [path.name]


def test_arrays_that_no_file_holds(tmp_path):
    with pytest.raises(ValueError, match=r"x\.npy: cannot be written: the array .* object"):
        write_array(tmp_path / "x.npy", np.array([None]))
    with pytest.raises(ValueError, match="cannot hold 3 dimensions"):
        write_array(tmp_path / "x.csv", np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="unknown extension"):
        check_target(tmp_path / "x.dat")
    assert os.listdir(tmp_path) == []
