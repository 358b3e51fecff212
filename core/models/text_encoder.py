"""Text encoders of any family that transformers loads."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from core.models.transformer import ClassToken, Transformer, check_length, require_part
from datasets.storage.ragged_arrays import TextBatch


class TextEncoder(Transformer):
    """A text encoder of transformers: first token -> dropout -> linear layer.

    Args:
        outputs: The number of classes, by the only task.
        parts: With ``reconstruction`` the family's token head is kept, for masked language
            modeling. There is no causal language modeling.
        trunk: The encoder, without token head.
        language_model: The family's model for masked language modeling around ``trunk``; None if
            there is none.
        special_ids: The ids of all special tokens, the mask's last.
    """

    modality = "text"

    def __init__(
        self,
        outputs: Mapping[str, int],
        parts: frozenset[str],
        trunk: Any,
        language_model: Any = None,
        special_ids: tuple[int, ...] = (),
    ) -> None:
        config = trunk.config
        rate = getattr(config, "hidden_dropout_prob", None)
        dropout = nn.Dropout(0.1 if rate is None else rate)
        if getattr(trunk, "pooler", None) is not None:
            trunk.pooler = nn.Identity()  # the classifier reads the first token
        super().__init__(outputs, trunk, [ClassToken(), dropout], nn.ModuleList([trunk]))
        accepted = inspect.signature(trunk.forward).parameters
        self._takes_segments = (
            "token_type_ids" in accepted and int(getattr(config, "type_vocab_size", 0) or 0) > 1
        )
        self.special_ids = special_ids
        self.mask_token_id = special_ids[-1] if special_ids else -1
        self.vocabulary_size = int(config.vocab_size)
        self.token_head = None
        if "reconstruction" in parts and language_model is not None:
            self.token_head = LanguageModelHead(language_model)

    @property
    def max_tokens(self) -> int:
        """The number of tokens that fit into the position embeddings."""
        limit = int(self.trunk.config.max_position_embeddings)
        positions = getattr(getattr(self.trunk, "embeddings", None), "position_embeddings", None)
        padding = getattr(positions, "padding_idx", None)
        return limit if padding is None else limit - padding - 1  # RoBERTa counts from there

    def get_task_heads(self) -> dict[str, nn.Module]:
        """Return the classifier, and the token head's own parameters where it was built."""
        found = super().get_task_heads()
        if self.token_head is not None:
            shared = {id(parameter) for parameter in self.trunk.parameters()}
            own = [p for p in self.token_head.parameters() if id(p) not in shared]
            found["reconstruction"] = nn.ParameterList(own)
        return found

    def encode(
        self, inputs: TextBatch, masked: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Return the last hidden states, ``(b, L, width)``.

        Args:
            inputs: Tokenized texts.
            masked: Unused: masked tokens are replaced in the inputs.
            causal: Refused if True.

        Raises:
            UserError: If a text is longer than the model permits, or ``causal`` is True.
        """
        if causal:
            raise UserError("causal language modeling needs a model of type bert")
        check_length(inputs, self.max_tokens)
        padding = int(self.trunk.config.pad_token_id or 0)
        given = {"token_type_ids": inputs.segments} if self._takes_segments else {}
        hidden: Tensor = self.trunk(
            input_ids=inputs.ids.masked_fill(~inputs.attention_mask, padding),
            attention_mask=inputs.attention_mask.long(),
            **given,
        ).last_hidden_state
        return hidden

    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Return logits ``(..., vocabulary)`` from hidden states ``(..., width)``.

        Raises:
            ValueError: If the model was built without this part.
        """
        logits: Tensor = require_part(self.token_head, "reconstruction")(hidden)
        return logits


class LanguageModelHead(nn.Module):
    """A family's head over the vocabulary: its masked language model without the encoder.

    Families name and order their heads' layers differently, and all read them from the encoder's
    output. So the encoder is replaced by one that returns given hidden states.

    Args:
        language_model: The model for masked language modeling, which is changed.
    """

    def __init__(self, language_model: Any) -> None:
        super().__init__()
        self._states = _GivenStates()
        setattr(language_model, language_model.base_model_prefix, self._states)
        self.model = language_model

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits ``(..., vocabulary)`` from hidden states ``(..., width)``."""
        self._states.hidden = hidden.reshape(1, -1, hidden.shape[-1])
        rows = hidden.new_zeros(self._states.hidden.shape[:2], dtype=torch.long)
        logits: Tensor = self.model(input_ids=rows).logits
        self._states.hidden = None
        return logits.reshape(*hidden.shape[:-1], -1)


class _GivenStates(nn.Module):
    """Stands for an encoder whose output is given."""

    hidden: Tensor | None = None

    def forward(self, *args: Any, **options: Any) -> Any:
        """Return the given states as the encoder's output."""
        import core.torchvision_compat  # noqa: F401

        # isort: split
        from transformers.models.longformer.modeling_longformer import LongformerBaseModelOutput

        # The output with the most fields: heads copy those of their family, without reading them.
        assert self.hidden is not None
        return LongformerBaseModelOutput(last_hidden_state=self.hidden)
