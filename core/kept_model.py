"""Trained models in files: what ``--keep-models`` writes and ``python -m core.predict`` reads.

The file is in the safetensors format: the weights, and in its metadata the classes and the trial
key, by which model and preprocessing are found again.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import datasets
from common.errors import UserError
from core import models
from core.environment import detect_environment
from core.make_run import AnyRun, make_run
from core.models.base import Model
from core.recipe.component import make_augmentation, make_objective
from core.recipe.trial_key import TrialKey
from datasets.benchmark import Benchmark, Inputs
from datasets.groups.folder import Folder
from datasets.groups.image_table import ImageBenchmark
from datasets.groups.text_table import TextBenchmark
from datasets.own.new_table import NewTable, read_new_table

T = TypeVar("T")

BATCH_SIZE = 64
METADATA = "trial"  # the entry of the file's metadata


class _Trial(NamedTuple):
    key: Mapping[str, Any]
    dataset: str
    classes: tuple[str, ...]


def save_model(model: nn.Module, key: TrialKey, benchmark: Benchmark, path: Path) -> None:
    """Write a model with its trial key.

    Args:
        model: The model.
        key: The key of the run that trained it.
        benchmark: The benchmark on which it was trained.
        path: The file.
    """
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    classes = benchmark.list_class_names()
    trial = {"key": key.as_dict(), "dataset": benchmark.reference, "classes": classes}
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
        classes: The names of the classes, as they were when it was trained.
    """

    key: TrialKey
    benchmark: ImageBenchmark | TextBenchmark
    model: Model
    device: torch.device
    classes: tuple[str, ...]

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
        found = self._predict_rows(paths, self.benchmark.encode_files)
        found.insert(0, "file", list(map(str, paths)))
        return found

    def predict_table(self, path: Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return a row per row of a table: the columns of :meth:`predict_files`, label and group.

        Args:
            path: A table of images or texts as own data have it, or a folder with one; labels,
                attributes and splits may be absent.
            columns: A usual name for some of its columns; that of the data set applies else.

        Raises:
            UserError: If the table is malformed, names missing files, or has unknown classes.
        """
        return self._predict_table(self._read_table(path, columns))

    def evaluate_table(self, path: Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the accuracy on each group of a table, then on all rows and in the worst group.

        Args:
            path: As for :meth:`predict_table`; groups are combinations of label and attribute, or
                the classes where there are no attributes.
            columns: As for :meth:`predict_table`.

        Returns:
            Columns ``group``, ``examples`` and ``accuracy`` in [0, 1].

        Raises:
            UserError: As :meth:`predict_table`, or if the table has no labels.
        """
        table = self._read_table(path, columns)
        if table.labels is None:
            raise UserError(
                f"{table.path}: no column of labels, which an evaluation needs; name one with "
                "--columns COLUMN=label"
            )
        found = self._predict_table(table)
        found = found.assign(number=table.labels, accuracy=found.prediction == found.label)
        groups = (
            found.groupby(["number", "group"])
            .accuracy.agg(examples="size", share="mean")
            .reset_index()
        )
        names = [*groups.group, "average", "worst group"]
        sizes = groups.examples.tolist()
        accuracies = groups.share.tolist()
        worst = accuracies.index(min(accuracies))
        return pd.DataFrame(
            {
                "group": names,
                "examples": [*sizes, len(found), sizes[worst]],
                "accuracy": [*accuracies, found.accuracy.mean(), accuracies[worst]],
            }
        )

    def _read_table(self, path: Path, columns: Mapping[str, str] | None) -> NewTable:
        own = self.benchmark.dataset_file.columns if isinstance(self.benchmark, Folder) else {}
        has_images = self.benchmark.modality == "images"
        return read_new_table(path, self.classes, has_images, columns or {}, own)

    def _predict_table(self, table: NewTable) -> pd.DataFrame:
        benchmark = self.benchmark
        if table.texts:
            assert isinstance(benchmark, TextBenchmark)
            found = self._predict_rows(table.texts, benchmark.encode_texts)
        else:
            found = self._predict_rows(table.files, benchmark.encode_files)
        if table.labels is not None:
            labels = [self.classes[number] for number in table.labels]
            attributes = table.attributes or [""] * len(labels)
            groups = [f"{y}, {a}" if a else y for y, a in zip(labels, attributes, strict=True)]
            found.insert(0, "group", groups)
            found.insert(0, "label", labels)
        found.insert(0, "file" if table.files else "id", table.names)
        return found

    def _predict_rows(
        self, items: Sequence[T], encode: Callable[[Sequence[T], Path], Inputs]
    ) -> pd.DataFrame:
        """Return the prediction for each file or text, and the probability of each class."""
        parts = [
            self._compute_probabilities(items[start : start + BATCH_SIZE], encode)
            for start in range(0, len(items), BATCH_SIZE)
        ]
        found = torch.cat([torch.zeros(0, len(self.classes)), *parts])
        columns = {f"p({name})": found[:, n].numpy() for n, name in enumerate(self.classes)}
        chosen = [self.classes[index] for index in found.argmax(dim=1).tolist()]
        return pd.DataFrame({"prediction": chosen, **columns})

    def _compute_probabilities(
        self, items: Sequence[T], encode: Callable[[Sequence[T], Path], Inputs]
    ) -> Tensor:
        augmentation = make_augmentation(self.key.training_config.augmentation)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            inputs = encode(items, Path(folder)).to(self.device)
            batch = augmentation.transform_evaluation(
                inputs[torch.arange(len(items))], self.model.image
            )
            logits = self.model(batch).outputs
        assert isinstance(logits, Tensor)  # of one task, the class
        return logits.float().softmax(dim=1).cpu()


class _Content(NamedTuple):
    key: TrialKey
    dataset: str
    classes: tuple[str, ...]
    weights: dict[str, Tensor]


def _read_file(path: Path) -> _Content:
    """Return the key, the data set, the classes and the weights of a file.

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
        key = TrialKey.from_dict(trial.key)
        return _Content(key, trial.dataset, tuple(trial.classes), weights)
    except (TypeError, ValueError, KeyError):
        raise UserError(f"{path}: written by another version of Evenhand") from None


def load_model(path: Path, data_root: Path = Path("data")) -> KeptModel:
    """Return the model of a file that a study wrote with ``--keep-models``.

    The data set must be on this machine, as prepared for training: its preprocessing applies to new
    files. Its table may have changed. Pretrained weights are not needed, the model's configuration
    is.

    Args:
        path: The file ``model.safetensors``, or the folder that has it.
        data_root: The folder of all data sets.

    Raises:
        UserError: If the file is missing, was not written by a study, or does not fit the data.
    """
    path = path / "model.safetensors" if path.is_dir() else path
    key, reference, classes, weights = _read_file(path)
    benchmark = datasets.load_benchmark(reference, data_root)
    if not isinstance(benchmark, ImageBenchmark | TextBenchmark):
        raise UserError(
            f"{path}: trained on {key.dataset}, which has no files; expected a model of images or "
            "texts"
        )
    if benchmark.version != key.version.partition(",")[0]:  # after it own data name their table
        raise UserError(
            f"{path}: trained on version '{key.version}' of {key.dataset}, found "
            f"'{benchmark.version}': its preprocessing may be another"
        )
    config = key.training_config
    objectives = [make_objective(part) for part in key.recipe.objectives]
    model = models.build_model(
        config.model,
        outputs={name: len(classes) for name in benchmark.output_sizes},
        parts=frozenset(part for objective in objectives for part in objective.model_parts),
        from_scratch=True,  # the weights are those of the file
    )
    model.load_state_dict(weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return KeptModel(key, benchmark, model.to(device).eval(), device, classes)


def read_kept_key(path: Path) -> TrialKey:
    """Return the key of the run that trained a kept model, as it was.

    Raises:
        UserError: If the file is missing or was not written by a study.
    """
    return _read_file(path).key


def load_kept_run(path: Path, data_root: Path = Path("data")) -> AnyRun:
    """Return the run that trained a kept model, with the model's weights, to evaluate it again.

    Args:
        path: The file ``model.safetensors``.
        data_root: The folder of all data sets, which must have that of the model.

    Raises:
        UserError: If the file is missing or was not written by a study, or does not fit the data.
    """
    key, reference, _, weights = _read_file(path)
    benchmark = datasets.load_benchmark(reference, data_root)
    if benchmark.version != key.version.partition(",")[0]:
        raise UserError(
            f"{path}: trained on version '{key.version}' of {key.dataset}, found "
            f"'{benchmark.version}'"
        )
    known = key.environment
    environment = detect_environment(threads=known.threads, precision=known.precision)
    config = replace(key.training_config, from_scratch=True)  # the weights are those of the file
    run = make_run(replace(key, training_config=config, environment=environment), benchmark)
    try:
        run.model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from None
    return run
