"""The built-in U-Net: any input size, width and depth, batch or group norm, dropout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP_NORM_CHANNELS = 8  # largest number of channels per group
DROPPED_LEVELS = 2  # deepest encoder levels with dropout: "at the end of the contracting path" (Ronneberger et al.)


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "group":
        groups = max(1, channels // GROUP_NORM_CHANNELS)
        return nn.GroupNorm(groups, channels)
    return nn.BatchNorm2d(channels)


class ConvBlock(nn.Sequential):
    """Two times (3x3 convolution without bias, norm, ReLU), then channel dropout."""

    def __init__(self, inputs: int, outputs: int, norm: str, dropout: float) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                _norm(norm, outputs),
                nn.ReLU(inplace=True),
            ]
        if dropout > 0:
            layers.append(nn.Dropout2d(dropout))
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net with nearest-neighbour upsampling (Ronneberger et al. 2015; differs in: padded convolutions, norm layers).

    Inputs of any size: they are padded by replication to a multiple of 2**depth and the logits are cropped back.

    Args:
        in_channels: bands of the input, at least 1.
        classes: channels of the logits, at least 2.
        width: channels of the first level; level k has width * 2**k.
        depth: how often the resolution is halved, at least 1.
        norm: "batch" or "group".
        dropout: probability of Dropout2d after the two deepest encoder blocks, 0 <= p < 1. These have the most
            channels; in the first and last block, with `width` channels, it would remove what the head needs.

    Example:
        >>> UNet(3, 5, width=4, depth=2)(torch.zeros(1, 3, 17, 23)).shape
        torch.Size([1, 5, 17, 23])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        width: int = 8,
        depth: int = 3,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.depth = depth
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            ConvBlock(inputs, outputs, norm, dropout if depth - level < DROPPED_LEVELS else 0.0)
            for level, (inputs, outputs) in enumerate(zip([in_channels, *widths[:-1]], widths, strict=True))
        )
        self.decoder = nn.ModuleList(
            ConvBlock(below + skip, skip, norm, 0.0) for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(
        self,
        images: Tensor,  # (N, in_channels, H, W) float
    ) -> Tensor:  # (N, classes, H, W) logits
        height, width = images.shape[-2:]
        stride = 2**self.depth
        pad_y, pad_x = -height % stride, -width % stride
        x = F.pad(images, (0, pad_x, 0, pad_y), mode="replicate") if pad_x or pad_y else images
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        x = skips.pop()
        for block in self.decoder:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skips.pop()], dim=1))
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]
