"""A pool of made pictures (Shrivastava et al. 2017): a discriminator sees some that its generator made a while ago. Part of a run's checkpoint."""

from typing import Any

import torch
from torch import Tensor

from ifrp_bench.draws import generator


class ImagePool:
    """Holds ``size`` pictures. Its draws are a function of the seed, its name and how many batches it has seen, so a resumed run draws on."""

    def __init__(self, size: int, seed: int, name: str) -> None:
        self.size, self.seed, self.name = size, seed, name
        self.pictures: Tensor | None = None   # (up to size, C, H, W)
        self.seen = 0   # batches

    def exchange(self, made: Tensor) -> Tensor:
        """The batch (N, C, H, W) for the discriminator: until the pool is full the pictures themselves; then each with probability 1/2 is put into the
        pool and an older one given in its place."""
        if not self.size:
            return made
        draws = generator(self.seed, "pool", self.name, self.seen)
        self.seen += 1
        given = []
        for picture in made:
            if self.pictures is None or len(self.pictures) < self.size:
                self.pictures = picture[None].clone() if self.pictures is None else torch.cat([self.pictures, picture[None]])
                given.append(picture)
            elif draws.random() < 0.5:
                place = int(draws.integers(self.size))
                given.append(self.pictures[place].clone())
                self.pictures[place] = picture
            else:
                given.append(picture)
        return torch.stack(given)

    def state(self) -> dict[str, Any]:
        """Its pictures and its count."""
        return {"seen": self.seen} | ({"pictures": self.pictures.clone()} if self.pictures is not None else {})

    def restore(self, state: dict[str, Any], device: str) -> None:
        """Take up a ``state``."""
        self.seen = state["seen"]
        self.pictures = state["pictures"].to(device, copy=True) if "pictures" in state else None
