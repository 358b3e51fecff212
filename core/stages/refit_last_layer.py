"""The second stage of DFR."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from core.stages.base import Fitting, Stage


@dataclass
class RefitLastLayer(Stage):
    """Fits the last layer anew on group-balanced halves of validation; the other half selects.

    One epoch. Kirichenko, Izmailov & Wilson, Last Layer Re-Training is Sufficient for Robustness
    to Spurious Correlations, ICLR 2023 (DFR on validation data).

    Args:
        epochs: 1.
        c: Inverse strength of the L1 penalty.
        refits: Random group-balanced subsets over whose solutions the layer is averaged.
    """

    reinitialize: ClassVar[bool] = False
    splits_validation: ClassVar[bool] = True

    epochs: int | None = 1
    c: float = 1.0
    refits: int = 20

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: If one makes no sense.
        """
        super().__post_init__()
        if self.epochs != 1 or self.c <= 0 or self.refits < 1:
            raise ValueError("a refit has one epoch, a penalty above 0 and at least one subset")

    def fit(self, fitting: Fitting) -> bool:
        """Replace the last layer's weights."""
        from core.training.refit import refit_last_layer  # scikit-learn costs a second to import

        found = fitting.features()
        layer = fitting.layer
        weight, bias = refit_last_layer(
            found.inputs, found.y, found.group, layer.out_features, self.c, self.refits,
            fitting.generator,
        )  # fmt: skip
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        return True
