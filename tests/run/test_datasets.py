"""A folder of images as a data set."""

import sys
from collections import namedtuple

import numpy as np
import pytest
import torch
from conftest import FAST, REPOSITORY, bnat, execute, run
from PIL import Image

from study.decide import rates
from study.define import brought
from study.define.experiment import experiment
from study.run import datasets, runs


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
    name = brought.register(folder, 16)
    data = datasets.load(name, folder)
    assert {key: tuple(x.shape) for key, (x, _) in data.items()} == {
        "train": (54, 3, 16, 16), "held_out": (6, 3, 16, 16), "test": (20, 3, 16, 16),
    }  # fmt: skip
    bright = bnat.to_float(data["test"][0]).mean((1, 2, 3)) > 0.5
    assert torch.equal(bright.cpu(), data["test"][1].cpu() == 0)  # classes in alphabetical order
    assert bnat.DATASETS[name]["chance"] == 0.5
    assert bnat.DATASETS[name]["entropy"] == pytest.approx(np.log(2))


def test_the_plateau_of_unequal_classes_is_that_of_their_shares(folder):
    for number in range(20):
        (folder / "train" / "dark" / f"{number}.png").unlink()
    shares = np.array([0.25, 0.75])
    assert rates.plateau(brought.register(folder, 16))[0] == pytest.approx(-shares @ np.log(shares))


def test_every_split_of_a_folder_has_both_classes(root, folder):
    data = datasets.load(brought.register(folder, 16), folder)
    assert all(len(labels.unique()) == 2 for _, labels in data.values())


def test_the_first_test_images_are_those_that_a_run_sees(root, folder):
    exp = experiment("pretrain", **SMALL, data_dir=folder)
    every = datasets.load(exp.run["data"], folder)["test"][0]
    assert (datasets.first_test_images(exp, 3) == every[:3].cpu().numpy()).all()


def test_other_files_make_another_run(root, folder):
    before = experiment("pretrain", **SMALL, data_dir=folder).name
    (folder / "train" / "dark" / "0.png").unlink()
    assert experiment("pretrain", **SMALL, data_dir=folder).name != before


def test_changed_pixels_make_another_run_although_names_and_sizes_stay(root, folder):
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ((10, 20, 30), (30, 20, 10))]
    path = folder / "train" / "dark" / "0.bmp"  # not compressed: all pictures have one size
    runs_, sizes = [], []
    for picture in pictures:
        picture.save(path)
        runs_.append(experiment("pretrain", **SMALL, data_dir=folder).name)
        sizes.append(path.stat().st_size)
    assert sizes[0] == sizes[1] and runs_[0] != runs_[1]


def test_a_file_that_is_no_image_is_named_before_training(root, folder):
    whole = (folder / "train" / "dark" / "1.png").read_bytes()
    for content, reason in ((b"no image", "cannot identify image file"), (whole[: len(whole) // 2], "")):
        (folder / "train" / "dark" / "1.png").write_bytes(content)
        with pytest.raises(ValueError) as error:
            runs.run(experiment("pretrain", **SMALL, data_dir=folder))
        message = str(error.value)
        place = folder / "train" / "dark" / "1.png"
        assert message.startswith(f"data_dir must hold images that can be read, got '{place}': {reason}")
        assert "\n" not in message and not list(root.rglob("*.pt"))


def test_a_small_folder_is_trained_in_the_batch_that_fits_and_that_is_said(root, folder, capsys):
    small = {name: value for name, value in SMALL.items() if name != "batch_size"}
    exp = experiment("pretrain", **small, data_dir=folder, epochs=1, epsilon=0)
    assert exp.run["batch_size"] == 54  # 60 images less the held out; quick's batch has 64
    runs.run(exp)
    assert "batch_size is 54, all the training images, in place of the usual 64" in capsys.readouterr().out
    with pytest.raises(ValueError, match="^batch_size must be at most 54, got 64$"):
        experiment("pretrain", **small, batch_size=64, data_dir=folder)


def test_the_network_of_a_folder_s_run_comes_back_without_the_folder(root, folder):
    exp = experiment("pretrain", **SMALL, data_dir=folder, epochs=1, epsilon=0)
    runs.run(exp)
    code = "from pathlib import Path; from study.define import parameters; from study.run import weights; "
    code += f"parameters.ROOT = Path({str(root)!r}); print(weights.network({exp.name!r}).fc.out_features)"
    shown = run(sys.executable, "-c", code, cwd=REPOSITORY, BNAT_DATA="/nonexistent")  # it has seen no folder
    assert shown.stdout == "2\n"


def test_a_folder_that_was_not_seen_is_no_data_set():
    with pytest.raises(ValueError, match="^data must be folder, with data_dir, .*, got 'folder_0123456789'$"):
        experiment("pretrain", data="folder_0123456789")


@pytest.mark.parametrize("notebook", sorted(path.stem for path in REPOSITORY.glob("notebooks/*.ipynb")))
def test_every_notebook_takes_a_folder(root, folder, notebook):
    given = dict(profile="quick", data="folder", data_dir=str(folder), image_size=16, arch="resnet8")
    if notebook < "04":
        given |= dict(epochs=1, eval_images=10, margin_images=10, aa_images=0, check_images=0, small_images=0)
    shown = execute(notebook, **given)
    assert "resnet8, folder_" in shown or notebook != "04_robustness"


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
        datasets.load(brought.register(folder, 16), folder)
