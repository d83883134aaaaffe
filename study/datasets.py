"""The images of a run: one of bnat's data sets, or any folder of images.

Decided here: what a folder's images are normalised, held out and augmented by, which of two processes
downloads. Not here: the data sets that bnat knows by name.
"""

import functools
import hashlib
import json
from collections import Counter
from pathlib import Path

import psutil
import torch
from filelock import FileLock
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize
from tqdm import tqdm

import bnat_utils as bnat

IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # of photographs, whatever the folder


def _splits(root):
    """The training and the test split of a folder. ValueError: it has none, or other classes in one."""
    try:
        train, test = (ImageFolder(str(root / split)) for split in ("train", "test"))
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"data_dir must hold train/ and test/ with a directory of images a class, got '{root}': {error}"
        ) from None
    if train.classes != test.classes:
        alone = sorted(set(train.classes) ^ set(test.classes))[0]
        raise ValueError(f"data_dir must have the same classes in train/ and test/, got {alone!r} in one")
    return train, test


@functools.cache
def _content(path, size, modified):
    """SHA-256 of a file; it is read once, until its size or its time of modification changes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _contents(root, splits):
    """[(path below root, SHA-256 of its content)] of every image."""
    paths = [Path(path) for split in splits for path, _ in split.samples]
    found = []
    for path in tqdm(paths, desc=f"reading {root}", delay=3):
        seen = path.stat()
        found.append((str(path.relative_to(root)), _content(path, seen.st_size, seen.st_mtime_ns)))
    return found


def register(data_dir, image_size):
    """Make a folder of images one of bnat.DATASETS; its name, a hash of its files' names and contents.

    image_size: the side, in pixels, that its images are resized to. ValueError: no such folder.
    """
    root = bnat.data_folder(data_dir)
    train, test = _splits(root)
    files = _contents(root, (train, test))
    digest = hashlib.sha256(json.dumps([image_size, files]).encode()).hexdigest()
    name = f"folder_{digest[:10]}"
    most = max(Counter(test.targets).values()) / len(test)
    bnat.DATASETS[name] = IMAGENET | dict(
        size=image_size, images=len(train), held_out=min(max(len(train) // 10, 1), 1000), test=len(test),
        classes=len(train.classes), chance=most, pad=image_size // 8, flip=True,
    )  # fmt: skip
    return name


def described(name):
    """What a record keeps of a folder of images, to build its network without them; else {}."""
    return dict(dataset=bnat.DATASETS[name]) if name.startswith("folder_") else {}


def recall(record):
    """Make the folder of images that a record was trained on one of bnat.DATASETS again, without images."""
    if "dataset" in record:
        bnat.DATASETS.setdefault(record["run"]["data"], record["dataset"])


def chance(name):
    """The share of the most frequent class of a data set, 0 to 1: the accuracy of a constant classifier."""
    return bnat.DATASETS[name]["chance"]


def _images(split, size, title):
    """A split, in an order drawn once (the files' is by class): uint8 [N, 3, size, size], int64 [N].

    ValueError: a file that is no image, or not a whole one.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0)).tolist()
    images = torch.empty(len(split), 3, size, size, dtype=torch.uint8)
    for number, index in enumerate(tqdm(order, desc=title, delay=3)):
        path = split.samples[index][0]
        try:
            picture = pil_to_tensor(split.loader(path))
        except Exception as error:  # whatever a file that is no image makes PIL raise
            why = str(error).split("\n")[0]
            raise ValueError(f"data_dir must hold images that can be read, got '{path}': {why}") from None
        picture = resize(picture, [size], antialias=True)
        images[number] = center_crop(picture, [size, size])
    return images, torch.tensor(split.targets)[order]


def _folder(name, root):
    """What `bnat.load_data` gives, of a registered folder; its size is said before, or refused."""
    info, (train, test) = bnat.DATASETS[name], _splits(root)
    needed = (info["images"] + info["test"]) * 3 * info["size"] ** 2
    free = psutil.virtual_memory().available
    if bnat.DEVICE.type == "cuda":
        free = min(free, torch.cuda.mem_get_info()[0])
    count = f"{info['images'] + info['test']:,} images of {info['size']} x {info['size']}"
    said = f"{count}: {needed / 1e6:,.0f} MB"
    if needed > free / 2:  # training needs memory too
        raise ValueError(f"image_size must be smaller: {said}, of {free / 1e6:,.0f} MB free")
    print(f"{root}: {said}", flush=True)
    held = info["held_out"]
    images = _images(train, info["size"], "train/")
    splits = dict(train=[t[:-held] for t in images], held_out=[t[-held:] for t in images])
    splits["test"] = _images(test, info["size"], "test/")
    return {key: tuple(t.to(bnat.DEVICE) for t in pair) for key, pair in splits.items()}


def load(name, data_dir, download=True):
    """A data set as `bnat.load_data` gives it; of the processes that start together one downloads."""
    root = bnat.data_folder(data_dir)
    if name.startswith("folder_"):
        return _folder(name, root)
    try:
        return bnat.load_data(name, root, download=False)
    except ValueError:
        if not download:
            raise
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        return bnat.load_data(name, root)
