"""The images of a run: one of bnat's data sets, or any folder of images.

Decided here: how a folder's images are read, which of two processes downloads. Not here: the data sets that
bnat knows by name, what identifies a folder (define/brought.py).
"""

import psutil
import torch
from filelock import FileLock
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize
from tqdm import tqdm

import bnat_utils as bnat
from study.define.brought import is_folder, splits
from study.run.memory import is_lack_of_memory

CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def class_names(name):
    """What the classes of a data set are called; by their numbers, where only those are known."""
    if name == "cifar10":
        return CIFAR10_CLASSES
    return [str(number) for number in range(bnat.DATASETS[name]["classes"])]


def chance(name):
    """The share of the most frequent class of a data set, 0 to 1: the accuracy of a constant classifier."""
    return bnat.DATASETS[name]["chance"]


def _images(split, size, title, n=None):
    """A split, in an order drawn once (the files' is by class): uint8 [N, 3, size, size], int64 [N].

    n: only so many of its first. ValueError: a file that is no image, or not a whole one.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0)).tolist()[:n]
    images = torch.empty(len(order), 3, size, size, dtype=torch.uint8)
    for number, index in enumerate(tqdm(order, desc=title, delay=3)):
        path = split.samples[index][0]
        try:
            picture = pil_to_tensor(split.loader(path))
        except Exception as error:  # whatever a file that is no image makes PIL raise
            if is_lack_of_memory(error):
                raise
            why = (str(error) or repr(error)).split("\n")[0]
            raise ValueError(f"data_dir must hold images that can be read, got '{path}': {why}") from None
        picture = resize(picture, [size], antialias=True)
        images[number] = center_crop(picture, [size, size])
    return images, torch.tensor(split.targets)[order]


def _folder(name, root):
    """What `bnat.load_data` gives, of a registered folder; its size is said before, or refused."""
    info, (train, test) = bnat.DATASETS[name], splits(root)
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
    parts = dict(train=[t[:-held] for t in images], held_out=[t[-held:] for t in images])
    parts["test"] = _images(test, info["size"], "test/")
    return {key: tuple(t.to(bnat.DEVICE) for t in pair) for key, pair in parts.items()}


def load(name, data_dir, download=True):
    """A data set as `bnat.load_data` gives it; of the processes that start together one downloads."""
    root = bnat.data_folder(data_dir)
    if is_folder(name):
        return _folder(name, root)
    try:
        return bnat.load_data(name, root, download=False)
    except ValueError:
        if not download:
            raise
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"data_dir (BNAT_DATA) must be a folder to download to, got '{root}': {error}"
        ) from None
    with FileLock(root / f".{name}.lock"):
        return bnat.load_data(name, root)


def first_test_images(exp, n):
    """The first n test images of an experiment's data, uint8 [n, C, H, W], or None: they are not here."""
    name, root = exp.run["data"], bnat.data_folder(exp.data_dir)
    try:
        if is_folder(name):
            images = _images(splits(root)[1], bnat.DATASETS[name]["size"], "test/", n)[0]
        else:
            images = bnat.load_data(name, root, download=False)["test"][0][:n]
    except ValueError:
        return None
    return images.cpu().numpy()
