"""The feature files of GLUE's old example scripts: lists of ``InputFeatures``.

They are pickles. Only that one plain class, lists, numbers and texts are allowed: a file that names
any other class or function is refused before anything of it is called.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import IO, Any, NamedTuple

import numpy as np

from common.errors import UserError
from datasets.storage.texts import VOCABULARY_SIZES, Tokens

FIELDS = ("input_ids", "input_mask", "segment_ids", "label_id")
# Old files of torch.save start with a magic number, a version and the sizes of integers on that
# machine, each a pickle.
MAGIC = 0x1950A86A20F9469CFC6C
VOCABULARY = "bert-base-uncased"  # as the files' names say


class Features(NamedTuple):
    """Tokens and labels of many examples.

    Args:
        tokens: The tokens, without padding.
        labels: ``(n,)`` int64.
    """

    tokens: Tokens
    labels: np.ndarray


class Feature:
    """A stand-in for ``InputFeatures``, with the attributes that the file sets."""

    input_ids: Sequence[int]
    input_mask: Sequence[int]
    segment_ids: Sequence[int]
    label_id: int


class _RestrictedUnpickler(Unpickler):
    """Allows ``InputFeatures`` of any module, and no other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in."""
        if name == "InputFeatures":
            return Feature
        raise UnpicklingError(f"it names {module}.{name}, which is not allowed")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse objects outside the pickle, such as tensors."""
        raise UnpicklingError("it holds tensors, expected plain numbers")


def read_features(path: Path) -> Features:
    """Return the tokens and labels of a file.

    Raises:
        UserError: If the file is missing, damaged, or holds anything but such features.
    """
    try:
        with path.open("rb") as file:
            features = _read_zipped(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: no list of features: {reason}") from None
    if not isinstance(features, list) or not features:
        raise UserError(f"{path}: no list of features, but {type(features).__name__}")
    return _extract_tokens(path, features)


def concatenate_features(parts: Sequence[Features]) -> Features:
    """Return the features of several files, one after another."""
    tokens = Tokens(
        np.concatenate([part.tokens.flat for part in parts]),
        np.concatenate([part.tokens.lengths for part in parts]),
        np.concatenate([part.tokens.second_starts for part in parts]),
    )
    return Features(tokens, np.concatenate([part.labels for part in parts]))


def _read_legacy(file: IO[bytes]) -> Any:
    """Return the object in a file of ``torch.save`` before 1.6: consecutive pickles."""
    file.seek(0)
    if _RestrictedUnpickler(file).load() != MAGIC:
        raise UnpicklingError("not written by torch.save")
    _RestrictedUnpickler(file).load()
    _RestrictedUnpickler(file).load()
    return _RestrictedUnpickler(file).load()


def _read_zipped(file: IO[bytes]) -> Any:
    """Return the object in a file of ``torch.save`` since 1.6."""
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise UnpicklingError("not written by torch.save")
        with archive.open(names[0]) as part:
            return _RestrictedUnpickler(part).load()


def _extract_tokens(path: Path, features: list[Any]) -> Features:
    """Return the tokens under the masks, and the labels."""
    for row, feature in enumerate(features):
        lacking = [name for name in FIELDS if name not in getattr(feature, "__dict__", {})]
        if not isinstance(feature, Feature) or lacking:
            raise UserError(f"{path}: feature {row}: without {', '.join(lacking)}")
    try:
        ids, mask, segments = (
            _to_integers([getattr(feature, name) for feature in features]) for name in FIELDS[:3]
        )
        labels = _to_integers([feature.label_id for feature in features])
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: features of different lengths, or no numbers: {error}") from None
    if not (ids.ndim == 2 and ids.shape == mask.shape == segments.shape and labels.ndim == 1):
        raise UserError(f"{path}: features are not lists of integers of one length")
    words = VOCABULARY_SIZES[VOCABULARY]
    for row in np.flatnonzero(((ids < 0) | (ids >= words)).any(axis=1))[:1]:
        raise UserError(f"{path}: feature {row}: input_ids: expected numbers of 0 to {words - 1}")
    lengths = mask.sum(axis=1)
    shown = np.arange(ids.shape[1]) < lengths[:, None]
    second_starts = lengths - (segments * shown).sum(axis=1)
    if not (
        (mask == shown).all() and (segments * shown == _mask_after(second_starts, shown)).all()
    ):
        raise UserError(f"{path}: padding or second texts are not at the end")
    tokens = Tokens(
        ids[shown].astype(np.int32), lengths.astype(np.int64), second_starts.astype(np.int64)
    )
    return Features(tokens, labels.astype(np.int64))


def _to_integers(values: list[Any]) -> np.ndarray:
    array = np.array(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"received {array.dtype}, expected integers")
    return array.astype(np.int32)  # half the memory, of hundreds of thousands of features


def _mask_after(second_starts: np.ndarray, shown: np.ndarray) -> np.ndarray:
    return (np.arange(shown.shape[1]) >= second_starts[:, None]) & shown  # type: ignore[no-any-return]
