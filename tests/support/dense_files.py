"""Generated frames in the layout of MTAN's NYUv2 and Cityscapes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

CLASSES = {"nyuv2": 13, "cityscapes": 7}
FOLDERS = {
    "nyuv2": ("image", "label", "depth", "normal"),
    "cityscapes": ("image", "label_7", "depth"),
}

Frame = dict[str, np.ndarray]


def frame(dataset: str, size: tuple[int, int], seed: int) -> Frame:
    """Return a frame in which all tasks can be read off the image, by folder.

    Vertical stripes, whose shade tells class, depth and direction; the left edge is undefined.
    """
    random = np.random.default_rng(seed)
    classes, width = CLASSES[dataset], size[1]
    stripes = random.integers(0, classes, width // 8 + 1).repeat(8)[:width]
    label = np.broadcast_to(stripes, size).astype(np.float32)
    share = (label + 1) / classes
    noise = random.uniform(0, 0.02, (*size, 3))
    image = np.clip(share[..., None] * [1.0, 0.5, 0.25] + noise, 0, 1).astype(np.float32)
    depth = (4 * share[..., None]).astype(np.float32)
    angle = share * np.pi / 3
    normal = np.stack([np.sin(angle), np.zeros(size), np.cos(angle)], axis=-1).astype(np.float32)
    label[:, 0], depth[:, 0], normal[:, 0] = -1, 0, 0
    parts: Frame = {"image": image, "depth": depth, "normal": normal}
    parts |= {"label": label, "label_7": label}
    return {folder: parts[folder] for folder in FOLDERS[dataset]}


def write_frame(folder: Path, index: int, parts: Mapping[str, np.ndarray]) -> None:
    """Write the files of one frame below ``train`` or ``val``."""
    for name, values in parts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / f"{index}.npy", values, allow_pickle=False)


def write_dense(
    root: Path, dataset: str, train: int = 12, val: int = 3, size: tuple[int, int] = (32, 48)
) -> Path:
    """Write a data set; return its folder, ``<root>/<dataset>``."""
    folder = root / dataset
    for split, count in (("train", train), ("val", val)):
        for index in range(count):
            parts = frame(dataset, size, seed=index + 1000 * (split == "val"))
            write_frame(folder / split, index, parts)
    return folder
