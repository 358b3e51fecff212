"""Names of encoders from before the Hugging Face Hub had owners, such as ``roberta-base``.

The hub serves each under its old name and as ``owner/name``; a machine's cache may hold either.
"""

from collections.abc import Mapping

OWNERS: Mapping[str, tuple[str, ...]] = {
    "google-bert": (
        "bert-base-cased", "bert-base-chinese", "bert-base-german-cased",
        "bert-base-multilingual-cased", "bert-base-multilingual-uncased", "bert-base-uncased",
        "bert-large-cased", "bert-large-cased-whole-word-masking", "bert-large-uncased",
        "bert-large-uncased-whole-word-masking",
    ),
    "FacebookAI": ("roberta-base", "roberta-large", "xlm-roberta-base", "xlm-roberta-large"),
    "distilbert": (
        "distilbert-base-cased", "distilbert-base-german-cased",
        "distilbert-base-multilingual-cased", "distilbert-base-uncased", "distilroberta-base",
    ),
    "albert": tuple(
        f"albert-{size}-{version}" for size in ("base", "large", "xlarge", "xxlarge")
        for version in ("v1", "v2")
    ),
    "almanach": ("camembert-base",),
}  # fmt: skip
FULL_NAMES: Mapping[str, str] = {
    name: f"{owner}/{name}" for owner, names in OWNERS.items() for name in names
}


def list_hub_names(name: str) -> list[str]:
    """Return the name itself, and the other one under which the hub has the same model."""
    owner, _, own = name.rpartition("/")
    if name in FULL_NAMES:
        return [name, FULL_NAMES[name]]
    return [name, own] if own in OWNERS.get(owner, ()) else [name]
