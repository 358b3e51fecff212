"""Image files decoded once into flat bytes at their native sizes."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from common.cpus import count_cpus
from common.errors import truncate_problems
from common.progress import ProgressBar
from datasets.storage.array_cache import Writer
from datasets.storage.ragged_arrays import Images, slack_end

CHUNK = 64  # images per piece of work
LARGEST = 178_956_970  # pixels of one image: above, Pillow refuses it as a decompression bomb


class TooDeep(ValueError):
    """An image whose pixels do not fit into 8 bits; converted as it is, most would be white."""


def _open(path: Path) -> Image.Image:
    """Return an image, not yet decoded, of at most 8 bits per channel."""
    image = Image.open(path)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image.close()
        raise TooDeep(f"pixels of mode {image.mode}, expected 8 bits per channel: convert it")
    return image


def write_images(writer: Writer, prefix: str, paths: Sequence[Path], what: str) -> None:
    """Decode images into the arrays ``<prefix>_pixels``, ``_starts`` and ``_sizes``.

    Orientation tags are not followed, as in the data sets' own loaders; grey images become three
    equal channels.

    Raises:
        ValidationErrors: The images that are missing or damaged, by file.
    """
    sizes = np.zeros((len(paths), 2), dtype=np.int64)

    def measure(row: int) -> None:
        with _open(paths[row]) as image:
            sizes[row] = image.height, image.width

    each(measure, paths, f"{what}: reading sizes")
    lengths = sizes.prod(axis=1) * 3
    ends = lengths.cumsum()
    starts = ends - lengths
    total = max(int(lengths.sum()), slack_end(torch.from_numpy(starts), torch.from_numpy(sizes)))
    pixels = writer.array(f"{prefix}_pixels", (total,), np.uint8)

    def decode(row: int) -> None:
        with _open(paths[row]) as image:
            pixels[starts[row] : ends[row]] = np.asarray(image.convert("RGB")).reshape(-1)

    each(decode, paths, f"{what}: decoding images")
    writer.save(f"{prefix}_starts", starts)
    writer.save(f"{prefix}_sizes", sizes)


def read_images(arrays: Mapping[str, Tensor], prefix: str) -> Images:
    """Return the store that :func:`write_images` wrote."""
    names = (f"{prefix}_pixels", f"{prefix}_starts", f"{prefix}_sizes")
    return Images(*(arrays[name] for name in names))


def missing_files(paths: Iterable[Path]) -> list[str]:
    """Return a sentence for each file that is not there; folders are listed, not each file."""
    listed: dict[str, set[str]] = {}
    found = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listed:
            try:
                with os.scandir(folder) as entries:
                    listed[folder] = {entry.name for entry in entries}
            except OSError:
                listed[folder] = set()
        if name not in listed[folder]:
            found.append(f"{path}: missing")
    return found


def damaged_images(paths: Sequence[Path], what: str) -> list[str]:
    """Return a sentence for each image that cannot be decoded; decodes all of them."""

    def decode(row: int) -> None:
        with _open(paths[row]) as image:
            image.convert("RGB")

    return _failures(decode, paths, f"{what}: checking images")


def each(work: Callable[[int], None], paths: Sequence[Path], what: str) -> None:
    """Do work for each row of ``paths`` in threads.

    Raises:
        ValidationErrors: The images for which it fails, by file.
    """
    found = _failures(work, paths, what)
    if found:
        raise truncate_problems(found)


def _failures(work: Callable[[int], None], paths: Sequence[Path], what: str) -> list[str]:
    """Do work for each row in threads (Pillow decodes without the interpreter's lock)."""

    def chunk(start: int) -> list[str]:
        found = []
        rows = range(start, min(start + CHUNK, len(paths)))
        for row in rows:
            reason = _failure(work, row)
            if reason:
                found.append(f"{paths[row]}: {reason}")
        counter.add(len(rows))
        return found

    with ProgressBar(what, len(paths)) as counter, ThreadPoolExecutor(count_cpus()) as pool:
        parts = pool.map(chunk, range(0, len(paths), CHUNK))
        return [sentence for part in parts for sentence in part]


def _failure(work: Callable[[int], None], row: int) -> str:
    """Return why work on an image fails, or an empty text."""
    try:
        work(row)
    except FileNotFoundError:
        return "missing"
    except TooDeep as error:
        return str(error)
    except UnidentifiedImageError:
        return "no image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"more than {LARGEST} pixels"
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        return f"cannot be read ({error.strerror})"
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's failure, not the image's
        return f"damaged image ({error})"
    return ""
