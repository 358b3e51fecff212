"""Trained models in the form of the Hugging Face Hub, which ``from_pretrained`` loads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.models.base import Model
from core.models.bert import Bert
from core.models.vit import ViT
from datasets.benchmark import Benchmark
from datasets.groups.text_table import TextBenchmark
from datasets.storage.texts import open_tokenizer


def write_hub_model(model: Model, benchmark: Benchmark, folder: Path) -> str | None:
    """Write a classifier as a model of transformers, with its tokenizer or image processor.

    Heads of auxiliary objectives are left out: predictions do not need them.

    Args:
        model: The trained model, on any device.
        benchmark: The benchmark on which it was trained.
        folder: An existing folder.

    Returns:
        The name of its class in transformers; None, and nothing written, where the model's
        architecture is not theirs.
    """
    classes = benchmark.list_class_names()
    if isinstance(model, Bert):
        made = _make_bert(model, classes)
    elif isinstance(model, ViT) and model.image is not None:
        made = _make_vit(model, classes)
    else:
        return None
    made.config.architectures = [type(made).__name__]
    made.config.save_pretrained(folder)
    weights = {name: tensor.contiguous() for name, tensor in made.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if isinstance(model, Bert) and isinstance(benchmark, TextBenchmark):
        _write_tokenizer(benchmark, folder)
    if isinstance(model, ViT):
        _write_processor(model, folder)
    return type(made).__name__


def _name_classes(config: Any, classes: Sequence[str]) -> Any:
    """Return a copy of a configuration for these classes."""
    copied = type(config).from_dict(config.to_dict())
    copied.id2label = dict(enumerate(classes))
    copied.label2id = {name: number for number, name in enumerate(classes)}
    return copied


def _make_bert(model: Bert, classes: Sequence[str]) -> Any:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import BertForSequenceClassification

    made = BertForSequenceClassification(_name_classes(model.trunk.config, classes))
    made.load_state_dict(_rename(model, "bert.", {"0": "bert.pooler", "2": "classifier"}))
    return made


def _make_vit(model: ViT, classes: Sequence[str]) -> Any:
    import core.torchvision_compat  # noqa: F401

    # isort: split
    from transformers import ViTForImageClassification

    config = _name_classes(model.trunk.config, classes)
    assert model.image is not None
    config.image_size = model.image.size
    weights = _rename(model, "vit.", {"1": "classifier"})
    with torch.no_grad():  # the grid of the images, not that of pretraining
        weights |= {"vit.embeddings.position_embeddings": model.resample_positions().cpu()}
    made = ViTForImageClassification(config)
    made.load_state_dict(weights)
    return made


def _rename(model: Bert | ViT, trunk: str, classifier: dict[str, str]) -> dict[str, Tensor]:
    """Return the weights of trunk and classifier under the names that transformers gives them.

    Args:
        model: The model.
        trunk: The prefix of its trunk there.
        classifier: The module of each of the classifier's modules there.
    """
    found = {}
    for name, tensor in model.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "trunk":
            found[f"{trunk}{rest}"] = tensor.cpu()
        elif part == "classifier":
            number, _, rest = rest.partition(".")
            found[f"{classifier[number]}.{rest}"] = tensor.cpu()
    return found


def _write_tokenizer(benchmark: TextBenchmark, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = open_tokenizer(benchmark.tokenizer_file)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=getattr(tokenizer, "_tokenizer", tokenizer),
        model_max_length=benchmark.max_tokens,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)


def _write_processor(model: ViT, folder: Path) -> None:
    from transformers import ViTImageProcessor

    assert model.image is not None
    size = {"height": model.image.size, "width": model.image.size}
    processor = ViTImageProcessor(
        size=size, image_mean=list(model.image.mean), image_std=list(model.image.std)
    )
    processor.save_pretrained(folder)
