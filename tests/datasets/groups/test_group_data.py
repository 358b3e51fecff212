"""Every group data set's real loader on pieces of the real data, in the originals' layouts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import datasets
from common.errors import UserError
from datasets.benchmark import SPLITS
from datasets.groups.table import TableBenchmark
from datasets.storage.ragged_arrays import RaggedImages, RaggedTexts
from tests.support import real_data

pytestmark = pytest.mark.real_data


def loaded(name: str, root: Path) -> TableBenchmark:
    found = datasets.load_benchmark.__wrapped__(name, root)  # not the copy of another test's folder
    assert isinstance(found, TableBenchmark)
    return found


def counts(benchmark: TableBenchmark, split: str) -> dict[int, int]:
    group = benchmark.splits[split].group
    assert group is not None
    return {int(g): int((group == g).sum()) for g in group.unique()}


def test_waterbirds(tmp_path: Path) -> None:
    rows = real_data.waterbirds(tmp_path)
    benchmark = loaded("waterbirds", tmp_path)
    for number, name in enumerate(SPLITS):
        expected = rows[rows["split"] == number]
        by_group = (2 * expected["y"] + expected["place"]).value_counts().to_dict()
        assert counts(benchmark, name) == by_group == dict(enumerate(benchmark.count_groups(name)))
        images = benchmark.splits[name].inputs
        assert isinstance(images, RaggedImages)
        batch = images[torch.arange(len(images))]
        for i, file in enumerate(expected["img_filename"]):
            path = tmp_path / "waterbirds/waterbird_complete95_forest2water2" / file
            pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
            height, width = batch.sizes[i].tolist()
            assert torch.equal(batch.pixels[i, :, :height, :width], pixels)
            assert not batch.pixels[i, :, height:].any()
            assert not batch.pixels[i, :, :, width:].any()
    assert not (tmp_path / "waterbirds" / ".prepare.lock").is_dir()


def test_waterbirds_table_of_the_published_code_is_read_where_it_lies(tmp_path: Path) -> None:
    real_data.waterbirds(tmp_path)
    first = loaded("waterbirds", tmp_path)
    first.write_metadata()
    table = pd.read_csv(tmp_path / "waterbirds" / "metadata_waterbirds.csv")
    assert list(table) == ["id", "filename", "split", "y", "a"]
    (tmp_path / "metadata").mkdir()
    (tmp_path / "waterbirds/metadata_waterbirds.csv").rename(
        tmp_path / "metadata/metadata_waterbirds.csv"
    )
    (tmp_path / "waterbirds/waterbird_complete95_forest2water2/metadata.csv").unlink()
    assert loaded("waterbirds", tmp_path).count_groups("train") == first.count_groups("train")


@pytest.mark.medium
@pytest.mark.parametrize("layout", ["flat", "release"])
def test_celeba(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "celeba"
    rows = real_data.celeba(folder)
    if layout == "release":
        for part, name in (
            ("Img", "img_align_celeba"),
            ("Anno", "list_attr_celeba.txt"),
            ("Eval", "list_eval_partition.txt"),
        ):
            (folder / part).mkdir()
            (folder / name).rename(folder / part / name)
    path = next(folder.rglob("list_attr_celeba.txt"))
    attributes = pd.read_csv(path, sep=r"\s+", skiprows=1)
    benchmark = loaded("celeba", tmp_path)
    for number, name in enumerate(SPLITS):
        chosen = attributes.loc[rows["image_id"][rows["partition"] == number]]
        group = 2 * (chosen["Blond_Hair"] == 1).astype(int) + (chosen["Male"] == 1)
        assert counts(benchmark, name) == group.value_counts().to_dict()
        assert benchmark.splits[name].group.tolist() == group.tolist()  # type: ignore[union-attr]
    images = benchmark.splits["test"].inputs
    assert isinstance(images, RaggedImages)
    assert images[torch.tensor([3, 0])].pixels.shape == (2, 3, 109, 89)


def slow_negation(sentence: str) -> int:
    kept = "".join(c for c in sentence.lower() if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return int(any(word in ("no", "nobody", "never", "nothing") for word in kept.split(" ")))


@pytest.mark.medium
@pytest.mark.deviation("multinli-split")
def test_multinli_from_text(tmp_path: Path) -> None:
    real_data.vocabulary(tmp_path)
    real_data.multinli(tmp_path / "multinli")
    benchmark = loaded("multinli", tmp_path)
    total = sum(len(benchmark.splits[name]) for name in SPLITS)
    assert total == 5467 + 9815
    negated = sum(sum(benchmark.count_groups(name)[1::2]) for name in SPLITS)
    assert negated == 389 + 682  # of train and development pairs, counted apart from this code
    shares = [len(benchmark.splits[name]) / total for name in SPLITS]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=1e-3)
    glue = tmp_path / "multinli" / "glue_data" / "MNLI"
    pairs = pd.concat(
        pd.read_csv(glue / f"{part}.tsv", sep="\t", quoting=3, na_filter=False)
        for part in ("train", "dev_matched", "dev_mismatched")
    ).reset_index(drop=True)
    names = ["contradiction", "entailment", "neutral"]
    for name in SPLITS:
        rows = benchmark.select_rows(name)
        expected = pairs.loc[rows.index]
        y = expected["gold_label"].map(names.index)
        group = 2 * y + expected["sentence2"].map(slow_negation)
        assert benchmark.splits[name].group.tolist() == group.tolist()  # type: ignore[union-attr]
    words = (tmp_path / "bert-base-uncased/vocab.txt").read_text(encoding="utf-8").split("\n")
    texts = benchmark.splits["validation"].inputs
    assert isinstance(texts, RaggedTexts)
    batch = texts[torch.arange(50)]
    for i, row in enumerate(benchmark.select_rows("validation").index[:50]):
        ids = batch.ids[i][batch.attention_mask[i]].tolist()
        second = batch.segments[i][batch.attention_mask[i]].tolist()
        pieces = [words[number] for number in ids]
        assert pieces[0] == "[CLS]"
        assert pieces[-1] == "[SEP]"
        assert pieces.count("[SEP]") == 2
        split = pieces.index("[SEP]") + 1
        assert second == [0] * split + [1] * (len(ids) - split)
        for part, field in ((pieces[1 : split - 1], "sentence1"), (pieces[split:-1], "sentence2")):
            joined = "".join(part).replace("##", "")
            plain = "".join(c for c in pairs[field][row].lower() if not c.isspace())
            if plain.isascii():
                assert joined == plain
    assert int(texts.lengths.max()) <= 128


def test_multinli_as_json_lines(tmp_path: Path) -> None:
    folder = tmp_path / "multinli" / "multinli_1.0"
    folder.mkdir(parents=True)
    for part in ("train", "dev_matched", "dev_mismatched"):
        name = f"multinli_1.0_{part}.jsonl"
        data = real_data.piece("multinli", f"hf_sample_{name}").read_text(encoding="utf-8")
        (folder / name).write_text(data, encoding="utf-8")
    table = loaded("multinli", tmp_path).make_table()
    assert len(table) == 15  # five rows a file, none of them without a label
    assert set(table["y"]) <= {0, 1, 2}


@pytest.fixture
def wilds(tmp_path: Path) -> pd.DataFrame:
    data = real_data.comments()
    data = data[(data["split"] != "train") | (data.index % 5 == 0)].reset_index(drop=True)
    real_data.vocabulary(tmp_path)
    (tmp_path / "civilcomments").mkdir()
    data.to_csv(tmp_path / "civilcomments" / "all_data_with_identities.csv")
    return data


IDENTITIES = ["male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white"]


def slow_groups(data: pd.DataFrame, split: str, fine: bool) -> list[int]:
    """Return the groups of a split by a loop over comments, sorted."""
    found = []
    for _, row in data[data["split"] == split].iterrows():
        y = int(row["toxicity"] >= 0.5)
        mentioned = [a for a, name in enumerate(IDENTITIES) if row[name] >= 0.5]
        if split == "train" and not fine:
            found.append(2 * y + (not mentioned))
        else:
            found += [8 * y + a for a in mentioned]
    return sorted(found)


@pytest.mark.medium
@pytest.mark.deviation("comment-groups")
@pytest.mark.parametrize("name", ["civilcomments", "civilcomments_fine"])
def test_civilcomments(tmp_path: Path, wilds: pd.DataFrame, name: str) -> None:
    benchmark = loaded(name, tmp_path)
    fine = name.endswith("fine")
    assert (benchmark.separate_train_groups is None) == fine
    assert len(benchmark.train_groups) == (16 if fine else 4)
    for split, short in zip(SPLITS, ("train", "val", "test"), strict=True):
        group = benchmark.splits[split].group
        assert group is not None
        assert sorted(group.tolist()) == slow_groups(wilds, short, fine)
        assert torch.equal(group // (8 if fine or split != "train" else 2),
                           benchmark.splits[split].y)  # fmt: skip
    texts = benchmark.splits["validation"].inputs
    assert isinstance(texts, RaggedTexts)
    assert int(texts.lengths.max()) <= 220
    # A comment that mentions several identities is stored once.
    assert len(texts.flat) < int(texts.lengths.sum())
    # The files that the published code would have written are there, and are read without WILDS'.
    grouping = "fine" if fine else "coarse"
    table = pd.read_csv(tmp_path / "civilcomments" / f"metadata_civilcomments_{grouping}.csv")
    assert table["filename"].tolist() == list(range(len(table)))
    (tmp_path / "civilcomments" / "all_data_with_identities.csv").unlink()
    assert loaded(name, tmp_path).data_hash == benchmark.data_hash


def test_civilcomments_refuses_the_layout_of_the_challenge(tmp_path: Path) -> None:
    (tmp_path / "civilcomments").mkdir()
    sample = real_data.piece("civilcomments", "hf_sample_train.csv").read_bytes()
    (tmp_path / "civilcomments" / "all_data_with_identities.csv").write_bytes(sample)
    with pytest.raises(UserError, match=r"all_data_with_identities.csv: missing columns split, to"):
        _ = loaded("civilcomments", tmp_path).table


@pytest.mark.medium
@pytest.mark.parametrize("grouping", ["coarse", "fine"])
def test_civilcomments_small_has_the_published_groups(tmp_path: Path, grouping: str) -> None:
    folder = tmp_path / "civilcomments_small"
    folder.mkdir()
    name = f"metadata_civilcomments_small_{grouping}.csv"
    source = real_data.piece("civilcomments_small", name)
    (folder / name).write_bytes(source.read_bytes())
    real_data.vocabulary(tmp_path)
    rows = len(pd.read_csv(source))
    # The texts are not on this machine: other real ones stand for them.
    texts = real_data.comments()["comment_text"]
    texts = pd.concat([texts, texts]).iloc[:rows].str.lstrip().str.slice(0, 40)
    texts.to_csv(folder / f"civilcomments_small_{grouping}.csv", index=False)
    benchmark = loaded("civilcomments_small" + ("_fine" if grouping == "fine" else ""), tmp_path)
    assert benchmark.find_problems() == []
    assert benchmark.count_groups("validation")[5] == 97
    assert benchmark.count_groups("validation")[13] == 34
    sizes = {name: len(benchmark.splits[name]) for name in SPLITS}
    train = 13770 if grouping == "coarse" else 8816
    assert sizes == {"train": train, "validation": 2039, "test": 4866}
    for split, expected in benchmark.published_counts.items():
        assert benchmark.count_groups(split) == list(expected)
        assert counts(benchmark, split) == dict(enumerate(expected))
