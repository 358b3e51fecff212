"""Own images: they are turned upright, flattened on white, and reduced where asked."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.datasets.own.test_tables import birds as birds
from tests.datasets.own.test_tables import load


def test_photos_are_upright_and_on_white(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = birds / "birds"
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    turned = Image.fromarray(np.rot90(pixels).copy())  # a camera held sideways
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "0.png", exif=exif)
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 1), (9, 9, 9, 255))
    clear.save(folder / "1.png")
    Image.new("RGBA", (4, 4), (7, 7, 7, 255)).save(folder / "2.png")  # opaque: unchanged
    capsys.readouterr()
    split = load(birds).splits["train"]
    line = "folder:birds: images 1 turned as their EXIF orientation says, 1 with transparency put"
    assert capsys.readouterr().err.count(line) == 1
    upright, white, opaque = (
        split.inputs[torch.tensor([i])].pixels[0].permute(1, 2, 0).numpy() for i in range(3)
    )
    assert np.array_equal(upright, pixels)
    assert np.array_equal(white[1, 1], [9, 9, 9])
    assert (np.delete(white.reshape(-1, 3), 5, axis=0) == 255).all()
    assert (opaque == 7).all()


def test_images_are_reduced(birds: Path) -> None:
    folder = birds / "birds"
    Image.new("RGB", (40, 20), (1, 2, 3)).save(folder / "0.png")
    before = load(birds).splits["train"].inputs[torch.tensor([0])].pixels.shape
    (folder / "dataset.yaml").write_text("protocol: {image_size: 5}\n")
    after = load(birds).splits["train"].inputs
    assert tuple(before[-2:]) == (20, 40)
    assert tuple(after[torch.tensor([0])].pixels.shape[-2:]) == (5, 10)
    assert tuple(after[torch.tensor([1])].pixels.shape[-2:]) == (5, 5)
    shutil.rmtree(folder)
