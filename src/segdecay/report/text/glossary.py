"""The words of the report, each explained in a sentence or two. Knows nothing of runs or pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """One term: `key` is its id on the page."""

    key: str
    term: str
    meaning: str


WORDS = (
    Word(
        "strength", "strength", "How hard weights are regularized: a value on the regularizer's axis, such as D or λ."
    ),
    Word(
        "regularizer", "regularizer", "The rule by which weights are regularized, such as decoupled weight decay or L1."
    ),
    Word(
        "total-decay",
        "total decay D",
        "The sum of learning rate × λ over all steps. Under decoupled decay a weight that gets no gradient ends at"
        " e to the power of −D of its size.",
    ),
    Word(
        "lambda",
        "λ",
        "The number that stands in the optimizer, often called weight_decay. It means a certain D only together with"
        " the learning rate, its schedule and the number of steps.",
    ),
    Word("tau", "τ", "Epochs over which a weight that gets no gradient shrinks to about a third (1/e) of its size."),
    Word("none", "none", "The setting without any regularization (λ = 0), which every other setting is compared with."),
    Word("setting", "setting", "One point of the search: a regularizer with one strength."),
    Word(
        "fold",
        "fold",
        "One of the parts that the images are split into. A model trains on all other folds and is scored on this"
        " one, so every score is of images that the model never saw.",
    ),
    Word(
        "iou",
        "IoU",
        "Intersection over union of a class: right pixels over all pixels that are it or are called it.",
    ),
    Word("miou", "mIoU", "The mean of the IoU of all classes that occur. 1 is perfect."),
    Word(
        "selection-score",
        "selection score",
        "The validation score that chose the strength. What was chosen by a score looks slightly too good by it;"
        " only a test score is untouched by the choice.",
    ),
    Word("test-score", "test score", "The score of the final model on images kept apart until the choice was made."),
    Word(
        "standard-error",
        "standard error",
        "How far a mean would typically move if other images and trainings gave it.",
    ),
    Word(
        "interval",
        "interval",
        "The range in which the value lies with the stated confidence (95 % unless set otherwise), by resampling"
        " images or groups and by how folds spread beyond that.",
    ),
    Word(
        "paired",
        "paired difference",
        "Both settings are scored on the same images in the same folds, and the difference is taken there: what"
        " makes images hard or easy cancels out.",
    ),
    Word(
        "one-se",
        "one-SE",
        "The strongest setting within one paired standard error of the best; shown, taken only on request.",
    ),
    Word(
        "race",
        "race",
        "Settings that can hardly win any more are trained on fewer folds. They are compared with none over the"
        " folds that both have.",
    ),
    Word(
        "gap",
        "generalisation gap",
        "The score on training images minus that on validation images: how much of what was learnt holds only for"
        " the images it was learnt from.",
    ),
    Word("support", "support", "How many pixels, images and groups of a class there are."),
    Word(
        "objective",
        "objective",
        "What a training lowers: L = L_original + λR, the loss on the images plus the penalty, with R half the sum of"
        " squared weights unless the regularizer has another.",
    ),
    Word("epoch", "epoch", "One pass over all training images."),
    Word("norm", "norm", "The root of the sum of squares of a layer's weights: its length."),
    Word(
        "equilibrium",
        "equilibrium",
        "Where decay shortens a weight by as much as gradients lengthen it. Each step then turns it by a set angle.",
    ),
    Word("sparsity", "sparsity", "The share of weights, channels or activations that are exactly zero."),
    Word(
        "spearman",
        "Spearman correlation",
        "How well two orders agree: 1 the same order, 0 unrelated, −1 the opposite order.",
    ),
    Word(
        "confusion",
        "confusion matrix",
        "Counts of pixels by true class (rows) and predicted class (columns). Right ones lie on the diagonal.",
    ),
    Word("group", "parameter group", "A part of the parameters (body, head, norm, bias …) with a strength of its own."),
    Word("fingerprint", "fingerprint", "A short number made of all files; it changes when any of them does."),
    Word("refit", "refit", "The final training on all images at the chosen strength: the model that is handed over."),
    Word("trial", "trial", "One training of the search: one setting, one fold, one seed."),
    Word("dice", "Dice", "Twice the right pixels over the sum of what is the class and what is called it."),
    Word("precision", "precision", "Of the pixels that are called the class, the share that is it."),
    Word("recall", "recall", "Of the pixels that are the class, the share that is called it."),
    Word(
        "boundary-iou",
        "boundary IoU",
        "IoU of the pixels near the border of their class (2 % of the image's diagonal): how well outlines are met,"
        " also where the inside of a large object makes IoU look good.",
    ),
    Word("weighted-iou", "weighted IoU", "The mean of the IoU of all classes, weighted by how many pixels each has."),
    Word(
        "image-mean",
        "over images",
        "Every image is scored by itself, and the mean over images is taken: of a class, over those that hold it. A"
        " small object then counts as much as a large one.",
    ),
    Word("accuracy", "pixel accuracy", "The share of all pixels that are right. Frequent classes decide it."),
)
BY_KEY = {word.key: word for word in WORDS}


def words_of(keys: str) -> tuple[Word, ...]:
    """The words with these keys, which stand with spaces between.

    >>> [word.term for word in words_of("iou miou")]
    ['IoU', 'mIoU']
    """
    return tuple(BY_KEY[key] for key in keys.split())


OF_LABELS = (  # in this order: the longer ones first
    ("mIoU", "balanced accuracy"),
    ("MIoU", "Balanced accuracy"),
    ("IoU", "recall"),
    ("pixel accuracy", "accuracy"),
    ("true pixels", "images"),
    ("Validation pixels", "Validation images"),
    ("training pixels", "training images"),
    ("pixels, images and groups", "images and groups"),
    ("pixels", "images"),
)
OWN_MEANINGS: Mapping[str, tuple[str, str]] = {
    "iou": ("recall", "Of the images of a class, the share that is called it."),
    "miou": (
        "balanced accuracy",
        "The mean recall of all classes that occur. 1 is perfect; guessing gives 1 over the number of classes.",
    ),
}
ONLY_OF_MASKS = ("dice", "recall")  # the second stands under "iou" already


@dataclass(frozen=True)
class Wording:
    """How a page speaks. class_score: what single classes are scored by."""

    task: str = "segmentation"

    @property
    def of_images(self) -> bool:
        return self.task == "classification"

    @property
    def class_score(self) -> str:
        return "recall" if self.of_images else "IoU"

    def say(self, text: str) -> str:
        """A sentence of our own in the words of the task.

        >>> Wording("classification").say("IoU over the folds"), Wording().say("IoU over the folds")
        ('recall over the folds', 'IoU over the folds')
        """
        if not self.of_images:
            return text
        for masks, labels in OF_LABELS:
            text = text.replace(masks, labels)
        return text

    def glossary(self) -> tuple[Word, ...]:
        """Every term of the page."""
        if not self.of_images:
            return WORDS
        found = []
        for word in WORDS:
            if word.key in OWN_MEANINGS:
                term, meaning = OWN_MEANINGS[word.key]
                found.append(Word(word.key, term, meaning))
            elif word.key not in ONLY_OF_MASKS:
                found.append(replace(word, term=self.say(word.term), meaning=self.say(word.meaning)))
        return tuple(found)

    def terms(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """These terms as the glossary has them, each once."""
        own = {word.key: word for word in self.glossary()}
        renamed = {"recall": "iou"} if self.of_images else {}
        keys = dict.fromkeys(renamed.get(word.key, word.key) for word in words)
        return tuple(own[key] for key in keys if key in own)


MASKS = Wording()
