"""Pictures: the PNG encoder against an independent decoder, the field against the series."""

import io
import struct
import zlib

import numpy as np
import pytest

from mplinalg.bench import picture
from mplinalg.bench.png import colours, encode_png
from mplinalg.testing import boundary_elements as be


def decode_png(data):
    """Pixels of an 8-bit true-colour PNG whose rows have the filters 0 or 2."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(kind + body)
        chunks.append((kind, body))
        at += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, colour, rest) == (8, 2, [0, 0, 0])
    raw = zlib.decompress(chunks[1][1])
    lines = np.frombuffer(raw, np.uint8).reshape(height, 1 + 3 * width)
    image = lines[:, 1:].copy()
    for y in range(1, height):
        if lines[y, 0] == 2:
            image[y] += image[y - 1]
        else:
            assert lines[y, 0] == 0
    return image.reshape(height, width, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (13, 29)])
def test_png_round_trip(rng, shape):
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_png(encode_png(image)), image)


def test_png_is_read_by_matplotlib(rng):
    read = pytest.importorskip("matplotlib.image").imread
    image = rng.integers(0, 256, (13, 29, 3), dtype=np.uint8)
    shown = read(io.BytesIO(encode_png(image)), format="png")
    np.testing.assert_array_equal(np.rint(255 * shown), image)


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 4), (0, 3, 3)])
def test_png_wants_colours(shape):
    with pytest.raises(ValueError, match="uint8"):
        encode_png(np.zeros(shape, np.uint8))


def test_colours_get_lighter_and_mark_nan():
    rgb = colours(np.linspace(0, 2, 50), 0, 2).astype(float)
    lightness = rgb @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(lightness) > 0)
    np.testing.assert_array_equal(colours(np.array([-1.0, 9.0]), 0, 2), rgb[[0, -1]])
    assert colours(np.array(np.nan), 0, 2).tolist() == [150, 150, 150]


@pytest.mark.parametrize(("n", "wavenumber"), [(120, 2.0), (400, 40.0)])
def test_total_field_agrees_with_the_series(n, wavenumber):
    curve = be.circle(n)
    a = be.combined_field_matrix(curve, wavenumber)
    density = np.linalg.solve(a, be.plane_wave_rhs(curve, wavenumber))
    pixels = 250
    u = picture.total_field(density, wavenumber, half_width=2.0, pixels=pixels)
    centres = np.linspace(-2, 2, 2 * pixels + 1)[1::2]
    x, y = np.meshgrid(centres, centres[::-1])
    outside = np.hypot(x, y) >= 1
    np.testing.assert_array_equal(np.isnan(u), ~outside)
    points = np.stack([x, y], axis=-1)[outside]
    exact = be.cylinder_series(wavenumber).scattered_field(points)
    exact += be.plane_wave(points, wavenumber)
    assert np.sqrt(np.mean(np.abs(u[outside] - exact) ** 2)) < 0.005


@pytest.mark.parametrize("installed", [True, False])
def test_draw_with_and_without_matplotlib(monkeypatch, installed):
    if installed:
        pytest.importorskip("matplotlib")
    else:
        monkeypatch.setattr(picture, "have_matplotlib", lambda: False)
    n, wavenumber = 100, 2.0
    curve = be.circle(n)
    a = be.combined_field_matrix(curve, wavenumber)
    density = np.linalg.solve(a, be.plane_wave_rhs(curve, wavenumber))
    angles = np.linspace(-np.pi, np.pi, 50)
    far = be.far_field(density, curve, wavenumber, angles)
    stream = io.BytesIO()
    picture.draw(
        stream, density, wavenumber, picture.FarField(angles, far, {"one": far}), "a title"
    )
    data = stream.getvalue()
    width, height = struct.unpack(">II", data[16:24])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    if installed:
        assert width > height > 600
    else:
        image = decode_png(data)
        assert image.shape == (picture.PIXELS, picture.PIXELS, 3)
        assert image[450, 450].tolist() == [150, 150, 150]  # the cylinder
        assert image[450, 700].sum() < image[450, 150].sum()  # its shadow, on the right
