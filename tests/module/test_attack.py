"""The attack and the networks: what every number of the report rests on."""

import copy
import shutil

import foolbox
import pytest
import torch
import torchvision
from conftest import bnat
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from study.measure import attacks


def contiguous(x):
    return x


def channels_last(x):
    return x.to(memory_format=torch.channels_last)


def strided(x):
    return x.repeat_interleave(2, dim=3)[..., ::2]


LAYOUTS = {function.__name__: function for function in (contiguous, channels_last, strided)}


@settings(max_examples=40, deadline=None)
@given(
    eps=st.floats(0, 1),
    step=st.floats(0, 1),
    steps=st.integers(0, 4),
    start=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 2**16),
)
def test_pgd_stays_in_the_ball_and_in_the_image_range(eps, step, steps, start, dtype, layout, seed):
    torch.manual_seed(seed)
    x = LAYOUTS[layout](torch.rand(5, 3, 8, 8, device=bnat.DEVICE).to(dtype))
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).to(
        bnat.DEVICE, torch.promote_types(dtype, torch.float32)
    )
    adv = bnat.pgd(
        model,
        x,
        torch.randint(10, (5,), device=bnat.DEVICE),
        eps=eps,
        step_size=step,
        steps=steps,
        random_start=start,
    )
    assert adv.shape == x.shape and not adv.isnan().any()
    assert (adv - x).abs().max() <= eps + 1e-6
    assert adv.min() >= 0 and adv.max() <= 1
    if eps == 0:
        assert torch.equal(adv, x.to(adv.dtype))


@pytest.mark.parametrize("bad", [dict(eps=-0.1), dict(steps=-1), dict(step_size=-1)])
def test_pgd_refuses_nonsense(trained, digits, bad):
    x, y = digits["test"]
    with pytest.raises(ValueError, match="pgd needs|eps must be"):
        bnat.pgd(trained, bnat.to_float(x[:2]), y[:2], **dict(dict(eps=0.1, step_size=0.1, steps=1), **bad))


def test_pgd_with_eps_0_returns_the_images(trained, digits):
    x, y = bnat.to_float(digits["test"][0][:20]), digits["test"][1][:20]
    assert torch.equal(bnat.pgd(trained, x, y, eps=0, step_size=0.1, steps=3), x)


def test_pgd_raises_the_loss_above_its_random_start(trained, digits):
    x, y = bnat.to_float(digits["test"][0]), digits["test"][1]
    losses = []
    for steps in (0, 20):
        torch.manual_seed(0)
        with torch.no_grad():
            adv = bnat.pgd(trained, x, y, eps=32 / 255, step_size=8 / 255, steps=steps)
            losses.append(nn.functional.cross_entropy(trained(adv), y).item())
    assert losses[1] > losses[0] + 0.1


def test_pgd_agrees_with_foolbox(trained, digits):
    x, y = bnat.to_float(digits["test"][0]), digits["test"][1]
    torch.manual_seed(0)
    ours = bnat.evaluate(trained, x, y, eps=32 / 255, step_size=8 / 255, steps=20)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=8 / 255, steps=20, random_start=True)
    _, _, broken = attack(foolbox.PyTorchModel(trained, bounds=(0, 1)), x, y, epsilons=32 / 255)
    ours, theirs = ours["robust"].float().mean().item(), 1 - broken.float().mean().item()
    assert 0.2 < theirs < 0.9  # a network on which a weak attack would show
    assert abs(ours - theirs) <= 0.01


def test_pgd_leaves_the_model_as_it_was(digits):
    model = bnat.network("resnet8", "digits")
    model.train()
    model.bn1.eval()  # modes are mixed: each module's must come back
    x, y = bnat.to_float(digits["test"][0][:16]), digits["test"][1][:16]
    nn.functional.cross_entropy(model(x), y).backward()
    model.fc.bias.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    bnat.pgd(model, x, y, eps=0.1, step_size=0.05, steps=3)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert flags == ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()])


def test_restarts_only_break_more(trained, digits):
    results = []
    for restarts in (1, 4):
        torch.manual_seed(0)
        results.append(
            bnat.evaluate(trained, *digits["test"], eps=32 / 255, steps=5, restarts=restarts, batch_size=500)[
                "robust"
            ]
        )
    assert (results[1] <= results[0]).all() and results[1].sum() < results[0].sum()


def test_evaluate_sees_a_constant_classifier_as_such():
    class Constant(nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(1, keepdim=True) * 0 + nn.functional.one_hot(torch.tensor(3), 10).to(x)

    result = bnat.evaluate(Constant(), torch.rand(100, 1, 4, 4), torch.arange(100) % 10, eps=0.5, steps=2)
    assert result["clean"].float().mean() == result["robust"].float().mean() == pytest.approx(0.1)
    assert (result["adversarial_predictions"] == 3).all()


@pytest.mark.parametrize("attack", [bnat.evaluate, bnat.multi_targeted])
def test_a_network_whose_logits_are_nan_is_refused_where_it_would_predict_class_0(digits, attack):
    model = bnat.network("resnet8", "digits")
    nn.init.constant_(model.fc.bias, torch.nan)
    with pytest.raises(FloatingPointError, match="^the network's logits are NaN, so it predicts no"):
        attack(model, *digits["test"], eps=0.1, steps=1)


def with_statistics(model, x):
    """The model in eval mode, with γ, β and running statistics that are not the initial ones."""
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.weight.uniform_(0.5, 1.5), m.bias.normal_(0, 0.1)
        model.train()(x)
    return model.eval()


def assert_folds(model, x, left=0):
    """The folded network is the network, now and after an update; `left` of its BN stay."""
    with torch.no_grad():
        folded = bnat.fold_bn(with_statistics(model, x))
        assert sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules()) == left
        torch.testing.assert_close(folded(x), model(x), rtol=1e-5, atol=1e-5 * model(x).abs().max().item())
        for tensor in model.state_dict().values():
            tensor.mul_(1.01) if tensor.is_floating_point() else None
        assert bnat.fold_bn(model, into=folded) is folded
        torch.testing.assert_close(folded(x), model(x), rtol=1e-5, atol=1e-5 * model(x).abs().max().item())


FOLDED = [("resnet8", "digits"), ("resnet20", "cifar10"), ("resnet56", "cifar10"), ("resnet18", "cifar10")]


@pytest.mark.parametrize("arch, data", [*FOLDED, ("linear", "cifar10"), ("perceptron", "cifar10")])
def test_folding_bn_is_exact(arch, data):
    torch.manual_seed(0)
    x = torch.rand(8, *((1, 8, 8) if data == "digits" else (3, 32, 32)), device=bnat.DEVICE)
    assert_folds(bnat.network(arch, data), x)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11_bn"])
def test_folding_bn_is_exact_for_networks_of_torchvision(name):
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(num_classes=10).to(bnat.DEVICE)
    assert_folds(model, torch.rand(4, 3, 32, 32, device=bnat.DEVICE))


def test_bn_that_is_not_behind_a_convolution_stays_and_is_counted():
    torch.manual_seed(0)
    model = torchvision.models.densenet121(num_classes=10).to(bnat.DEVICE)
    said = r"^62 of 121 BN .* roughly 1\.10 times .* and 59 more \(behind no convolution or linear layer"
    with pytest.warns(UserWarning, match=said):
        assert_folds(model, torch.rand(4, 3, 32, 32, device=bnat.DEVICE), left=62)


class Awkward(nn.Module):
    """What folding must see: a bias, a BN behind two convolutions, one behind a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.left, self.right, self.shared = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.twice, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(144, 12), nn.BatchNorm1d(12), nn.Linear(12, 10))

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x = torch.relu(self.shared(self.left(x)) + self.shared(self.right(x)))
        seen = self.twice(x)  # used by the BN and beside it
        return self.head(self.bn(seen) + seen)


def test_a_bn_of_two_convolutions_stays_and_one_behind_a_linear_layer_folds():
    torch.manual_seed(0)
    said = r"^2 of 4 BN .* 1\.10 .*: shared \(used more than once.*\); bn \(what enters it is used elsewhere"
    with pytest.warns(UserWarning, match=said):
        assert_folds(Awkward().to(bnat.DEVICE), torch.rand(8, 1, 8, 8, device=bnat.DEVICE), left=2)


class ReadElsewhere(nn.Module):
    """A convolution whose weight is used a second time, without a call of it."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Linear(256, 10)

    def forward(self, x):
        x = x.expand(-1, 4, -1, -1)
        return self.fc((self.bn(self.conv(x)) + nn.functional.conv2d(x, self.conv.weight)).flatten(1))


def test_a_bn_whose_convolution_is_read_elsewhere_stays():
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=r"^1 of 1 BN .*: bn \(its tensors, or .* used elsewhere"):
        assert_folds(ReadElsewhere().to(bnat.DEVICE), torch.rand(8, 1, 8, 8, device=bnat.DEVICE), left=1)


def test_a_bn_over_another_axis_than_the_linear_layer_s_stays():
    torch.manual_seed(0)
    tokens = nn.Sequential(
        nn.Flatten(2), nn.Linear(64, 5), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(20, 10)
    )
    with pytest.warns(UserWarning, match=r"^1 of 1 BN .*: 2 \(it normalises other channels"):
        assert_folds(tokens.to(bnat.DEVICE), torch.rand(8, 4, 8, 8, device=bnat.DEVICE), left=1)


def test_a_bn_with_a_hook_before_it_stays():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    model[1].register_forward_pre_hook(double_input)
    with pytest.warns(UserWarning, match=r"^1 of 1 BN .*: 1 \(a hook is on it"):
        assert_folds(model.to(bnat.DEVICE), torch.rand(8, 1, 8, 8, device=bnat.DEVICE), left=1)


def double_input(module, inputs):
    return (2 * inputs[0],)


class ListedTwice(nn.Module):
    """A convolution and its BN with a name each, and with those that a list of both gives them."""

    def __init__(self, kind, bias):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, bias=bias), nn.BatchNorm2d(4)
        self.features = kind(self.conv1, self.bn1)
        self.conv2, self.bn2, self.fc = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Linear(144, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).flatten(1))


@pytest.mark.parametrize("kind", [nn.Sequential, lambda *layers: nn.ModuleList(layers)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_bn_that_is_registered_twice_stays_and_the_others_fold(kind, bias):
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=r"^1 of 2 BN .*: bn1 \(registered under two names"):
        assert_folds(
            ListedTwice(kind, bias).to(bnat.DEVICE), torch.rand(8, 1, 8, 8, device=bnat.DEVICE), left=1
        )


class Tied(nn.Module):
    """Two convolutions of one weight, a BN behind each."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2.weight, self.fc = self.conv1.weight, nn.Linear(256, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x.expand(-1, 4, -1, -1))))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).flatten(1))


def test_layers_that_share_a_weight_fold():
    torch.manual_seed(0)
    assert_folds(Tied().to(bnat.DEVICE), torch.rand(8, 1, 8, 8, device=bnat.DEVICE))


class Branching(nn.Module):
    """A network whose forward branches on the images, which no graph can say."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 10)

    def forward(self, x):
        x = self.bn(self.conv(x if x.mean() > 0.5 else 1 - x))
        return self.fc(x.relu().flatten(1))


def test_a_network_that_cannot_be_traced_is_attacked_as_it_is(digits):
    torch.manual_seed(0)
    model = Branching().to(bnat.DEVICE)
    with pytest.warns(UserWarning, match=r"^1 of 1 BN .* 1\.20 .*: bn \(torch.fx cannot trace "):
        assert_folds(model, bnat.to_float(digits["test"][0][:20]), left=1)


def test_architectures_have_the_published_sizes():
    size = {
        arch: sum(p.numel() for p in bnat.network(arch).parameters())
        for arch in ("resnet20", "resnet56", "resnet18")
    }
    assert size == {
        "resnet20": 272474,
        "resnet56": 855770,
        "resnet18": 11173962,
    }  # He et al.: 0.27 M and 0.85 M
    assert bnat.network("resnet18")(torch.rand(2, 3, 32, 32, device=bnat.DEVICE)).shape == (2, 10)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++")
@pytest.mark.slow
def test_compiling_the_attack_changes_rounding_only(trained, digits):
    x, y = bnat.to_float(digits["test"][0]), digits["test"][1]
    plain, compiled = bnat.fold_bn(trained), bnat.fold_bn(trained)
    compiled.compile(dynamic=False)
    adversarial = []
    for net in (plain, compiled):
        torch.manual_seed(0)
        adversarial.append(bnat.pgd(net, x, y, eps=32 / 255, step_size=8 / 255, steps=7))
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(trained(adv), y).item() for adv in adversarial]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    bnat.fold_bn(bnat.network("resnet8", "digits"), into=compiled)  # other weights reach the compiled network
    with torch.no_grad():
        assert not torch.allclose(compiled(x), plain(x))


def test_bfloat16_gradients_are_no_weaker(trained, digits):
    x, y = digits["test"]
    robust = {}
    for dtype in (torch.float32, torch.bfloat16):
        net, robust[dtype] = bnat.fold_bn(trained, dtype), []
        for seed in range(5):
            torch.manual_seed(seed)
            adv = bnat.pgd(net, bnat.to_float(x), y, eps=32 / 255, step_size=8 / 255, steps=20)
            with torch.no_grad():
                robust[dtype].append((trained(adv).argmax(1) == y).float().mean().item())
    assert abs(sum(robust[torch.float32]) - sum(robust[torch.bfloat16])) / 5 <= 0.005


# ------------------------------------------------------------------------------------- multi-targeted PGD
def test_multi_targeted_attacks_only_what_is_alive(trained, digits):
    x, y = (t[:100] for t in digits["test"])
    alive = torch.arange(100) % 2 == 0
    assert not (bnat.multi_targeted(trained, x, y, eps=4 / 255, steps=2, alive=alive) & ~alive).any()


def test_multi_targeted_counts_what_is_wrong_without_an_attack_as_broken(trained, digits):
    x, y = (t[:200] for t in digits["test"])
    clean = bnat.evaluate(trained, x, y, eps=0)["clean"]
    assert torch.equal(bnat.multi_targeted(trained, x, y, eps=0, steps=1), clean)


def test_multi_targeted_leaves_hardly_more_than_targeted_apgd(trained, digits):
    x, y = (t[:200] for t in digits["test"])
    pgd = bnat.evaluate(trained, x, y, eps=32 / 255)["robust"]
    ours = bnat.multi_targeted(trained, x, y, eps=32 / 255, alive=pgd)
    theirs = attacks.autoattack(trained, x, y, eps=32 / 255, components=("apgd-ce", "apgd-t"))["apgd-t"]
    assert ours.float().mean() <= theirs.float().mean() + 0.02


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_multi_targeted_breaks_a_network_on_which_the_cross_entropy_is_blind(trained, digits, scale):
    """Large logits saturate the softmax: its gradient is 0 on correct images, a margin's is not."""
    masked = copy.deepcopy(trained)
    with torch.no_grad():
        masked.fc.weight *= scale
        masked.fc.bias *= scale
    x, y = (t[:200] for t in digits["test"])
    pgd = bnat.evaluate(masked, x, y, eps=32 / 255)["robust"]
    r = bnat.multi_targeted(masked, x, y, eps=32 / 255, alive=pgd)
    honest = bnat.multi_targeted(trained, x, y, eps=32 / 255)
    assert pgd.sum() > honest.sum() + 20 and abs(r.sum() - honest.sum()) <= 4


class Watched(nn.Module):
    """A network that keeps what it is shown; no `network` itself, so that it is attacked without folding."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)


def test_multi_targeted_stays_in_the_ball_and_in_the_image_range(trained, digits):
    x, y = (t[:1] for t in digits["test"])  # one image: whatever is shown is near it
    watched, image = Watched(trained), bnat.to_float(x)
    assert bnat.multi_targeted(watched, x, y, eps=1 / 255, steps=5).all(), (
        "it must not leave the attack early"
    )
    shown = torch.cat(watched.seen)
    assert (shown - image).abs().max() <= 1 / 255 + 1e-6
    assert shown.min() >= 0 and shown.max() <= 1


def test_multi_targeted_climbs_from_its_random_start(trained, digits):
    x, y = (t[:200] for t in digits["test"])
    left = [bnat.multi_targeted(trained, x, y, eps=32 / 255, steps=steps).sum() for steps in (0, 20)]
    assert left[1] < left[0] - 20


def test_multi_targeted_takes_the_likeliest_class_first(trained, digits, monkeypatch):
    x, y = (t[:1] for t in digits["test"])
    pairs, margin = [], bnat.margin

    def kept(logits, pair):
        pairs.append(pair)
        return margin(logits, pair)

    monkeypatch.setattr(bnat, "margin", kept)
    assert bnat.multi_targeted(trained, x, y, eps=0, steps=1).all()
    with torch.no_grad():
        ranks = trained(bnat.to_float(x))[0].argsort(descending=True).tolist()
    assert ranks[0] == y.item()
    assert torch.cat(pairs).tolist() == [[ranks[0], target] for target in ranks[1:]]


@pytest.mark.parametrize("arch", ["linear", "perceptron"])
@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_networks_without_features_take_images_to_logits(arch, data):
    info = bnat.DATASETS[data]
    x = torch.rand(2, len(info["mean"]), info["size"], info["size"], device=bnat.DEVICE)
    assert bnat.network(arch, data)(x).shape == (2, 10)


@pytest.mark.parametrize("arch", ["linear", "perceptron"])
def test_networks_without_features_predict_the_same_in_bfloat16(digits, arch):
    torch.manual_seed(0)
    model = bnat.network(arch, "digits")
    for _ in bnat.train(model, *digits["train"], epochs=3, lr=0.2, batch_size=64, pad=0, flip=False):
        pass
    x = bnat.to_float(digits["test"][0])
    with torch.no_grad():
        same = bnat.fold_bn(model.eval(), torch.bfloat16)(x).argmax(1) == model(x).argmax(1)
    assert same.float().mean() >= 0.98  # some images lie at a boundary


def test_a_folded_perceptron_follows_both_of_its_linear_layers():
    model = bnat.network("perceptron", "digits").eval()
    folded, other = bnat.fold_bn(model), bnat.network("perceptron", "digits").eval()
    bnat.fold_bn(other, into=folded)
    for name in ("hidden", "fc"):
        assert torch.equal(folded.get_submodule(name).weight, other.get_submodule(name).weight), name


def test_an_eps_that_is_not_in_pixel_units_is_refused(digits, trained):
    x, y = (t[:4] for t in digits["test"])
    for attack in (bnat.evaluate, bnat.multi_targeted, attacks.autoattack):
        with pytest.raises(ValueError, match="eps must be in pixel units, 0 to 1"):
            attack(trained, x, y, eps=8)
    with pytest.raises(ValueError, match="eps must be in pixel units"):
        bnat.pgd(trained, bnat.to_float(x), y, eps=8, step_size=2, steps=1, random_start=False)


def test_images_from_0_to_255_as_floats_are_refused(digits, trained):
    x, y = (t[:4] for t in digits["test"])
    for attack in (bnat.evaluate, bnat.multi_targeted, attacks.autoattack):
        with pytest.raises(ValueError, match=r"images must be uint8 or in \[0, 1\], got 0 to 255"):
            attack(trained, x.float(), y, eps=8 / 255)
