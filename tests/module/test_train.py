"""The training loop: a generator that hands its state out after every epoch."""

import inspect
import re

import pytest
import torch
from conftest import bnat
from torch import nn

from study.run import optimizers

QUICK = dict(lr=0.2, batch_size=64, pad=1, flip=False)


def start(seed=0):
    torch.manual_seed(seed)
    return bnat.network("resnet8", "digits")


def last(model, images, labels, **settings):
    """The last item of a training."""
    *_, item = bnat.train(model, images, labels, **QUICK | settings)
    return item


def test_every_parameter_of_a_training_is_explained():
    words = set(re.findall(r"\w+", inspect.getdoc(bnat.train)))
    assert inspect.signature(bnat.train).parameters.keys() <= words


def test_fewer_images_than_a_batch_are_refused(digits):
    images, labels = (t[:63] for t in digits["train"])
    with pytest.raises(ValueError, match="batch_size must be at most the number of images, 63, got 64"):
        last(start(), images, labels, epochs=1)


def learns(part, key):
    """Whether a tensor of the state_dict is one that gradients of this part change."""
    if key.endswith(("running_mean", "running_var", "num_batches_tracked")):
        return False
    bn, head = "bn" in key or "downsample.1" in key, key.startswith("fc")
    return (
        part == "all" or (bn and part in ("bn", "norm", "bn+head", "bn_affine")) or (head and "head" in part)
    )


@pytest.mark.parametrize("part", bnat.TRAINABLE)
def test_only_the_chosen_part_moves(digits, part):
    model = start()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    last(model, *digits["train"], epochs=2, eps=16 / 255, trainable=part)
    for key, old in before.items():
        moved = old != model.state_dict()[key]
        statistic = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        follows = statistic and part not in ("head", "bn_affine")
        assert moved.any() == (learns(part, key) or follows), key


def test_every_gamma_and_beta_moves(digits):
    model = start()
    before = {key: value.clone() for key, value in model.named_parameters()}
    last(model, *digits["train"], epochs=2, eps=16 / 255, trainable="bn")
    assert all((before[key] != value).all() for key, value in model.named_parameters() if value.requires_grad)


def test_the_same_seed_gives_the_same_weights(digits):
    one, two, other = (start() for _ in range(3))
    for model, seed in ((one, 0), (two, 0), (other, 1)):
        last(model, *digits["train"], epochs=1, eps=16 / 255, seed=seed)
    assert torch.equal(one.fc.weight, two.fc.weight) and not torch.equal(one.fc.weight, other.fc.weight)


def test_a_training_goes_on_from_any_of_its_items(digits):
    whole, part = start(), start()
    last(whole, *digits["train"], epochs=3, eps=16 / 255)
    item = next(bnat.train(part, *digits["train"], **QUICK, epochs=3, eps=16 / 255))
    fresh = start(seed=5)
    last(fresh, *digits["train"], epochs=3, eps=16 / 255, state=item)
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in whole.state_dict().items())


def test_an_item_stays_what_it_was_while_the_training_goes_on(digits):
    first, second = list(bnat.train(start(), *digits["train"], **QUICK, epochs=2))
    assert not torch.equal(first["model"]["fc.weight"], second["model"]["fc.weight"])


def few(model, lr=0.2):
    """What trains the control of a few convolution weights, as bnat.train takes it."""
    return dict(lr=lr, optimizer=optimizers.conv_subset(model, lr=lr, weight_decay=5e-4, seed=0))


def test_of_each_convolution_channel_two_weights_train_as_many_as_gamma_and_beta(digits):
    model = start()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    last(model, *digits["train"], epochs=2, eps=16 / 255, **few(model))
    for key, old in before.items():
        moved = old != model.state_dict()[key]
        if old.dim() == 4:
            assert (moved.flatten(1).sum(1) == 2).all(), key
        else:
            assert moved.any() == key.endswith(("running_mean", "running_var", "num_batches_tracked")), key


def test_training_a_few_convolution_weights_leaves_no_trace_on_the_network(digits):
    model = start()
    last(model, *digits["train"], epochs=1, **few(model))
    before = model.conv1.weight.detach().clone()
    last(model, *digits["train"], epochs=1, trainable="all", weight_decay=0)
    assert (model.conv1.weight != before).all()


def test_a_diverging_training_stops_and_says_when(digits):
    when = r"^epoch 1: the loss is not finite, take an lr below 1e\+20$"
    with pytest.raises(FloatingPointError, match=when):
        last(start(), *digits["train"], epochs=2, lr=1e20)


def test_a_network_of_one_s_own_trains_and_is_evaluated(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    last(model.to(bnat.DEVICE), *digits["train"], epochs=2, eps=8 / 255)
    found = bnat.evaluate(model, *digits["test"], eps=8 / 255)
    assert found["clean"].float().mean() > 0.4 and found["robust"].sum() < found["clean"].sum()


def test_a_strided_1x1_convolution_of_few_channels_is_kept_out_of_channels_last(digits):
    """There its weights' gradient writes outside its memory on a CPU without AVX-512."""
    small = bnat.network("resnet8", "digits")
    for model in (small, bnat.fold_bn(small)):
        assert model.normalize.memory_format is torch.contiguous_format
        assert model.layer1_0.conv1.weight.is_contiguous()
    assert bnat.layout(bnat.network("resnet20")) is torch.channels_last
    assert bnat.layout(nn.Conv2d(4, 8, 3, stride=2)) is bnat.layout(nn.Conv2d(4, 8, 1)) is torch.channels_last
    last(small, *digits["train"], epochs=1)


BEFORE = {  # part: ε in 1/255, weight decay, loss of the third epoch as the first study's code had it
    "all": (0, 5e-4, 0.9539738893508911),
    "bn": (32, 5e-4, 2.4023633003234863),
    "conv_subset": (32, 5e-4, 2.6661436557769775),
    "head": (8, 0, 2.3146097660064697),
    "bn_stats": (8, 0, 2.6207358837127686),
}


@pytest.mark.parametrize("part", BEFORE)
def test_a_training_gives_the_loss_that_it_gave_in_the_first_study(digits, part):
    epsilon, decay, loss = BEFORE[part]
    model = start()
    settings = dict(epochs=3, eps=epsilon / 255, step_size=epsilon / 4 / 255, weight_decay=decay)
    settings |= few(model) if part == "conv_subset" else dict(trainable=part)
    item = last(model, *digits["train"], **settings)
    assert item["loss"] == pytest.approx(loss, rel=2e-2)  # machines round differently, and AT amplifies it


def test_a_network_without_the_part_to_train_is_refused(digits):
    model = bnat.network("linear", "digits")
    with pytest.raises(ValueError, match="^trainable='bn': the network has no such layers, but Linear$"):
        next(bnat.train(model, *digits["train"], epochs=1, lr=0.1, trainable="bn", pad=1))


@pytest.mark.parametrize("given", [dict(trainable="x"), dict(schedule="x")])
def test_a_part_or_schedule_of_no_such_name_is_refused_with_the_names_there_are(digits, given):
    names = {"trainable": "all, bn, norm, .*", "schedule": "cycle, steps"}
    (name,) = given
    with pytest.raises(ValueError, match=f"^{name} must be one of {names[name]}, got 'x'$"):
        last(start(), *digits["train"], epochs=1, **given)


def test_set_trainable_names_the_parts_there_are():
    with pytest.raises(ValueError, match="^trainable must be one of all, bn, .*, got 'x'$"):
        bnat.set_trainable(start(), "x")


def test_decay_towards_1_leaves_the_gamma_of_an_idle_channel_at_1(digits):
    """What no gradient moves is moved by decay alone."""
    found = {}
    for name in ("zero", "one"):
        model = start()
        with torch.no_grad():
            model.bn1.weight[0], model.bn1.bias[0] = 1, -100  # never above 0: no gradient
        run = dict(trainable="bn", lr=0.2, weight_decay=5e-2, gamma_decay=name)
        last(model, *digits["train"], epochs=2, weight_decay=5e-2, **optimizers.part(run, model))
        found[name] = model.bn1.weight[0].item()
    assert found["one"] == pytest.approx(1) and found["zero"] < 0.9


def test_a_shift_behind_bn_is_a_beta_that_starts_there(digits):
    """psBN as it is implemented: the same function step for step, without decay on β."""

    class Shifted(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 0.1

    images, labels = bnat.to_float(digits["train"][0][:64]), digits["train"][1][:64]
    losses = {}
    for name, kind, beta in (("shift", Shifted, 0.0), ("start", nn.BatchNorm2d, 0.1)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 8, 3), kind(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        model = model.to(bnat.DEVICE)
        nn.init.constant_(model[1].bias, beta)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        losses[name] = [bnat.train_step(model, optimizer, images, labels)[0].item() for _ in range(5)]
    assert losses["shift"] == pytest.approx(losses["start"], rel=1e-2)
