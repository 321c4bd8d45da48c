"""A small CNN for images with one label each: two convolutions, two linear layers."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS, HIDDEN = (16, 32), 128
POOLED = 8  # side of the input of the linear layers: 32 pixels, halved twice


class SmallCNN(nn.Module):
    """3x3 convolutions of 16 and 32 channels, each with ReLU and pooling by 2, then linear layers of 128 and C.

    The map is pooled to 8x8 before the linear layers, which has no effect at 32x32 and allows images of any other
    size from 4x4 on.

    Args:
        in_channels: bands of the input, at least 1.
        classes: at least 2.

    Example:
        >>> import torch
        >>> SmallCNN(3, 10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10, 1, 1])
    """

    task = "classification"

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        first, second = WIDTHS
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(POOLED),
            nn.Flatten(),
            nn.Linear(second * POOLED * POOLED, HIDDEN),
            nn.ReLU(),
        )
        self.head = nn.Linear(HIDDEN, classes)

    def forward(
        self,
        images: Tensor,  # (N, in_channels, H, W) float
    ) -> Tensor:  # (N, classes, 1, 1) logits
        logits: Tensor = self.head(self.body(images))
        return logits[:, :, None, None]
