"""The words of masks and of labels: what classes are scored by, and what is counted.

The page is written for masks. Where images have one label each, its own sentences (never anything from data) are said
with recall for IoU and images for pixels. Knows nothing of runs or pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from segdecay.report.glossary import WORDS, Word

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
