"""Trained models in files: what ``--keep-models`` writes and ``python -m core.predict`` reads.

The file is in the safetensors format: the weights, and in its metadata the trial key, by which
model, classes and preprocessing are found again.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import datasets
from common.errors import UserError
from core import models
from core.models.base import Model
from core.recipe.component import make_augmentation, make_objective
from core.recipe.trial_key import TrialKey
from datasets.benchmark import Benchmark
from datasets.groups.image_table import ImageBenchmark
from datasets.groups.text_table import TextBenchmark

BATCH_SIZE = 64
METADATA = "trial"  # the entry of the file's metadata


class _Trial(NamedTuple):
    key: Mapping[str, Any]
    dataset: str


def save_model(model: nn.Module, key: TrialKey, benchmark: Benchmark, path: Path) -> None:
    """Write a model with its trial key.

    Args:
        model: The model.
        key: The key of the run that trained it.
        benchmark: The benchmark on which it was trained.
        path: The file.
    """
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    trial = {"key": key.as_dict(), "dataset": benchmark.reference}
    # One entry: several would be written in an order that differs from process to process.
    save_file(weights, path, metadata={METADATA: json.dumps(trial, sort_keys=True)})


@dataclass(frozen=True)
class KeptModel:
    """A trained classifier of images or texts, with its preprocessing and classes.

    Args:
        key: The key of the run that trained it.
        benchmark: The data set on which it was trained.
        model: The model with its weights, on the device.
        device: The device on which it computes.
    """

    key: TrialKey
    benchmark: ImageBenchmark | TextBenchmark
    model: Model
    device: torch.device

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.benchmark.groups.classes

    def predict_files(self, paths: Sequence[Path]) -> pd.DataFrame:
        """Return a row per file: its name, the predicted class, and each class's probability.

        Args:
            paths: Images, or text files in UTF-8 with a text each, like those of the data set.

        Raises:
            UserError: If a file is missing or cannot be read.
        """
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            raise UserError(f"{missing[0]}: no such file")
        parts = [self._compute_probabilities(part) for part in _split_paths(paths)]
        found = torch.cat([torch.zeros(0, len(self.classes)), *parts])
        columns = {f"p({name})": found[:, n].numpy() for n, name in enumerate(self.classes)}
        chosen = [self.classes[index] for index in found.argmax(dim=1).tolist()]
        return pd.DataFrame({"file": list(map(str, paths)), "prediction": chosen, **columns})

    def _compute_probabilities(self, paths: Sequence[Path]) -> Tensor:
        augmentation = make_augmentation(self.key.training_config.augmentation)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            inputs = self.benchmark.encode_files(paths, Path(folder)).to(self.device)
            batch = augmentation.transform_evaluation(
                inputs[torch.arange(len(paths))], self.model.image
            )
            logits = self.model(batch).outputs
        assert isinstance(logits, Tensor)  # of one task, the class
        return logits.float().softmax(dim=1).cpu()


def _split_paths(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), BATCH_SIZE):
        yield paths[start : start + BATCH_SIZE]


def _read_file(path: Path) -> tuple[TrialKey, str, dict[str, Tensor]]:
    """Return the key, the data set and the weights of a file.

    Raises:
        UserError: If there is none, or no study wrote it.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: missing; expected a file that --keep-models exported") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: no safetensors file ({error})") from None
    if METADATA not in metadata:
        raise UserError(
            f"{path}: names no trial; expected a file that a study with --keep-models exported"
        )
    try:
        trial = _Trial(**json.loads(metadata[METADATA]))
        return TrialKey.from_dict(trial.key), trial.dataset, weights
    except (TypeError, ValueError, KeyError):
        raise UserError(f"{path}: written by another version of Evenhand") from None


def load_model(path: Path, data_root: Path = Path("data")) -> KeptModel:
    """Return the model of a file that a study wrote with ``--keep-models``.

    The data set must be on this machine, as prepared for training: it has the names of the classes,
    and the tokenizer of texts. Pretrained weights are not needed, the model's configuration is.

    Args:
        path: The file ``model.safetensors``, or the folder that has it.
        data_root: The folder of all data sets.

    Raises:
        UserError: If the file is missing, was not written by a study, or does not fit the data.
    """
    path = path / "model.safetensors" if path.is_dir() else path
    key, reference, weights = _read_file(path)
    benchmark = datasets.load_benchmark(reference, data_root)
    if not isinstance(benchmark, ImageBenchmark | TextBenchmark):
        raise UserError(
            f"{path}: trained on {key.dataset}, which has no files; expected a model of images or "
            "texts"
        )
    if benchmark.key_version != key.version:
        raise UserError(
            f"{path}: trained on version '{key.version}' of {key.dataset}, found "
            f"'{benchmark.key_version}': its classes may be others"
        )
    config = key.training_config
    objectives = [make_objective(part) for part in key.recipe.objectives]
    model = models.build_model(
        config.model,
        outputs=benchmark.output_sizes,
        parts=frozenset(part for objective in objectives for part in objective.model_parts),
        from_scratch=True,  # the weights are those of the file
    )
    model.load_state_dict(weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return KeptModel(key, benchmark, model.to(device).eval(), device)
