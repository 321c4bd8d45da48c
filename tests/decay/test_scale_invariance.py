"""Which weights feed a norm layer."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from segdecay.decay import group_parameters
from segdecay.decay.scale_invariance import find_feeds, output_dim
from segdecay.errors import DecayError
from segdecay.models.unet import UNet


def test_of_the_unet_every_weight_but_the_head_feeds_a_norm_layer() -> None:
    net = UNet(3, 5, width=4, depth=2)
    weights = {name for name, parameter in net.named_parameters() if parameter.ndim > 1}
    assert set(find_feeds(net)) == weights - {"head.weight"}


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_scaling_a_weight_that_feeds_a_batch_norm_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=3).train()
    images = torch.randn(4, 3, 224 if "vit" in name else 64, 224 if "vit" in name else 64)
    with torch.no_grad():
        before = net(images)
        feeds = find_feeds(net)
        for weight in feeds:
            net.get_parameter(weight).mul_(3.0)
        assert torch.allclose(net(images), before, atol=2e-2)
    assert bool(feeds) == (name in ("resnet18", "mobilenetv3_small_050", "convnext_atto"))
    if name == "resnet18":
        assert set(feeds) == {n for n, p in net.named_parameters() if p.ndim == 4}


def test_a_post_norm_transformer_is_not_mistaken() -> None:
    assert find_feeds(nn.TransformerEncoderLayer(8, 2, 8)) == {}


def test_channels_must_fit_and_dropout_is_seen_through() -> None:
    assert find_feeds(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5))) == {}
    assert find_feeds(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout2d(), nn.GroupNorm(2, 4))) == {"0.weight": "2"}
    assert find_feeds(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))) == {}


def test_the_table_takes_a_list_instead_and_says_what_it_found() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    rows = {row.name: row for row in group_parameters(net, feeds_norm=["0.*"]).rows}
    assert rows["0.weight"].feeds == "norm"
    assert "feeds norm" in group_parameters(net, feeds_norm=["0.*"]).table()
    with pytest.raises(DecayError, match=r"feeds_norm '1.weight' matches no weight.*Did you mean"):
        group_parameters(net, feeds_norm=["1.weight"])


def test_the_output_channels_of_a_transposed_convolution_are_its_second_dimension() -> None:
    rows = {
        row.name: row for row in group_parameters(nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.Conv2d(4, 2, 1))).rows
    }
    assert rows["0.weight"].output_dim == 1
    assert rows["1.weight"].output_dim == 0
    assert output_dim(torchvision.ops.Conv2dNormActivation(3, 4)[0]) == 0
