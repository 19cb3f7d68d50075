"""Recomputes PSNR, SSIM, FRR and FCR from the files on disk, sharing no code
with the package: DATA RESULTS RECOVERED RECOGNISER.onnx METHOD
"""

import json
import sys
from itertools import permutations
from pathlib import Path

import cv2
import h5py
import numpy as np
import onnxruntime
import pandas as pd
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def embed(faces, path):
    card = json.loads(Path(path).with_suffix(".json").read_text())
    frame = np.array([[69.4, 111.2], [107.6, 111.2], [88.1, 135.0], [71.0, 152.3], [105.0, 152.3]])
    rows = [row for x, y in card["template"] for row in ([x, -y, 1, 0], [y, x, 0, 1])]
    # recogniser's pixels to the frame's
    a, b, dx, dy = np.linalg.lstsq(np.array(rows), frame.ravel(), rcond=None)[0]
    window = np.array([[107 / 128, 0, 34 + 107 / 256 - 0.5], [0, 133 / 128, 54 + 133 / 256 - 0.5], [0, 0, 1]])
    source = (np.linalg.inv(window) @ [[a, -b, dx], [b, a, dy], [0, 0, 1]])[:2]   # and on to the face's
    dense = int(np.ceil(np.linalg.svd(source[:, :2])[1][0]))
    source[:, :2] /= dense
    source[:, 2] -= source[:, :2].sum(1) * (dense - 1) / 2
    session, found, size = (
        onnxruntime.InferenceSession(str(path)),
        [],
        np.array([card["width_px"], card["height_px"]]),
    )
    for face in faces:
        crop = cv2.warpAffine(
            np.float32(face),
            source,
            size * dense,
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        crop = np.clip(np.rint(cv2.resize(crop, size, interpolation=cv2.INTER_AREA)), 0, 255)
        values = ((crop - card["mean"]) / card["std"]).transpose(2, 0, 1)[None].astype(np.float32)
        found.append(session.run(None, {session.get_inputs()[0].name: values})[0][0])
    return np.array(found) / np.linalg.norm(found, axis=1, keepdims=True)


def main(data, results, recovered, recogniser, method):
    parts = []
    for path in sorted(Path(data).glob("test-*.h5")):
        with h5py.File(path) as shard, h5py.File(Path(recovered) / path.name) as made:
            parts.append(
                (
                    made["recovered"][()],
                    shard["real"][()][shard["real_index"][()]],
                    shard["style"][()].astype(str),
                    shard["face"][()].astype(str),
                )
            )
    recovered, real, style, face = (np.concatenate(column) for column in zip(*parts))
    luma = [faces @ np.array([0.299, 0.587, 0.114]) for faces in (recovered, real)]
    names = sorted(set(face))
    own = np.array([names.index(name) for name in face])
    gallery, queries = embed([real[list(face).index(name)] for name in names], recogniser), embed(
        recovered, recogniser
    )
    scores = queries @ gallery.T
    hit = (scores > scores[np.arange(len(own)), own][:, None]).sum(1) < 5
    psnr = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(real, recovered)]
    ssim = [
        structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        for x, y in zip(*luma)
    ]
    theirs = (
        pd.read_csv(Path(results) / "scores.csv")
        .query("method == @method")
        .set_index(["style", "face"])
        .loc[list(zip(style, face))]
    )
    assert (
        np.allclose(psnr, theirs["psnr_db"])
        and np.allclose(ssim, theirs["ssim"])
        and (hit == theirs["hit_top5"].to_numpy()).all()
    )
    fcr = []
    for pair in permutations(sorted(set(style)), 2):
        left, right = (queries[style == one][np.argsort(face[style == one])] for one in pair)
        fcr.append((((left @ right.T) > (left * right).sum(1)[:, None] + 1e-6).sum(1) < 5).mean())
    assert np.isclose(
        np.mean(fcr),
        pd.read_csv(Path(results) / "consistency.csv").query("method == @method")["hit_top5"].mean(),
        atol=1e-4,
    )
    print(
        f"agrees: {len(face)} faces, PSNR {np.mean(psnr):.3f}, SSIM {np.mean(ssim):.4f}, FRR"
        f" {100 * hit.mean():.2f}, FCR {100 * np.mean(fcr):.2f}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
