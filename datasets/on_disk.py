"""Benchmarks whose data lie in files: where, whether they are whole, and their cache."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from common.errors import truncate_problems
from datasets.benchmark import Benchmark
from datasets.storage.array_cache import Cached, Writer, cached


class OnDisk(Benchmark):
    """A benchmark that reads files below ``<data root>/<folder_name>`` once, into a cache.

    A subclass says what its sources are and how arrays are made of them; its ``load`` makes splits
    of ``self.cache.arrays``. Stands before :class:`Benchmark`'s other kinds in the bases, e.g.
    ``class NYUv2(OnDisk, TaskBenchmark)``.
    """

    folder_name: ClassVar[str]
    modality: ClassVar[str] = "images"  # or "text"

    @property
    def folder(self) -> Path:
        """The folder that holds the data set."""
        return self.data_root / self.folder_name

    @property
    def cache_name(self) -> str:
        """The folder of its caches; benchmarks of equal arrays may share one."""
        return self.name

    @abstractmethod
    def problems(self) -> list[str]:
        """Return what is missing or malformed, file by file, a sentence each: quickly."""

    @abstractmethod
    def sources(self) -> list[Path]:
        """Return the files from which the arrays are made."""

    @abstractmethod
    def build(self, writer: Writer) -> None:
        """Make the arrays."""

    def settings(self) -> Mapping[str, Any]:
        """Return what the arrays depend on besides the sources; the version always counts."""
        return {}

    def damage(self) -> list[str]:
        """Return what is damaged inside the files, a sentence each; may read them all."""
        return []

    def cautions(self) -> list[str]:
        """Return why data that are whole cannot be trained on all the same, a sentence each."""
        return []

    def outdated(self) -> list[str]:
        """Return what was made of the original files and no longer agrees, a sentence each."""
        return []

    def organise(self) -> None:
        """Make what a download does not hold, such as tables. Doing it twice changes nothing."""

    def warm(self) -> None:
        """Build the cache, unless it is there."""
        _ = self.cache

    @cached_property
    def cache(self) -> Cached:
        """The arrays, built when first used on a node.

        Raises:
            ValidationErrors: What is missing or damaged.
        """
        if not self.folder.is_dir():  # before the settings, which ask for a vocabulary
            raise truncate_problems(self.problems() or [f"{self.folder}: missing"])
        settings = {"version": self.version, **self.settings()}
        return cached(self.cache_name, self.data_root, self.sources(), settings, self._build)

    def _build(self, writer: Writer) -> None:
        problems = self.problems()
        if problems:
            raise truncate_problems(problems)
        self.build(writer)

    @cached_property
    def data_hash(self) -> str:
        """The content hash of the cache."""
        return self.cache.hash
