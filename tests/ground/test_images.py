"""Pictures that people have come in; what is none is refused with its reason."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ifrp_bench.ground import images
from ifrp_bench.ground.images import (
    FORMATS, PictureError, decode_picture, read_picture, to_faces, to_pictures,
)

# (64, 48, 3)
GRADIENT = np.stack(np.broadcast_arrays(np.arange(64)[:, None] * 4, np.arange(48)[None] * 5, 90), -1).astype(
    np.uint8
)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nearly nothing."""
    def chunk(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT" + zlib.compress(b"\0" * 64))
    )


def test_rgb_comes_in_unchanged():
    assert np.array_equal(decode_picture(encoded(Image.fromarray(GRADIENT))), GRADIENT)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = (np.arange(32 * 32, dtype=np.uint16) * 64).reshape(32, 32)
    picture = decode_picture(encoded(Image.fromarray(grey)))
    assert picture.shape == (32, 32, 3)
    assert np.abs(picture[..., 0].astype(float) - grey / 257).max() <= 0.51


def test_cmyk_palette_and_transparent_pictures_keep_their_colours():
    rgb = Image.fromarray(GRADIENT)
    cmyk = decode_picture(encoded(rgb.convert("CMYK"), "JPEG", quality=98))
    assert np.abs(cmyk.astype(int) - GRADIENT).mean() < 4
    palette = decode_picture(encoded(rgb.convert("P", palette=Image.Palette.ADAPTIVE)))
    assert np.abs(palette.astype(int) - GRADIENT).mean() < 8
    clear = rgb.convert("RGBA")
    clear.putalpha(0)
    assert (decode_picture(encoded(clear)) == 255).all()   # nothing over white


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind in ("JPEG", "WEBP", "AVIF")])
def test_what_the_web_gives_is_read(kind):
    picture = decode_picture(encoded(Image.fromarray(GRADIENT), kind, quality=98))
    assert picture.shape == GRADIENT.shape and np.abs(picture.astype(int) - GRADIENT).mean() < 4


def test_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    picture = decode_picture(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert tuple(picture[5, 5]) == (255, 0, 0)


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6   # turn a quarter clockwise
    picture = decode_picture(encoded(Image.fromarray(GRADIENT), exif=exif))
    assert np.array_equal(picture, np.rot90(GRADIENT, -1))


@pytest.mark.parametrize(
    "data, reason",
    [
        (encoded(Image.fromarray(GRADIENT), "JPEG")[:400], "broken picture"),
        (
            encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)))[
                :-4000
            ],
            "broken picture",
        ),
        (encoded(Image.new("RGB", (1, 1))), "1x1"),
        (png_header(60_000, 60_000), "limit of 64 megapixels"),
        (png_header(9_000, 9_000), "limit of 64 megapixels"),
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"GIF89a", "picture"),
        (b"\xff\xd8\xff", "picture"),
        (b"just text", "not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC, which is not read: save it as PNG or JPEG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL, which"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000, which"),
        (b"%PDF-1.7", "PDF, which"),
        (b'<?xml version="1.0"?>\n<svg width="9">', "SVG, which"),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "web page"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(data, reason):
    with pytest.raises(PictureError, match=reason):
        decode_picture(data)


@pytest.mark.parametrize(
    "formats, reason",
    [(["PNG"], "AVIF, which is not read"), (["PNG", "AVIF"], "broken picture: AVIF that cannot be opened")],
)
def test_avif_is_refused_by_what_pillow_reads(monkeypatch, formats, reason):
    if formats[-1] not in FORMATS:
        pytest.skip("this Pillow does not read AVIF")
    monkeypatch.setattr(images, "FORMATS", formats)
    with pytest.raises(PictureError, match=reason):
        decode_picture(b"\0\0\0\x1cftypavif\0\0\0\0")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for path, reason in (
        (empty, "empty"),
        (tmp_path, "not a regular file"),
        (tmp_path / "missing.jpg", "not a regular file"),
    ):
        with pytest.raises(PictureError, match=reason):
            read_picture(path)


def test_every_truncation_of_a_picture_is_refused_or_whole():
    data = encoded(Image.fromarray(GRADIENT), "JPEG")
    for length in range(0, len(data), 7):
        try:
            assert decode_picture(data[:length]).shape == GRADIENT.shape
        except PictureError as error:
            assert str(error)


def test_faces_and_pictures_are_each_others_inverse():
    pictures = np.random.default_rng(1).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    faces = to_faces(pictures)
    assert faces.shape == (2, 3, 8, 6) and faces.dtype == torch.float32 and faces.max() <= 1
    assert np.array_equal(to_pictures(faces), pictures)


def test_faces_out_of_range_are_clamped():
    assert to_pictures(torch.tensor([-0.2, 0.5, 1.7]).view(1, 3, 1, 1)).tolist() == [[[[0, 128, 255]]]]
