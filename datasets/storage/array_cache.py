"""Arrays made once per node from files, and shared by all processes through the page cache.

A cache is the folder ``<name>/<digest>/`` in ``$EVENHAND_CACHE`` or ``<data root>/.cache``: one
``.npy`` file per array and ``manifest.json``. The digest is of the parameters and of each source
file's path, size and time of change, so other files or parameters make another cache. One process
builds it, under a lock and in a temporary folder that is renamed at the end, while the others wait.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError, truncate_problems
from common.files import hash_file, hash_text, is_hidden, lock_file, wrap_os_errors, write_text
from common.interrupts import clean_up_after_signals
from common.paths import read_path_variable

MANIFEST = "manifest.json"
FORMAT = 1  # raised whenever the layout of a cache changes
CACHE_HINT = "set EVENHAND_CACHE to a writable folder on a disk with free space"


@dataclass(frozen=True)
class CachedArrays:
    """The arrays of a cache.

    Args:
        arrays: Memory-mapped tensors by name; writing into them does not change the files.
        hash: The content hash of all arrays, 16 hexadecimal digits.
    """

    arrays: Mapping[str, Tensor]
    hash: str


@dataclass(frozen=True)
class ArrayEntry:
    """One array in a manifest.

    Args:
        shape: Its shape.
        dtype: Its type, as numpy writes it.
        bytes: The size of its file.
        sha256: The checksum of its file.
    """

    shape: list[int]
    dtype: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The list of a cache's arrays.

    Args:
        arrays: The arrays by name.
        hash: The content hash of all arrays, 16 hexadecimal digits.
        format: The layout of the cache.
    """

    arrays: Mapping[str, ArrayEntry]
    hash: str
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the text of the manifest's file."""
        arrays = {name: asdict(entry) for name, entry in self.arrays.items()}
        content = {"format": self.format, "hash": self.hash, "arrays": arrays}
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the manifest of a file's text.

        Raises:
            ValueError: If it is malformed.
        """
        try:
            content = json.loads(text)
            arrays = {name: ArrayEntry(**entry) for name, entry in content.pop("arrays").items()}
            return cls(arrays, **content)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(error) from None


class ArrayWriter:
    """Writes the arrays of a new cache.

    Args:
        folder: The folder for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[str, np.ndarray] = {}

    def create_array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a new array of zeros on disk, to be filled.

        Raises:
            OSError: If the disk is full: before the first write, since a write into a mapped file
                without room would kill the process.
        """
        if name in self._arrays or not name.replace("_", "").isalnum():
            raise ValueError(f"array {name!r}: a new name of letters, digits and _ is expected")
        path, dtype = self._folder / f"{name}.npy", np.dtype(dtype)
        header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(map(int, shape))}
        with path.open("wb") as file:
            np.lib.format.write_array_header_2_0(file, header)
            start, size = file.tell(), int(np.prod(shape)) * dtype.itemsize
            file.flush()
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), start, size)
            else:
                file.truncate(start + size)
        self._arrays[name] = _map_array(path, "r+")
        return self._arrays[name]

    def write_array(self, name: str, values: np.ndarray) -> None:
        """Write an array."""
        values = np.ascontiguousarray(values)
        if values.dtype.hasobject:
            raise TypeError(f"array {name!r} holds objects")
        self.create_array(name, values.shape, values.dtype)[...] = values

    @property
    def arrays(self) -> dict[str, Tensor]:
        """The arrays by name, mapped into memory."""
        return {name: torch.from_numpy(array) for name, array in self._arrays.items()}

    def write_manifest(self) -> None:
        """Write the manifest."""
        entries = {}
        for name, array in sorted(self._arrays.items()):
            if isinstance(array, np.memmap):
                array.flush()
            path = self._folder / f"{name}.npy"
            entries[name] = ArrayEntry(
                list(array.shape), array.dtype.str, path.stat().st_size, hash_file(path)
            )
        content = [[name, e.shape, e.dtype, e.sha256] for name, e in entries.items()]
        manifest = Manifest(entries, hash_text(json.dumps(content)))
        write_text(self._folder / MANIFEST, manifest.to_json())


def load_or_build(
    name: str,
    data_root: Path,
    sources: Iterable[Path],
    parameters: Mapping[str, Any],
    write: Callable[[ArrayWriter], None],
) -> CachedArrays:
    """Return a cache's arrays; build it when it is missing or damaged.

    Args:
        name: The folder of the caches of this benchmark.
        data_root: The folder that holds the data sets.
        sources: The files from which the arrays are made.
        parameters: Further parameters that the arrays depend on, as JSON.
        write: Writes the arrays.

    Raises:
        UserError: If a source is missing, the disk is full or the folder cannot be written.
        ValidationErrors: If ``write`` finds mistakes in the sources.
    """
    folder = cache_folder(name, data_root)
    target = locate_cache(name, data_root, sources, parameters)
    if not find_cache_problems(target):
        return _open_cache(target)
    with wrap_os_errors(folder, CACHE_HINT):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); {CACHE_HINT}") from None
        with lock_file(folder / f"{target.name}.lock", f"{name}: another process prepares it"):
            if find_cache_problems(target):
                _build_cache(folder, target, write)
    return _open_cache(target)


def cache_folder(name: str, data_root: Path) -> Path:
    """Return the folder of the caches of a benchmark."""
    return (read_path_variable("EVENHAND_CACHE") or data_root / ".cache") / name


def locate_cache(
    name: str, data_root: Path, sources: Iterable[Path], parameters: Mapping[str, Any]
) -> Path:
    """Return the folder of the cache of these sources and parameters, built or not.

    Args:
        name: As for :func:`load_or_build`.
        data_root: As for :func:`load_or_build`.
        sources: As for :func:`load_or_build`.
        parameters: As for :func:`load_or_build`.

    Raises:
        ValidationErrors: If a source is missing.
    """
    return cache_folder(name, data_root) / _hash_inputs(data_root, sources, parameters)


def list_caches(name: str, data_root: Path) -> list[Path]:
    """Return the folders of a benchmark's caches, without those that are being built."""
    found = cache_folder(name, data_root).glob("*")
    return sorted(path for path in found if path.is_dir() and not is_hidden(path))


def find_cache_problems(folder: Path, full: bool = False) -> list[str]:
    """Return a sentence for each missing or damaged file of a cache.

    Args:
        folder: The cache's own folder.
        full: Whether to read all files and compare checksums too.
    """
    try:
        manifest = _read_manifest(folder)
    except FileNotFoundError:
        return [f"{folder / MANIFEST}: missing"]
    except (OSError, ValueError) as error:
        return [f"{folder / MANIFEST}: unreadable ({error})"]
    if manifest.format != FORMAT:
        return [f"{folder}: format {manifest.format}, expected {FORMAT}"]
    problems = []
    for name, entry in manifest.arrays.items():
        path = folder / f"{name}.npy"
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.stat().st_size != entry.bytes:
            problems.append(f"{path}: {path.stat().st_size} bytes, expected {entry.bytes}")
        elif full and hash_file(path) != entry.sha256:
            problems.append(f"{path}: checksum differs")
    return problems


def invalidate_cache(folder: Path) -> None:
    """Make a cache count as damaged, so that it is built again on the next use.

    Raises:
        CannotWrite: If it is read-only.
    """
    with wrap_os_errors(folder, CACHE_HINT):
        (folder / MANIFEST).unlink(missing_ok=True)


def _hash_inputs(data_root: Path, sources: Iterable[Path], parameters: Mapping[str, Any]) -> str:
    """Return the name of the cache of these sources and parameters."""
    digest = hashlib.sha256(json.dumps([FORMAT, dict(parameters)], sort_keys=True).encode())
    root, missing = os.path.abspath(data_root), []
    for source in sorted({os.path.abspath(path) for path in sources}):
        try:
            state = os.stat(source)
        except (FileNotFoundError, NotADirectoryError):
            missing.append(f"{source}: missing")
            continue
        place = os.path.relpath(source, root)
        digest.update(f"{place}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    if missing:
        raise truncate_problems(missing)
    return digest.hexdigest()[:16]


def _build_cache(folder: Path, target: Path, write: Callable[[ArrayWriter], None]) -> None:
    """Build a cache in a temporary folder, then rename that; the lock is held."""
    for leftover in folder.glob(f".{target.name}.*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder / f".{target.name}.{os.getpid()}"
    temporary.mkdir()
    try:
        with clean_up_after_signals():
            writer = ArrayWriter(temporary)
            write(writer)
            writer.write_manifest()
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _open_cache(folder: Path) -> CachedArrays:
    """Return the arrays of a complete cache."""
    manifest = _read_manifest(folder)
    # Mapped copy-on-write: torch warns of arrays that cannot be written.
    arrays = {
        name: torch.from_numpy(_map_array(folder / f"{name}.npy", "c")) for name in manifest.arrays
    }
    return CachedArrays(arrays, manifest.hash)


def _read_manifest(folder: Path) -> Manifest:
    return Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))


def _map_array(path: Path, mode: Literal["r+", "c"]) -> np.ndarray:
    """Return an array mapped from a file; empty ones cannot be mapped and are read."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape = np.lib.format.read_array_header_2_0(file)[0]
    if 0 in shape:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    return np.load(path, mmap_mode=mode, allow_pickle=False)  # type: ignore[no-any-return]
