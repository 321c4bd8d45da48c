"""The names that a page uses for scores and counts, and the glossary of the documentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One term of docs/glossary.md."""

    key: str
    term: str
    meaning: str


@dataclass(frozen=True)
class PageNames:
    """The names of scores, of what is counted, and of the setting without regularization.

    >>> names = PageNames("classification")
    >>> names.class_score, names.mean_score, names.unit
    ('recall', 'balanced accuracy', 'images')
    """

    task: str = "segmentation"  # or "classification"
    none: str = "no decay"  # the setting without regularization

    @property
    def of_images(self) -> bool:
        """Whether images have one label each."""
        return self.task == "classification"

    @property
    def class_score(self) -> str:
        """The score of a single class."""
        return "recall" if self.of_images else "IoU"

    @property
    def mean_score(self) -> str:
        """The score over all classes."""
        return "balanced accuracy" if self.of_images else "mIoU"

    @property
    def mean_title(self) -> str:
        """The score over all classes, at the beginning of a line."""
        return "Balanced accuracy" if self.of_images else "mIoU"

    @property
    def accuracy(self) -> str:
        """The share of what is right."""
        return "accuracy" if self.of_images else "pixel accuracy"

    @property
    def unit(self) -> str:
        """What is counted."""
        return "images" if self.of_images else "pixels"

    def glossary(self) -> tuple[Word, ...]:
        """Every term of the page."""
        return (*COMMON, *_named_words(self), *(_LABEL_WORDS if self.of_images else _MASK_WORDS))


COMMON = (
    Word("strength", "strength", "How strongly weights are regularized: a value on the regularizer's axis, as D or λ."),
    Word(
        "regularizer", "regularizer", "The rule by which weights are regularized, such as decoupled weight decay or L1."
    ),
    Word(
        "total-decay",
        "total decay D",
        "The sum of learning rate × λ over all steps. Under decoupled decay, a weight that gets no gradient ends at"
        " e to the power of −D of its initial size.",
    ),
    Word(
        "lambda",
        "λ",
        "The number that the optimizer takes, often called weight_decay. It corresponds to a certain D only for a given"
        " learning rate, schedule and number of steps.",
    ),
    Word("tau", "τ", "Epochs in which a weight that gets no gradient shrinks to about a third (1/e) of its size."),
    Word("setting", "setting", "One value of the search: a regularizer at one strength."),
    Word(
        "fold",
        "fold",
        "One of the parts into which the images are split. A model trains on all other folds and is scored on this one,"
        " so every score is of images that the model was not trained on.",
    ),
    Word(
        "selection-score",
        "selection score",
        "The validation score by which the strength was chosen. The choice makes it slightly too high; a test score is"
        " not affected by the choice.",
    ),
    Word("test-score", "test score", "The score of the final model on images that were not used before the choice."),
    Word(
        "standard-error",
        "standard error",
        "The typical deviation of a mean if it were measured with other images and other trainings.",
    ),
    Word(
        "interval",
        "interval",
        "The range that holds the value with the stated confidence (95 % unless set otherwise), from resampled images"
        " or groups and from the spread between folds beyond that.",
    ),
    Word(
        "paired",
        "paired difference",
        "Both settings are scored on the same images in the same folds and the difference is taken there, so that"
        " differences in difficulty between images cancel.",
    ),
    Word(
        "one-se",
        "one-SE",
        "The strongest setting within one paired standard error of the best. It is shown, and used only on request.",
    ),
    Word(
        "gap",
        "generalisation gap",
        "The score on training images minus the score on validation images: what was learnt about the training images"
        " alone.",
    ),
    Word(
        "objective",
        "objective",
        "What a training minimises: L = L_original + λR, the loss on the images plus the penalty. R is half the sum of"
        " squared weights unless the regularizer defines another.",
    ),
    Word("epoch", "epoch", "One pass over all training images."),
    Word("norm", "norm", "The square root of the sum of a layer's squared weights."),
    Word(
        "equilibrium",
        "equilibrium",
        "The state in which decay shortens a weight as much as gradients lengthen it. Each step then turns it by a"
        " constant angle.",
    ),
    Word("sparsity", "sparsity", "The share of weights, channels or activations that are exactly zero."),
    Word(
        "spearman",
        "Spearman correlation",
        "Agreement of two orders: 1 for the same order, 0 for unrelated orders, −1 for opposite orders.",
    ),
    Word("group", "parameter group", "A part of the parameters (body, head, norm, bias …) with its own strength."),
    Word("fingerprint", "fingerprint", "A hash of all files; it changes when any of them changes."),
    Word("refit", "refit", "The final training on all images at the chosen strength; it gives the model of the run."),
    Word("trial", "trial", "One training of the search: one setting, one fold, one seed."),
)


def _named_words(names: PageNames) -> tuple[Word, ...]:
    """Terms that every page has, with the names of the page."""
    counted = "images and groups" if names.of_images else "pixels, images and groups"
    return (
        Word("none", names.none, "The setting without regularization. Every other setting is compared with it."),
        Word(
            "race",
            "race",
            "Settings that are unlikely to win are trained on fewer folds. They are compared with"
            f" {names.none} over the folds that both have.",
        ),
        Word("support", "support", f"The number of {counted} of a class."),
        Word(
            "confusion",
            "confusion matrix",
            f"Counts of {names.unit} by true class (rows) and predicted class (columns). Correct ones are on the"
            " diagonal.",
        ),
        Word("precision", "precision", f"The share of the {names.unit} predicted as the class that are the class."),
        Word("recall", "recall", f"The share of the {names.unit} of the class that are predicted as the class."),
        Word(
            "accuracy",
            names.accuracy,
            f"The share of all {names.unit} that are predicted correctly. Frequent classes dominate it.",
        ),
    )


_MASK_WORDS = (
    Word(
        "iou",
        "IoU",
        "Intersection over union of a class: correct pixels over all pixels that are the class or are predicted as it.",
    ),
    Word("miou", "mIoU", "The mean of the IoU of all classes that occur. 1 is perfect."),
    Word(
        "dice", "Dice", "Twice the correct pixels of a class over the sum of its true pixels and its predicted pixels."
    ),
    Word(
        "boundary-iou",
        "boundary IoU",
        "IoU of the pixels near the border of their class (2 % of the image's diagonal). It measures outlines, also"
        " where the interior of a large object makes IoU look good.",
    ),
    Word("weighted-iou", "weighted IoU", "The mean of the IoU of all classes, weighted by their numbers of pixels."),
    Word(
        "image-mean",
        "over images",
        "Every image is scored separately, and the mean over images is taken; for a class, over the images that hold"
        " it. A small object then counts as much as a large one.",
    ),
)
_LABEL_WORDS = (
    Word(
        "miou",
        "balanced accuracy",
        "The mean recall of all classes that occur. 1 is perfect; guessing gives 1 over the number of classes.",
    ),
)
