"""Dense prediction from the ``.npy`` files of MTAN (Liu et al., CVPR 2019): NYUv2 and Cityscapes.

``<folder>/{train,val}/{image,label,depth,normal}/<i>.npy`` with ``i`` from 0 on. Images, depths and
normals are height x width x channels, labels height x width with -1 where undefined; a depth or
normal of 0 is missing. As in the published protocols ``val`` is the test split. They have no
validation split: here a random tenth of ``train`` is held out for it, the same in every run, unless
the training config's ``training_split`` trains on all frames.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from common.errors import truncate_problems
from common.files import is_hidden
from common.hyperparameters import Hyperparameter
from datasets.benchmark import Split
from datasets.multitask.base import TaskBenchmark, TaskMeter
from datasets.multitask.dense_metrics import Depth, Normals, Segmentation, StepNormals
from datasets.multitask.metrics import Accumulator
from datasets.multitask.task import Task
from datasets.on_disk import OnDisk
from datasets.storage.array_cache import ArrayWriter
from datasets.training_config import TrainingConfig

TRAIN, TEST = FOLDERS = ("train", "val")
HELD_OUT = 10  # one of ten training frames is for validation
# RandomState, unlike numpy's newer generators, promises the same stream for ever.
SPLIT_SEED = 0


class FramePart(NamedTuple):
    """A kind of file that every frame has.

    Args:
        name: ``image`` or the task.
        folder: The folder's name.
        channels: The length of the last axis; 0 where there is none.
        classes: The number of classes; 0 for real numbers.
    """

    name: str
    folder: str
    channels: int
    classes: int = 0


class DenseBenchmark(OnDisk, TaskBenchmark):
    """Segmentation, depth and normals of images that all have one size, trained as by FairGrad."""

    landmarks = FOLDERS
    label_folder: ClassVar[str]
    published_rule = "published_last10"
    training_config = TrainingConfig(
        model="segnet_mtan",
        epochs=200,
        lr=1e-4,
        weight_decay=0.0,
        batch_size=2,
        optimizer="adam",
        schedule="step",
        augmentation="scale_crop_flip",
    )
    search_space: ClassVar = {
        "lr": Hyperparameter("log_uniform", (1e-5, 1e-3), 1e-4),
    }

    @property
    def parts(self) -> list[FramePart]:
        """The kinds of files of a frame."""
        return [FramePart("image", "image", 3), *(self._task_part(task) for task in self.tasks)]

    def _task_part(self, task: Task) -> FramePart:
        if task.name == "segmentation":
            return FramePart(task.name, self.label_folder, 0, task.output_size)
        folder = {"depth": "depth", "normals": "normal"}[task.name]
        return FramePart(task.name, folder, task.output_size)

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """The arrangement of the arrays, which differs from that of earlier versions."""
        return {"arrays": "folders"}

    @cached_property
    def frames(self) -> dict[str, int]:
        """The number of frames by folder, counted by ``.npy`` files of images."""
        return {name: _count_frames(self.folder / name / "image") for name in FOLDERS}

    def file_path(self, folder: str, part: FramePart, frame: int) -> Path:
        """Return the file of one part of a frame."""
        return self.folder / folder / part.folder / f"{frame}.npy"

    def _list_files(self) -> Iterator[tuple[str, FramePart, int]]:
        for folder in FOLDERS:
            for frame in range(self.frames[folder]):
                for part in self.parts:
                    yield folder, part, frame

    def list_source_files(self) -> list[Path]:
        """Return all files of all frames."""
        return [self.file_path(*file) for file in self._list_files()]

    def split_train_frames(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the frames of ``train`` for training and those for validation, ascending."""
        frames = self.frames[TRAIN]
        order = np.random.RandomState(SPLIT_SEED).permutation(frames)
        count = count_held_out(frames)
        return np.sort(order[count:]), np.sort(order[:count])

    def find_problems(self) -> list[str]:
        """Return a sentence for each folder or file that is missing or of another shape or type."""
        if not self.folder.is_dir():
            parts = ", ".join(part.folder for part in self.parts)
            return [
                f"{self.folder}: missing; put the folders train and val there, each with {parts} "
                f"(source: {self.card.source})"
            ]
        folders = [self.folder / name / part.folder for name in FOLDERS for part in self.parts]
        missing = [f"{folder}: no such folder" for folder in folders if not folder.is_dir()]
        if missing:
            return missing
        few = [
            f"{self.folder / name / 'image'}: {self.frames[name]} files, expected 0.npy, 1.npy, "
            f"...: at least {least}"
            for name, least in zip(FOLDERS, (2, 1), strict=True)  # one trains, one validates
            if self.frames[name] < least
        ]
        return few or [*self._find_missing_images(), *self._find_misshapen_files()]

    def _find_missing_images(self) -> Iterator[str]:
        """Yield a sentence for each missing image of a frame that has other files."""
        for folder in FOLDERS:
            count = {part: _count_frames(self.folder / folder / part.folder) for part in self.parts}
            most = max(self.parts, key=lambda part: count[part])  # evaluated at once
            for frame in range(self.frames[folder], count[most]):
                path = self.file_path(folder, self.parts[0], frame)
                if not path.is_file():
                    yield f"{path}: missing; {most.folder} has {count[most]} files"

    def _find_misshapen_files(self) -> Iterator[str]:
        """Yield a sentence for each file that is unreadable or of another size than the others."""
        first: tuple[int, ...] = ()  # the size of the first image, and so of all
        for folder in FOLDERS:
            for frame in range(self.frames[folder]):
                own: tuple[int, ...] = ()  # the size of the frame's image
                for part in self.parts:
                    path = self.file_path(folder, part, frame)
                    shape, fault = _read_shape(path)
                    if not fault:
                        size = (first if part.name == "image" else own) or shape[:2]
                        fault = _describe_shape_error(shape, size, part.channels)
                    if fault:
                        yield f"{path}: {fault}"
                    if part.name == "image":
                        own = shape[:2]
                        first = first or own

    def verify_files(self) -> list[str]:
        """Return a sentence for each file with invalid values; reads all."""
        return [] if self.find_problems() else [
            sentence
            for folder, part, frame in self._list_files()
            for sentence in _read_values(part, self.file_path(folder, part, frame))[1]
        ]  # fmt: skip

    def write_arrays(self, writer: ArrayWriter) -> None:
        """Write images, labels, depths and normals, channels first.

        Frames of the folder ``train`` are in one array, those for validation last.
        """
        problems: list[str] = []
        train = np.concatenate(self.split_train_frames())
        test = np.arange(self.frames[TEST])
        for folder, frames in ((TRAIN, train), (TEST, test)):
            for part in self.parts:
                problems += self._write_frames(writer, folder, part, frames)
        if problems:
            raise truncate_problems(problems)

    def _write_frames(
        self, writer: ArrayWriter, folder: str, part: FramePart, frames: np.ndarray
    ) -> list[str]:
        """Write one array ``(n, h, w)`` or ``(n, c, h, w)``; return mistakes."""
        height, width = np.load(self.file_path(folder, part, 0), mmap_mode="r").shape[:2]
        channels = (part.channels,) if part.channels else ()
        kind = np.int8 if part.classes else np.float32
        array = writer.create_array(
            f"{folder}_{part.name}", (len(frames), *channels, height, width), kind
        )
        problems = []
        for row, frame in enumerate(frames):
            values, faults = _read_values(part, self.file_path(folder, part, int(frame)))
            problems += faults
            if not faults:
                array[row] = np.moveaxis(values, -1, 0) if part.channels else values
        return problems

    def list_ids(self, split: str) -> list[str]:
        """Return the folder and number of each frame, such as ``train/12``."""
        train, validation = self.split_train_frames()
        test = np.arange(self.frames[TEST])
        frames = {"train": train, "validation": validation, "test": test}
        folder = TEST if split == "test" else TRAIN
        return [f"{folder}/{frame}" for frame in frames[split]]

    def load_splits(self) -> dict[str, Split]:
        """Read the splits: images ``(n, 3, h, w)`` float32, and a target per task.

        Targets: ``segmentation`` ``(n, h, w)`` int8, ``depth`` ``(n, 1, h, w)`` and ``normals``
        ``(n, 3, h, w)`` float32.
        """
        frames = len(self.cache.arrays[f"{TRAIN}_image"])
        train = frames - count_held_out(frames)
        return {
            "train": self._read_split(TRAIN, slice(train)),
            "validation": self._read_split(TRAIN, slice(train, None)),
            "test": self._read_split(TEST),
        }

    def make_step_meter(self) -> TaskMeter:
        """Return a meter of the steps' predictions, whose metrics published code reports too."""
        return TaskMeter(self, self._make_step_accumulators)

    def _make_step_accumulators(self) -> dict[str, Accumulator]:
        found = self.make_accumulators()
        if "normals" in found:
            found["normals"] = StepNormals()
        return found

    def join_training_splits(self) -> Split:
        """Return all frames of the folder ``train``, without a copy."""
        return self._read_split(TRAIN)

    def _read_split(self, folder: str, rows: slice = slice(None)) -> Split:
        arrays = self.cache.arrays
        targets = {task.name: arrays[f"{folder}_{task.name}"][rows] for task in self.tasks}
        return Split(arrays[f"{folder}_image"][rows], targets)

    def make_accumulators(self) -> dict[str, Accumulator]:
        """Return the metrics of :mod:`datasets.multitask.dense_metrics`."""
        return {
            task.name: Segmentation(task.output_size)
            if task.name == "segmentation"
            else {"depth": Depth, "normals": Normals}[task.name]()
            for task in self.tasks
        }


def count_held_out(frames: int) -> int:
    """Return how many frames of the folder ``train`` are for validation."""
    return max(1, frames // HELD_OUT)


def _count_frames(folder: Path) -> int:
    return sum(1 for path in folder.glob("*.npy") if not is_hidden(path))


def _read_shape(path: Path) -> tuple[tuple[int, ...], str]:
    """Return the shape in a file's header, and the mistake in the file, if there is one."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return (), "missing"
    except (OSError, ValueError, EOFError) as error:
        return (), f"cannot be read as numbers in .npy format ({error})"
    if not isinstance(found, np.ndarray):
        found.close()
        return (), "holds several arrays, expected numbers in .npy format"
    if found.dtype.kind not in "fiu":
        return (), f"holds {found.dtype}, expected numbers"
    return found.shape, ""


def _describe_shape_error(shape: tuple[int, ...], size: tuple[int, ...], channels: int) -> str:
    """Return how a shape differs from a height, width and number of channels."""
    sides: tuple[object, ...] = size if len(size) == 2 else ("height", "width")
    expected = (*sides, channels) if channels else sides
    if shape == expected:
        return ""
    received = " x ".join(map(str, shape)) or "a single number"
    return f"{received}, expected {' x '.join(map(str, expected))}"


def _read_values(part: FramePart, path: Path) -> tuple[np.ndarray, list[str]]:
    """Return a file's values and a sentence for the mistake in them, if there is one."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        return np.empty(0), [f"{path}: cannot be read ({error})"]
    fault = None
    if not np.isfinite(values).all():
        fault = f"has {np.count_nonzero(~np.isfinite(values))} values that are NaN or infinite"
    elif part.classes:
        wrong = (values != np.round(values)) | (values < -1) | (values >= part.classes)
        if wrong.any():
            row, column = map(int, np.argwhere(wrong)[0])
            fault = (
                f"label {values[row, column]:g} in row {row}, column {column}, expected whole "
                f"numbers from 0 to {part.classes - 1}, or -1 where undefined"
            )
    elif part.name == "depth" and not values.any():
        fault = "all depths are 0 (missing)"
    elif part.name == "image" and (values.min() < -1 or values.max() > 2):
        fault = f"values from {values.min():g} to {values.max():g}, expected from 0 to 1"
    return values, [f"{path}: {fault}"] if fault else []
