"""Measure the input pipeline against System 1's: ratios within one run, on a CPU.

    python -m benchmarks.input_pipeline [--photos 256] [--epochs 3]

* Images: an epoch of real photographs (waterbirds) as 384 x 384 crops. Theirs: each image is
  opened, decoded and transformed by itself in every epoch (Pillow, torchvision). Ours: decoded once
  into a memory-mapped cache, cropped from there. CPU seconds of one thread, median over epochs.
* Texts: token positions of an epoch of real posts, padded to 220 against batches of like lengths.
* A second trial in one process: its time to the first step, against the first one's from the
  start of the process.

Needs the real data (EVENHAND_REAL_DATA, by default ../shared/data).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

import core.torchvision_compat
import datasets
from core.augmentations.random_resized_crop import RandomResizedCrop
from core.models.base import ImageSpec
from core.training.loader import Loader, get_text_lengths, make_batches
from datasets import prepare
from tests.support import real_data

BATCH = 16
SPEC = ImageSpec(384, (0.5,) * 3, (0.5,) * 3)


def measure_cpu_seconds(work: Callable[[], None], epochs: int) -> float:
    """Return the median CPU time of a call."""
    found = []
    for _ in range(epochs):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def measure_images(root: Path, photos: int, epochs: int) -> None:
    transforms = core.torchvision_compat.torchvision.transforms
    real_data.waterbirds(root, keep=photos)
    paths = sorted((root / "waterbirds").rglob("*.jpg"))
    transform = transforms.Compose([
        transforms.RandomResizedCrop(384, scale=(0.05, 1)), transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ])  # fmt: skip
    start = time.process_time()
    benchmark = datasets.load_benchmark("waterbirds", root)
    splits = benchmark.splits
    once = time.process_time() - start
    loader, augmentation = Loader(benchmark, torch.device("cpu")), RandomResizedCrop()
    number = sum(len(split) for split in splits.values())

    def load_theirs() -> None:
        for first in range(0, number, BATCH):
            torch.stack(
                [transform(Image.open(p).convert("RGB")) for p in paths[first : first + BATCH]]
            )

    def load_ours() -> None:
        for name, split in splits.items():
            order = torch.randperm(len(split))
            for _, batch in loader.load_batches(name, make_batches(order, BATCH, None)):
                augmentation.transform_training(batch, SPEC)

    their, our = measure_cpu_seconds(load_theirs, epochs), measure_cpu_seconds(load_ours, epochs)
    print(f"images: {number} photographs; theirs {1000 * their / number:.2f} ms each, ours "
          f"{1000 * our / number:.2f} ms: {their / our:.1f} times faster; the cache, once, "
          f"{1000 * once / number:.2f} ms each")  # fmt: skip


def measure_texts(root: Path) -> None:
    real_data.vocabulary(root)
    (root / "civilcomments").mkdir()
    real_data.comments().to_csv(root / "civilcomments" / "all_data_with_identities.csv")
    prepare.main(["civilcomments", "--data-root", str(root)])
    train = datasets.load_benchmark("civilcomments", root).splits["train"]
    lengths = get_text_lengths(train)
    assert lengths is not None
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    for size in (8, 32):
        parts = make_batches(order, size, lengths, torch.Generator().manual_seed(0))
        sorted_ = sum(int(lengths[rows].max()) * len(rows) for rows in parts)
        drawn = sum(int(lengths[rows].max()) * len(rows) for rows in order.split(size))
        print(
            f"texts: {len(train)} posts, batches of {size}: {220 * len(train) / sorted_:.2f} times "
            f"fewer token positions than padded to 220 ({sorted_ / len(train):.0f} on average; in "
            f"the order drawn {drawn / len(train):.0f})"
        )


def measure_starts(name: str, root: Path, model: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.trial_starts", name, str(root), model],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, second = map(float, done.stdout.split())
    print(f"start on {name}: first trial {first:.2f} s, second {second:.4f} s: "
          f"{100 * second / first:.2f}%")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=256, help="photographs, at most (256)")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs of each pipeline (3)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        measure_images(root, given.photos, given.epochs)
        measure_texts(root)
        measure_starts("colored_digits", root, "digits_cnn")
        measure_starts("waterbirds", root, "tiny_vit")
        measure_starts("civilcomments", root, "tiny_bert")


if __name__ == "__main__":
    main()
