"""Data: the splits, what is downloaded, what is refused."""

import hashlib
import pickle

import numpy as np
import pytest
import scipy.io
import torch
from conftest import bnat

DATASETS = bnat.DATASETS
NAMES = ["cifar10", "cifar100", "svhn"]
HERE = bnat.data_folder() / bnat.CIFAR10.base_folder
PARTS = [("train", "train", slice(32)), ("held_out", "train", slice(32, 40)), ("test", "test", slice(10))]


def write_dataset(name, folder, monkeypatch):
    """The files of a dataset of torchvision's, in its format, of 40 training and 10 test images; these."""
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n) % 10)
        for split, n in (("train", 40), ("test", 10))
    }
    if name == "svhn":  # images last; the digit 0 has the label 10
        for split, (images, labels) in splits.items():
            scipy.io.savemat(
                folder / f"{split}_32x32.mat",
                dict(X=images.transpose(1, 2, 3, 0), y=np.where(labels, labels, 10)[:, None]),
            )
        monkeypatch.setattr(
            bnat.SVHN,
            "split_list",
            {
                split: ["", file, md5(folder / file)]
                for split, file in (("train", "train_32x32.mat"), ("test", "test_32x32.mat"))
            },
        )
    else:
        source, key = (bnat.CIFAR100, "fine_labels") if name == "cifar100" else (bnat.CIFAR10, "labels")
        base = folder / source.base_folder
        base.mkdir()
        for split, (images, labels) in splits.items():
            (base / split).write_bytes(
                pickle.dumps(
                    {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), key: labels.tolist()}
                )
            )
        names = [str(c) for c in range(DATASETS[name]["classes"])]
        meta = {"filename": "meta", "key": "names"}
        (base / "meta").write_bytes(pickle.dumps({"names": names}))
        for key, value in dict(
            train_list=[["train", md5(base / "train")]],
            test_list=[["test", md5(base / "test")]],
            meta=meta | {"md5": md5(base / "meta")},
        ).items():
            monkeypatch.setattr(source, key, value)
    return splits


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(params=NAMES)
def dataset(request, tmp_path, monkeypatch):
    """(name, what was written, what load_data makes of it) of a dataset in torchvision's format."""
    splits = write_dataset(request.param, tmp_path, monkeypatch)
    monkeypatch.setitem(DATASETS[request.param], "held_out", 8)
    return request.param, splits, bnat.load_data(request.param, tmp_path, download=False)


def test_a_dataset_has_its_three_splits(dataset):
    shapes = {key: tuple(x.shape) for key, (x, _) in dataset[2].items()}
    assert shapes == {"train": (32, 3, 32, 32), "held_out": (8, 3, 32, 32), "test": (10, 3, 32, 32)}


def test_images_and_labels_are_those_of_the_files(dataset):
    _, splits, data = dataset
    for key, split, part in PARTS:
        images, labels = (torch.from_numpy(array[part]) for array in splits[split])
        assert data[key][0].dtype == torch.uint8
        assert torch.equal(data[key][0].cpu(), images.permute(0, 3, 1, 2)) and torch.equal(
            data[key][1].cpu(), labels
        )


def test_a_network_has_the_classes_of_its_data(dataset):
    assert bnat.network("resnet8", dataset[0]).fc.out_features == DATASETS[dataset[0]]["classes"]


def test_data_and_networks_of_no_such_name_are_refused_with_the_names_there_are(tmp_path):
    with pytest.raises(ValueError, match="^name must be one of digits, cifar10, .*, got 'mnist'$"):
        bnat.load_data("mnist", tmp_path)
    with pytest.raises(ValueError, match="^data must be one of digits, cifar10, .*, got 'mnist'$"):
        bnat.network("resnet20", "mnist")
    with pytest.raises(ValueError, match="^arch must be one of resnet8, .*, perceptron, got 'resnet34'$"):
        bnat.network("resnet34")


def test_missing_data_is_said_with_the_reason(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(bnat.CIFAR10, "download", offline)
    with pytest.raises(ValueError, match=r"^data_dir .*must hold the files of cifar10, got .*: no network$"):
        bnat.load_data("cifar10", tmp_path)


def test_without_a_download_nothing_is_fetched(tmp_path):
    with pytest.raises(
        ValueError, match=rf"must hold the files of cifar10, got '{tmp_path}': Dataset not found"
    ):
        bnat.load_data("cifar10", tmp_path, download=False)


def test_a_truncated_batch_is_refused(tmp_path, monkeypatch):
    write_dataset("cifar10", tmp_path, monkeypatch)
    path = tmp_path / bnat.CIFAR10.base_folder / "train"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match="data_dir .*must hold the files of cifar10, .* not found or corrupted"
    ):
        bnat.load_data("cifar10", tmp_path, download=False)


def test_augmentation_crops_and_flips():
    torch.manual_seed(0)
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8)
    out = bnat.augment(image.repeat(200, 1, 1, 1), pad=1, flip=True)
    crops = [
        torch.nn.functional.pad(image, [1] * 4)[..., i : i + 8, j : j + 8] for i in range(3) for j in range(3)
    ]
    allowed = {tuple(c.flatten().tolist()) for crop in crops for c in (crop, crop.flip(3))}
    assert {tuple(o.flatten().tolist()) for o in out} == allowed  # all 18 appear, and nothing else


@pytest.mark.skipif(not HERE.exists(), reason=f"no CIFAR-10 in {HERE.parent}: set BNAT_DATA")
def test_cifar10_is_whole_and_has_the_mean_and_sd_of_the_normalisation():
    data = bnat.load_data("cifar10", download=False)
    labels = torch.cat([data["train"][1], data["held_out"][1]])
    assert labels.bincount().tolist() == [5000] * 10
    assert data["test"][1].bincount().tolist() == [1000] * 10
    assert len(data["held_out"][1]) == 1000
    images, values = torch.cat([data["train"][0], data["held_out"][0]]), torch.arange(256) / 255
    for channel in range(3):
        shares = images[:, channel].flatten().bincount(minlength=256).cpu() / images[:, channel].numel()
        mean = (shares * values).sum()
        sd = (shares * (values - mean) ** 2).sum().sqrt()
        assert mean.item() == pytest.approx(DATASETS["cifar10"]["mean"][channel], abs=1e-4)
        assert sd.item() == pytest.approx(DATASETS["cifar10"]["std"][channel], abs=1e-4)


@pytest.mark.parametrize(
    "bad", [torch.tensor([0, 255]), torch.tensor([True]), torch.tensor([0.5, torch.nan])]
)
def test_images_that_are_neither_uint8_nor_in_0_to_1_are_refused(bad):
    with pytest.raises(ValueError, match="^images must be uint8 or "):
        bnat.to_float(bad)
