"""A text encoder small enough for tests."""

from collections.abc import Mapping

from core.models.bert import Bert, make_random_bert


class TinyBert(Bert):
    """Two blocks of width 32 over the vocabulary of ``bert-base-uncased``; random weights.

    Args:
        outputs: The number of classes, by the only task.
        parts: The parts of auxiliary objectives to build.
    """

    def __init__(self, outputs: Mapping[str, int], parts: frozenset[str] = frozenset()) -> None:
        trunk = make_random_bert(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
        )
        super().__init__(outputs, parts, trunk)
