"""What every model is, and what encoders can do beyond."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from core.batch import Output


@dataclass(frozen=True)
class ImageSpec:
    """The images that a model takes.

    Args:
        size: Height and width in pixels.
        mean: Mean by channel that is subtracted, of pixels in [0, 1].
        std: Deviation by channel by which is divided.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Model(nn.Module, ABC):
    """Returns predictions and the last hidden representation.

    A file of :mod:`core.models` defines one, made as ``Model(outputs)`` with the number of outputs
    by task (classification has one task, ``y``, and returns its logits as a tensor).
    """

    image: ImageSpec | None = None  # of models that take images of any size
    modality: ClassVar[str] = ""  # of encoders: "images" or "text"

    @abstractmethod
    def forward(self, inputs: Any) -> Output:
        """Return the output for a batch of inputs."""

    def get_task_heads(self) -> Mapping[str, nn.Module]:
        """Return the task heads by task: the parameters that are not shared. None by default."""
        return {}

    def get_last_layer(self) -> nn.Linear:
        """Return the linear layer from the (pooled) representation to the logits.

        Raises:
            NotImplementedError: If the model has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no last linear layer")


class Encoder(Model):
    """A model with hidden states per token or patch, for auxiliary objectives."""

    width: int  # of the hidden states

    @abstractmethod
    def encode(self, inputs: Any, masked: Tensor | None = None, causal: bool = False) -> Tensor:
        """Return the last hidden states, ``(b, n, width)``, the first one the class token's.

        Args:
            inputs: What :meth:`forward` takes.
            masked: Images: which patches are hidden by the mask token, ``(b, patches)`` bool.
                Texts: not used, masked tokens are replaced in the inputs.
            causal: Texts: whether a token sees only the tokens before it.
        """

    @abstractmethod
    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Return the reconstruction from hidden states.

        Images: pixels ``(b, c, h, w)``, of normalised values. Texts: logits over the vocabulary,
        ``(..., vocabulary)``.
        """

    @abstractmethod
    def project(self, pooled: Tensor) -> Tensor:
        """Return the projection of class-token states for contrastive losses, ``(b, width)``."""
