"""The grammar of --sizes."""

import pytest

from mplinalg.bench.sizes import parse_sizes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("512", (512,)),
        ("512,1000,2048", (512, 1000, 2048)),
        ("512:8192:x2", (512, 1024, 2048, 4096, 8192)),
        ("512:8192", (512, 1024, 2048, 4096, 8192)),
        ("512:8191", (512, 1024, 2048, 4096)),
        ("100:1000:+300", (100, 400, 700, 1000)),
        ("7:7", (7,)),
        ("100:400:x1.5", (100, 150, 225, 338)),
        ("8, 4:16, 3", (8, 4, 16, 3)),
        ("1:4:+1", (1, 2, 3, 4)),
        ("2147483647", (2147483647,)),
        pytest.param("2:8:x" + 401 * "9", (2,), id="a factor of 401 digits"),
        pytest.param("2:8:x" + 308 * "9", (2,), id="a factor of 308 digits"),
    ],
)
def test_sizes(text, sizes):
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize(
    "text",
    ["", ",", "0", "-5", "5.5", "abc", "512:", ":512", "8:4", "1:8:x1", "1:8:x0", "1:8:+0",
     "1:8:-2", "1:8:+1.5", "1:8:2", "0:8", "1:2:x2:x2", "1e3", "512;1024", "2147483648",
     pytest.param(401 * "9", id="401 digits"), pytest.param(5001 * "9", id="5001 digits"),
     pytest.param("1:" + 401 * "9", id="a range of 401 digits"),
     pytest.param("1:8:+" + 401 * "9", id="a step of 401 digits")],
)  # fmt: skip
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="sizes"):
        parse_sizes(text)
