"""The check that a model's tokenizer is the one with which a data set was tokenized."""

from functools import lru_cache
from pathlib import Path

from common.errors import UserError
from core.models.pretrained.families import list_text_families
from core.models.pretrained.weights import find_local_folder, read_config
from datasets.benchmark import Benchmark
from datasets.groups.text_table import TextBenchmark
from datasets.storage import texts


def find_tokenizer_mismatch(name: str, benchmark: Benchmark) -> str | None:
    """Return an error message if a model's vocabulary is not that of a data set's tokens.

    Args:
        name: The model: a public name that is on this machine, or a folder.
        benchmark: The data set.
    """
    if not isinstance(benchmark, TextBenchmark) or "text" not in benchmark.provides:
        return None
    folder = find_local_folder(name)
    try:
        if folder is None:
            return None
        config = read_config(folder)
        if config.model_type not in list_text_families():
            return (
                f"model: received '{name}', of type '{config.model_type}'; expected one that "
                "reads texts"
            )
        vocabulary, size = benchmark.vocabulary, config.vocabulary_size
        if isinstance(vocabulary, int):
            if size >= vocabulary:
                return None
            return (
                f"model: received '{name}', with a vocabulary of {size:,} tokens; {benchmark.name} "
                f"has {vocabulary:,}"
            )
        mismatch = _compare_vocabularies(folder, vocabulary)
    except UserError as error:
        return str(error)
    if not mismatch:
        return None
    own = benchmark.folder / "tokenizer"
    return f"model: received '{name}': {mismatch}; put the model's vocabulary into {own}"


@lru_cache(maxsize=8)  # reading two vocabularies takes a tenth of a second
def _compare_vocabularies(folder: Path, tokenizer: Path) -> str:
    """Return the difference between a model's vocabulary and a tokenizer's, empty if none."""
    own = next(
        (folder / f for f in reversed(texts.TOKENIZER_FILES) if (folder / f).is_file()), None
    )
    if own is not None:
        difference = texts.describe_difference(own, tokenizer)
        message = f"{own} is not the vocabulary of the data, {tokenizer} ({difference})"
        return message if difference else ""
    size, words = read_config(folder).vocabulary_size, texts.count_words(tokenizer)
    message = f"its vocabulary has {size:,} tokens, {tokenizer} has {words:,}"
    return message if words > size else ""
