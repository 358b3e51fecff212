"""Makes torchvision importable where its compiled operators are built for another torch.

The registry's torchvision beside a CPU torch fails at its import, because it describes operators
that its library did not load. Their schemas are all that the import needs. Must be imported before
torchvision and the models of transformers, which import it.
"""

import torch

try:
    import torchvision
except RuntimeError:
    _SCHEMAS = torch.library.Library("torchvision", "DEF")  # lives as long as this reference
    for _name in ("nms", "qnms"):
        _SCHEMAS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
