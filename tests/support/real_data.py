"""Pieces of real data sets, and small folders in the originals' layouts made of them."""

import gzip
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

REAL = Path(
    os.environ.get("EVENHAND_REAL_DATA")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data"
)


def piece(*parts: str) -> Path:
    """Return a piece of real data; skips the test where it is not on this machine."""
    path = REAL.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not here: set EVENHAND_REAL_DATA to the folder of real data")
    return path


def vocabulary(root: Path) -> None:
    (root / "bert-base-uncased").mkdir(parents=True, exist_ok=True)
    shutil.copy(piece("bert_vocab", "vocab.txt"), root / "bert-base-uncased" / "vocab.txt")


def waterbirds(root: Path, keep: int = 60) -> pd.DataFrame:
    """Lay out ``keep`` real photographs, each group in each split; return their rows."""
    rows = pd.read_csv(piece("waterbirds", "metadata_subset.csv"))
    rows = rows.groupby(["split", "y", "place"]).head(keep // 12).sort_values("img_id")
    folder = root / "waterbirds" / "waterbird_complete95_forest2water2"
    for name in rows["img_filename"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(piece("waterbirds", "images", name), folder / name)
    columns = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    rows[columns].to_csv(folder / "metadata.csv", index=False)
    return rows


def celeba(folder: Path, keep: int = 240) -> pd.DataFrame:
    """Lay out real faces flat; return ``image_id, partition``."""
    rows = pd.read_csv(piece("celeba", "partition_subset.csv"))
    lines = piece("celeba", "list_attr_celeba.txt").read_text().split("\n")
    blond = {line.split()[0]: line.split()[10] for line in lines[2:] if line}
    male = {line.split()[0]: line.split()[21] for line in lines[2:] if line}
    keys = [rows["partition"], rows["image_id"].map(blond), rows["image_id"].map(male)]
    rows = rows.groupby(keys).head(keep // 12).sort_values("image_id")
    (folder / "img_align_celeba").mkdir(parents=True)
    for name in rows["image_id"]:
        shutil.copy(
            piece("celeba", "img_align_celeba_half", name), folder / "img_align_celeba" / name
        )
    text = "".join(f"{name} {split}\n" for name, split in rows.to_numpy())
    (folder / "list_eval_partition.txt").write_text(text)
    shutil.copy(piece("celeba", "list_attr_celeba.txt"), folder / "list_attr_celeba.txt")
    return rows


def multinli(folder: Path) -> None:
    """Lay out the real pairs as GLUE does; the second development part is the first's end."""
    glue = folder / "glue_data" / "MNLI"
    glue.mkdir(parents=True)
    (glue / "train.tsv").write_bytes(
        gzip.decompress(piece("multinli", "train.tsv.gz").read_bytes())
    )
    lines = piece("multinli", "dev_matched_min.tsv").read_text(encoding="utf-8").split("\n")
    (glue / "dev_matched.tsv").write_text("\n".join(lines[:5001]) + "\n", encoding="utf-8")
    rest = "\n".join([lines[0], *lines[5001:]])
    (glue / "dev_mismatched.tsv").write_text(rest, encoding="utf-8")


def comments() -> pd.DataFrame:
    """Return real comments in the layout of WILDS' file.

    The identities are a keyword match, not human annotation.
    """
    data = pd.read_csv(piece("civilcomments", "civil_comments_toxic_spans.csv"), na_filter=False)
    names = {name: name.removeprefix("kw_") for name in map(str, data) if name.startswith("kw_")}
    data = data.rename(columns=names).drop(columns="identity_any")
    return data.reset_index(drop=True)
