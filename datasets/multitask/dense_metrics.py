"""Metrics of dense prediction: segmentation, depth and surface normals.

The formulas are those of the published code of MTAN (Liu et al., CVPR 2019), which Nash-MTL, FAMO
and FairGrad took over: FairGrad's single-task baselines were measured with them.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from datasets.multitask.metrics import Accumulator

SEGMENTATION = {"segmentation_miou": True, "segmentation_pixel_accuracy": True}
DEPTH = {"depth_absolute_error": False, "depth_relative_error": False}
NORMALS = {
    "normals_mean_angle": False,
    "normals_median_angle": False,
    "normals_within_11": True,
    "normals_within_22": True,
    "normals_within_30": True,
}
_WITHIN = {"normals_within_11": 11.25, "normals_within_22": 22.5, "normals_within_30": 30.0}


class Segmentation(Accumulator):
    """Mean intersection over union and pixel accuracy, from one confusion matrix of all pixels.

    Pixels with label -1 do not count. The mean is over the classes that occur in labels or
    predictions; a class that occurs in neither has no intersection over union. Where all classes
    occur, as in the full test splits, this is the published mean.

    Args:
        classes: The number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._confusion = torch.zeros(classes, classes, dtype=torch.int64)

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add logits ``(b, classes, h, w)`` and labels ``(b, h, w)``, -1 undefined.

        Returns:
            The share of each example's labeled pixels that is wrong, ``(b,)``; NaN without any.
        """
        predicted, label = output.argmax(dim=1), target.long()
        known = label >= 0
        size = self.classes**2
        pairs = torch.where(known, label * self.classes + predicted, size)  # size: undefined
        # Unlike bincount, this does not wait for a GPU.
        counts = pairs.new_zeros(size + 1).scatter_add_(
            0, pairs.flatten(), torch.ones_like(pairs.flatten())
        )[:size]
        self._confusion = self._confusion.to(counts.device) + counts.view_as(self._confusion)
        wrong = (predicted != label) & known
        return wrong.flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1)

    def compute_metrics(self) -> dict[str, float]:
        """Return both metrics as shares of 1; NaN where no pixel had a label."""
        matrix = self._confusion.double().cpu()
        hits = matrix.diag()
        union = matrix.sum(dim=0) + matrix.sum(dim=1) - hits
        occurs = union > 0
        return {
            "segmentation_miou": float((hits[occurs] / union[occurs]).mean()),
            "segmentation_pixel_accuracy": float(hits.sum() / matrix.sum()),
        }


class Depth(Accumulator):
    """Absolute error ``|d - t|`` and relative error ``|d - t| / t``, means over valid pixels.

    A pixel is valid where its true depth ``t`` is not 0. Absolute errors have the unit of the data
    (NYUv2: meters; Cityscapes: inverse depth). The relative error is a ratio, not in percent: in
    Cityscapes far pixels have an inverse depth near 0, which makes it as large as 27.77.
    """

    batch_averaged: ClassVar[bool] = True

    def __init__(self) -> None:
        self._sums: list[Tensor] = []

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add depths, both ``(b, 1, h, w)``.

        Returns:
            Each example's mean absolute error, ``(b,)``; NaN without a valid pixel.
        """
        valid = target != 0
        absolute = (output - target).abs() * valid
        relative = torch.where(valid, absolute / target, 0.0)
        sums = [part.flatten(1).sum(dim=1, dtype=torch.float64) for part in (absolute, relative)]
        count = valid.flatten(1).sum(dim=1)
        self._sums.append(torch.stack([part.sum() for part in (*sums, count)]))
        return sums[0] / count

    def compute_metrics(self) -> dict[str, float]:
        """Return both errors; NaN where no pixel was valid."""
        absolute, relative, count = torch.stack(self._sums).sum(dim=0).unbind()
        return dict(zip(DEPTH, torch.stack([absolute, relative]).div(count).tolist(), strict=True))


class StepNormals(Accumulator):
    """The metrics of :class:`Normals` averaged over batches, without waiting for the device.

    So the published code reports its training metrics: the median is the mean of each batch's.
    """

    def __init__(self) -> None:
        self._batches: list[Tensor] = []

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add normals, both ``(b, 3, h, w)``; return each example's mean angle, ``(b,)``."""
        valid = (target != 0).any(dim=1)
        cosine = (output * target).sum(dim=1).clamp(-1, 1)
        angle = torch.where(valid, torch.rad2deg(torch.acos(cosine)), torch.nan)
        count = valid.sum()
        within = [(angle < limit).sum() / count for limit in _WITHIN.values()]
        median = angle.flatten().nanmedian()
        self._batches.append(torch.stack([angle.nanmean(), median, *within]))
        return angle.flatten(1).nanmean(dim=1)

    def compute_metrics(self) -> dict[str, float]:
        """Return the means over batches with a valid pixel, in the units of :class:`Normals`."""
        return dict(zip(NORMALS, torch.stack(self._batches).nanmean(dim=0).tolist(), strict=True))


class Normals(Accumulator):
    """Angles between predicted and true normals in degrees: mean, median, shares within a limit.

    A pixel is valid where its true normal is not 0; predictions have unit length. The median is
    that of all valid pixels, so their angles are kept, 4 bytes each, on the host.
    """

    batch_averaged: ClassVar[bool] = True

    def __init__(self) -> None:
        self._angles: list[Tensor] = []

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add normals, both ``(b, 3, h, w)``.

        Returns:
            Each example's mean angle in degrees, ``(b,)``; NaN without a valid pixel.
        """
        valid = (target != 0).any(dim=1)
        cosine = (output.double() * target.double()).sum(dim=1).clamp(-1, 1)
        angle = torch.rad2deg(torch.acos(cosine))
        self._angles.append(angle[valid].float().cpu())
        total = (angle * valid).flatten(1).sum(dim=1)
        return total / valid.flatten(1).sum(dim=1)

    def compute_metrics(self) -> dict[str, float]:
        """Return the metrics, angles in degrees and shares of 1; NaN where no pixel was valid."""
        angles = torch.cat(self._angles).numpy()
        if len(angles) == 0:
            return dict.fromkeys(NORMALS, float("nan"))
        within = {name: float((angles < limit).mean()) for name, limit in _WITHIN.items()}
        return {
            "normals_mean_angle": float(angles.mean(dtype=np.float64)),
            "normals_median_angle": float(np.median(angles)),
            **within,
        }
