"""Kernels rewritten for pictures laid out in 2x2 blocks of pixels, four times the channels at half the size: the same functions, faster where a
picture is large and has few channels. Channels of a block are ordered as ``F.pixel_shuffle`` has them: channel, row, column.
"""

from torch import Tensor


def block_kernel(kernel: Tensor) -> Tensor:
    """An odd kernel (O, I, k, k) on pixels to (4O, 4I, (k+1)/2, (k+1)/2) on blocks, for maps padded by k//2 pixels, an even number.

    Output pixel (i, j) of a block sees pixel (u, v) of the (k+1)x(k+1) around it through tap (u - i, v - j).
    """
    outputs, inputs, taps, _ = kernel.shape
    size = (taps + 1) // 2
    blocks = kernel.new_zeros(outputs, 2, 2, inputs, 2, 2, size, size)
    for i in range(2):
        for j in range(2):
            for u in range(2 * size):
                for v in range(2 * size):
                    if 0 <= u - i < taps and 0 <= v - j < taps:
                        blocks[:, i, j, :, u % 2, v % 2, u // 2, v // 2] = kernel[:, :, u - i, v - j]
    return blocks.reshape(4 * outputs, 4 * inputs, size, size)
