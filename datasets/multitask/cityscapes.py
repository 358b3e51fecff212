"""``cityscapes``: street scenes: segmentation into 7 classes, and depth.

Cityscapes (Cordts et al., CVPR 2016) as prepared for MTAN (Liu et al., CVPR 2019), in the protocol
of FairGrad (Ban & Ji, ICML 2024).
"""

from dataclasses import replace
from typing import ClassVar

from common.hyperparameters import Hyperparameter
from datasets.data_card import DataCard
from datasets.multitask.dense import DenseBenchmark
from datasets.multitask.dense_metrics import DEPTH, SEGMENTATION
from datasets.multitask.task import Task


class Cityscapes(DenseBenchmark):
    """Two tasks on street scenes of 128x256 pixels."""

    name = "cityscapes"
    version = "1"
    folder_name = "cityscapes"
    other_folder_names = ("cityscapes2", "Cityscapes")
    label_folder = "label_7"
    tasks = (
        Task("segmentation", "cross_entropy", 7, SEGMENTATION),
        Task("depth", "masked_l1", 1, DEPTH),
    )
    published_batch_size = 8
    training_config = replace(DenseBenchmark.training_config, batch_size=8)
    search_space: ClassVar = {
        **DenseBenchmark.search_space,
        "batch_size": Hyperparameter("choice", (8, 16, 32), 8),
    }
    card = DataCard(
        title="Street scenes with 7 classes and inverse depth for every pixel.",
        source="Cityscapes as prepared for MTAN, https://github.com/lorenmt/mtan",
        license="the terms of Cityscapes: non-commercial",
        paper="Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, "
        "CVPR 2016",
        notes=(
            "2,975 training and 500 test frames; a fixed tenth of the training frames is held out "
            "for validation, since the published protocol selects on the test frames.",
            "Depths are inverse, so far pixels are near 0 and relative errors are large: "
            "27.77 is a ratio, not in percent. The published results average depth metrics over "
            "batches of 8.",
        ),
        sizes={"train": 2_678, "validation": 297, "test": 500},
    )
