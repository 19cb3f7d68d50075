"""How well and how fast photographs are aligned.

    python benchmarks/alignment.py --faces LFW --landmarks data/lfw/landmarks.csv --sheet aligned.png
    python benchmarks/alignment.py --faces LFW --speed 400
    python benchmarks/alignment.py --faces LFW --mirrored 200
    python benchmarks/alignment.py --rendered 96

Faces are searched again on aligned pictures and their eyes compared with CelebA's template; a contact sheet
of a hundred of them to look at. ``--speed``: photographs searched a second, over as many processes as a
synthesis takes. ``--mirrored``: how far searches of a photograph and of its mirror image put the face, which
nothing that learns from such faces can know. ``--rendered``: the distance from eyes that are known, of
rendered faces turned, scaled and moved, beside facenet-pytorch's own cascade.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.images import tile, write_png
from ifrp_bench.ground.warp import FACE_PX, TEMPLATE_PX, WINDOW_PX, eyes_similarity
from ifrp_bench.ground.workers import default_workers
from ifrp_bench.nets.detector import MIN_FACE_PX, MIN_PROBABILITY, find_faces
from ifrp_bench.sources.folder import OTHER_FACE_PX, Search, find_in, open_folder
from ifrp_bench.sources.procedural.rendering import render
from ifrp_bench.sources.procedural.traits import draw_traits

BATCH = 32   # faces rendered at a time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--landmarks", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--speed", type=int, default=0)
    parser.add_argument("--mirrored", type=int, default=0)
    parser.add_argument("--rendered", type=int, default=0)
    options = parser.parse_args()
    if options.rendered:
        known_eyes(options.rendered)
    if options.speed:
        speed(options.faces, options.speed)
    if options.mirrored:
        mirrored(options.faces, options.mirrored)
    if options.landmarks:
        again(options.faces, options.landmarks, options.count, options.sheet)


def again(folder: Path, landmarks: Path, count: int, sheet: Path | None) -> None:
    """Search aligned photographs once more."""
    source = open_folder(folder, landmarks=landmarks)
    faces = source.faces()
    chosen = [faces[i] for i in generator(0, "alignment").permutation(len(faces))[:count]]
    frames = [source.read(face) for face in tqdm(chosen)]
    off = []
    for frame in tqdm(frames, leave=False):
        found = find_faces(frame)
        off.append(np.hypot(*(found[0].landmarks_px[:2] - TEMPLATE_PX[:2]).T) if found else [np.inf, np.inf])
    eyes = np.array(off)   # (faces, 2)
    print(
        f"{len(faces)} faces used, {len(source.skipped())} left out:"
        f" {[(entry.name, entry.reason) for entry in source.skipped()[:5]]}"
    )
    print(described("searched again", eyes[np.isfinite(eyes).all(1)]))
    print(f"not found again: {np.isinf(eyes).any(1).sum()}")
    if sheet:
        write_png(sheet, tile([frames[row : row + 20] for row in range(0, min(100, len(frames)), 20)], 2))


def described(name: str, off: np.ndarray) -> str:
    """Of distances (faces, 2), in pixels of the frame."""
    worst = off.max(1)
    return (
        f"{name}: of {off.size} eyes {(off <= 2).mean():.1%} within 2 px, of {len(off)} faces both"
        f" {(worst <= 2).mean():.1%}; {off.mean():.2f} px on average"
    )


def drawn(files: list[str], count: int, key: str) -> list[str]:
    """Some of a folder's files."""
    return [files[i] for i in generator(0, key).permutation(len(files))[:count]]


def speed(folder: Path, count: int) -> None:
    """Search photographs, over the workers."""
    workers = default_workers()
    with tempfile.TemporaryDirectory() as place:
        search = Search(folder, Path(place) / "landmarks.csv", {}, workers, True)
        chosen = drawn(search.files(), count, "speed")
        started = time.perf_counter()
        search.of(chosen)
        taken = time.perf_counter() - started
    print(f"{count} photographs by {workers} processes: {taken:.1f} s, {count / taken:.1f} a second")


def mirrored(folder: Path, count: int) -> None:
    """Distances, in pixels of the 128 px window, between where two searches have its points."""
    off = []
    with tempfile.TemporaryDirectory() as place:
        files = Search(folder, Path(place) / "landmarks.csv", {}, 1, True).files()
    for file in tqdm(drawn(files, count, "mirrored"), leave=False):
        picture = cv2.imread(str(folder / file))[:, :, ::-1]
        one, other = (find_in(np.ascontiguousarray(side), "", "") for side in (picture, picture[:, ::-1]))
        if one.reason or other.reason:
            continue
        # left and right change places with the picture's sides
        theirs = other.eyes[::-1] * (-1, 1) + (picture.shape[1] - 1, 0)
        if np.abs(theirs - one.eyes).max() < OTHER_FACE_PX:
            off.append(window_px_apart(one.eyes, theirs))
    distance = np.array(off)
    print(
        f"{len(off)} photographs and their mirror images: {np.sqrt((distance ** 2).mean()):.2f} px apart"
        f" (root mean square), {np.median(distance):.2f} in the median"
    )


def window_px_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square, over the window, of how far two pairs of eyes put its points, in 128ths of its sides.
    """
    left, top, width, height = WINDOW_PX
    steps = np.stack(np.meshgrid(*[np.linspace(0, 1, 21)] * 2), -1).reshape(-1, 2)
    points = (left, top) + steps * (width - 1, height - 1)
    first, second = (eyes_similarity(*TEMPLATE_PX[:2], *eyes) for eyes in (one, other))   # to the photograph
    there = points @ first[:, :2].T + first[:, 2]
    moved = (there - second[:, 2]) @ np.linalg.inv(second[:, :2]).T - points
    return float(np.sqrt(np.square(moved * FACE_PX / np.array([width, height])).sum(1).mean()))


def moved_faces(count: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Rendered faces turned, scaled and moved, as photographs of 250x250: picture, eyes (2, 2), scale."""
    draws = generator(0, "known eyes")
    made = []
    for start in range(0, count, BATCH):
        for face in render([draw_traits(7, n, 0) for n in range(start, min(start + BATCH, count))]):
            scale = draws.uniform(0.6, 1.6)
            matrix = cv2.getRotationMatrix2D((89, 109), draws.uniform(-15, 15), scale)
            matrix[:, 2] += np.array([36, 16]) + draws.uniform(-15, 15, 2)
            picture = cv2.warpAffine(
                face, matrix, (250, 250), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
            made.append((picture, TEMPLATE_PX[:2] @ matrix[:, :2].T + matrix[:, 2], scale))
    return made


def known_eyes(count: int) -> None:
    """The distance from the eyes of rendered faces, in pixels of the frame, and seconds a look."""
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    package = MTCNN(min_face_size=MIN_FACE_PX, keep_all=True, device="cpu")

    def theirs(picture: np.ndarray) -> np.ndarray:
        _, probabilities, landmarks = package.detect(picture, landmarks=True)
        sure = [np.asarray(face, float) for face, p in zip(landmarks, probabilities) if p >= MIN_PROBABILITY]
        return min(sure, key=lambda face: float(np.hypot(*(face[:3].mean(0) - 124.5))))[:2]

    def one(picture: np.ndarray) -> np.ndarray:
        return find_faces(picture)[0].landmarks_px[:2]

    def six(picture: np.ndarray) -> np.ndarray:
        return find_in(picture, "", "").eyes

    photographs = moved_faces(count)
    for name, look in (("the package, one look", theirs), ("one look", one), ("six looks", six)):
        look(photographs[0][0])
        started = time.perf_counter()
        off = [np.hypot(*(look(picture) - eyes).T) / scale for picture, eyes, scale in photographs]
        each = (time.perf_counter() - started) / count
        print(described(f"{name} ({1000 * each:.0f} ms)", np.array(off)))


if __name__ == "__main__":
    main()
