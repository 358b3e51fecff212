"""BERT text encoders.

Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from core.models.transformer import Transformer, check_length, require_part
from datasets.storage.padding import PAD_ID
from datasets.storage.ragged_arrays import TextBatch

if TYPE_CHECKING:
    from transformers import BertConfig, BertModel
    from transformers.models.bert.modeling_bert import BertLMPredictionHead

# Padding, unknown, start, separator and mask in the vocabulary of bert-base-uncased.
SPECIAL_IDS = (PAD_ID, 100, 101, 102, 103)


class Bert(Transformer):
    """A BERT: pooled class token -> dropout -> linear layer.

    The pooler belongs to the classifier, because only the end task uses it.

    Args:
        outputs: The number of classes, by the only task.
        parts: With ``reconstruction`` or ``projection`` the token head is built, for masked and
            causal language modeling.
        trunk: The transformer, with pooler.
        predictions: The pretrained token head of transformers; None for random weights.
        special_ids: Padding, unknown, start, separator and mask in the vocabulary.
    """

    modality = "text"
    has_fixed_kernels = True

    def __init__(
        self,
        outputs: Mapping[str, int],
        parts: frozenset[str],
        trunk: "BertModel",
        predictions: "BertLMPredictionHead | None" = None,
        special_ids: tuple[int, ...] = SPECIAL_IDS,
    ) -> None:
        config = trunk.config
        pooler, trunk.pooler = trunk.pooler, None
        assert pooler is not None
        rate = getattr(config, "classifier_dropout", None)
        dropout = nn.Dropout(config.hidden_dropout_prob if rate is None else rate)
        super().__init__(outputs, trunk, [pooler, dropout], trunk.encoder.layer)
        self.special_ids = special_ids
        self.mask_token_id = special_ids[-1]
        self.vocabulary_size = int(config.vocab_size)
        self.token_head = TokenHead(config) if parts else None
        if self.token_head is not None and predictions is not None:
            self.token_head.load_pretrained(predictions)

    def get_task_heads(self) -> dict[str, nn.Module]:
        """Return the classifier, and the token head where it was built."""
        found = super().get_task_heads()
        if self.token_head is not None:
            found["reconstruction"] = self.token_head
        return found

    def encode(
        self, inputs: TextBatch, masked: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Return the last hidden states, ``(b, L, width)``.

        Args:
            inputs: Tokenized texts.
            masked: Unused: masked tokens are replaced in the inputs.
            causal: Whether a token attends only to itself and the tokens before it.

        Raises:
            UserError: If a text is longer than the model permits.
        """
        check_length(inputs, int(self.trunk.config.max_position_embeddings))
        hidden: Tensor = self.trunk(
            input_ids=inputs.ids,
            attention_mask=make_attention_mask(inputs.attention_mask, causal),
            token_type_ids=inputs.segments,
        ).last_hidden_state
        return hidden

    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Return logits ``(..., vocabulary)`` from hidden states ``(..., width)``.

        Raises:
            ValueError: If the model was built without this part.
        """
        embeddings: Tensor = self.trunk.embeddings.word_embeddings.weight
        logits: Tensor = require_part(self.token_head, "reconstruction")(hidden, embeddings)
        return logits


class TokenHead(nn.Module):
    """BERT's head over the vocabulary, whose weight matrix is that of the word embeddings.

    The matrix is an argument, so that it is a parameter of the encoder and not of the head.

    Args:
        config: The encoder's configuration.
    """

    def __init__(self, config: "BertConfig") -> None:
        super().__init__()
        import core.torchvision_compat  # noqa: F401

        # isort: split
        from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

        self.transform = BertPredictionHeadTransform(config)  # type: ignore[no-untyped-call]
        nn.init.normal_(self.transform.dense.weight, std=config.initializer_range)
        nn.init.zeros_(self.transform.dense.bias)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def load_pretrained(self, predictions: "BertLMPredictionHead") -> None:
        """Copy the weights of transformers' ``BertLMPredictionHead``."""
        self.transform.load_state_dict(predictions.transform.state_dict())
        with torch.no_grad():
            self.bias.copy_(predictions.bias)

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Return logits ``(..., vocabulary)`` from hidden states ``(..., width)``."""
        return linear(self.transform(hidden), embeddings, self.bias)


def make_attention_mask(attention_mask: Tensor, causal: bool) -> Tensor:
    """Return a mask of the tokens that each token attends to, ``(b, 1, 1 or L, L)`` bool.

    Args:
        attention_mask: Mask of tokens that are not padding, ``(b, L)`` bool.
        causal: Whether a token attends only to itself and the tokens before it.
    """
    mask = attention_mask[:, None, None, :]
    if not causal:
        return mask
    length = attention_mask.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=attention_mask.device).tril()
    return mask & before


def make_random_bert(**config: Any) -> "BertModel":
    """Return a BERT with random weights.

    Args:
        config: Fields of :class:`transformers.BertConfig`.
    """
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**config))
