"""Texts tokenized once: word pieces of BERT's vocabulary, or of a similar tokenizer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from huggingface_hub import try_to_load_from_cache
from tokenizers import BertWordPieceTokenizer, Tokenizer
from torch import Tensor

from common.errors import UserError
from common.progress import ProgressBar
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.ragged_arrays import RaggedTexts

TEXTS_PER_BATCH = 2000  # that are tokenized together
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
VOCABULARY_SIZES = {"bert-base-uncased": 30_522}  # of the vocabularies that are known by name
PROBE = "The quick Brown FOX, \u00e9lan"  # upper and lower case, and an accent


class TokenizerNotFound(UserError):
    """The files of a tokenizer are not on this machine."""


@dataclass(frozen=True)
class Tokens:
    """Token IDs of many texts.

    Args:
        flat: All token IDs, ``(total,)`` int32.
        lengths: The number of tokens of each text, ``(n,)`` int64.
        second_starts: The token at which the second text of a pair starts, ``(n,)`` int64; for
            single texts their length.
    """

    flat: np.ndarray
    lengths: np.ndarray
    second_starts: np.ndarray

    def select(self, rows: np.ndarray) -> "Tokens":
        """Return the texts of these rows, one after another."""
        starts = self.lengths.cumsum() - self.lengths
        lengths = self.lengths[rows]
        ends = lengths.cumsum()
        # Token t of text i is copied from starts[rows[i]] + t to ends[i] - lengths[i] + t.
        place = np.repeat(starts[rows] - (ends - lengths), lengths) + np.arange(lengths.sum())
        return Tokens(self.flat[place], lengths, self.second_starts[rows])


def find_tokenizer(name: str, data_root: Path, folder: Path) -> Path:
    """Return the file that defines a tokenizer.

    A folder ``tokenizer`` inside the data set's folder comes first, then ``<data root>/<name>``,
    then the cache of the Hugging Face Hub; nothing is downloaded.

    Raises:
        TokenizerNotFound: If it is in none of them.
        UserError: If the vocabulary of that name has an unexpected size.
    """
    places = [folder / "tokenizer", data_root / name]
    for place in places:
        for file in TOKENIZER_FILES:
            if (place / file).is_file():
                if place == places[1] and file == "vocab.txt":
                    _check_vocabulary(name, place / file, places[0])
                return place / file
        if place == places[0] and place.is_dir():
            raise TokenizerNotFound(f"{place}: contains neither {' nor '.join(TOKENIZER_FILES)}")
    for file in reversed(TOKENIZER_FILES):
        for repository in (name, f"google-{name}" if "/" in name else f"google-bert/{name}"):
            found = try_to_load_from_cache(repository, file)
            if isinstance(found, str):
                return Path(found)
    raise TokenizerNotFound(
        f"{places[1] / 'vocab.txt'}: missing. Texts are tokenized with the vocabulary of '{name}': "
        f"download the file vocab.txt of that model and put it there (or set HF_HOME to a cache "
        f"of the Hugging Face Hub that holds it)"
    )


def _check_vocabulary(name: str, file: Path, own: Path) -> None:
    """Refuse a truncated vocabulary: its missing words would become unknown tokens."""
    found, expected = len(file.read_bytes().rstrip(b"\n").split(b"\n")), VOCABULARY_SIZES.get(name)
    if expected is not None and found != expected:
        raise UserError(
            f"{file}: {found:,} words, expected the {expected:,} of '{name}': truncated? Put "
            f"another vocabulary into {own}"
        )


def hash_tokenizer(file: Path) -> str:
    """Return a hash of the tokenizer's files, on which all tokens depend."""
    digest = hashlib.sha256(file.read_bytes())
    digest.update(str(_is_uncased(file)).encode())
    return digest.hexdigest()[:16]


def tokenize_texts(
    file: Path,
    first: Sequence[str],
    second: Sequence[str] | None,
    max_tokens: int,
    description: str,
) -> Tokens:
    """Return the tokens of texts or pairs, with special tokens and without padding.

    Args:
        file: The file of :func:`find_tokenizer`.
        first: The texts.
        second: The second texts of pairs.
        max_tokens: The length to which each is truncated, the longer text of a pair first.
        description: The description of the progress bar.
    """
    tokenizer = open_tokenizer(file)
    tokenizer.enable_truncation(max_tokens)
    flat: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    lengths: list[int] = []
    second_starts: list[int] = []
    with ProgressBar(description, len(first)) as bar:
        for start in range(0, len(first), TEXTS_PER_BATCH):
            chosen = slice(start, start + TEXTS_PER_BATCH)
            texts = first[chosen] if second is None else zip(first[chosen], second[chosen])  # noqa: B905
            encodings = tokenizer.encode_batch(list(texts))
            for encoding in encodings:
                flat.append(np.asarray(encoding.ids, dtype=np.int32))
                lengths.append(len(encoding.ids))
                second_starts.append(len(encoding.ids) - sum(encoding.type_ids))
            bar.advance(len(encodings))
    return Tokens(
        np.concatenate(flat), np.asarray(lengths, np.int64), np.asarray(second_starts, np.int64)
    )


def describe_difference(one: Path, other: Path) -> str:
    """Return how the tokens of two tokenizers differ, an empty text where they are the same.

    Args:
        one: The file of :func:`find_tokenizer`.
        other: The file of another one.
    """
    first, second = open_tokenizer(one), open_tokenizer(other)
    words, others = first.get_vocab(), second.get_vocab()
    if words != others:
        if len(words) != len(others):
            return f"vocabulary sizes differ: {len(words):,} and {len(others):,}"
        word = min((w for w in words if words[w] != others.get(w)), key=lambda w: words[w])
        if word not in others:
            return f"'{word}' has ID {words[word]} in one and is missing from the other"
        return f"'{word}' has ID {words[word]} in one and {others[word]} in the other"
    if first.encode(PROBE).ids != second.encode(PROBE).ids:
        return "one lowercases letters, or strips accents, and the other does not"
    return ""


def count_words(file: Path) -> int:
    """Return the number of words that a tokenizer knows."""
    return int(open_tokenizer(file).get_vocab_size())


def write_texts(writer: ArrayWriter, prefix: str, tokens: Tokens, rows: np.ndarray) -> None:
    """Write texts into ``<prefix>_tokens``, ``_starts``, ``_lengths`` and ``_seconds``.

    Args:
        writer: Writes the arrays.
        prefix: The beginning of their names.
        tokens: Different texts.
        rows: The index of each example's text, ``(n,)``; a text is written once.
    """
    different, place = np.unique(rows, return_inverse=True)
    kept = tokens.select(different)
    starts = kept.lengths.cumsum() - kept.lengths
    writer.write_array(f"{prefix}_tokens", kept.flat)
    writer.write_array(f"{prefix}_starts", starts[place])
    writer.write_array(f"{prefix}_lengths", kept.lengths[place])
    writer.write_array(f"{prefix}_seconds", kept.second_starts[place])


def read_texts(arrays: Mapping[str, Tensor], prefix: str) -> RaggedTexts:
    """Return the texts that :func:`write_texts` wrote."""
    names = (f"{prefix}_{part}" for part in ("tokens", "starts", "lengths", "seconds"))
    return RaggedTexts(*(arrays[name] for name in names))


def open_tokenizer(file: Path) -> Tokenizer | BertWordPieceTokenizer:
    """Return the tokenizer of a file of :func:`find_tokenizer`.

    Raises:
        UserError: If the file is none of a tokenizer.
    """
    try:
        if file.name == "tokenizer.json":
            tokenizer = Tokenizer.from_file(str(file))
            tokenizer.no_padding()
            return tokenizer
        return BertWordPieceTokenizer(str(file), lowercase=_is_uncased(file))
    except Exception as error:  # the library raises bare exceptions
        raise UserError(f"{file}: not a valid tokenizer file: {error}") from None


def _is_uncased(file: Path) -> bool:
    """Return whether texts are lowercased, by the model's folder or name."""
    config = file.parent / "tokenizer_config.json"
    if config.is_file():
        try:
            return bool(json.loads(config.read_text(encoding="utf-8")).get("do_lower_case", True))
        except (ValueError, AttributeError) as error:
            raise UserError(f"{config}: invalid tokenizer configuration: {error}") from None
    # The folder of a model, or its place in the cache of downloads: models--bert-base-cased.
    names = [file.parent.name, *(part for part in file.parts if part.startswith("models--"))]
    return not any("-cased" in name for name in names)
