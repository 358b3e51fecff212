"""What the encoders of images and of texts share.

The classes of :mod:`transformers` are imported where they are used: that costs seconds, which
commands without such a model need not wait for.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from common.errors import UserError
from core.batch import Output
from core.models.base import Encoder


class Transformer(Encoder):
    """An encoder with a classifier on its class token.

    Args:
        outputs: The number of classes, by the only task.
        trunk: The pretrained or fresh model of :mod:`transformers`.
        classifier: From hidden states to logits; its last module is the linear layer. All that
            only the end task uses belongs here.
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
        nn.init.normal_(last.weight, std=trunk.config.initializer_range)
        nn.init.zeros_(last.bias)
        self.classifier = nn.Sequential(*classifier, last)
        self._blocks = list(blocks)  # a list, so that they are not registered twice

    def forward(self, inputs: Any) -> Output:
        """Return logits ``(b, classes)`` and the last hidden states ``(b, n, width)``."""
        hidden = self.encode(inputs)
        return Output(self.classifier(hidden), hidden, (hidden,))

    def get_last_layer(self) -> nn.Linear:
        """Return the layer from the (pooled) class token to the logits."""
        last = self.classifier[-1]
        assert isinstance(last, nn.Linear)
        return last

    def get_task_heads(self) -> dict[str, nn.Module]:
        """Return the classifier, ``y``, and the heads of auxiliary objectives that were built."""
        return {"y": self.classifier}

    def enable_checkpointing(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.trunk.activation_checkpointing_enable({"use_reentrant": False})

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks, one like another: quicker than the whole, in whichever pass used."""
        for block in self._blocks:
            block.compile(*args, **kwargs)


class ClassToken(nn.Module):
    """Takes the first hidden state."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Return ``(b, width)`` of ``(b, n, width)``."""
        return hidden[:, 0]


def count_classes(outputs: Mapping[str, int]) -> int:
    """Return the number of classes.

    Raises:
        UserError: If the outputs are of other tasks than classification's ``y``.
    """
    if set(outputs) != {"y"}:
        raise UserError(
            f"this model classifies; the data set has the tasks {', '.join(outputs)}, which need "
            "a model with a head for each"
        )
    return outputs["y"]


def require_part(part: nn.Module | None, name: str) -> Any:
    """Return a part of a model.

    Raises:
        ValueError: If the model was built without it.
    """
    if part is None:
        raise ValueError(f"this model was built without the part '{name}'")
    return part
