"""How sharp recovered faces are: their energy by spatial frequency against that of the real ones, and whether
a grid stands in them.

    python -m benchmarks.spectrum data/lfw runs/lfw/align-restore/recovered/lfw/raw

Grey faces under a Hann window; energy in rings of the spectrum, in cycles a pixel, as a ratio of the means
over all faces. A grid of pixel-shuffles by n shows as a peak at 1/n against the frequencies beside it: the
ratio of both, along the axes, is 1 where there is none.
"""

from pathlib import Path

import click
import numpy as np

from ifrp_bench.data.format import open_dataset, read_recovered

BANDS = ((0.0, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 0.5))
GREY = np.array([0.299, 0.587, 0.114])   # BT.601


def energy(faces: np.ndarray) -> np.ndarray:
    """Mean power spectrum, (128, 128), zero frequency first, of faces, uint8 (N, 128, 128, 3)."""
    grey = faces.astype(np.float32) @ GREY.astype(np.float32)
    window = np.outer(np.hanning(grey.shape[1]), np.hanning(grey.shape[2])).astype(np.float32)
    grey = (grey - grey.mean((1, 2), keepdims=True)) * window
    return (np.abs(np.fft.fft2(grey)) ** 2).mean(0)


def peak(power: np.ndarray, period: int) -> float:
    """Of a grid with this period: power at its frequency along both axes, by the power beside it."""
    size = len(power)
    at = size // period
    beside = [at - 3, at - 2] + ([at + 2, at + 3] if at + 3 <= size // 2 else [])
    axes = (power[:3].mean(0), power[:, :3].mean(1))
    return float(np.mean([axis[at] / np.mean(axis[beside]) for axis in axes]))


@click.command()
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.argument("recovered", type=click.Path(path_type=Path, file_okay=False))
@click.option("--split", default="test", show_default=True)
def main(data: Path, recovered: Path, split: str) -> None:
    """Print the ratios for seen and unseen styles."""
    dataset = open_dataset(data)
    sums: dict[str, list[np.ndarray]] = {"seen": [], "unseen": [], "real": []}
    counts = dict.fromkeys(sums, 0)
    for path in dataset.shards(split):
        shard = dataset.read(path)
        faces = read_recovered(recovered / path.name, rows=len(shard.stylized))
        seen = np.isin(np.char.decode(shard.style), dataset.seen)
        for name, group in (("seen", faces[seen]), ("unseen", faces[~seen]), ("real", shard.real)):
            if len(group):
                sums[name].append(energy(group) * len(group))
                counts[name] += len(group)
    mean = {name: np.sum(parts, 0) / counts[name] for name, parts in sums.items() if parts}

    # rings of the spectrum, against the real faces'
    frequency = np.abs(np.fft.fftfreq(len(mean["real"])))
    ring = np.hypot(*np.meshgrid(frequency, frequency))
    titles = "".join(f"{f'to {high:.4g}':>10}" for _, high in BANDS)
    click.echo(f"{'styles':8}{titles}   peak at 1/4, 1/2")
    for name, power in mean.items():
        bands = [(ring > low) & (ring <= high) for low, high in BANDS]
        shares = "".join(f"{100 * power[band].sum() / mean['real'][band].sum():8.1f} %" for band in bands)
        click.echo(f"{name:8}{shares}   {peak(power, 4):.2f}, {peak(power, 2):.2f}")


if __name__ == "__main__":
    main()
