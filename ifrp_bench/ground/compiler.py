"""``torch.compile`` where it can be had, and a word where it cannot."""

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm


def compiler(device: str, wish: str = "auto") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What makes a function fast: ``torch.compile`` with ``wish`` ``on``, or ``auto`` on a GPU.

    Otherwise the function stays as it is.
    """
    if wish == "off" or (wish == "auto" and device == "cpu"):
        return lambda function: function
    return lambda function: compiled(function, device)


def compiled(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """The function through ``torch.compile``, or itself, with a word, where that cannot be compiled."""
    import torch
    from torch._dynamo.exc import TorchDynamoException

    if device == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        _say_uncompiled("no C++ compiler found")
        return function
    fast = torch.compile(function)

    def call(*arguments: Any) -> Any:
        nonlocal fast
        try:
            return fast(*arguments)
        except TorchDynamoException as error:
            _say_uncompiled(" ".join(str(error).split())[:100])
            fast = function
            return function(*arguments)

    return call


def _say_uncompiled(reason: str) -> None:
    tqdm.write(f"note: {reason}; training runs uncompiled: slower, the same within rounding", file=sys.stderr)
