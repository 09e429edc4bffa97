"""Data from files; files that are not what they should be."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from mplinalg.nn import data

# -- comma-separated values ---------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    def write(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_csv(table):
    path = table("a,b,label\n1,2.5,0\n\n-3e2, 4 ,2\n")
    x = data.read_csv(path)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, [[1, 2.5, 0], [-300, 4, 2]])
    for target in ("label", 2, -1):
        x, y = data.read_csv(path, target=target, dtype=np.float64)
        assert (x.dtype, y.dtype) == (np.float64, np.float64)
        np.testing.assert_array_equal(x, [[1, 2.5], [-300, 4]])
        np.testing.assert_array_equal(y, [0, 2])
    x, y = data.read_csv(path, target="b")
    np.testing.assert_array_equal(x, [[1, 0], [-300, 2]])
    x, y = data.read_csv(path, target="label", classes=3)
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, [0, 2])


def test_csv_forms(table):
    expected = [[1, 2], [3, 4]]
    for text in ("1,2\r\n3,4\r\n", "\ufeff1,2\n3,4", '"1","2"\n3,4', gzip.compress(b"1,2\n3,4\n")):
        np.testing.assert_array_equal(data.read_csv(table(text)), expected)
    np.testing.assert_array_equal(data.read_csv(table("1;2\n3;4"), delimiter=";"), expected)
    np.testing.assert_array_equal(data.read_csv(table("9,8\n1,2\n3,4"), header=True), expected)
    np.testing.assert_array_equal(data.read_csv(table("7\n8\n")), [[7], [8]])
    np.testing.assert_array_equal(data.read_csv(table("1,2")), [[1, 2]])


def test_csv_keeps_all_digits(table, rng):
    numbers = rng.standard_normal((20, 3)) * 10.0 ** rng.integers(-30, 30, (20, 3))
    text = "\n".join(",".join(map(repr, row)) for row in numbers.tolist())
    np.testing.assert_array_equal(data.read_csv(table(text), dtype=np.float64), numbers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("a,b\n", "holds the names of columns and no numbers"),
        ("a,b\n1,2\n\n3,4,5\n", "line 4: 3 fields, line 1 has 2"),
        ("1,2\n3\n", "line 2: 1 fields, line 1 has 2"),
        ("a,b\n1,red\n", "line 2, column 1: 'red' is not a number; columns of text"),
        ("1,2\n1,red\n", "line 2, column 1: 'red' is not a number; columns of text"),
        ("a,1\n1,2\n", "line 1, column 0: 'a' is not a number"),
        ("1,2\n3,\n", "line 2, column 1: the field is empty"),
        ("1,2\n3,nan\n", "line 2, column 1: 'nan' is not finite"),
        ("1,2\n-inf,2\n", "line 2, column 0: '-inf' is not finite"),
        ("1,2\n1e39,2\n", "line 2, column 0: '1e39' is not finite"),
        ("1,2\n1_0,2\n", "line 2, column 0: '1_0' is not a number"),
        ("a,a\n1,2\n", "two columns have the same name"),
        ("a,b,c\n1,2\n3,4\n", "3 names for 2 columns"),
        ("table\n1,2\n", "1 names for 2 columns"),
        (b"\xff\xfe1\x002\x00", "not a text in UTF-8"),
        (b"1,2\n\x00,3\n", "NUL"),
        (gzip.compress(b"1,2\n3,4\n" * 50, mtime=0)[:-9], "cannot be unpacked"),
        ("1,2\n" + "3" * 200_000 + ",4\n", "table.csv"),
    ],
)
def test_csv_that_is_none(table, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        data.read_csv(table(text))
    assert "table.csv" in str(caught.value)


def test_csv_lines_of_nothing_but_delimiters(table):
    for text, delimiter in (("1\t2\n\t\n3\t4\n", "\t"), ("1 2\n \n3 4\n", " ")):
        with pytest.raises(ValueError, match="line 2, column 0: the field is empty"):
            data.read_csv(table(text), delimiter=delimiter)


def test_csv_lines_of_spaces_are_blank(table):
    for text in ("1,2\n   \n3,4\n", "  \na,b\n \t\n1,2\n  \n3,4\n  ", "1,2\r\n  \r\n3,4\r\n"):
        assert data.read_csv(table(text)).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="line 3, column 1: 'x' is not a number"):
        data.read_csv(table("1,2\n  \n3,x\n"))


def test_csv_options(table):
    path = table("\na,b\n1,0\n2,5\n")
    for target, message in (
        ("c", "no column 'c'; there are a, b"),
        (2, "no column 2, there are 2"),
        (-3, "target must be at least -2"),
    ):
        with pytest.raises(ValueError, match=message):
            data.read_csv(path, target=target)
    with pytest.raises(ValueError, match=r"line 4: label 5 is not one of 0, ..., 4"):
        data.read_csv(path, target="b", classes=5)
    with pytest.raises(ValueError, match=r"line 1: label 0.5 is not one of"):
        data.read_csv(table("1,0.5\n"), target=1, classes=2)
    with pytest.raises(ValueError, match="classes are of a target"):
        data.read_csv(path, classes=2)
    with pytest.raises(ValueError, match="has no names of columns, so none is 'a'"):
        data.read_csv(table("1,2\n"), target="a")
    with pytest.raises(ValueError, match="no column is left"):
        data.read_csv(table("1\n2\n"), target=0)
    with pytest.raises(ValueError, match="delimiter must be one character"):
        data.read_csv(path, delimiter="")
    with pytest.raises(ValueError, match="dtype must be of floating point"):
        data.read_csv(path, dtype=int)
    with pytest.raises(FileNotFoundError):
        data.read_csv(path.with_name("nothing.csv"))


# -- IDX ----------------------------------------------------------------------------------------


def idx(a, kind=None):
    kinds = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    kind = kinds[a.dtype.str[1:]] if kind is None else kind
    header = struct.pack(f">BBBB{a.ndim}I", 0, 0, kind, a.ndim, *a.shape)
    return header + a.astype(a.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx(dtype, pack, tmp_path, rng):
    a = (rng.standard_normal((5, 3, 2)) * 50).astype(dtype)
    path = tmp_path / "a.idx"
    path.write_bytes(pack(idx(a)))
    b = data.read_idx(path)
    assert b.dtype == a.dtype
    assert b.dtype.isnative
    np.testing.assert_array_equal(a, b)


@pytest.fixture
def mnist(tmp_path, rng):
    images = rng.integers(0, 256, (6, 28, 28)).astype(np.uint8)
    labels = np.array([0, 9, 1, 3, 3, 7], np.uint8)

    def write(images=images, labels=labels, pack=bytes):
        paths = tmp_path / "images-idx3", tmp_path / "labels-idx1"
        for path, a in zip(paths, (images, labels), strict=True):
            path.write_bytes(pack(idx(a)))
        return paths

    return images, labels, write


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_mnist(mnist, pack):
    images, labels, write = mnist
    x, y = data.mnist_idx(*write(pack=pack))
    assert (x.shape, x.dtype, y.dtype) == ((6, 1, 28, 28), np.float32, np.int64)
    np.testing.assert_array_equal(x[:, 0] * 255, images)
    np.testing.assert_array_equal(y, labels)


def test_mnist_that_is_none(mnist):
    images, labels, write = mnist
    for arguments, message in (
        ({"labels": labels[:5]}, "holds 6 images, .* 5 labels"),
        ({"labels": labels + np.uint8(1)}, "labels-idx1: label 10 of sample 1 is not one of 0"),
        ({"labels": images}, r"labels-idx1: holds uint8, shape \(6, 28, 28\)"),
        ({"images": images.astype("i4")}, r"images-idx3: holds int32, .* uint8 of 3 dim"),
        ({"images": images[:0], "labels": labels[:0]}, "holds no images"),
    ):
        with pytest.raises(ValueError, match=message):
            data.mnist_idx(*write(**arguments))
    with pytest.raises(ValueError, match=r"label 9 of sample 1 is not one of 0, ..., 8"):
        data.mnist_idx(*write(), classes=9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated, 0 bytes"),
        (b"\0\0\x08", "truncated, 3 bytes"),
        (b"\x89PNG\r\n\x1a\n", "no IDX file, it begins with 89 50 4e 47"),
        (b"\0\0\x0a\x01\0\0\0\0", "no IDX file, it begins with 00 00 0a 01"),
        (b"\0\0\x08\0", "no IDX file"),
        (b"\0\0\x08\x03\0\0\0\x01\0\0", "truncated in the sizes of its 3 dimensions"),
        (b"\0\0\x08\x01\0\0\0\x05abcd", "truncated, shape .* takes 5 bytes and 4 are there"),
        (b"\0\0\x08\x01\0\0\0\x05abcdef", "too long, .* 5 bytes and more are there"),
        (b"\0\0\x0e\x03" + b"\xff" * 12, "damaged, its shape would be"),
        (b"\0\0\x08\x03\0\0\0\0" + b"\xff" * 8, "damaged, its shape would be"),
        (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"a", "damaged, its shape would be"),
        (b"\0\0\x08\x02\0\xff\xff\xff\0\0\0\xff", "truncated"),
        (b"\x1f\x8b\x08", "cannot be unpacked"),
        (gzip.compress(idx(np.arange(999, dtype="i4")), mtime=0)[:-60], "cannot be unpacked"),
        (gzip.compress(idx(np.ones(99)), mtime=0)[:-8] + bytes(8), "cannot be unpacked"),
    ],
)
def test_idx_that_is_none(content, message, tmp_path):
    path = tmp_path / "broken.idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"broken.idx: {message}"):
        data.read_idx(path)
    with pytest.raises(FileNotFoundError):
        data.read_idx(tmp_path / "nothing")


# -- digits and images --------------------------------------------------------------------------


def test_digits_are_no_whole_numbers():
    with pytest.raises(ValueError, match="dtype must be of floating point; got int32"):
        data.digits(np.int32)


def test_digits():
    pytest.importorskip("sklearn")
    x, y = data.digits()
    assert (x.shape, x.dtype, y.dtype) == ((1797, 1, 8, 8), np.float32, np.int64)
    assert (x.min(), x.max()) == (0, 1)
    np.testing.assert_array_equal(np.unique(y), np.arange(10))


@pytest.fixture
def pictures(tmp_path, rng):
    image = pytest.importorskip("PIL.Image")
    pixels = {
        ("cat", "b.png"): rng.integers(0, 256, (5, 7, 3)).astype(np.uint8),
        ("cat", "a.png"): rng.integers(0, 256, (5, 7, 3)).astype(np.uint8),
        ("ant", "c.bmp"): rng.integers(0, 256, (5, 7, 3)).astype(np.uint8),
    }
    for (label, name), a in pixels.items():
        (tmp_path / label).mkdir(exist_ok=True)
        image.fromarray(a).save(tmp_path / label / name)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    return image, tmp_path, pixels


def test_image_folder(pictures):
    _, folder, pixels = pictures
    x, y, classes = data.image_folder(folder)
    assert classes == ["ant", "cat"]
    assert (x.shape, x.dtype, y.dtype) == ((3, 3, 5, 7), np.float32, np.int64)
    np.testing.assert_array_equal(y, [0, 1, 1])
    order = [("ant", "c.bmp"), ("cat", "a.png"), ("cat", "b.png")]
    for row, key in zip(x, order, strict=True):
        np.testing.assert_array_equal(row.transpose(1, 2, 0) * 255, pixels[key])
    assert data.image_folder(folder, mode="L").x.shape == (3, 1, 5, 7)


def test_images_of_several_sizes(pictures):
    image, folder, _ = pictures
    image.new("RGB", (4, 9)).save(folder / "cat" / "z.png")
    with pytest.raises(ValueError, match=r"z.png has 9 by 4 pixels, .*c.bmp 5 by 7: give the size"):
        data.image_folder(folder)
    x = data.image_folder(folder, size=(6, 8)).x
    assert x.shape == (4, 3, 6, 8)
    assert not x[3].any()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_images_of_more_than_8_bits_are_not_cut_off(dtype, pictures):
    image, folder, _ = pictures
    image.fromarray(np.full((5, 7), 300, dtype)).save(folder / "cat" / "deep.tiff")
    with pytest.raises(ValueError, match=r"deep.tiff: .* more than 8 bits"):
        data.image_folder(folder, mode="L")


def test_image_folders_that_are_none(pictures):
    _, folder, _ = pictures
    whole = (folder / "cat" / "a.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (folder / "cat" / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"a.png: cannot be read as an image"):
            data.image_folder(folder)
    (folder / "bee").mkdir()
    with pytest.raises(ValueError, match="bee: no images"):
        data.image_folder(folder)
    with pytest.raises(ValueError, match="has no folders, one for each class"):
        data.image_folder(folder / "bee")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        data.image_folder(folder / "nothing")
    with pytest.raises(ValueError, match="mode must be one of"):
        data.image_folder(folder, mode="CMYK")
    with pytest.raises(ValueError, match=r"size\[1\] must be at least 1"):
        data.image_folder(folder, size=(3, 0))
