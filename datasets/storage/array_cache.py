"""Arrays made once per node from files, and shared by all processes through the page cache.

A cache lies in ``$EVENHAND_CACHE``, or ``<data root>/.cache``, as ``<name>/<digest>/``: one
``.npy`` file per array and ``manifest.json``. The digest is of the settings and of each source's
path, size and time of change, so other sources or settings make another cache. One process builds
it, under a lock and in a temporary folder that is renamed at the end, while the others wait.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError, truncate_problems
from common.files import hash_file, lock_file, wrap_os_errors, write_text

MANIFEST = "manifest.json"
FORMAT = 1  # raised whenever the layout of a cache changes
CACHE_HINT = "set EVENHAND_CACHE to a writable folder on a disk with free space"


@dataclass(frozen=True)
class CachedArrays:
    """The arrays of a cache.

    Args:
        arrays: Memory-mapped tensors by name. What is written into them stays in the process.
        hash: Content hash of all arrays, 16 hexadecimal digits.
    """

    arrays: Mapping[str, Tensor]
    hash: str


class ArrayWriter:
    """Takes the arrays of a cache that is being built.

    Args:
        folder: Where the files go.
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

    def write_manifest(self) -> None:
        """Write the manifest."""
        entries = {}
        for name, array in sorted(self._arrays.items()):
            if isinstance(array, np.memmap):
                array.flush()
            path = self._folder / f"{name}.npy"
            entries[name] = {
                "shape": list(array.shape),
                "dtype": array.dtype.str,
                "bytes": path.stat().st_size,
                "sha256": hash_file(path),
            }
        content = json.dumps([[n, e["shape"], e["dtype"], e["sha256"]] for n, e in entries.items()])
        manifest = {
            "format": FORMAT,
            "hash": hashlib.sha256(content.encode()).hexdigest()[:16],
            "arrays": entries,
        }
        write_text(self._folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def load_or_build(
    name: str,
    data_root: Path,
    sources: Iterable[Path],
    settings: Mapping[str, Any],
    build: Callable[[ArrayWriter], None],
) -> CachedArrays:
    """Return a cache's arrays; builds it when there is none, or when it is damaged.

    Args:
        name: The folder of the caches of this benchmark.
        data_root: The folder that holds the data sets.
        sources: The files from which the arrays are made.
        settings: What else the arrays depend on, as JSON.
        build: Fills a :class:`ArrayWriter`.

    Raises:
        UserError: If a source is missing, the disk is full or the folder cannot be written.
        ValidationErrors: What ``build`` finds in the sources.
    """
    folder = cache_folder(name, data_root)
    target = folder / _hash_inputs(data_root, sources, settings)
    if not find_cache_problems(target):
        return _open_cache(target)
    with wrap_os_errors(folder, CACHE_HINT):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); {CACHE_HINT}") from None
        with lock_file(folder / f"{target.name}.lock", f"{name}: another process prepares it"):
            if find_cache_problems(target):
                _build_cache(folder, target, build)
    return _open_cache(target)


def cache_folder(name: str, data_root: Path) -> Path:
    """Return the folder that holds the caches of a benchmark."""
    return Path(os.environ.get("EVENHAND_CACHE") or data_root / ".cache") / name


def find_cache_problems(folder: Path, full: bool = False) -> list[str]:
    """Return what is wrong with a cache, a sentence each; empty when nothing is.

    Args:
        folder: The cache's own folder.
        full: Whether to read all files and compare checksums too.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            return [f"{folder}: format {manifest['format']}, expected {FORMAT}"]
        entries = [(f"{n}.npy", e["bytes"], e["sha256"]) for n, e in manifest["arrays"].items()]
        str(manifest["hash"])
    except FileNotFoundError:
        return [f"{folder / MANIFEST}: missing"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{folder / MANIFEST}: unreadable ({error})"]
    found = []
    for file, size, checksum in entries:
        path = folder / file
        if not path.is_file():
            found.append(f"{path}: missing")
        elif path.stat().st_size != size:
            found.append(f"{path}: {path.stat().st_size} bytes, expected {size}")
        elif full and hash_file(path) != checksum:
            found.append(f"{path}: checksum differs")
    return found


def invalidate_cache(folder: Path) -> None:
    """Make a cache count as damaged, so that it is built again when next asked for."""
    (folder / MANIFEST).unlink(missing_ok=True)


def _hash_inputs(data_root: Path, sources: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """Return the name of the cache of these sources and settings."""
    digest = hashlib.sha256(json.dumps([FORMAT, dict(settings)], sort_keys=True).encode())
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


def _build_cache(folder: Path, target: Path, build: Callable[[ArrayWriter], None]) -> None:
    """Build a cache beside its place, then put it there; the lock is held."""
    for left in folder.glob(f".{target.name}.*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = folder / f".{target.name}.{os.getpid()}"
    temporary.mkdir()
    try:
        writer = ArrayWriter(temporary)
        build(writer)
        writer.write_manifest()
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _open_cache(folder: Path) -> CachedArrays:
    """Return the arrays of a whole cache."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    # Mapped copy-on-write: torch warns of arrays that cannot be written.
    arrays = {name: torch.from_numpy(_map_array(folder / f"{name}.npy", "c"))
              for name in manifest["arrays"]}  # fmt: skip
    return CachedArrays(arrays, str(manifest["hash"]))


def _map_array(path: Path, mode: Literal["r+", "c"]) -> np.ndarray:
    """Return an array that is mapped from a file; empty ones cannot be mapped and are read."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape = np.lib.format.read_array_header_2_0(file)[0]
    if 0 in shape:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    return np.load(path, mmap_mode=mode, allow_pickle=False)  # type: ignore[no-any-return]
