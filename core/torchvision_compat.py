"""Import of torchvision when its compiled operators were built for another torch.

The PyPI wheel of torchvision fails at import with a CPU build of torch, because it registers
operators whose library did not load. Defining the operators' schemas is enough for the import.
Import this module before torchvision and before the models of transformers, which import it.
"""

import torch

try:
    import torchvision
except RuntimeError:
    # The schemas live as long as this reference.
    _SCHEMAS = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _SCHEMAS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
