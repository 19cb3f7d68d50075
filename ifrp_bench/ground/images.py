"""The border between pictures on disk and arrays: decoding what people have, and uint8 (N, H, W, 3) <->
float32 (N, 3, H, W).

Every picture that enters comes through ``decode_picture``: its size is capped before decoding, it is decoded
to the last row, turned as its EXIF says and converted to 8-bit RGB. Where faces are in it is the sources'
business.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, features

from ifrp_bench.ground.errors import InputError

if TYPE_CHECKING:
    import torch

SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
}
# no format that runs another program (EPS, PDF)
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"]
if features.check("avif"):   # from Pillow 11.3 on, in its wheels
    FORMATS.append("AVIF")
# how files of other formats begin, for whoever has one
OTHER_FORMATS = {
    r"....ftyp(heic|heix|heim|hevc|mif1|msf1)": "HEIC",
    r"....ftypavi[fs]": "AVIF",
    r"\xff\x0a|....JXL ": "JPEG XL",
    r"....jP  |\xff\x4f\xff\x51": "JPEG 2000",
    r"8BPS": "Photoshop",
    r"%PDF": "PDF",
    r"(<\?xml.*)?<svg": "SVG",
}
MAX_PIXELS = 64_000_000   # a 50-megapixel phone fits; below the size at which Pillow itself warns
MAX_BYTES = 256 * 2**20
MIN_SIDE_PX = 16


class PictureError(InputError):
    """A file that cannot be used as a picture; the text is the reason, without the file's name."""


def read_picture(path: Path) -> np.ndarray:
    """The picture in a file as uint8 (H, W, 3) RGB. Raises PictureError with the reason."""
    return decode_picture(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises PictureError if it cannot be read, is no file, is empty or is over 256 MiB.
    """
    try:
        if path.is_dir() and path.is_symlink():
            raise PictureError("a linked folder is not followed: copy it, or name it itself")
        if not path.is_file():
            raise PictureError("not a regular file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PictureError(f"{size / 2**20:.0f} MiB, more than the limit of {MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from None
    if not data:
        raise PictureError("empty file")
    return data


def decode_picture(data: bytes) -> np.ndarray:
    """Encoded bytes to uint8 (H, W, 3) RGB: first frame, EXIF rotation applied, transparency over white, 16
    bits scaled to 8.

    Raises PictureError for anything that is no complete picture of at least 16 px a side and at most 64
    megapixels.
    """
    with _reasons():
        try:
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.UnidentifiedImageError:
            raise PictureError(_what_it_is(data)) from None
        with picture:
            return pixels_of(picture)


def pixels_of(picture: Image.Image) -> np.ndarray:
    """A PIL picture as ``decode_picture`` has it: uint8 (H, W, 3) RGB. Raises PictureError as it does."""
    with _reasons():
        _check_size(*picture.size)
        picture.load()
        return _to_rgb(ImageOps.exif_transpose(picture))


@contextmanager
def _reasons() -> Iterator[None]:
    """Whatever ends a decoder is a PictureError with its reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")   # Pillow warns of odd metadata; what matters raises
            yield
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"more than the limit of {MAX_PIXELS // 10**6} megapixels") from None
    # a broken file can fail anywhere in a decoder: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise PictureError(
            f"broken picture: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(f"{width}x{height} is more than the limit of {MAX_PIXELS // 10**6} megapixels")
    if min(width, height) < MIN_SIDE_PX:
        raise PictureError(f"{width}x{height} is less than {MIN_SIDE_PX} px a side")


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):   # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling
        grey = np.clip(np.asarray(picture, dtype=np.float64) / 257 + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)   # (H, W, 3)
    if picture.mode == "F":
        raise PictureError("floating-point pixels have no known range")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(picture.convert("RGB"))


def _what_it_is(data: bytes) -> str:
    head = data[:512].lstrip()
    for beginning, name in OTHER_FORMATS.items():
        if re.match(beginning.encode("latin-1"), head, re.DOTALL):
            if name in FORMATS:
                return f"broken picture: {name} that cannot be opened"
            return f"{name}, which is not read: save it as PNG or JPEG"
    if head.lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a picture"
    return f"not a picture in a known format ({', '.join(FORMATS)})"


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 (H, W, 3) RGB as the bytes of a PNG, for many pictures: a little larger, much sooner."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB as PNG."""
    Image.fromarray(picture).save(path, optimize=True)


def resize_shorter_side(picture: np.ndarray, side_px: int) -> np.ndarray:
    """uint8 (H, W, 3) scaled so that the shorter side has ``side_px``, averaging areas where it shrinks."""
    import cv2

    factor = side_px / min(picture.shape[:2])
    height, width = (round(side * factor) for side in picture.shape[:2])
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    )


def tile(rows: list[list[np.ndarray]], gap_px: int = 4) -> np.ndarray:
    """Pictures of one size in rows and columns on white."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    down, across = height + gap_px, width + gap_px   # from one picture to the next
    sheet = np.full((len(rows) * down - gap_px, columns * across - gap_px, 3), 255, dtype=np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            sheet[r * down:r * down + height, c * across:c * across + width] = picture
    return sheet


def to_faces(pictures: np.ndarray, device: "torch.device | str" = "cpu") -> "torch.Tensor":
    """uint8 (N, H, W, 3) pictures to float32 (N, 3, H, W) faces in [0, 1] on ``device``.

    The bytes travel, not the floats.
    """
    import torch

    return as_faces(torch.from_numpy(np.ascontiguousarray(pictures)).to(device, non_blocking=True))


def as_faces(pictures: "torch.Tensor") -> "torch.Tensor":
    """uint8 (N, H, W, 3) pictures to float32 (N, 3, H, W) faces in [0, 1] where they are, channels_last in
    memory.
    """
    return pictures.permute(0, 3, 1, 2).float().div_(255)


def to_pictures(faces: "torch.Tensor") -> np.ndarray:
    """float (N, 3, H, W) faces in [0, 1] to uint8 (N, H, W, 3) pictures: clamped, rounded to the nearest
    level.
    """
    return as_pictures(faces).contiguous().cpu().numpy()


def as_pictures(faces: "torch.Tensor") -> "torch.Tensor":
    """float (N, 3, H, W) faces in [0, 1] to uint8 (N, H, W, 3) pictures where they are: clamped, rounded to
    the nearest level.
    """
    return faces.detach().float().clamp(0, 1).mul(255).round_().byte().permute(0, 2, 3, 1)
