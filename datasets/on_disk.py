"""Benchmarks whose data are in files: their folder, its verification, and the cache of arrays."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from common.errors import truncate_problems
from datasets.benchmark import Benchmark
from datasets.storage.array_cache import (
    ArrayWriter,
    CachedArrays,
    load_or_build,
    locate_cache,
)


class OnDisk(Benchmark):
    """A benchmark that reads files below ``<data root>/<folder_name>`` once, into a cache.

    The folder may have one of ``other_folder_names`` too, or be the folder ``data`` in it.

    A subclass lists its source files and writes arrays made of them; its ``load_splits`` makes
    splits of ``self.cache.arrays``. It comes before :class:`Benchmark`'s other kinds in the bases,
    e.g. ``class NYUv2(OnDisk, TaskBenchmark)``.
    """

    folder_name: ClassVar[str]
    other_folder_names: ClassVar[tuple[str, ...]] = ()  # of other projects
    landmarks: ClassVar[tuple[str, ...]] = ()  # files or folders, one of which the data have
    modality: ClassVar[str] = "images"  # or "text"

    @property
    def folder(self) -> Path:
        """The folder of the data set: of those that hold its data, the first."""
        return next(iter(self._found_folders), self.data_root / self.folder_name)

    @cached_property
    def _found_folders(self) -> list[Path]:
        """The folders that hold the data, under the names that projects use."""
        names = (self.folder_name, *self.other_folder_names)
        paths = [self.data_root / name / part for name in names for part in ("", "data")]
        found: list[Path] = []
        for path in paths:
            holds_data = any((path / name).exists() for name in self.landmarks)
            places = (path, path.parent)  # a name in other letters' case, or a part of the data
            if holds_data and not any(p.samefile(other) for p in places for other in found):
                found.append(path)
        return found

    def list_folder_choices(self) -> list[str]:
        """Return a sentence that names the folder, if several hold the data."""
        if len(self._found_folders) < 2:
            return []
        listed = " and ".join(map(str, self._found_folders))
        return [f"{listed} hold the data: {self.folder} is read"]

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
        """Return a sentence for each choice between files, and other facts of complete data."""
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
            self._all_parameters,
            self._write_if_valid,
        )

    @property
    def cache_path(self) -> Path:
        """The folder of the cache that today's files and parameters make, built or not.

        Raises:
            UserError: If a file is missing.
        """
        sources = self.list_source_files()
        return locate_cache(self.cache_name, self.data_root, sources, self._all_parameters)

    @property
    def _all_parameters(self) -> dict[str, Any]:
        return {"version": self.version, **self.cache_parameters}

    def _write_if_valid(self, writer: ArrayWriter) -> None:
        problems = self.find_problems()
        if problems:
            raise truncate_problems(problems)
        self.write_arrays(writer)

    @cached_property
    def data_hash(self) -> str:
        """The content hash of the cache."""
        return self.cache.hash
