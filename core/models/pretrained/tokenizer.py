"""Whether a model reads the tokens that a data set's texts were cut into."""

from functools import lru_cache
from pathlib import Path

from common.errors import UserError
from core.models.pretrained.weights import config, here
from datasets.benchmark import Benchmark
from datasets.groups.table import TextBenchmark
from datasets.storage import texts


def misread(name: str, benchmark: Benchmark) -> str | None:
    """Return why a pretrained model would read a data set's tokens as others, or None.

    Args:
        name: The model: a public name that is on this machine, or a folder.
        benchmark: The data set.
    """
    if not isinstance(benchmark, TextBenchmark) or "text" not in benchmark.provides:
        return None
    folder = here(name)
    try:
        if folder is None:
            return None
        kind = config(folder).get("model_type")
        if kind != "bert":
            return f"model: received '{name}', of type '{kind}'; expected one that reads texts"
        vocabulary = benchmark.vocabulary
        if isinstance(vocabulary, int):
            size = int(config(folder).get("vocab_size", 0))
            problem = f"it knows {size:,} words, and {benchmark.name} is made of {vocabulary:,}"
            return None if size >= vocabulary else f"model: received '{name}': {problem}"
        problem = _misread(folder, vocabulary)
    except UserError as error:
        return str(error)
    if not problem:
        return None
    own = benchmark.folder / "tokenizer"
    return f"model: received '{name}': {problem}; put the vocabulary of the model into {own}"


@lru_cache(maxsize=8)  # reading two vocabularies takes a tenth of a second
def _misread(folder: Path, tokenizer: Path) -> str:
    own = next((folder / f for f in reversed(texts.FILES) if (folder / f).is_file()), None)
    if own is not None:
        difference = texts.difference(own, tokenizer)
        where = f"{own} is not the vocabulary of the data, {tokenizer}"
        return f"{where} ({difference})" if difference else ""
    size, words = int(config(folder).get("vocab_size", 0)), texts.words(tokenizer)
    return f"it knows {size:,} words, and {tokenizer} has {words:,}" if words > size else ""
