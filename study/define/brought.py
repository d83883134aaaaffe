"""What a user brings: a folder of images, the code of a network, a file of weights; each by its content.

Decided here: what of them belongs to a run's identity, and what is refused before anything runs. Not here:
how the images are loaded (run/datasets.py), how the code becomes a network and the file fills it
(run/networks.py).
"""

import functools
import hashlib
import importlib.util
import inspect
import json
import pkgutil
from collections import Counter
from pathlib import Path

import numpy as np
from torchvision.datasets import ImageFolder
from tqdm import tqdm

import bnat_utils as bnat

# -------------------------------------------------------------------------------------------- images
FOLDER = "folder_"  # how the name of a folder of images begins
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # of photographs, whatever the folder


def splits(root):
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


def _contents(root, both):
    """[(path below root, SHA-256 of its content)] of every image of both splits."""
    paths = [Path(path) for split in both for path, _ in split.samples]
    files = []
    for path in tqdm(paths, desc=f"reading {root}", delay=3):
        seen = path.stat()
        files.append((str(path.relative_to(root)), _content(path, seen.st_size, seen.st_mtime_ns)))
    return files


def register(data_dir, image_size):
    """Make a folder of images one of bnat.DATASETS; its name, a hash of its files' names and contents.

    image_size: the side, in pixels, that its images are resized to. ValueError: no such folder.
    """
    root = bnat.data_folder(data_dir)
    train, test = splits(root)
    files = _contents(root, (train, test))
    digest = hashlib.sha256(json.dumps([image_size, files]).encode()).hexdigest()
    name = f"{FOLDER}{digest[:10]}"
    most = max(Counter(test.targets).values()) / len(test)
    shares = np.array(list(Counter(train.targets).values())) / len(train)
    bnat.DATASETS[name] = IMAGENET | dict(
        size=image_size, images=len(train), held_out=min(max(len(train) // 10, 1), 1000), test=len(test),
        classes=len(train.classes), chance=most, entropy=float(-shares @ np.log(shares)),
        pad=image_size // 8, flip=True,
    )  # fmt: skip
    return name


def is_folder(name):
    """Whether a data set is a folder of images, by the name that it has here."""
    return "read" not in bnat.DATASETS[name]


def described(name):
    """What a record keeps of a folder of images, to build its network without them; else {}."""
    return dict(dataset=bnat.DATASETS[name]) if is_folder(name) else {}


def recall(record):
    """Make the folder of images that a record was trained on one of bnat.DATASETS again, without images."""
    if "dataset" in record:
        bnat.DATASETS.setdefault(record["run"]["data"], record["dataset"])


# ----------------------------------------------------------------------------------- code and weights
def is_own(arch):
    """Whether `arch` is an import path, of a user's own network, and none of bnat's."""
    return ":" in arch


def resolve(path):
    """The function that an import path "package.module:function" names; ValueError where there is none."""
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"arch must be importable, got {path!r}: {error}") from None


def sha256(file):
    """Of a file's content."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def source(path):
    """SHA-256 of the file that the function of an import path stands in, which says what the network is.

    Of that file alone: what it imports is not looked at.
    ValueError: the path names no function or class, or one that is not written in a Python file.
    """
    function = resolve(path)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))  # not that of a decorator
    except TypeError:  # of a builtin, or of no function at all
        file = None
    if file is None or not callable(function):
        raise ValueError(f"arch must be a function or class of a Python file, got {path!r}: {function!r}")
    return sha256(file)


def weights_file(name):
    """The file of `pretrain_weights`; "pyautoattack": the standard ResNet-18 that ships in that package."""
    path = Path(str(name))
    if name == "pyautoattack":
        package = importlib.util.find_spec(name).submodule_search_locations[0]
        path = Path(package, "examples", "model_test.pt")
    if not path.is_file():
        raise ValueError(
            f'pretrain_weights must be "pyautoattack" or a file with a state_dict, got {str(name)!r}'
        )
    return path
