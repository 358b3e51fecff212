"""Small images and pairs of sentences in the layouts of the published data sets."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.multitask.celeba40 import ATTRIBUTES


def write_birds(root: Path) -> None:
    """Write Waterbirds: 24 images, each group in each split."""
    folder = root / "waterbirds" / "waterbird_complete95_forest2water2"
    folder.mkdir(parents=True)
    rows = ["img_id,img_filename,y,split,place"]
    for i in range(24):
        Image.fromarray(np.full((4, 5, 3), i, np.uint8)).save(folder / f"{i}.png")
        rows.append(f"{i},{i}.png,{i % 2},{i // 4 % 3},{i // 2 % 2}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def write_faces(root: Path) -> None:
    """Write CelebA flat: 24 images, each group in each split."""
    folder = root / "celeba"
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    blond, male = ATTRIBUTES.index("Blond_Hair"), ATTRIBUTES.index("Male")
    rows, splits = ["24", " ".join(ATTRIBUTES) + " "], []
    for i in range(24):
        name = f"{i + 1:06d}.jpg"
        Image.fromarray(np.full((10, 8, 3), 9 * i, np.uint8)).save(images / name)
        labels = [1 if (i + j) % 3 else -1 for j in range(40)]
        labels[blond], labels[male] = 2 * (i % 2) - 1, 2 * (i // 2 % 2) - 1
        rows.append(f"{name} {' '.join(f'{label:2d}' for label in labels)}")
        splits.append(f"{name} {i // 4 % 3}")
    (folder / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(splits) + "\n")


def write_pairs(root: Path) -> None:
    """Write MultiNLI's corpus: 300 pairs of which a third is of each label, half with negation."""
    folder = root / "multinli" / "multinli_1.0"
    folder.mkdir(parents=True)
    labels = ("contradiction", "entailment", "neutral")
    for part in ("train", "dev_matched", "dev_mismatched"):
        rows = [
            {
                "sentence1": f"one {i}",
                "sentence2": f"two {'no ' if i // 3 % 2 else ''}{i}",
                "gold_label": labels[i % 3],
            }
            for i in range(100)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"multinli_1.0_{part}.jsonl").write_text(text)
