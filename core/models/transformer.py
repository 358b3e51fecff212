"""The base of image and text encoders.

The classes of :mod:`transformers` are imported where they are used, because their import takes
seconds, which commands without such a model should not wait for.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from common.errors import UserError
from core.batch import Output
from core.models.base import Encoder
from datasets.storage.ragged_arrays import TextBatch

Part = TypeVar("Part", bound=nn.Module)
DEFAULT_RANGE = 0.02  # standard deviation of new weights, where the configuration names none


class Transformer(Encoder):
    """An encoder with a classifier on its class token.

    Args:
        outputs: The number of classes, by the only task.
        trunk: The model of :mod:`transformers`, pretrained or with random weights.
        classifier: The modules between hidden states and the linear layer to the logits, which
            only the end task uses.
        blocks: The trunk's blocks.
    """

    def __init__(
        self,
        outputs: Mapping[str, int],
        trunk: Any,
        classifier: list[nn.Module],
        blocks: nn.ModuleList,
    ) -> None:
        super().__init__()
        self.width = int(trunk.config.hidden_size)
        self.trunk = trunk
        last = nn.Linear(self.width, count_classes(outputs))
        std = getattr(trunk.config, "initializer_range", DEFAULT_RANGE)
        nn.init.normal_(last.weight, std=std)
        nn.init.zeros_(last.bias)
        self.classifier = nn.Sequential(*classifier, last)
        self._blocks = list(blocks)  # a list, so that they are not registered twice

    def forward(self, inputs: Any) -> Output:
        """Return logits ``(b, classes)`` and the last hidden states ``(b, n, width)``."""
        hidden = self.encode(inputs)
        return Output(self.classifier(hidden), hidden, (hidden,))

    def get_last_layer(self) -> nn.Linear:
        """Return the layer that maps the (pooled) class token to the logits."""
        last = self.classifier[-1]
        assert isinstance(last, nn.Linear)
        return last

    def get_task_heads(self) -> dict[str, nn.Module]:
        """Return the classifier, ``y``, and the heads of auxiliary objectives."""
        return {"y": self.classifier}

    def enable_checkpointing(self) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        self.trunk.activation_checkpointing_enable({"use_reentrant": False})

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile each block, which is faster than compiling the model and serves all passes."""
        for block in self._blocks:
            block.compile(*args, **kwargs)

    def project(self, pooled: Tensor) -> Tensor:
        """Refuse: only encoders of images have a contrastive objective.

        Raises:
            ValueError: Always.
        """
        raise ValueError("text encoders have no projection")


class ClassToken(nn.Module):
    """Selects the first hidden state."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the class token's state ``(b, width)`` from ``(b, n, width)``."""
        return hidden[:, 0]


def count_classes(outputs: Mapping[str, int]) -> int:
    """Return the number of classes.

    Raises:
        UserError: If the data set is not a classification with the only task ``y``.
    """
    if set(outputs) != {"y"}:
        raise UserError(
            f"this model is a classifier; the data set has the tasks {', '.join(outputs)}, which "
            "need a model with one head per task"
        )
    return outputs["y"]


def check_length(inputs: TextBatch, limit: int) -> None:
    """Refuse texts that are longer than a model takes.

    Args:
        inputs: Tokenized texts.
        limit: The number of tokens that the model takes.

    Raises:
        UserError: If one is longer.
    """
    length = inputs.ids.shape[1]
    if length > limit:
        raise UserError(
            f"model: a text has {length} tokens, but this model takes at most {limit}; choose a "
            "model with a longer context or, for own data, cut the texts by `protocol: "
            f"{{text_length: {limit}}}` in dataset.yaml"
        )


def require_part(part: Part | None, name: str) -> Part:
    """Return an optional part of a model.

    Raises:
        ValueError: If the model was built without it.
    """
    if part is None:
        raise ValueError(f"this model was built without the part '{name}'")
    return part
