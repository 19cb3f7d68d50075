"""Convolutions of stride 1 with fewer multiplications, by minimal filtering (Winograd 1980; Lavin and Gray,
CVPR 2016): a tile of the picture and a kernel become polynomials' values at some points, where convolving is
multiplying. Of a 3x3 a quarter of the multiplications is left, of a 5x5 less than a sixth.

It is for training and evaluating on a CPU in float32, where convolutions run at the cores' peak and nothing
else makes them faster; GPUs and bfloat16 have their own kernels. Pictures of a data set and faces for use are
computed by torch's: they must not depend, not even in their last bit, on how many are computed at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# finite ones, one more lies at infinity; the first are taken, and the second must be 1 for the bias
POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2")))
# side of an output tile by that of the kernel: what was fastest of those with an error of 1e-5 or less
TILES = {2: 3, 3: 4, 4: 3, 5: 4}
MOVED_AT_ONCE = 2**24   # numbers in the transforms, 64 MiB; of more the maps are taken in parts
# multiplications that take as long as moving one number through the transforms, measured on AVX2
COST_OF_MOVING = 80


_without_gradients = ContextVar("minimal filtering without gradients", default=False)


@contextmanager
def without_gradients() -> Iterator[None]:
    """Where no gradient is asked for, too, in this thread: for faces that come in the same batches always."""
    token = _without_gradients.set(True)
    try:
        yield
    finally:
        _without_gradients.reset(token)


@dataclass(frozen=True)
class Transforms:
    """The matrices for kernels of side r and output tiles of side m; input tiles have side a = m + r - 1."""

    tile: int   # m
    size: int   # a
    picture: Tensor   # (a*a, a*a): B^T (x) B^T in the terms of Lavin and Gray
    kernel: Tensor   # (a*a, r*r): G (x) G
    output: Tensor   # (m*m, a*a): A^T (x) A^T


@lru_cache
def transforms(kernel_size: int) -> Transforms:
    """By Toom's and Cook's construction: multiplying two polynomials, transposed."""
    tile = TILES[kernel_size]
    size = tile + kernel_size - 1
    points = POINTS[:size - 1]

    picture, kernel = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        # the Lagrange polynomial of the point, its denominator on the kernels' side
        picture.append([*_product_of_roots(others), Fraction(0)])
        kernel.append([point**power / scale for power in range(kernel_size)])

    # infinity: the leading coefficient
    picture.append(_product_of_roots(points))
    kernel.append([Fraction(0)] * (kernel_size - 1) + [Fraction(1)])
    output = [[point**power for point in points] + [Fraction(power == tile - 1)] for power in range(tile)]
    return Transforms(tile, size, *(_in_both_directions(rows) for rows in (picture, kernel, output)))


def _product_of_roots(roots: Any) -> list[Fraction]:
    """Coefficients of the product of (x - root), the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [-root * value for value in coefficients]
        coefficients = [a + b for a, b in zip(shifted, [*scaled, Fraction(0)])]
    return coefficients


def _in_both_directions(rows: list[list[Fraction]]) -> Tensor:
    """The Kronecker product of a matrix with itself, float32."""
    matrix = torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)
    return torch.kron(matrix, matrix).float()


class Conv2d(nn.Conv2d):
    """torch's layer, computed by ``convolve`` where it has stride 1 and zeros around."""

    def forward(self, x: Tensor) -> Tensor:
        simple = self.stride == self.dilation == (1, 1) and self.groups == 1 and self.padding_mode == "zeros"
        if not simple or isinstance(self.padding, str):
            return super().forward(x)
        return convolve(x, self.weight, self.bias, self.padding[0])


@dataclass(frozen=True)
class Layout:
    """How a batch of maps is cut into tiles."""

    count: int   # maps
    height: int   # of the output
    width: int
    down: int   # tiles in a column
    across: int   # and in a row

    @staticmethod
    def of(shape: torch.Size, side: int, padding: int) -> "Layout":
        """Of maps of this shape, (N, C, H, W), and kernels of this side."""
        height, width = (length + 2 * padding - side + 1 for length in shape[2:])
        tile = TILES[side]
        return Layout(shape[0], height, width, -(-height // tile), -(-width // tile))

    def at_once(self, kernels: Tensor) -> int:
        """How many maps are taken at a time, with kernels (a*a, K, C)."""
        size, outputs, inputs = kernels.shape
        moved_a_map = size * self.down * self.across * (outputs + inputs)
        return max(1, min(self.count, MOVED_AT_ONCE // moved_a_map))

    def padded(self, by: Transforms) -> tuple[int, int]:
        """Height and width of the maps that all tiles of the input lie in."""
        return self.down * by.tile + by.size - by.tile, self.across * by.tile + by.size - by.tile


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """``F.conv2d`` of stride 1 of maps (N, C, H, W) by kernels (K, C, r, r), by minimal filtering where that
    pays, the same up to rounding (1e-5 of the largest value).
    """
    if not pays(x, weight, padding):
        return F.conv2d(x, weight, bias, padding=padding)
    if torch.is_grad_enabled():
        return _MinimalFiltering.apply(x, weight, bias, padding)  # type: ignore[no-any-return]
    return _filtered(x, weight, bias, padding)[0]


def pays(x: Tensor, weight: Tensor, padding: int) -> bool:
    """Whether minimal filtering is wanted and faster: in training (or ``without_gradients``), on a CPU, in
    float32, of kernels of side 2 to 5 between enough channels on enough places. What is compiled is left to
    the compiler.
    """
    trains = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if not trains and not _without_gradients.get():
        return False
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    outputs, inputs, side, across = weight.shape
    if side != across or side not in TILES or x.dtype != torch.float32 or weight.dtype != torch.float32:
        return False

    # multiplications saved, against the numbers that are moved through the transforms
    layout = Layout.of(x.shape, side, padding)
    tiles = layout.count * layout.down * layout.across
    at_points = transforms(side).size**2
    places = layout.count * layout.height * layout.width
    saved = inputs * outputs * (side**2 * places - at_points * tiles)
    moved = at_points * (tiles * (inputs + outputs) + inputs * outputs)
    return saved > COST_OF_MOVING * moved


class _MinimalFiltering(torch.autograd.Function):
    """Tiles of the maps, (a*a, tiles, C), times kernels, (a*a, C, K), at every point."""

    @staticmethod
    def forward(   # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int
    ) -> Tensor:
        made, kernels, tiles = _filtered(x, weight, bias, padding)
        ctx.by, ctx.padding, ctx.shape = transforms(weight.shape[2]), padding, x.shape
        # kernels that are learned need the tiles; of maps that are taken in parts these are made again, since
        # they are twice to four times as large
        learned = ctx.needs_input_grad[1]
        ctx.save_for_backward(kernels, tiles if learned else None, x if learned and tiles is None else None)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        by, (kernels, kept, maps) = ctx.by, ctx.saved_tensors
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        side = by.size - by.tile + 1
        whole = Layout.of(ctx.shape, side, ctx.padding)
        of_x, of_weight, of_bias = [], None, kernels.new_zeros(kernels.shape[1])
        of_kernels = torch.zeros_like(kernels) if for_weight else None
        for start in range(0, whole.count, whole.at_once(kernels)):
            rows = slice(start, start + whole.at_once(kernels))
            part = gradient[rows]
            layout = replace(whole, count=len(part))
            products = torch.mm(by.output.T, _taken_apart(part, by, layout))
            products = products.view(by.size**2, -1, kernels.shape[1])   # (a*a, tiles, K)
            if for_x:
                of_tiles = torch.mm(by.picture.T, torch.bmm(products, kernels).flatten(1))
                of_x.append(_summed_up(of_tiles, by, layout, ctx.shape, ctx.padding))
            if of_kernels is not None:
                tiles = _at_points(maps[rows], by, layout, ctx.padding) if kept is None else kept
                of_kernels.baddbmm_(products.transpose(1, 2), tiles)
            of_bias += products[by.size + 1].sum(0)

        if of_kernels is not None:
            of_places = torch.mm(by.kernel.T, of_kernels.flatten(1))   # (r*r, K*C)
            of_weight = of_places.T.reshape(*kernels.shape[1:], side, side)
        joined = torch.cat(of_x) if len(of_x) > 1 else of_x[0] if for_x else None
        return joined, of_weight, of_bias if for_bias else None, None


def _kernels_at_points(weight: Tensor, by: Transforms) -> Tensor:
    """Kernels (K, C, r, r) to their values at the points, (a*a, K, C)."""
    outputs, inputs = weight.shape[:2]
    # contiguous, here and in the gradient: products of tall matrices take five times as long
    places = weight.reshape(outputs * inputs, -1).T.contiguous()   # (r*r, K*C)
    return torch.mm(by.kernel, places).view(-1, outputs, inputs)


def _filtered(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Maps (N, C, H, W) convolved, laid out as they are; the kernels' and the tiles' values at the points, of
    maps that are taken in parts no tiles.
    """
    by, whole = transforms(weight.shape[2]), Layout.of(x.shape, weight.shape[2], padding)
    kernels = _kernels_at_points(weight, by)
    made = []
    for part in x.split(whole.at_once(kernels)):
        layout = replace(whole, count=len(part))
        tiles = _at_points(part, by, layout, padding)
        products = torch.bmm(tiles, kernels.transpose(1, 2))   # (a*a, tiles, K)
        if bias is not None:
            products[by.size + 1] += bias   # at (1, 1), whose value every place of a tile is given once
        maps = _put_together(torch.mm(by.output, products.flatten(1)), by, layout)
        made.append(maps if x.is_contiguous(memory_format=torch.channels_last) else maps.contiguous())
    if len(made) > 1:
        return torch.cat(made), kernels, None
    return made[0], kernels, tiles


def _at_points(x: Tensor, by: Transforms, layout: Layout, padding: int) -> Tensor:
    """Maps (N, C, H, W) to the values of their tiles at the points, (a*a, tiles, C)."""
    n, channels, height, width = x.shape
    framed = x.new_zeros(n, *layout.padded(by), channels)
    framed[:, padding:padding + height, padding:padding + width] = x.permute(0, 2, 3, 1)
    of_map, of_row, of_place, _ = framed.stride()
    overlapping = framed.as_strided(
        (by.size, by.size, n, layout.down, layout.across, channels),
        (of_row, of_place, of_map, by.tile * of_row, by.tile * of_place, 1),
    )
    return torch.mm(by.picture, overlapping.reshape(by.size**2, -1)).view(by.size**2, -1, channels)


def _put_together(tiles: Tensor, by: Transforms, layout: Layout) -> Tensor:
    """Output tiles (m*m, tiles * K) to maps (N, K, H, W), channels_last, without what lies beyond them."""
    n, down, across = layout.count, layout.down, layout.across
    apart = tiles.view(by.tile, by.tile, n, down, across, -1)
    outputs = apart.shape[-1]
    # a tensor of its own, not a view: ReLUs work in place
    maps = torch.empty(
        (n, outputs, layout.height, layout.width), dtype=tiles.dtype, memory_format=torch.channels_last
    )
    places, in_order = maps.permute(0, 2, 3, 1), apart.permute(2, 3, 0, 4, 1, 5)
    if layout.height == down * by.tile and layout.width == across * by.tile:
        places.view(n, down, by.tile, across, by.tile, outputs).copy_(in_order)
    else:
        whole = in_order.reshape(n, down * by.tile, across * by.tile, outputs)
        places.copy_(whole[:, :layout.height, :layout.width])
    return maps


def _taken_apart(maps: Tensor, by: Transforms, layout: Layout) -> Tensor:
    """Maps (N, K, H, W) to output tiles (m*m, tiles * K), with zeros beyond the maps."""
    places = maps.permute(0, 2, 3, 1)
    down, across = layout.down * by.tile - layout.height, layout.across * by.tile - layout.width
    whole = F.pad(places, (0, 0, 0, across, 0, down)) if down or across else places.contiguous()
    apart = whole.view(layout.count, layout.down, by.tile, layout.across, by.tile, -1)
    return apart.permute(2, 4, 0, 1, 3, 5).reshape(by.tile**2, -1)


def _summed_up(tiles: Tensor, by: Transforms, layout: Layout, shape: torch.Size, padding: int) -> Tensor:
    """Gradients of overlapping input tiles (a*a, tiles * C) to those of maps (N, C, H, W) of this shape but
    for N.
    """
    n, (channels, height, width) = layout.count, shape[1:]
    blocks = -(-by.size // by.tile)   # of m x m places that a tile reaches into, in a direction
    apart = tiles.view(by.size, by.size, n, layout.down, layout.across, channels)
    summed = tiles.new_zeros(
        n, layout.down + blocks - 1, by.tile, layout.across + blocks - 1, by.tile, channels
    )
    for row in range(blocks):
        for column in range(blocks):
            part = apart[row * by.tile:(row + 1) * by.tile, column * by.tile:(column + 1) * by.tile]
            rows, columns = slice(row, row + layout.down), slice(column, column + layout.across)
            target = summed[:, rows, :len(part), columns, :part.shape[1]]
            target += part.permute(2, 3, 0, 4, 1, 5)
    places = summed.view(
        n, (layout.down + blocks - 1) * by.tile, (layout.across + blocks - 1) * by.tile, channels
    )
    inside = places[:, padding:padding + height, padding:padding + width]
    return inside.permute(0, 3, 1, 2)
