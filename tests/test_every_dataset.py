"""Every data set on disk, prepared from real pieces, trained one epoch by every method that fits.

The pieces are cut small (a few hundred examples, tiles of real frames) and the models are small
ones of the same classes. What does not exist here (Cityscapes' depth) is generated.
"""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import datasets
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from core.training.run import Run
from datasets import prepare
from datasets.on_disk import OnDisk
from tests.support import dense_files, real_data
from tests.support.command import run_tune

pytestmark = pytest.mark.real_data

TILE = 96
EXAMPLES = 24
NEGATED = re.compile(r"\b(nobody|no|never|nothing)\b", re.IGNORECASE)


def waterbirds(root: Path) -> None:
    real_data.waterbirds(root)


def celeba(root: Path) -> None:
    real_data.celeba(root / "celeba", keep=60)


def multinli(root: Path) -> None:
    """The first pairs of each file, and some of each label that negate, so that no group lacks."""
    real_data.vocabulary(root)
    real_data.multinli(root / "multinli")
    for path in sorted((root / "multinli" / "glue_data" / "MNLI").iterdir()):
        lines = path.read_text(encoding="utf-8").split("\n")[:2000]
        rows = [line.split("\t") for line in lines if line]
        second, label = rows[0].index("sentence2"), rows[0].index("gold_label")
        negating = [row for row in rows[EXAMPLES + 1 :] if NEGATED.search(row[second])]
        some = pd.DataFrame(negating).groupby(label).head(8).to_numpy().tolist()
        text = "".join("\t".join(row) + "\n" for row in rows[: EXAMPLES + 1] + some)
        path.write_text(text, encoding="utf-8")


def _comments(folder: Path) -> None:
    """A few comments of every group of every split, and some that name no identity."""
    data = real_data.comments()
    toxic, mentioned = data["toxicity"] >= 0.5, data[list(IDENTITIES)] >= 0.5
    keys = [data["split"], toxic]
    parts = [data[mentioned[name]].groupby(keys).head(2) for name in IDENTITIES]
    parts.append(data[~mentioned.any(axis=1)].groupby(keys).head(3))
    chosen = pd.concat(parts).drop_duplicates("id").reset_index(drop=True)
    folder.mkdir()
    chosen.to_csv(folder / "all_data_with_identities.csv")


IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")


def civilcomments(root: Path) -> None:
    real_data.vocabulary(root)
    _comments(root / "civilcomments")


def folder(root: Path) -> None:
    """Posts in a table of one's own."""
    real_data.vocabulary(root)
    data = real_data.comments()
    data["y"], data["a"] = (data["toxicity"] >= 0.5).astype(int), (data["male"] >= 0.5).astype(int)
    data = data.groupby(["split", "y", "a"]).head(3)
    table = pd.DataFrame({
        "id": data["id"], "filename": data["id"], "y": data["y"], "a": data["a"],
        "split": data["split"].map({"train": 0, "val": 1, "test": 2}),
        "text": data["comment_text"],
    })  # fmt: skip
    (root / "folder").mkdir()
    table.to_csv(root / "folder" / "metadata.csv", index=False)


def _tiles(root: Path, name: str) -> None:
    """Cut real frames, with generated parts where the real ones lack, into tiles."""
    real = real_data.piece(name, "mtan_format")
    for split in ("train", "val"):
        tiles = 0
        for frame in range(len(list((real / split / "image").glob("*.npy")))):
            size = np.load(real / split / "image" / f"{frame}.npy").shape[:2]
            parts = dense_files.frame(name, (size[0], size[1]), seed=frame)
            for part in parts:
                stored = real / split / part / f"{frame}.npy"
                if stored.exists():
                    parts[part] = np.load(stored)
            for top in range(0, size[0] - TILE + 1, TILE):
                for left in range(0, size[1] - TILE + 1, TILE):
                    cut = {n: v[top : top + TILE, left : left + TILE] for n, v in parts.items()}
                    if (cut["depth"] > 0).any() and tiles < 4:
                        dense_files.write_frame(root / name / split, tiles, cut)
                        tiles += 1


def nyuv2(root: Path) -> None:
    _tiles(root, "nyuv2")


def cityscapes(root: Path) -> None:
    _tiles(root, "cityscapes")


def celeba40(root: Path) -> None:
    real_data.celeba(root / "celeba", keep=36)


def qm9(root: Path) -> None:
    shutil.copytree(real_data.piece("qm9", "raw"), root / "qm9" / "raw")


# How each is laid out, and the small model in place of the big one.
EVERY: dict[str, tuple[Callable[[Path], None], str]] = {
    "waterbirds": (waterbirds, "tiny_vit"),
    "celeba": (celeba, "tiny_vit"),
    "multinli": (multinli, "tiny_bert"),
    "civilcomments": (civilcomments, "tiny_bert"),
    "folder": (folder, "tiny_bert"),
    "nyuv2": (nyuv2, "segnet_small"),
    "cityscapes": (cityscapes, "segnet_mtan_small"),
    "celeba40": (celeba40, "celeba_cnn_small"),
    "qm9": (qm9, "mpnn_small"),
}
# These read what another one's test lays out: the rest is the same code.
SIBLINGS = {"civilcomments_fine", "civilcomments_small", "civilcomments_small_fine"}
SMALL: dict[str, Hyperparameters] = {
    "jtt": {"T": 1, "up": 2}, "tapt": {"pretrain_epochs": 1}, "dfr": {"c": 0.1},
}  # fmt: skip
BATCHES = {"nyuv2": 4, "cityscapes": 4, "qm9": 100}  # where it is not 24


def test_no_dataset_is_left_out() -> None:
    on_disk = {
        n for n in datasets.list_benchmarks() if isinstance(datasets.load_benchmark(n), OnDisk)
    }
    assert on_disk == set(EVERY) | SIBLINGS


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_method_trains_an_epoch(name: str, tmp_path: Path) -> None:
    lay_out, model = EVERY[name]
    if name == "qm9":
        pytest.importorskip("rdkit", reason="requirements-qm9.txt is not installed")
    lay_out(tmp_path)
    assert prepare.main([name, "--data-root", str(tmp_path)]) == 0
    benchmark = datasets.load_benchmark(name, tmp_path)
    fitting = [m for m in list_methods() if load_method(m).needs <= benchmark.provides]
    assert len(fitting) >= 15
    for method in fitting:
        size = BATCHES.get(name, 24)
        config: Hyperparameters = {
            "epochs": 1,
            "model": model,
            "batch_size": size,
            **SMALL.get(method, {}),
        }
        key = resolve_method(load_method(method), benchmark).make_key(
            config, 0, detect_environment(gpu=False)
        )
        run = Run(key, benchmark)
        rows = [run.train_epoch() for _ in range(run.total_epochs)]
        assert rows[-1].eligible, method
        assert all(math.isfinite(loss) for row in rows for loss in row.losses.values())
        for metric in benchmark.reported_metrics:
            assert math.isfinite(rows[-1].validation[metric]), (method, metric)
        json.dumps([row.as_dict() for row in rows])


@pytest.mark.parametrize(
    ("name", "chosen"), [("waterbirds", ["erm_mt_l1", "dfr"]), ("nyuv2", ["ls", "fairgrad"])]
)
def test_a_study_and_its_table(name: str, chosen: list[str], tmp_path: Path) -> None:
    lay_out, model = EVERY[name]
    lay_out(tmp_path / "data")
    done = run_tune(["--method", *chosen, "--dataset", name, "--data-root", tmp_path / "data",
                 "--results", tmp_path / "results", "--epochs", "1", "--trials", "2", "--seeds",
                 "2", "--set", f"model={model}", "--set", "batch_size=4"])  # fmt: skip
    assert done.ran_to_end, done.err
    table = (tmp_path / "results" / name / "table.md").read_text()
    assert all(f"| {method}" in table for method in chosen)
