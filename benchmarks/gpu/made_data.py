"""Made-up data and models for :mod:`benchmarks.gpu`: texts, photographs and scenes."""

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from datasets.benchmark import SPLITS, Split
from datasets.data_card import DataCard
from datasets.groups.base import GroupBenchmark, Groups
from datasets.multitask.celeba40 import ATTRIBUTES, CelebA40
from datasets.multitask.celeba40 import SIDE as FACE_SIDE
from datasets.multitask.nyuv2 import NYUv2
from datasets.multitask.qm9 import QM9, TARGETS
from datasets.storage.molecules import ATOM_FEATURES, RaggedMolecules
from datasets.storage.ragged_arrays import RaggedImages, RaggedTexts
from datasets.training_config import TrainingConfig

CARD = DataCard(title="MadeBenchmark up.", source="made up", license="Apache-2.0", paper="none")
GROUPS = Groups(("no", "yes"), ("without", "with"))


class MadeBenchmark(GroupBenchmark):
    """Random inputs with random labels; groups of unequal sizes.

    Args:
        train: Training examples; validation and test have a quarter each.
        side: Images: their largest side. Texts: their longest length.
        typical: Texts: the median length.
    """

    version = "1"
    card = CARD
    groups = GROUPS
    search_space: ClassVar = {}

    def __init__(self, train: int, side: int, typical: int = 0) -> None:
        super().__init__(Path("none"))
        self.train, self.side, self.typical = train, side, typical

    def load_splits(self) -> dict[str, Split]:
        random = Generator().manual_seed(3)
        splits = {}
        for name in SPLITS:
            size = self.train if name == "train" else max(16, self.train // 4)
            y, a = (torch.randint(2, (size,), generator=random) for _ in range(2))
            y[:4], a[:4] = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
            splits[name] = Split(self.make_inputs(y, random), {"y": y}, 2 * y + a)
        return splits

    def make_inputs(self, y: Tensor, random: Generator) -> Any:
        raise NotImplementedError


class MadeTexts(MadeBenchmark):
    """Texts of log-normal lengths over the vocabulary of ``bert-base-uncased``."""

    name = "made_texts"
    modality = "text"
    provides = GroupBenchmark.provides | {"text", "encoder"}
    training_config = TrainingConfig(
        model="tiny_bert", epochs=2, lr=1e-3, weight_decay=1e-2, batch_size=32,
        optimizer="adamw", schedule="linear", clip_norm=1.0,
    )  # fmt: skip

    def make_inputs(self, y: Tensor, random: Generator) -> RaggedTexts:
        noise = 0.45 * torch.randn(len(y), generator=random)
        lengths = (noise.exp() * self.typical).long().clamp(6, self.side)
        flat = torch.randint(1000, 30000, (int(lengths.sum()),), generator=random)
        starts = lengths.cumsum(0) - lengths
        flat[starts] = 101
        flat[starts + 1] = 2000 + y  # the label
        return RaggedTexts(flat, starts, lengths, lengths // 2)


class MadeImages(MadeBenchmark):
    """Photographs of many sizes."""

    name = "made_images"
    modality = "images"
    provides = GroupBenchmark.provides | {"images", "encoder"}
    training_config = TrainingConfig(
        model="tiny_vit", epochs=2, lr=1e-3, weight_decay=1e-2, batch_size=32,
        schedule="cosine_with_restarts", augmentation="random_resized_crop",
    )  # fmt: skip

    def make_inputs(self, y: Tensor, random: Generator) -> RaggedImages:
        least = 3 * self.side // 5
        sizes = torch.randint(least, self.side + 1, (len(y), 2), generator=random)
        area = 3 * sizes.prod(1)
        flat = torch.randint(256, (int(area.sum()),), dtype=torch.uint8, generator=random)
        return RaggedImages(flat, area.cumsum(0) - area, sizes)


class MadeScenes(NYUv2):
    """Frames of NYUv2's size and tasks.

    Args:
        train: Training frames.
        height: Of a frame; it is a third wider.
    """

    def __init__(self, train: int, height: int) -> None:
        super().__init__(Path("none"))
        self.train, self.height = train, height

    def load_splits(self) -> dict[str, Split]:
        random = Generator().manual_seed(3)
        splits = {}
        for name in SPLITS:
            size = self.train if name == "train" else 4
            shape = (self.height, self.height * 4 // 3)
            targets = {
                "segmentation": torch.randint(-1, 13, (size, *shape), generator=random).to(
                    torch.int8
                ),
                "depth": torch.rand(size, 1, *shape, generator=random),
                "normals": torch.randn(size, 3, *shape, generator=random),
            }
            splits[name] = Split(torch.rand(size, 3, *shape, generator=random), targets)
        return splits


class MadeFaces(CelebA40):
    """Random images with forty random attributes.

    Args:
        train: Training examples.
    """

    def __init__(self, train: int) -> None:
        super().__init__(Path("none"))
        self.train = train

    def load_splits(self) -> dict[str, Split]:
        random = Generator().manual_seed(3)
        splits = {}
        for name in SPLITS:
            size = self.train if name == "train" else 16
            shape = (size, 3, FACE_SIDE, FACE_SIDE)
            images = torch.randint(256, shape, dtype=torch.uint8, generator=random)
            labels = torch.randint(2, (len(ATTRIBUTES), size), generator=random).to(torch.uint8)
            targets = dict(zip(ATTRIBUTES, labels.unbind(), strict=True))
            splits[name] = Split(images, targets)
        return splits


class MadeMolecules(QM9):
    """Random molecules of QM9's sizes with eleven random targets.

    Args:
        train: Training examples.
    """

    deviations: ClassVar = dict.fromkeys(TARGETS, 1.0)

    def __init__(self, train: int) -> None:
        super().__init__(Path("none"))
        self.train = train

    def load_splits(self) -> dict[str, Split]:
        random = Generator().manual_seed(3)
        splits = {}
        for name in SPLITS:
            count = self.train if name == "train" else 16
            sizes = torch.randint(9, 28, (count,), generator=random)
            atoms = int(sizes.sum())
            molecules = RaggedMolecules(
                torch.randint(2, (atoms, ATOM_FEATURES), generator=random).to(torch.uint8),
                torch.randn(atoms, 3, generator=random),
                torch.randint(5, (int(sizes.square().sum()),), generator=random).to(torch.uint8),
                sizes,
            )
            values = torch.randn(len(TARGETS), count, generator=random)
            splits[name] = Split(molecules, dict(zip(TARGETS, values, strict=True)))
        return splits


def make_small_benchmark(name: str) -> MadeBenchmark:
    """Return a made-up benchmark for tiny models."""
    return MadeTexts(320, 48, 20) if name == "made_texts" else MadeImages(320, 60)


def import_models() -> None:
    """Import the modules of the models, which takes seconds."""
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import BertForPreTraining, ResNetModel, ViTModel  # noqa: F401


def write_model(kind: str, tiny: bool, where: Path) -> str:
    """Write a model with random weights as pretrained ones are; return its folder.

    Args:
        kind: ``vit`` (ViT-B/16), ``bert`` (BERT-base) or ``resnet`` (ResNet-50).
        tiny: Whether to write a tiny one in its place.
        where: Where to; a model that is there is kept.
    """
    path = where / kind
    if path.exists():
        return str(path.resolve())
    import core.torchvision_compat  # noqa: F401

    # isort: split
    import transformers

    small_config: dict[str, Any] = {}
    if tiny:
        small_config = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                  "num_attention_heads": 4}  # fmt: skip
    torch.manual_seed(0)
    model: Any
    if kind == "vit":
        if tiny:
            small_config |= {"image_size": 32, "patch_size": 4}
        config: Any = transformers.ViTConfig(**small_config)
        model = transformers.ViTModel(config, add_pooling_layer=False)
    elif kind == "bert":
        model = transformers.BertForPreTraining(transformers.BertConfig(**small_config))
    else:
        sizes: dict[str, Any] = {}
        if tiny:
            # On a CPU, torch 2.13 crashes in convolutions of channels-last images by 2 channels.
            sizes = {"depths": [1] * 4, "embedding_size": 16, "hidden_sizes": [16, 16, 32, 32]}
        model = transformers.ResNetModel(transformers.ResNetConfig(**sizes))
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(dir=where) as name:  # its writer may be ended
        model.save_pretrained(Path(name) / kind)
        (Path(name) / kind).replace(path)
    return str(path.resolve())
