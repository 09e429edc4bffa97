"""workdir and resume of gemm and qr: what is whole is not made again, and nothing wrong is kept."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest

from mplinalg.tiled import LimitTooSmall, TiledMatrix, gemm, qr, store

from .test_resume import Source, Stops, quota, survives_kills

OPTIONS = {"tile": 10, "memory_limit": 12_000}


@pytest.fixture
def factors(rng):
    return rng.standard_normal((60, 50)), rng.standard_normal((50, 40))


def names(folder):
    return sorted(path.name for path in folder.glob("*.tile"))


# -- gemm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [-1.0, 0.05, 0.5, 0.7, 0.95])
def test_a_product_goes_on(factors, tmp_path, share):
    """A is read once for its checksum, in 30 tiles, and then tile by tile."""
    a, b = factors
    counted = Source(a, 10**6)
    expected = gemm(counted, b, **OPTIONS).to_array()
    reads = 30 + int(share * min(30, 10**6 - counted.left))
    with pytest.raises(Stops, match="no more"):
        gemm(Source(a, reads), b, workdir=tmp_path / "c", **OPTIONS)
    done = len(names(tmp_path / "c"))
    assert (done > 0) == (share >= 0.7) or share == 0.5
    if share >= 0:  # A was known
        with pytest.raises(ValueError, match="lacks"):
            TiledMatrix.open(tmp_path / "c")
        with pytest.raises(FileExistsError, match="resume=True"):
            gemm(a, b, workdir=tmp_path / "c", **OPTIONS)
    counted = Source(a, 10**6)
    c = gemm(counted, b, workdir=tmp_path / "c", resume=True, **OPTIONS)
    assert np.array_equal(c.to_array(), expected)
    whole = Source(a, 10**6)
    gemm(whole, b, workdir=tmp_path / "d", **OPTIONS)
    assert (counted.left > whole.left) == (done > 0)
    assert np.array_equal(TiledMatrix.open(tmp_path / "c").to_array(), expected)


def test_a_whole_product_is_not_made_again(factors, tmp_path):
    a, b = factors
    c = gemm(a, b, alpha=2.0, workdir=tmp_path, **OPTIONS).to_array()
    again, traffic = gemm(
        a, b, alpha=2.0, workdir=tmp_path, resume=True, full_output=True, **OPTIONS
    )
    assert np.array_equal(again.to_array(), c)
    assert traffic.loaded == a.nbytes + b.nbytes  # for their checksums
    assert traffic.spilled == 0


def test_another_product_is_refused(factors, tmp_path):
    a, b = factors
    gemm(a, b, workdir=tmp_path, **OPTIONS)
    other = a.copy()
    other[59, 49] *= 1 + 1e-15
    for x, y, more in (
        (other, b, {}), (a, -b, {}), (a, b, {"alpha": 2.0}), (b.T, a.T, {}), (a, b, {"tile": 9}),
        (a.astype("f"), b, {}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is of something else: "):
            gemm(x, y, workdir=tmp_path, resume=True, **OPTIONS | more)


def test_where_tiles_and_factors_stand_counts(rng, tmp_path):
    a, b = rng.standard_normal((2, 40, 40))
    gemm(a, b, workdir=tmp_path, **OPTIONS)
    exchanged = a.copy()
    exchanged[:10, :10], exchanged[20:30, 10:20] = a[20:30, 10:20], a[:10, :10]
    for x, y in ((exchanged, b), (b, a), (a, a)):
        with pytest.raises(ValueError, match="is of something else: made of"):
            gemm(x, y, workdir=tmp_path, resume=True, **OPTIONS)


def test_damaged_tiles_of_a_product(factors, tmp_path):
    a, b = factors
    c = gemm(a, b, workdir=tmp_path, **OPTIONS).to_array()
    paths = [tmp_path / name for name in names(tmp_path)]
    paths[3].write_bytes(paths[3].read_bytes()[:-1] + b"x")
    paths[7].unlink()
    with pytest.raises(OSError, match=r"altered|not there"):
        TiledMatrix.open(tmp_path).to_array()
    again, traffic = gemm(a, b, workdir=tmp_path, resume=True, full_output=True, **OPTIONS)
    assert np.array_equal(again.to_array(), c)
    assert traffic.saved == 2 * 10 * 10 * 8 + (30 + 20) * 10 * 8  # and the checksums
    assert np.array_equal(TiledMatrix.open(tmp_path).to_array(), c)


# -- qr ------------------------------------------------------------------------------------------


def is_found(folder, q, r):
    assert np.array_equal(TiledMatrix.open(folder / "Q").to_array(), q)
    assert np.array_equal(TiledMatrix.open(folder / "R").to_array(), r)
    assert not (folder / "reflectors").exists()
    return True


@pytest.mark.parametrize("reads", [0, 25, 33, 40, 47])
@pytest.mark.parametrize("mode", ["economic", "r"])
def test_qr_goes_on(rng, tmp_path, reads, mode):
    """A is read once for its checksum, in 24 tiles, and once more."""
    a = rng.standard_normal((60, 40))
    q, r = qr(a, **OPTIONS)
    with pytest.raises(Stops, match="no more"):
        qr(Source(a, reads), workdir=tmp_path, mode=mode, **OPTIONS)
    done = len(names(tmp_path / "reflectors"))
    assert (done > 0) == (reads >= 33)
    counted = Source(a, 10**6)
    found, again = qr(counted, workdir=tmp_path, resume=True, mode=mode, **OPTIONS)
    assert np.array_equal(again.to_array(), r.to_array())
    assert not (tmp_path / "reflectors").exists()
    assert (10**6 - counted.left < 48) == (done > 0)
    if mode == "economic":
        assert np.array_equal(found.to_array(), q.to_array())
        assert is_found(tmp_path, q.to_array(), r.to_array())


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_a_disk_that_is_full(rng, tmp_path, monkeypatch, share):
    """At any time: while the reflectors are written, R or Q."""
    a = rng.standard_normal((60, 40))
    with quota(monkeypatch, 10**6) as left:
        q, r = (x.to_array() for x in qr(a, workdir=tmp_path / "whole", **OPTIONS))
    exceeded = pytest.raises(OSError, match=r"[Qq]uota exceeded")
    with quota(monkeypatch, int(share * (10**6 - left[0]))), exceeded:
        qr(a, workdir=tmp_path / "work", **OPTIONS)
    qr(a, workdir=tmp_path / "work", resume=True, **OPTIONS)
    assert is_found(tmp_path / "work", q, r)


def test_a_whole_factorization_is_not_made_again(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    q, r = (x.to_array() for x in qr(a, workdir=tmp_path, **OPTIONS))
    with pytest.raises(FileExistsError, match="resume=True"):
        qr(a, workdir=tmp_path, **OPTIONS)
    _, _, traffic = qr(a, workdir=tmp_path, resume=True, full_output=True, **OPTIONS)
    assert (traffic.loaded, traffic.spilled) == (a.nbytes, 0)
    assert is_found(tmp_path, q, r)
    for path in (tmp_path / "Q" / "Q-2-1.tile", tmp_path / "R" / "R-0-3.tile"):
        path.write_bytes(path.read_bytes()[1:])
        qr(a, workdir=tmp_path, resume=True, **OPTIONS)
        assert is_found(tmp_path, q, r)
    other = a.copy()
    other[59, 39] = -other[59, 39]
    with pytest.raises(ValueError, match="is of something else: made of"):
        qr(other, workdir=tmp_path, resume=True, **OPTIONS)


def test_r_first_and_q_later(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    q, r = (x.to_array() for x in qr(a, **OPTIONS))
    qr(a, mode="r", workdir=tmp_path, **OPTIONS)
    qr(a, workdir=tmp_path, resume=True, **OPTIONS)
    assert is_found(tmp_path, q, r)


@pytest.mark.parametrize("changes", [{"tile": 8}, {"memory_limit": 10**7, "tile": None}])
def test_r_of_other_tiles_is_refused(rng, tmp_path, changes):
    """Its rows may have other signs, as they follow from the height of the blocks."""
    a = rng.standard_normal((400, 8))
    first = {"memory_limit": 100_000}
    qr(a, mode="r", workdir=tmp_path, **first)
    with pytest.raises(ValueError, match="is of something else: made of"):
        qr(a, workdir=tmp_path, resume=True, **first | changes)
    q, r = (x.to_array() for x in qr(a, workdir=tmp_path, resume=True, **first))
    assert abs(q @ r - a).max() <= 1e-13


def test_what_is_left_when_reflectors_were_being_removed(rng, tmp_path, monkeypatch):
    a = rng.standard_normal((60, 40))

    def killed(folder, title):
        for path in sorted(folder.glob("*.tile"))[3:]:
            path.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.DirectoryStore, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            qr(a, workdir=tmp_path, **OPTIONS)
    assert len(names(tmp_path / "reflectors")) == 3
    q, r = (x.to_array() for x in qr(a, **OPTIONS))
    qr(a, workdir=tmp_path, resume=True, **OPTIONS)
    assert is_found(tmp_path, q, r)


def test_a_folder_of_that_name_which_is_another_one_stays(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    qr(a, workdir=tmp_path, **OPTIONS)
    c = gemm(a, a.T, workdir=tmp_path / "reflectors", **OPTIONS).to_array()
    qr(a, workdir=tmp_path, resume=True, **OPTIONS)
    assert np.array_equal(TiledMatrix.open(tmp_path / "reflectors").to_array(), c)


def test_reflectors_alone_are_an_earlier_run(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    with pytest.raises(Stops):
        qr(Source(a, 40), workdir=tmp_path, **OPTIONS)
    for letter in "QR":
        (tmp_path / letter / "journal.jsonl").unlink()
    with pytest.raises(FileExistsError, match=r"reflectors.*resume=True"):
        qr(a, workdir=tmp_path, **OPTIONS)


def test_a_run_leaves_nothing_but_its_results(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    qr(a, workdir=tmp_path / "qr", **OPTIONS)
    gemm(a, a.T, workdir=tmp_path / "c", **OPTIONS)
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds == {".tile", ".jsonl", ".lock"}


def test_tiles_that_are_whole_are_not_written_again(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    q, r = (x.to_array() for x in qr(a, workdir=tmp_path, **OPTIONS))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tile")}
    lost = [tmp_path / "Q" / "Q-2-1.tile", tmp_path / "R" / "R-0-3.tile"]
    for path in lost:
        path.unlink()
    qr(a, workdir=tmp_path, resume=True, **OPTIONS)
    assert is_found(tmp_path, q, r)
    again = {path for path, when in kept.items() if path.stat().st_mtime_ns != when}
    # reflectors change a block column of Q from its top to its bottom
    assert again == {lost[1], *(tmp_path / "Q").glob("Q-*-1.tile")}


def test_an_altered_journal_is_noticed(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    q, r = (x.to_array() for x in qr(a, workdir=tmp_path, **OPTIONS))
    journal = tmp_path / "Q" / "journal.jsonl"
    text = journal.read_text()
    for old, new in (('["Q", 2, 1]', '["Q", 9, 9]'), ('["Q", 2, 1]', '["Q", 2, 2]')):
        assert old in text
        journal.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match="lacks 1 tiles"):
            TiledMatrix.open(tmp_path / "Q")
        qr(a, workdir=tmp_path, resume=True, **OPTIONS)
        assert is_found(tmp_path, q, r)


def test_reflectors_are_kept_for_a_q_that_is_wanted(rng, tmp_path):
    """A run for R alone does not take them from one for both that was interrupted."""
    a = rng.standard_normal((60, 40))
    q, r = (x.to_array() for x in qr(a, **OPTIONS))
    with pytest.raises(Stops):
        qr(Source(a, 40), workdir=tmp_path, **OPTIONS)
    qr(a, mode="r", workdir=tmp_path, resume=True, **OPTIONS)
    assert (tmp_path / "reflectors").exists()
    qr(a, workdir=tmp_path, resume=True, **OPTIONS)
    assert is_found(tmp_path, q, r)


def test_a_matrix_with_nan_leaves_nothing(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    a[50, 30] = np.nan
    with pytest.raises(ValueError, match="infs or NaNs"):
        qr(a, workdir=tmp_path, **OPTIONS)
    a[50, 30] = 0
    q, r = (x.to_array() for x in qr(a, workdir=tmp_path, **OPTIONS))
    assert is_found(tmp_path, q, r)


@pytest.mark.parametrize("function", [lambda a, **o: gemm(a, a.T, **o), qr])
def test_refusals_come_before_anything_is_read(rng, tmp_path, function):
    class Unread(Source):
        def __init__(self, a):
            super().__init__(a, 0)

        @property
        def T(self):
            return Unread(self.a.T)

    a = rng.standard_normal((60, 40))
    function(a, workdir=tmp_path / "x", **OPTIONS)
    with pytest.raises(FileExistsError, match="resume=True"):
        function(Unread(a), workdir=tmp_path / "x", **OPTIONS)
    for limit in range(1000, 12_000, 500):
        try:
            function(a, tile=10, memory_limit=limit)
        except LimitTooSmall:
            with pytest.raises(LimitTooSmall):
                function(Unread(a), tile=10, memory_limit=limit, workdir=tmp_path / "y")
            assert not (tmp_path / "y" / "journal.jsonl").exists()


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64", "complex128"])
@pytest.mark.parametrize("function", [lambda a, **o: gemm(a, a.T, **o), qr])
def test_what_fits_without_a_directory_fits_with_one(rng, tmp_path, function, dtype):
    """Tiles that are chosen leave room for checksums."""
    a = rng.standard_normal((120, 120)).astype(dtype)
    for number, limit in enumerate(range(20_000, 200_000, 20_000)):
        function(a, memory_limit=limit)
        function(a, memory_limit=limit, workdir=tmp_path / str(number))


SHAPES = [(1, 300), (300, 1), (40, 300), (300, 40), (50, 50), (1, 1)]


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64", "complex128"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [lambda a, **o: gemm(a, a.a.T, **o), qr])
def test_the_figure_of_a_refusal_does(rng, tmp_path, function, shape, dtype):
    """Nothing is read before a refusal, which names the least that is enough."""
    source = Source(rng.standard_normal(shape).astype(dtype), 10**6)
    with pytest.raises(LimitTooSmall) as info:
        function(source, tile=50, memory_limit=1, workdir=tmp_path / "x")
    least = info.value.needed
    with pytest.raises(LimitTooSmall):
        function(source, tile=50, memory_limit=least - 1, workdir=tmp_path / "x")
    assert source.left == 10**6
    assert not (tmp_path / "x").exists()
    function(source, tile=50, memory_limit=least, workdir=tmp_path / "x")
    function(source, tile=50, memory_limit=least)  # and without a directory


@pytest.mark.parametrize("function", [lambda a, **o: gemm(a, a.a.T, **o), qr])
def test_a_directory_that_cannot_be_had_is_told_at_once(rng, tmp_path, function):
    unread = Source(rng.standard_normal((60, 40)), 0)
    (tmp_path / "f").write_text("mine")
    with pytest.raises(NotADirectoryError, match="this is no directory"):
        function(unread, workdir=tmp_path / "f", **OPTIONS)
    (tmp_path / "d").mkdir()
    held = store.DirectoryLock(tmp_path / "d")
    with pytest.raises(BlockingIOError, match="in use by"):
        function(unread, workdir=tmp_path / "d", **OPTIONS)
    held.release()


def test_one_at_a_time(rng, tmp_path):
    a = rng.standard_normal((60, 40))
    qr(a, workdir=tmp_path, **OPTIONS)
    held = store.DirectoryLock(tmp_path)
    with pytest.raises(BlockingIOError, match="in use by"):
        qr(a, workdir=tmp_path, resume=True, **OPTIONS)
    held.release()
    for folder in (tmp_path, tmp_path / "Q", tmp_path / "R"):
        store.DirectoryLock(folder).release()


@pytest.mark.parametrize("function", [lambda a, **o: gemm(a, a, **o), qr])
def test_nothing_to_go_on_with(function):
    with pytest.raises(ValueError, match="needs the workdir"):
        function(np.eye(3), resume=True)


SCRIPT = """
    import sys, numpy as np
    from mplinalg.tiled import gemm, qr

    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((300, 200)), rng.standard_normal((200, 300))
    gemm(a, b, tile=20, memory_limit=60_000, workdir=sys.argv[1] + "/C", resume=True)
    qr(a, tile=20, memory_limit=100_000, workdir=sys.argv[1] + "/QR", resume=True)
    print("done", flush=True)
"""


@pytest.mark.slow
def test_kills(tmp_path, rng):
    """At random moments; then it goes on to the same bits."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script)]
    survives_kills([*command, str(tmp_path / "plain")], [*command, str(tmp_path / "work")], rng)
    for name in ("C", "QR/Q", "QR/R"):
        found, expected = (TiledMatrix.open(tmp_path / x / name) for x in ("work", "plain"))
        assert np.array_equal(found.to_array(), expected.to_array())
    assert not (tmp_path / "work" / "QR" / "reflectors").exists()
