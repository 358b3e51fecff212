"""Benchmarks whose data are in files: their folder, its verification, and the cache of arrays."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from common.errors import truncate_problems
from datasets.benchmark import Benchmark
from datasets.storage.array_cache import ArrayWriter, CachedArrays, load_or_build


class OnDisk(Benchmark):
    """A benchmark that reads files below ``<data root>/<folder_name>`` once, into a cache.

    A subclass lists its source files and writes arrays made of them; its ``load_splits`` makes
    splits of ``self.cache.arrays``. It comes before :class:`Benchmark`'s other kinds in the bases,
    e.g. ``class NYUv2(OnDisk, TaskBenchmark)``.
    """

    folder_name: ClassVar[str]
    modality: ClassVar[str] = "images"  # or "text"

    @property
    def folder(self) -> Path:
        """The folder of the data set."""
        return self.data_root / self.folder_name

    @property
    def cache_name(self) -> str:
        """The folder of its caches; benchmarks of equal arrays may share one."""
        return self.name

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """Parameters that the arrays depend on besides source files and version, as JSON."""
        return {}

    @abstractmethod
    def list_source_files(self) -> list[Path]:
        """Return the files from which the arrays are made."""

    @abstractmethod
    def write_arrays(self, writer: ArrayWriter) -> None:
        """Write the arrays."""

    @abstractmethod
    def find_problems(self) -> list[str]:
        """Return a sentence for each file that is missing or malformed; must be quick."""

    def verify_files(self) -> list[str]:
        """Return a sentence for each file with damaged content; may read them all."""
        return []

    def list_warnings(self) -> list[str]:
        """Return the reasons why complete data cannot be trained on, a sentence each."""
        return []

    def find_outdated_files(self) -> list[str]:
        """Return a sentence for each derived file that does not match the original files."""
        return []

    def list_notices(self) -> list[str]:
        """Return a sentence for each choice that was made between the files of complete data."""
        return []

    def write_metadata(self) -> None:
        """Write files that a download does not contain, such as tables, unless they exist."""

    def build_cache(self) -> None:
        """Build the cache of arrays, unless it exists."""
        _ = self.cache

    @cached_property
    def cache(self) -> CachedArrays:
        """The arrays, built on first use on a node.

        Raises:
            ValidationErrors: If files are missing or damaged.
        """
        if not self.folder.is_dir():  # before the parameters, which need a vocabulary
            raise truncate_problems(self.find_problems() or [f"{self.folder}: missing"])
        return load_or_build(
            self.cache_name,
            self.data_root,
            self.list_source_files(),
            {"version": self.version, **self.cache_parameters},
            self._write_if_valid,
        )

    def _write_if_valid(self, writer: ArrayWriter) -> None:
        problems = self.find_problems()
        if problems:
            raise truncate_problems(problems)
        self.write_arrays(writer)

    @cached_property
    def data_hash(self) -> str:
        """The content hash of the cache."""
        return self.cache.hash
