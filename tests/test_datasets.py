"""A folder of images as a data set."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from conftest import FAST, bnat
from PIL import Image

from study import datasets, runs
from study.experiments import experiment


@pytest.fixture
def folder(tmp_path):
    """60 training and 20 test images of two classes, dark and bright, of several sizes and modes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 10)):
        for name, low in (("dark", 0), ("bright", 155)):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                shape = (20 + number % 3, 24, 3) if number % 2 else (20, 20)
                pixels = rng.integers(low, low + 100, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


SMALL = FAST | dict(data="folder", image_size=16, batch_size=16, eval_images=20, arch="resnet8")


def test_a_folder_of_images_is_trained_on(root, folder):
    exp = experiment("pretrain", **SMALL, data_dir=folder, epochs=4)
    record = runs.run(exp)
    assert record["pgd"]["clean"].mean() > 0.8, "dark and bright are easy to tell apart"


def test_a_folder_s_images_are_what_the_files_show(root, folder):
    name = datasets.register(folder, 16)
    data = datasets.load(name, folder)
    assert {key: tuple(x.shape) for key, (x, _) in data.items()} == {
        "train": (54, 3, 16, 16), "held_out": (6, 3, 16, 16), "test": (20, 3, 16, 16),
    }  # fmt: skip
    bright = bnat.to_float(data["test"][0]).mean((1, 2, 3)) > 0.5
    assert torch.equal(bright.cpu(), data["test"][1].cpu() == 0)  # classes in alphabetical order
    assert bnat.DATASETS[name]["chance"] == 0.5


def test_every_split_of_a_folder_has_both_classes(root, folder):
    data = datasets.load(datasets.register(folder, 16), folder)
    assert all(len(labels.unique()) == 2 for _, labels in data.values())


def test_other_files_make_another_run(root, folder):
    before = experiment("pretrain", **SMALL, data_dir=folder).name
    (folder / "train" / "dark" / "0.png").unlink()
    assert experiment("pretrain", **SMALL, data_dir=folder).name != before


def test_a_folder_without_its_splits_is_refused_in_a_sentence(root, tmp_path):
    with pytest.raises(ValueError, match=r"^data_dir must hold train/ and test/ with a directory of images"):
        experiment("pretrain", **SMALL, data_dir=tmp_path)


def test_a_class_that_only_one_split_has_is_named(root, folder):
    (folder / "test" / "dark").rename(folder / "test" / "grey")
    with pytest.raises(ValueError, match="same classes in train/ and test/, got 'dark' in one$"):
        experiment("pretrain", **SMALL, data_dir=folder)


def test_images_that_do_not_fit_into_memory_are_refused(root, folder, monkeypatch):
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(datasets.psutil, "virtual_memory", lambda: memory(50_000))
    with pytest.raises(ValueError, match=r"^image_size must be smaller: 80 images of 16 x 16: 0 MB, of 0 MB"):
        datasets.load(datasets.register(folder, 16), folder)
