"""Heads to pictures: a camera that puts the eyes on CelebA's, sphere tracing, colours and light."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.ground.warp import FRAME_PX, TEMPLATE_PX
from ifrp_bench.sources.procedural.head import Head, ellipsoid, sphere, unit
from ifrp_bench.sources.procedural.traits import HAIR, IRIS, SKIN, Traits

CAMERA = 9.0   # distance of the eye: a portrait lens
SUPERSAMPLE = 1.5   # pixels per frame pixel and axis; averaged down


def render(people: Sequence[Traits], device: str = "cpu") -> np.ndarray:
    """Render aligned faces, uint8 (N, 218, 178, 3)."""
    width, height = (round(side * SUPERSAMPLE) for side in FRAME_PX)
    traits = {
        name: torch.tensor([[person[name]] for person in people], dtype=torch.float32, device=device)
        for name in people[0]
    }
    with torch.inference_mode():
        head = Head(traits)
        camera = _Camera(traits, head)
        near = _trace_coarse(head, camera, width, height)   # (N, P)
        colour = _background(traits, width, height)   # (N, 3, P)
        seen = (near < FAR).any(0).nonzero()[:, 0]   # pixels where any of the faces may be: about half
        origin, direction = camera.rays(width, height)
        colour[..., seen] = _shade(
            head, camera, origin, direction[..., seen], near[:, seen], colour[..., seen]
        )
        picture = F.interpolate(colour.view(len(people), 3, height, width), FRAME_PX[::-1], mode="area")
        return _develop(picture).permute(0, 2, 3, 1).contiguous().cpu().numpy()


class _Camera:
    """Rays through frame pixels for heads in their pose, such that both eyes project to CelebA's."""

    def __init__(self, t: dict[str, Tensor], head: Head) -> None:
        cy, sy = torch.cos(t["yaw"]), torch.sin(t["yaw"])
        cp, sp = torch.cos(t["pitch"]), torch.sin(t["pitch"])
        zero = torch.zeros_like(cy)
        yaw = torch.stack([cy, zero, sy, zero, zero + 1, zero, -sy, zero, cy], -1).view(-1, 3, 3)
        pitch = torch.stack([zero + 1, zero, zero, zero, cp, -sp, zero, sp, cp], -1).view(-1, 3, 3)
        self.rotation = pitch @ yaw   # (N, 3, 3), head to world
        eyes = torch.tensor([[-0.315, 0.0], [0.315, 0.0]], device=cy.device).expand(len(cy), 2, 2)
        eyes = torch.cat([eyes, (head.eye_z + head.eye_r)[:, :, None].expand(-1, 2, 1)], 2)   # (N, 2, 3)
        world = eyes @ self.rotation.transpose(1, 2)
        image = world[..., :2] / (CAMERA - world[..., 2:])   # on the plane at distance 1
        left, right = (torch.view_as_complex(eye.contiguous()) for eye in image.unbind(1))
        a, b = (complex(x, -y) for x, y in TEMPLATE_PX[:2])   # frame pixels, y up
        self.turn = (right - left) / (b - a)
        self.move = left - self.turn * a

    def rays(self, width: int, height: int) -> tuple[Tensor, Tensor]:
        """Origin (N, 3, 1) and directions (N, 3, P) in the head's frame, for a grid of width x height over
        the frame.
        """
        sx, sy = FRAME_PX[0] / width, FRAME_PX[1] / height
        device = self.turn.device
        x = (torch.arange(width, device=device) + 0.5) * sx - 0.5
        y = (torch.arange(height, device=device) + 0.5) * sy - 0.5
        grid = x[None, :].expand(height, width), -y[:, None].expand(height, width)
        pixel = torch.complex(*grid).reshape(1, -1)   # (1, P)
        plane = self.turn[:, None] * pixel + self.move[:, None]
        direction = unit(torch.stack([plane.real, plane.imag, -torch.ones_like(plane.real)], 1))
        origin = torch.tensor([0.0, 0.0, CAMERA], device=device).view(1, 3, 1).expand(len(plane), 3, 1)
        back = self.rotation.transpose(1, 2)
        return back @ origin, back @ direction


NEAR, FAR = CAMERA - 1.35, CAMERA + 1.3


def _trace_coarse(head: Head, camera: _Camera, width: int, height: int) -> Tensor:
    """Where to start each ray of the full grid, (N, P), FAR where it meets nothing: traced on coarse grids,
    each from just before the last.
    """
    t = None
    for divide, steps in ((6, 20), (2, 6)):
        w, h = -(-width // divide), -(-height // divide)
        origin, direction = camera.rays(w, h)
        t = torch.full_like(direction[:, 0], NEAR) if t is None else _finer(t, w, h)
        t = _march(head, origin, direction, t, steps).view(-1, h, w)
    assert t is not None
    return _finer(t, width, height)


def _finer(t: Tensor, width: int, height: int) -> Tensor:
    """Starting distances for a finer grid, (N, width * height), from (N, h, w): the nearest of the
    neighbours, as an edge may lie between.
    """
    nearest = -F.max_pool2d(-t, 3, 1, 1)
    start = F.interpolate(nearest[:, None], (height, width), mode="nearest")[:, 0].flatten(1)
    return torch.where(start < FAR - 0.05, start - 0.02, FAR)


def _march(head: Head, origin: Tensor, direction: Tensor, t: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        d = head.all(*(origin + direction * t[:, None]).unbind(1))
        t = (t + 0.85 * d).clamp_(max=FAR)
    return t


def _march_to_edge(head: Head, origin: Tensor, direction: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """March to the end, and say how much of the pixel is covered: 1 on a hit, less for a ray that misses all
    by under a pixel, at its nearest point.

    Five steps bring nearly all rays there; those that slip past an edge, a few in a hundred, go on alone.
    """
    t, best, closest, d = _track(head, origin, direction, t, t, torch.full_like(t, 9.0), 5)
    late = (d > 0.006).any(0).nonzero()[:, 0]
    if len(late):
        t[:, late], best[:, late], closest[:, late], d[:, late] = _track(
            head, origin, direction[..., late], t[:, late], best[:, late], closest[:, late], 22
        )
    pixel = 0.63 / (TEMPLATE_PX[1, 0] - TEMPLATE_PX[0, 0]) / SUPERSAMPLE
    hit = (d < 0.02) & (t < FAR - 0.01)
    return torch.where(hit, t, best), torch.where(hit, 1.0, (1 - closest / pixel).clamp(0, 1) * 0.7)


def _track(
    head: Head, origin: Tensor, direction: Tensor, t: Tensor, best: Tensor, closest: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """March and keep where each ray came closest: distance along it, that place, that distance, the last
    distance.
    """
    d = closest
    for _ in range(steps):
        d = head.all(*(origin + direction * t[:, None]).unbind(1))
        nearer = d < closest
        best, closest = torch.where(nearer, t, best), torch.minimum(d, closest)
        t = (t + 0.85 * d).clamp(max=FAR)
    return t, best, closest, d


def _normal(head: Head, p: Tensor) -> Tensor:
    """Gradient of the distance by four samples on a tetrahedron, (N, 3, P), of length 1."""
    e = 0.004
    total = torch.zeros_like(p)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        k = torch.tensor(corner, dtype=p.dtype, device=p.device).view(1, 3, 1)
        total += k * head.all(*(p + e * k).unbind(1))[:, None]
    return unit(total)


def _shade(
    head: Head, camera: _Camera, origin: Tensor, direction: Tensor, near: Tensor, behind: Tensor
) -> Tensor:
    """Linear colours of rays, (N, 3, P), marched on from ``near``; ``behind`` is what is seen where they
    miss.
    """
    t = head.t
    depth, cover = _march_to_edge(head, origin, direction, near)
    p = origin + direction * depth[:, None]
    n = _normal(head, p)
    albedo, gloss, skin = _colour(head, p, n)
    key = unit(torch.stack([t["light_x"], t["light_y"], torch.ones_like(t["light_x"])], 1))   # (N, 3, 1)
    key = camera.rotation.transpose(1, 2) @ key
    up = camera.rotation.transpose(1, 2)[:, :, 1:2]
    facing = (n * key).sum(1)
    shadow = _shadow(head, p + 0.02 * n, key)
    occlusion = _occlusion(head, p, n)
    direct = facing.clamp(min=0) * shadow
    # light that has gone through skin comes out red and wide
    soft = ((facing + 0.35) / 1.35).clamp(min=0) * (0.5 + 0.5 * shadow)
    red = torch.stack([direct + part * (soft - direct).clamp(min=0) for part in (0.55, 0.18, 0.12)], 1)
    direct3 = torch.where(skin[:, None], red, direct[:, None].expand_as(red))
    warm = torch.stack([1 + 0.10 * t["warm"], torch.ones_like(t["warm"]), 1 - 0.12 * t["warm"]], 1)
    sky = (0.62 + 0.38 * (n * up).sum(1)) * occlusion
    half = unit(key - direction)
    shine = (n * half).sum(1).clamp(min=0)
    glints = gloss * shine.pow(28) * 0.55 + gloss.clamp(min=0.5).sub(0.5) * shine.pow(220) * 2.2
    specular = glints * shadow * facing.clamp(min=0)
    rim = (1 + (n * direction).sum(1)).clamp(min=0).pow(3) * 0.10 * occlusion
    ambient = t["ambient"][:, None] * sky[:, None] * (2 - warm)
    light = t["light"][:, None] * (direct3 * 1.05 * warm + ambient + rim[:, None])
    colour = albedo * light + specular[:, None] * 0.35
    return torch.lerp(behind, colour, cover[:, None])


def _shadow(head: Head, p: Tensor, key: Tensor) -> Tensor:
    """Soft shadow: how narrowly a ray to the light passes what is on its way."""
    light = torch.ones_like(p[:, 0])
    along = torch.full_like(light, 0.05)
    for _ in range(5):
        d = head.all(*(p + key * along[:, None]).unbind(1))
        light = torch.minimum(light, (0.5 + 5 * d / along).clamp(0, 1))
        along = along + d.clamp(0.05, 0.30)
    return light


def _occlusion(head: Head, p: Tensor, n: Tensor) -> Tensor:
    near = head.all(*(p + 0.06 * n).unbind(1))
    far = head.all(*(p + 0.22 * n).unbind(1))
    return (1 - 3.2 * (0.06 - near).clamp(min=0) - 1.6 * (0.22 - far).clamp(min=0)).clamp(0.25, 1)


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    u = ((x - low) / (high - low)).clamp(0, 1)
    return u * u * (3 - 2 * u)


def _noise(x: Tensor, y: Tensor, z: Tensor, seed: Tensor) -> Tensor:
    """Smooth, zero-mean, about [-1, 1]: sums of sines, cheap and the same everywhere."""
    a = torch.sin(x * 1.7 + seed + 1.3 * torch.sin(y * 1.3 + seed * 0.7))
    b = torch.sin(y * 2.1 - seed + 1.1 * torch.sin(z * 1.9 + seed * 0.3))
    c = torch.sin(z * 1.5 + seed * 1.9 + 1.2 * torch.sin(x * 1.6 - seed))
    return (a + b + c) / 3


def _grain(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Value noise in [-1, 1] of cells of size 1: an integer hash at the corners, so every device has the
    same.
    """
    cell = [value.floor() for value in (x, y, z)]
    fx, fy, fz = (value - low for value, low in zip((x, y, z), cell))
    ix, iy, iz = (low.to(torch.int64) for low in cell)

    def corner(i: int, j: int, k: int) -> Tensor:
        h = ((ix + i) * 73856093) ^ ((iy + j) * 19349663) ^ ((iz + k) * 83492791)
        h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
        return ((h ^ (h >> 16)) & 0xFFFF).float() * (2 / 65535) - 1

    def edge(j: int, k: int) -> Tensor:
        return torch.lerp(corner(0, j, k), corner(1, j, k), fx)

    return torch.lerp(torch.lerp(edge(0, 0), edge(1, 0), fy), torch.lerp(edge(0, 1), edge(1, 1), fy), fz)


def _palette(table: np.ndarray, index: Tensor) -> Tensor:
    """Colours between the rows of a table, (N, 3, 1) for (N, 1) indices."""
    rows = torch.tensor(table, dtype=index.dtype, device=index.device)
    low = index.floor().clamp(0, len(table) - 2)
    part = (index - low)[..., None]
    at = low.long()[:, 0]
    return ((1 - part) * rows[at][:, None] + part * rows[at + 1][:, None]).transpose(1, 2)


def _colour(head: Head, p: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Albedo (N, 3, P), gloss (N, P) and whether it is skin."""
    x, y, z = p.unbind(1)
    part = torch.stack(head.parts(x, y, z)).argmin(0)
    skin = part == 0
    t = head.t
    hair = _palette(HAIR, t["hair_colour"])
    albedo, gloss = _skin_colour(head, x, y, z, n, hair)
    eye, eye_gloss = _eye_colour(head, x, y, z)
    waving = 0.10 * t["hair_wave"] * torch.sin(7 * y + t["hair_seed"])
    around = torch.atan2(x - 0.35 * t["hair_part"], z + 0.35) + waving
    strand = _grain(42 * around, 2.6 * y + t["hair_seed"], 5 * z)
    lock = _grain(11 * around, 1.3 * y + t["hair_seed"], 2 * z)
    hair_here = hair * (1 + 0.42 * strand + 0.30 * lock)[:, None].clamp(min=0.25)
    shirt = _muted(t["shirt_r"], t["shirt_g"], t["shirt_b"])
    dull = torch.full_like(gloss, 0.05)
    others = (eye, eye_gloss), (hair_here, torch.full_like(gloss, 0.32)), (shirt, dull)
    for number, (colour, shine) in enumerate(others, 1):
        here = part == number
        albedo = torch.where(here[:, None], colour, albedo)
        gloss = torch.where(here, shine, gloss)
    return albedo, gloss, skin


def _skin_colour(
    head: Head, x: Tensor, y: Tensor, z: Tensor, n: Tensor, hair: Tensor
) -> tuple[Tensor, Tensor]:
    """Albedo (N, 3, P) and gloss (N, P) of skin: its tone, then what lies on it, feature by feature."""
    fine = _grain(34 * x + head.t["hair_seed"], 34 * y, 34 * z)
    albedo = _complexion(head, x, y, z, fine)
    albedo, lips = _lips(head, x, y, z, albedo)
    albedo = _brows(head, x, y, z, albedo, hair)
    albedo = _lids_and_lines(head, x, y, z, albedo)
    albedo, whiskers = _beard(head, x, y, z, albedo, hair, lips, fine)
    shorn = head.style["buzz"] | head.style["receding"] | head.style["bald"]
    scalp = _ramp(ellipsoid(x, y + 0.20, z - 0.80, 0.70, 1.02, 1.05), 0.0, 0.10) * _ramp(y, 0.05, 0.2) * shorn
    scalp = scalp * torch.where(head.style["bald"], 0.165, 0.45)
    albedo = albedo + scalp[:, None] * (hair - albedo)
    return albedo, (0.30 - 0.25 * whiskers + 0.28 * lips).clamp(min=0.03)


def _complexion(head: Head, x: Tensor, y: Tensor, z: Tensor, fine: Tensor) -> Tensor:
    """Melanin, blood in cheeks and nose, grain, freckles, a mole."""
    t, seed = head.t, head.t["hair_seed"]
    cheeks = _ramp(-sphere(x.abs() - 0.36, y + 0.27, (z - 0.6) * 0.5, 0.0), -0.30, 0.0)
    nose = _ramp(-sphere(x, y - head.nose_y, (z - 0.9) * 0.5, 0.0), -0.2, 0.0)
    red = (t["ruddy"] * (cheeks + 0.7 * nose) + 0.12 * _noise(5 * x, 5 * y, 5 * z, seed)).clamp(min=0)
    tint = torch.stack([1 + 0.02 * red, 1 - 0.20 * red, 1 - 0.22 * red], 1)
    grain = 1 + 0.03 * fine + 0.04 * _grain(9 * x + seed, 9 * y, 9 * z)
    albedo = _palette(SKIN, t["skin"]) * tint * grain[:, None]
    freckle = t["freckles"] * _ramp(fine, 0.30, 0.7) * _ramp(-(y + 0.15).abs(), -0.42, -0.1) * (z > 0.3)
    from_mole = ((x - t["mole_x"]).square() + (y - t["mole_y"]).square()).sqrt()
    mole = t["mole"] * _ramp(-from_mole, -0.03, -0.018) * (z > 0.2)
    return albedo * (1 - 0.30 * freckle.clamp(0, 1) - 0.6 * mole)[:, None]


def _lips(head: Head, x: Tensor, y: Tensor, z: Tensor, albedo: Tensor) -> tuple[Tensor, Tensor]:
    """Lips and the line between them; teeth and the dark behind where the mouth is open.

    Gives the albedo and where the lips are.
    """
    t = head.t
    line, depth, taper = head.lip_line(x)
    gap = head.open * taper
    bow = 1 - 0.10 * t["bow"] * torch.exp(-(x / 0.035).square())
    high = y - line - 0.072 * t["lip_upper"] * taper.sqrt() * bow - 0.3 * gap
    low = line - gap - 0.102 * t["lip_lower"] * taper.sqrt() - y
    lips = _ramp(-torch.maximum(high, low), -0.012, 0.012) * _ramp(taper, 0.0, 0.10) * (z > 0.35)
    rouge = torch.stack([1 - 0.10 * t["lip_red"], 0.62 - 0.26 * t["lip_red"], 0.66 - 0.22 * t["lip_red"]], 1)
    albedo = albedo * (1 + lips[:, None] * (rouge - 1))
    middle = y - line + 0.35 * gap
    seam = torch.exp(-(middle / 0.011).square()) * (taper > 0.02) * (z > 0.35) * (gap < 0.012)
    albedo = albedo * (1 - 0.55 * seam)[:, None]
    inside = (z < depth - 0.035) & (z > 0.3) & (middle.abs() < 0.72 * gap + 0.004) & (gap > 0.008)
    teeth = inside & (y > line - 0.45 * gap - 0.002)
    dark = torch.tensor([0.05, 0.012, 0.012], device=x.device).view(1, 3, 1)
    ivory = torch.tensor([0.66, 0.62, 0.54], device=x.device).view(1, 3, 1) * (0.55 + 0.45 * taper)[:, None]
    return torch.where(teeth[:, None], ivory, torch.where(inside[:, None], dark, albedo)), lips


def _brows(head: Head, x: Tensor, y: Tensor, z: Tensor, albedo: Tensor, hair: Tensor) -> Tensor:
    t = head.t
    ax = x.abs()
    u = (ax - 0.32 - t["brow_gap"]) / 0.215
    height = 0.205 + t["brow_y"] + 0.035 * t["brow_raise"].clamp(min=-0.6)
    v = y - (height + t["brow_tilt"] * (ax - 0.30) + 0.05 * t["brow_arch"] * (0.45 - (u - 0.25).square()))
    thick = 0.040 * t["brow_thick"] * (1 - 0.45 * (u + 0.1).clamp(0, 1))
    hairs = 0.86 + 0.22 * _grain(60 * (x + 0.5 * y) + t["hair_seed"], 16 * y, 4 * z)
    shape = _ramp(-v.abs() / thick, -1.15, -0.55) * _ramp(-u.abs(), -1.0, -0.82) * (z > 0.25)
    brow = shape * t["brow_dark"] * hairs
    return albedo + brow.clamp(0, 0.95)[:, None] * (hair * 0.55 - albedo)


def _lids_and_lines(head: Head, x: Tensor, y: Tensor, z: Tensor, albedo: Tensor) -> Tensor:
    """Lashes and liner, the lid's crease, bags, folds beside the nose, lines on the forehead."""
    t = head.t
    ax = x.abs()
    front = z > 0.3
    u, v = head.almond(ax, y)
    bound = (1 - u * u).clamp(min=0)
    edge = (v - 1.05 * bound) * head.lid_h
    below = (v + 0.75 * bound) * head.lid_h
    at_eye = (bound > 0) & (z > 0.4)
    lash = torch.exp(-(edge / (0.010 + 0.008 * t["liner"])).square()) * (at_eye & (v > 0))
    under = torch.exp(-(below / 0.007).square()) * (at_eye & (v <= 0)) * (0.25 + 0.35 * t["liner"])
    albedo = albedo * (1 - 0.85 * lash - under)[:, None].clamp(min=0.06)
    crease = torch.exp(-((edge - 0.032 - 0.02 * t["lid_crease"]) / 0.008).square())
    crease = crease * _ramp(-u.abs(), -1.15, -0.6) * (0.2 + 0.35 * t["lid_crease"])
    bag = torch.exp(-(((v + 0.75 * (1 - u * u)) * head.lid_h + 0.075) / 0.022).square())
    bag = bag * _ramp(-u.abs(), -1.2, -0.5) * t["bags"] * 0.45
    fold_x = 0.135 * t["nose_width"] + 0.06 + (-(y - head.nose_y)).clamp(0, 0.5) * 0.42
    fold = torch.exp(-((ax - fold_x) / 0.02).square()) * _ramp(-(y - head.nose_y + 0.19).abs(), -0.24, -0.10)
    fold = fold * (0.35 * t["age"] + 0.28 * t["smile"])
    wave = torch.sin(26 * y + 0.8 * torch.sin(4 * x + t["hair_seed"]))
    lines = torch.exp(-(wave / 0.35).square()) * _ramp(y, 0.33, 0.42) * _ramp(-ax, -0.48, -0.2)
    lines = lines * 0.22 * t["age"]
    dim = ((crease + bag.clamp(0, 0.5) + fold + lines) * front).clamp(0, 0.8)
    return albedo * torch.stack([1 - 0.55 * dim, 1 - 0.75 * dim, 1 - 0.75 * dim], 1)


def _beard(
    head: Head, x: Tensor, y: Tensor, z: Tensor, albedo: Tensor, hair: Tensor, lips: Tensor, fine: Tensor
) -> tuple[Tensor, Tensor]:
    """Stubble as a shade, moustache, goatee and full beard as hair.

    Gives the albedo and where whiskers are.
    """
    t = head.t
    ax = x.abs()
    jaw = _ramp(-(y - (head.mouth_y + 0.16 + 0.55 * (ax - 0.25).clamp(min=0))), -0.02, 0.10)
    jaw = jaw * _ramp(z, -0.30, -0.05) * _ramp(y, -1.42, -1.22) * (1 - lips)
    above = _ramp(-((y - head.mouth_y - 0.135 - 0.1 * lips).abs() / 0.062).square(), -1.4, -0.5)
    above = above * _ramp(-(ax - head.mouth_w * 1.05), -0.05, 0.05) * (z > 0.4) * (1 - lips)
    chin = jaw * _ramp(-ax, -0.34, -0.22)
    grown = torch.where(t["beard"] > 0.75, jaw, torch.where(t["beard"] > 0.25, chin, torch.zeros_like(jaw)))
    strands = 0.85 + 0.15 * _grain(48 * x + t["hair_seed"], 18 * y, 48 * z)
    whiskers = (t["moustache"] * above + grown).clamp(0, 1) * strands
    shade = t["stubble"] * (jaw + above).clamp(0, 1) * (0.75 + 0.25 * fine) * 0.55
    albedo = albedo * (1 - shade)[:, None] + (shade * 0.5)[:, None] * hair
    return albedo + (0.93 * whiskers)[:, None] * (hair * (0.75 + 0.35 * fine)[:, None] - albedo), whiskers


def _eye_colour(head: Head, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    t = head.t
    side = torch.sign(x)
    dx = (x - side * 0.315) / head.eye_r - t["gaze_x"]
    dy = y / head.eye_r - t["gaze_y"]
    r = (dx * dx + dy * dy).sqrt()
    angle = torch.atan2(dy, dx)
    rays = 1.05 + 0.4 * torch.sin(23 * angle + t["hair_seed"]) * _ramp(r, 0.15, 0.4)
    iris = _palette(IRIS, t["iris"]) * rays[:, None]
    iris = iris * (1 - 0.6 * _ramp(r, 0.40, 0.50))[:, None]
    white = torch.tensor([0.78, 0.75, 0.73], device=x.device).view(1, 3, 1)
    white = white * (1 - 0.25 * _ramp(r, 0.5, 1.1))[:, None]
    colour = white + _ramp(-r, -0.54, -0.47)[:, None] * (iris - white)
    colour = colour * (1 - 0.96 * _ramp(-r, -0.25, -0.20))[:, None]
    lid_shade = _ramp(-y / head.lid_h, -1.0, 0.2)   # the upper lid's shadow
    glint = torch.exp(-((dx - 0.15 - 0.2 * t["light_x"]).square() + (dy - 0.22).square()) / 0.008)
    return colour * (0.55 + 0.45 * lid_shade)[:, None] + 1.2 * glint[:, None], torch.full_like(r, 0.9)


def _muted(r: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """A colour as rooms and clothes have it, (N, 3, 1): drawn towards its grey."""
    colour = torch.stack([r, g, b], 1).square()
    return 0.02 + 0.75 * (colour.mean(1, keepdim=True) + 0.45 * (colour - colour.mean(1, keepdim=True)))


def _background(t: dict[str, Tensor], width: int, height: int) -> Tensor:
    """Blurred colours behind the head, (N, 3, P): a studio gradient, a window of light, or bokeh of the same
    colours.
    """
    device = t["yaw"].device
    rows = torch.linspace(1, -1, height, device=device)
    columns = torch.linspace(-1, 1, width, device=device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    x, y = x.reshape(1, -1), y.reshape(1, -1)
    a = _muted(t["back_r"], t["back_g"], t["back_b"])   # (N, 3, 1)
    b = _muted(t["back_b"], t["back_r"], t["back_g"]) * 0.7 + 0.03
    ramp = ((x * t["back_x"] + y * t["back_y"]) * 0.5 + 0.5).clamp(0, 1)
    seed = t["back_x"] * 40
    blobs = _ramp(_noise(4 * x, 4 * y, x - y, seed) + 0.4 * _noise(9 * x, 8 * y, x + y, seed + 2), -0.3, 0.5)
    window = _ramp(-(x - t["back_x"]).abs(), -0.55, -0.30) * _ramp(y + 0.2, -0.1, 0.15)
    mix = torch.where(t["back_kind"] < 0.4, ramp, torch.where(t["back_kind"] < 0.75, blobs, window))
    return a + (b - a) * mix[:, None]


def _develop(linear: Tensor) -> Tensor:
    """Exposure, a film-like shoulder, the sRGB curve, 8 bits."""
    x = linear.clamp(min=0) * 0.92
    x = x * (1 + x / 4.0) / (1 + x)   # Reinhard with white at 2
    x = (x * 1.45).clamp(0, 1)
    srgb = torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp(min=1e-8).pow(1 / 2.4) - 0.055)
    return (srgb * 255).round().byte()
