"""``nyuv2``: indoor scenes: segmentation into 13 classes, depth, and surface normals.

NYUv2 (Silberman et al., ECCV 2012) as prepared for MTAN (Liu et al., CVPR 2019), in the protocol of
FairGrad (Ban & Ji, ICML 2024).
"""

from typing import ClassVar

from common.hyperparameters import Hyperparameter
from datasets.data_card import DataCard
from datasets.multitask.dense import DenseBenchmark
from datasets.multitask.dense_metrics import DEPTH, NORMALS, SEGMENTATION
from datasets.multitask.task import Task


class NYUv2(DenseBenchmark):
    """Three tasks on indoor frames of 288x384 pixels."""

    name = "nyuv2"
    version = "1"
    folder_name = "nyuv2"
    other_folder_names = ("NYUv2", "nyu_v2")
    label_folder = "label"
    tasks = (
        Task("segmentation", "cross_entropy", 13, SEGMENTATION),
        Task("depth", "masked_l1", 1, DEPTH),
        Task("normals", "cosine", 3, NORMALS),
    )
    published_batch_size = 2
    search_space: ClassVar = {
        **DenseBenchmark.search_space,
        "batch_size": Hyperparameter("choice", (2, 4, 8), 2),
    }
    card = DataCard(
        title="Indoor scenes with 13 classes, depth and surface normals for every pixel.",
        source="NYUv2 as prepared for MTAN, https://github.com/lorenmt/mtan",
        license="no license is stated; treat as for non-commercial research",
        paper="Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, "
        "ECCV 2012",
        notes=(
            "795 training and 654 test frames; a fixed tenth of the training frames is held out "
            "for validation, since the published protocol selects on the test frames.",
            "Depths are meters. The published results average depth and normal metrics over "
            "batches of 2.",
        ),
        sizes={"train": 716, "validation": 79, "test": 654},
    )
