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
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.ragged_arrays import RaggedImages, required_length

IMAGES_PER_TASK = 64  # of a thread
MAX_PIXELS = 178_956_970  # of one image: Pillow refuses larger ones as decompression bombs


class UnsupportedDepth(ValueError):
    """An image whose pixels do not fit into 8 bits; converted as it is, most would be white."""


def _open_image(path: Path) -> Image.Image:
    """Return an image, not yet decoded, of at most 8 bits per channel."""
    image = Image.open(path)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image.close()
        raise UnsupportedDepth(
            f"pixels of mode {image.mode}, expected 8 bits per channel: convert it"
        )
    return image


class ImageReader:
    """Reads images as the published data sets' own loaders do.

    Orientation tags are not followed; gray images become three equal channels.
    """

    def measure(self, image: Image.Image) -> tuple[int, int]:
        """Return height and width of the image as it will be read, without decoding it."""
        return image.height, image.width

    def decode(self, image: Image.Image) -> np.ndarray:
        """Return the pixels, ``(height, width, 3)`` uint8."""
        return np.asarray(image.convert("RGB"))


def write_images(
    writer: ArrayWriter,
    prefix: str,
    paths: Sequence[Path],
    description: str,
    reader: ImageReader | None = None,
) -> None:
    """Decode images into the arrays ``<prefix>_pixels``, ``_starts`` and ``_sizes``.

    Raises:
        ValidationErrors: If images are missing or damaged; the message names them.
    """
    reader = reader or ImageReader()
    sizes = np.zeros((len(paths), 2), dtype=np.int64)

    def measure(row: int) -> None:
        with _open_image(paths[row]) as image:
            sizes[row] = reader.measure(image)

    process_images(measure, paths, f"{description}: reading sizes")
    lengths = sizes.prod(axis=1) * 3
    ends = lengths.cumsum()
    starts = ends - lengths
    total = max(
        int(lengths.sum()), required_length(torch.from_numpy(starts), torch.from_numpy(sizes))
    )
    pixels = writer.create_array(f"{prefix}_pixels", (total,), np.uint8)

    def decode(row: int) -> None:
        with _open_image(paths[row]) as image:
            pixels[starts[row] : ends[row]] = reader.decode(image).reshape(-1)

    process_images(decode, paths, f"{description}: decoding images")
    writer.write_array(f"{prefix}_starts", starts)
    writer.write_array(f"{prefix}_sizes", sizes)


def read_images(arrays: Mapping[str, Tensor], prefix: str) -> RaggedImages:
    """Return the images that :func:`write_images` wrote."""
    names = (f"{prefix}_pixels", f"{prefix}_starts", f"{prefix}_sizes")
    return RaggedImages(*(arrays[name] for name in names))


def find_missing_files(paths: Iterable[Path]) -> list[str]:
    """Return a sentence for each missing file."""
    return [f"{path}: missing" for _, path in list_missing_files(paths)]


def list_missing_files(paths: Iterable[Path]) -> list[tuple[int, Path]]:
    """Return each missing file with its place; lists folders in place of asking for each file."""
    listed: dict[str, set[str]] = {}
    found = []
    for number, path in enumerate(paths):
        folder, name = os.path.split(path)
        if folder not in listed:
            try:
                with os.scandir(folder) as entries:
                    listed[folder] = {entry.name for entry in entries}
            except OSError:
                listed[folder] = set()
        if name not in listed[folder]:
            found.append((number, path))
    return found


def find_damaged_images(paths: Sequence[Path], description: str) -> list[str]:
    """Return a sentence for each image that cannot be decoded; decodes all of them."""

    def decode(row: int) -> None:
        with _open_image(paths[row]) as image:
            image.convert("RGB")

    return _collect_failures(decode, paths, f"{description}: checking images")


def process_images(work: Callable[[int], None], paths: Sequence[Path], description: str) -> None:
    """Call a function for each row of ``paths``, in threads.

    Raises:
        ValidationErrors: If it fails for images; the message names them.
    """
    found = _collect_failures(work, paths, description)
    if found:
        raise truncate_problems(found)


def _collect_failures(
    work: Callable[[int], None], paths: Sequence[Path], description: str
) -> list[str]:
    """Return a sentence for each row that fails (Pillow decodes without the interpreter's lock)."""

    def chunk(start: int) -> list[str]:
        found = []
        rows = range(start, min(start + IMAGES_PER_TASK, len(paths)))
        for row in rows:
            reason = _describe_failure(work, row)
            if reason:
                found.append(f"{paths[row]}: {reason}")
        bar.advance(len(rows))
        return found

    with ProgressBar(description, len(paths)) as bar, ThreadPoolExecutor(count_cpus()) as pool:
        parts = pool.map(chunk, range(0, len(paths), IMAGES_PER_TASK))
        return [sentence for part in parts for sentence in part]


def _describe_failure(work: Callable[[int], None], row: int) -> str:
    """Return the reason why work on an image fails, or an empty text."""
    try:
        work(row)
    except FileNotFoundError:
        return "missing"
    except UnsupportedDepth as error:
        return str(error)
    except UnidentifiedImageError:
        return "no image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"more than {MAX_PIXELS} pixels"
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        return f"cannot be read ({error.strerror})"
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's failure, not the image's
        return f"damaged image ({error})"
    return ""
