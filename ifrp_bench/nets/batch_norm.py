"""Batch normalisation over several processes, on CPUs as well (torch's own ``SyncBatchNorm`` needs GPUs)."""

import torch
from torch import Tensor, nn


class _Mean(torch.autograd.Function):
    """The mean over the processes; its gradient is the mean of the gradients."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:   # type: ignore[override]
        return _mean(tensor)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:   # type: ignore[override]
        return _mean(gradient)


def _mean(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    torch.distributed.all_reduce(tensor)
    return tensor / torch.distributed.get_world_size()


class SyncedBatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose training statistics are those of all processes' equal parts of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.float()
        moments = _Mean.apply(torch.stack([wide.mean((0, 2, 3)), wide.square().mean((0, 2, 3))]))   # (2, C)
        mean, variance = moments[0], (moments[1] - moments[0].square()).clamp_min(0)
        count = x.numel() / x.shape[1] * torch.distributed.get_world_size()
        with torch.no_grad():
            assert (
                self.running_mean is not None
                and self.running_var is not None
                and self.num_batches_tracked is not None
                and self.momentum is not None
            )
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (wide * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(x.dtype)


def synchronized(network: nn.Module) -> nn.Module:
    """The network with every batch normalisation synchronized, weights and statistics shared with it."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm
    return network
