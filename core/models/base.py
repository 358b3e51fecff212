"""The interface of models and of encoders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from core.batch import Output


@dataclass(frozen=True)
class ImageSpec:
    """The format of the images that a model takes.

    Args:
        size: Height and width in pixels.
        mean: Mean of each channel, subtracted from pixels in [0, 1].
        std: Standard deviation of each channel, by which pixels are then divided.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Model(nn.Module, ABC):
    """A network that returns predictions and the last hidden representation.

    Each file of :mod:`core.models` defines one, with the constructor ``Model(outputs)``: the number
    of outputs by task. Classification has one task, ``y``, and returns its logits as a tensor.
    """

    image: ImageSpec | None = None  # None if images are tensors of one size
    modality: ClassVar[str] = ""  # of encoders: "images" or "text"
    # Whether a forward pass in training runs the same operations for all inputs of one shape,
    # without data from the host, so that a CUDA graph can repeat it.
    has_fixed_kernels: ClassVar[bool] = False
    # Whether a GPU computes its convolutions in bfloat16 faster channels-last, as measured.
    prefers_channels_last: ClassVar[bool] = False

    @abstractmethod
    def forward(self, inputs: Any) -> Output:
        """Return the output for a batch of inputs."""

    def get_task_heads(self) -> Mapping[str, nn.Module]:
        """Return the task heads, whose parameters are not shared, by task. None by default."""
        return {}

    def get_last_layer(self) -> nn.Linear:
        """Return the linear layer that maps the (pooled) representation to the logits.

        Raises:
            NotImplementedError: If the model has no such layer.
        """
        raise NotImplementedError(f"{type(self).__name__} has no last linear layer")


class Encoder(Model):
    """A model with hidden states per token or patch, for auxiliary objectives."""

    width: int  # of the hidden states

    @abstractmethod
    def encode(self, inputs: Any, masked: Tensor | None = None, causal: bool = False) -> Tensor:
        """Return the last hidden states, ``(b, n, width)``, the class token's first.

        Args:
            inputs: The inputs of :meth:`forward`.
            masked: For images: the patches that the mask token replaces, ``(b, patches)`` bool.
                Unused for texts, whose masked tokens are replaced in the inputs.
            causal: For texts: whether a token attends only to itself and the tokens before it.
        """

    @abstractmethod
    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Reconstruct the inputs from hidden states.

        Images: normalized pixels, ``(b, c, h, w)``. Texts: logits over the vocabulary,
        ``(..., vocabulary)``.
        """

    @abstractmethod
    def project(self, pooled: Tensor) -> Tensor:
        """Project class-token states for contrastive losses, ``(b, width)``."""
