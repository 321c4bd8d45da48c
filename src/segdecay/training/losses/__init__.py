"""Losses. A new one is a class in this package and an entry of `combine.OURS`."""

from segdecay.training.losses.base import ImageLoss, Loss, PixelLoss
from segdecay.training.losses.combine import LOSSES, OriginalLoss, build_loss, check_loss
from segdecay.training.losses.cross_entropy import CrossEntropy, Focal, Ohem, loss_sums, pixel_cross_entropy
from segdecay.training.losses.regions import Dice, Lovasz, Tversky
from segdecay.training.losses.weights import class_weights, effective_number_weights, logit_adjustment

__all__ = [
    "LOSSES",
    "CrossEntropy",
    "Dice",
    "Focal",
    "ImageLoss",
    "Loss",
    "Lovasz",
    "Ohem",
    "OriginalLoss",
    "PixelLoss",
    "Tversky",
    "build_loss",
    "check_loss",
    "class_weights",
    "effective_number_weights",
    "logit_adjustment",
    "loss_sums",
    "pixel_cross_entropy",
]
