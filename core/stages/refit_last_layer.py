"""The second stage of Deep Feature Reweighting (DFR)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from core.stages.base import RefitContext, Stage


@dataclass
class RefitLastLayer(Stage):
    """Refits the last layer on group-balanced validation data; the other half selects.

    One epoch. Kirichenko, Izmailov & Wilson, Last Layer Re-Training is Sufficient for Robustness
    to Spurious Correlations, ICLR 2023 (DFR on validation data).

    Args:
        epochs: 1.
        c: Inverse strength of the L1 penalty.
        refits: The number of random group-balanced subsets whose solutions are averaged.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"classification", "validation_groups"})
    reinitialize: ClassVar[bool] = False
    splits_validation: ClassVar[bool] = True

    epochs: int | None = 1
    c: float = 1.0
    refits: int = 20

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: If one is out of range.
        """
        super().__post_init__()
        if self.epochs != 1 or self.c <= 0 or self.refits < 1:
            raise ValueError(
                f"received epochs {self.epochs}, c {self.c} and refits {self.refits}; expected "
                "epochs 1, c above 0 and refits at least 1"
            )

    def refit_layer(self, context: RefitContext) -> bool:
        """Replace the last layer's weights."""
        from core.training.refit import refit_last_layer  # scikit-learn takes a second to import

        features = context.compute_features()
        layer = context.layer
        weight, bias = refit_last_layer(
            features.inputs, features.y, features.group, layer.out_features, self.c, self.refits,
            context.generator,
        )  # fmt: skip
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        return True
