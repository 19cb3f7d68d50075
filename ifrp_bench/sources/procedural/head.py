"""The shape of a head as signed distance functions (Hart 1996; smooth unions after Quilez).

Units: 1 is about 10 cm; the origin is between the eyes at the depth of the head's axis; x runs right in the
picture, y up, z to the viewer. All functions work on (N, P) tensors, N faces of P points, on any device.
"""

import torch
from torch import Tensor

from ifrp_bench.sources.procedural.traits import HAIR_STYLES

EYE_Z = 0.60


def _smin(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Smooth union (quadratic), ``k`` wide."""
    h = (a - b).abs_().neg_().add_(k).clamp_(min=0)
    return torch.minimum(a, b).addcmul_(h, h, value=-0.25 / k)


def _smax(a: Tensor, b: Tensor, k: float) -> Tensor:
    h = (a - b).abs_().neg_().add_(k).clamp_(min=0)
    return torch.maximum(a, b).addcmul_(h, h, value=0.25 / k)


def ellipsoid(
    x: Tensor, y: Tensor, z: Tensor, rx: Tensor | float, ry: Tensor | float, rz: Tensor | float
) -> Tensor:
    """Distance to an ellipsoid at the origin, exact to first order at its surface."""
    a, b, c = 1 / rx, 1 / ry, 1 / rz
    u, v, w = x * a, y * b, z * c
    k0 = _length(u, v, w)
    k1 = _length(u * a, v * b, w * c)
    return (k0 - 1).mul_(k0).div_(k1 + 1e-6)


def _length(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return (x * x).addcmul_(y, y).addcmul_(z, z).sqrt_()


def unit(v: Tensor) -> Tensor:
    """(N, 3, P) vectors at length 1; ``F.normalize`` reduces over the strided dimension ten times slower."""
    return v / (_length(*v.unbind(1)) + 1e-9)[:, None]


def sphere(x: Tensor, y: Tensor, z: Tensor, r: Tensor | float) -> Tensor:
    """Distance to a sphere at the origin."""
    return _length(x, y, z).sub_(r)


class Head:
    """The distance functions of N heads.

    Traits are (N, 1) tensors, so every function broadcasts over (N, P) points.
    """

    def __init__(self, traits: dict[str, Tensor]) -> None:
        self.t = t = traits
        self.style = {name: t["hair_style"] == number for number, name in enumerate(HAIR_STYLES)}
        self.mouth_y = -0.66 * t["face_length"] + t["mouth_y"]
        self.mouth_w = 0.255 * t["mouth_width"] * (1 + 0.22 * t["smile"])
        self.open = 0.085 * t["mouth_open"].clamp(0, 1)
        self.chin_y = -1.02 * t["face_length"] - 0.5 * self.open
        self.nose_y = -0.37 * t["nose_length"]
        self.nose_z = 0.87 + t["nose_out"]
        self.eye_r = 0.128 * t["eye_size"]
        self.eye_z = EYE_Z + t["eye_depth"]
        self.lid_h = (0.070 * t["eye_open"] * (1 - t["blink"]) * (1 - 0.18 * t["smile"])).clamp(min=0.02)
        self.lid_w = 0.148 * t["eye_width"]

    def skin(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Head, face and neck, without ears and eyeballs."""
        t = self.t
        width, jaw, length, fat = t["head_width"], t["jaw_width"], t["face_length"], t["fat"]
        chin_y, smile, ax = self.chin_y, t["smile"], x.abs()

        # skull, forehead, the face below, corners of the jaw, chin
        d = ellipsoid(x, y - 0.36, z + 0.14, 0.735 * width, 0.80 * t["head_height"], 0.90)
        d = _smin(d, ellipsoid(x, y - 0.42, z - 0.30, 0.55 * width, 0.42, 0.42 + t["forehead"]), 0.25)
        d = _smin(d, ellipsoid(x, y + 0.30, z - 0.05, 0.575 * jaw + fat, 0.80 * length, 0.66), 0.25)
        corner = 0.085 + 0.05 * t["jaw_corner"] + fat
        d = _smin(d, sphere(ax - 0.41 * jaw, y + 0.56 * length, z - 0.06, corner), 0.34)
        d = _smin(d, ellipsoid(x, y - chin_y - 0.30, z - 0.27, 0.40 * jaw + fat, 0.36, 0.33), 0.22)
        chin = ellipsoid(x, y - chin_y, z - (0.43 + t["chin_out"]), t["chin_width"] + 0.05, 0.13, 0.17)
        d = _smin(d, chin, 0.30)

        # cheeks, brow ridges, around the mouth, sockets; then what stands out of them
        cheek_y, cheek = y + 0.24 - t["cheek_y"] - 0.03 * smile, 0.20 * t["cheek"] + fat + 0.02 * smile
        d = _smin(d, sphere(ax - 0.36, cheek_y, z - 0.47, cheek), 0.28)
        ridge = 0.06 + 0.055 * t["brow_ridge"]
        d = _smin(d, ellipsoid(ax - 0.24, y - 0.20, z - 0.60, 0.26, 0.06, ridge), 0.20)
        d = _smin(d, ellipsoid(x, y - self.mouth_y, z - 0.56, 0.30, 0.24, 0.18), 0.22)
        d = _smax(d, -ellipsoid(ax - 0.30, y + 0.005, z - 0.86 - t["eye_depth"], 0.20, 0.125, 0.17), 0.16)
        d = self._nose(d, x, ax, y, z)
        d = self._lids(d, ax, y, z)
        d = self._mouth(d, x, y, z)
        neck = (x * x + (z + 0.28 + 0.12 * y).square()).sqrt() - 0.46 * t["neck_width"]
        return _smin(d, _smax(neck, y + 0.55, 0.3), 0.16)

    def _nose(self, d: Tensor, x: Tensor, ax: Tensor, y: Tensor, z: Tensor) -> Tensor:
        t = self.t
        top_y, top_z = 0.10, 0.66
        along = ((y - top_y) / (self.nose_y - top_y)).clamp(0, 1)
        ridge_z = top_z + (self.nose_z - 0.05 - top_z) * along + t["nose_hump"] * (4 * along * (1 - along))
        ridge_y = (y - top_y - (self.nose_y - top_y) * along).square()
        width = (0.05 + 0.030 * along) * t["nose_bridge"]
        d = _smin(d, (x * x + (z - ridge_z).square() + ridge_y).sqrt() - width, 0.13)

        # wings, tip, nostrils
        out, nose_y, nose_z = t["nose_width"], self.nose_y + t["nose_up"], self.nose_z
        tip = sphere(x, y - nose_y, z - nose_z, 0.098 * t["nose_tip"])
        wing_y = self.nose_y * -1 + y + 0.015
        wing = ellipsoid(ax - 0.105 * out, wing_y, z - nose_z + 0.12, 0.066, 0.066, 0.09)
        d = _smin(_smin(d, wing, 0.06), tip, 0.08)
        nostril = ellipsoid(ax - 0.062 * out, y - nose_y + 0.085, z - nose_z + 0.05, 0.036, 0.024, 0.06)
        return _smax(d, -nostril, 0.02)

    def almond(self, ax: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates of the eye's opening: (u, v) / (half width, half height), tilted."""
        u = (ax - 0.315) / self.lid_w
        v = (y - self.t["eye_tilt"] * (ax - 0.315)) / self.lid_h
        return u, v

    def _lids(self, d: Tensor, ax: Tensor, y: Tensor, z: Tensor) -> Tensor:
        ball = sphere(ax - 0.315, y, z - self.eye_z, self.eye_r)
        d = _smin(d, ball - 0.014, 0.035)
        u, v = self.almond(ax, y)
        bound = (1 - u * u).clamp(min=-1)
        opening = (torch.where(v > 0, v - 1.05 * bound, -v - 0.75 * bound)) * self.lid_h * 0.7
        return _smax(d, -torch.maximum(opening, ball - 0.05), 0.008)

    def lip_line(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Height, depth and taper of the lips at x."""
        u = (x / self.mouth_w).clamp(-1.3, 1.3)
        curve = (0.075 * self.t["smile"] + self.t["mouth_curve"]) * u * u
        return self.mouth_y + curve, 0.735 - 0.16 * u * u - 0.02 * self.t["smile"], (1 - u * u).clamp(min=0)

    def _mouth(self, d: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        t = self.t
        line, depth, taper = self.lip_line(x)
        thin = 1 - 0.25 * t["smile"]
        upper_r = 0.050 * t["lip_upper"] * taper.sqrt() * thin
        lower_r = 0.060 * t["lip_lower"] * taper.sqrt() * thin
        gap = self.open * taper
        upper_y = (y - line - 0.034 * t["lip_upper"] - gap * 0.3).square() * 1.1
        upper = (upper_y + (z - depth + 0.01).square()).sqrt() - upper_r
        lower_y = (y - line + 0.046 * t["lip_lower"] + gap).square()
        lower = (lower_y + (z - depth + 0.025).square()).sqrt() - lower_r
        beyond = (x.abs() - self.mouth_w).clamp(min=0)
        d = _smin(d, torch.maximum(upper, beyond), 0.035)
        d = _smin(d, torch.maximum(lower, beyond), 0.035)
        inside = (y - line + gap * 0.35).abs() - 0.62 * gap - 0.006
        hole = torch.maximum(inside, x.abs() - 0.93 * self.mouth_w)
        return _smax(d, -torch.maximum(hole * 0.8, (depth - 0.09) - z), 0.02)

    def eyes(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return sphere(x.abs() - 0.315, y, z - self.eye_z, self.eye_r)

    def ears(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        t = self.t
        ax = x.abs() - 0.735 * t["head_width"] - t["ear_out"] - 0.25 * (-(z + 0.16)).clamp(min=0)
        ear = ellipsoid(ax, y + 0.10, z + 0.16, 0.065, 0.215 * t["ear_size"], 0.135)
        dent = ellipsoid(ax - 0.04, y + 0.09, z + 0.10, 0.05, 0.14, 0.08)
        return _smax(ear, -dent, 0.03)

    def clothes(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        t = self.t
        d = ellipsoid(x, y + 2.22, z + 0.36, 1.62 * t["shoulders"], 0.86, 0.66)
        collar = (x * x + (z + 0.14).square()).sqrt() - 0.56 * t["neck_width"]
        return _smax(d, -torch.maximum(collar, -(y + 2.06)), 0.05)

    def hair(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """All ten styles are one shell around the skull, cut free at the face, with what hangs from it."""
        t, s = self.t, self.style
        ax = x.abs()
        volume = t["hair_volume"]
        thick = 0.055 + 0.09 * volume
        thick = torch.where(s["buzz"] | s["receding"], 0.022 + 0.02 * volume, thick)
        thick = torch.where(s["afro"], 0.20 + 0.28 * volume, thick)
        thick = torch.where(s["tied"], 0.045 + 0.02 * volume, thick)
        curls = torch.sin(9 * y + 7 * x + t["hair_seed"])
        wave = 0.012 * curls * torch.sin(8 * z + 5 * x) * (1 + 2 * t["hair_wave"])
        wide, high = 0.735 * t["head_width"] + thick, 0.80 * t["head_height"] + thick * 1.25
        shell = ellipsoid(x, y - 0.36, z + 0.14, wide, high, 0.90 + thick) + wave

        # where the face is free
        front = 0.86 * t["head_height"] - 0.05 + t["hairline"]
        front = torch.where(s["fringe"], 0.36 + 0.12 * volume, front)
        front = torch.where(s["receding"], front + 0.22, front)
        front = torch.where(s["bald"], torch.full_like(front, 3.0), front)
        part = torch.where(s["parted"] | s["long"], 0.35 * t["hair_part"], torch.zeros_like(front))
        width = torch.where(s["long"] | s["bob"], 0.56 + 0.06 * volume, 0.69 + 0.03 * volume)
        centre = (front - 1.25) / 2
        face = ellipsoid(x - part * (y + 0.2).clamp(0, 1), y - centre, z - 0.80, width, front - centre, 1.05)

        # what hangs at the sides
        hangs = s["long"] | s["bob"]
        cut = torch.where(s["bob"], -0.55 - 0.35 * t["hair_length"], torch.full_like(front, -0.02))
        bottom = torch.where(s["long"], -1.05 - 0.9 * t["hair_length"], cut)
        side_x, side_y = ax - 0.66 * t["head_width"] - 0.4 * thick, y - (0.45 + bottom) / 2
        reach = (0.45 - bottom) / 2 + 0.25
        side = ellipsoid(side_x, side_y, z + 0.16, 0.17 + 0.12 * volume, reach, 0.46) + wave
        shell = torch.where(hangs, _smin(shell, side, 0.2), shell)
        nape = torch.where(hangs, bottom, torch.full_like(bottom, -0.35))
        shell = _smax(shell, torch.where(z < -0.25, nape, bottom) - y, 0.08)
        return torch.where(s["bald"], torch.full_like(x, 4.0), _smax(shell, -face, 0.10))

    def all(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        skin, eyes, hair, clothes = self.parts(x, y, z)
        return torch.minimum(torch.minimum(skin, eyes), torch.minimum(hair, clothes))

    def parts(self, x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
        """Skin, eyes, hair, clothes; the order in which ``_colour`` knows them."""
        skin = _smin(self.skin(x, y, z), self.ears(x, y, z), 0.05)
        return [skin, self.eyes(x, y, z), self.hair(x, y, z), self.clothes(x, y, z)]
