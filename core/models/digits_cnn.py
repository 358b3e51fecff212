"""A small convolutional network for 8x8 digits."""

from collections.abc import Mapping

from torch import Tensor, nn

from core.batch import Output
from core.models.base import Model
from core.models.transformer import count_classes


class DigitsCNN(Model):
    """Two convolutions with pooling, one hidden layer of 64 units: 14 thousand parameters.

    Args:
        outputs: The number of classes, by the only task.
    """

    has_fixed_kernels = True

    def __init__(self, outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(2, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, count_classes(outputs))

    def forward(self, inputs: Tensor) -> Output:
        """Return logits ``(b, classes)`` and hidden layer ``(b, 64)`` for ``(b, 2, 8, 8)``."""
        hidden = self.trunk(inputs)
        return Output(self.head(hidden), hidden)

    def get_last_layer(self) -> nn.Linear:
        """Return the layer from the hidden layer to the logits."""
        return self.head
