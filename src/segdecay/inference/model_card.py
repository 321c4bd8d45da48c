"""The model card, README.md of a bundle: network, training data, scores, limits; derived from model.json alone."""

from __future__ import annotations

from segdecay.inference.card import Band, Card, ClassScore
from segdecay.search.sentences import verdict_title

FEW_PIXELS, FEW_IMAGES = 2_000, 10  # classes with fewer are listed under the limits


def model_card(card: Card) -> str:
    """The model card as Markdown."""
    parts = [_title(card), _use(card), _data(card), _training(card), _scores(card), _limits(card), _versions(card)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(card: Card) -> str:
    name = card.trained_on.name if card.trained_on else "a data set of its owner"
    kind = "Classification" if card.task == "classification" else "Segmentation"
    return (
        f"# {kind} model, trained on {name}\n\n"
        f"{len(card.classes)} classes: {', '.join(card.classes)}.  \nNetwork: {card.model.get('name')}, "
        f"{card.bands} band{'s' if card.bands > 1 else ''}, "
        + ("images at full size." if card.size is None else f"images resized to {card.size[0]}×{card.size[1]}.")
    )


def _use(card: Card) -> str:
    own = str(card.model.get("name", ""))
    is_own = ":" in own and not own.startswith("smp:")
    more = f" --model {own}" if is_own else ""
    return (
        "## Use\n\n```\n"
        f"segdecay predict . IMAGES --out predicted{more}\n```\n\n"
        "Weights are in model.safetensors (no pickle), all else in model.json; neither runs code. "
        f"Inputs are normalised by band: mean {_numbers(card.mean)}, deviation {_numbers(card.deviation)}."
    )


def _data(card: Card) -> str:
    if card.trained_on is None:
        return ""
    parts = ", ".join(f"{part or 'all'} {n}" for part, n in card.trained_on.parts.items())
    return (
        f"## Trained on\n\n{card.trained_on.name}: {card.trained_on.images} images for this training"
        + (f" ({parts} in all)" if parts else "")
        + f". Fingerprint of the data: {card.trained_on.fingerprint[:16]}."
    )


def _training(card: Card) -> str:
    strength = card.strength
    if strength is None:
        return ""
    value = f"{strength.axis} = {strength.value:g}"
    lambda_ = "" if strength.lambda_ is None or strength.axis == "lambda" else f", λ = {strength.lambda_:.4g}"
    epochs = card.made_by.get("epochs")
    text = f"## Training\n\nRegularizer {card.made_by.get('regularizer')}, {value}{lambda_}; {epochs} epochs."
    text += f" Loss: {card.made_by['loss']}." if "loss" in card.made_by else ""
    if card.search is None:
        return text + " The strength was given, not searched."
    found = card.search
    name = "mIoU" if found.criterion == "miou" else found.criterion
    selected = f"Bias-corrected score, {name} over the folds: "
    title, honest = verdict_title(found.kind, strength.axis), found.honest
    if found.kind == "undertrained":
        return f"{text}\n\n**{title}.** {found.sentence} This model was made on request; do not rely on it."
    if honest is None or honest.mean is None:
        return f"{text} Chosen by cross-validation: {found.sentence}"
    return (
        f"{text} Chosen by cross-validation, verdict *{title}*: {found.sentence}\n\n"
        f"{selected}{honest.mean:.3f}{_interval(honest.interval)} ({honest.method})."
    )


def _scores(card: Card) -> str:
    if not card.scores:
        return ""
    has_folds = any(row.folds is not None for row in card.scores)
    of_images, measure = card.task == "classification", _measure(card)
    columns = ["class"] + ([f"{measure} over the folds"] if has_folds else [])
    columns += [f"{measure} on {card.scored_on}"] if card.scored_on else []
    columns += ["images, all parts"] if of_images else ["labelled pixels, all parts", "images"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in card.scores:
        cells = [
            row.name.replace("|", "\\|") + (" (not in the means)" if row.name in card.exclude_from_mean else "")
        ] + ([_score(row.folds, row.interval)] if has_folds else [])
        cells += [_score(row.scored, row.scored_interval)] if card.scored_on else []
        pixels = [] if of_images else [f"{row.pixels:,}"]
        lines.append("| " + " | ".join([*cells, *pixels, f"{row.images:,}"]) + " |")
    confidence = f"{card.search.confidence:.0%}" if card.search else "95%"
    text = f"## Scores\n\nIn brackets: {confidence} intervals, for each class alone.\n\n" + "\n".join(lines)
    if card.miou is not None:
        text += f"\n\nmIoU{_without(card)} on {card.scored_on}, scored once: {_score(card.miou, card.miou_interval)}."
    if card.balanced_accuracy is not None:
        of = f"Balanced accuracy{_without(card)} on {card.scored_on}"
        text += f"\n\n{of}, scored once: {_score(card.balanced_accuracy, None)}."
    return text


def _without(card: Card) -> str:
    """The classes that a mean leaves out, as text."""
    return f" without {', '.join(card.exclude_from_mean)}" if card.exclude_from_mean else ""


def _measure(card: Card) -> str:
    """The score of single classes."""
    return "recall" if card.task == "classification" else "IoU"


def _limits(card: Card) -> str:
    of_images = card.task == "classification"
    few = [row.name for row in card.scores if row.images < FEW_IMAGES or (row.pixels < FEW_PIXELS and not of_images)]
    weak = [row.name for row in card.scores if _known(row) is not None and (_known(row) or 0.0) < 0.5]
    other = (
        f"Images must have {card.bands} band{'s' if card.bands > 1 else ''} and the value range of the training "
        f"images; {'other images' if of_images else 'pixels of other images'} get a class too."
    )
    lines = [
        other,
        "Intervals hold for images like those of the evaluation, not for another camera, place or time.",
    ]
    if few:
        lines.append(f"Few training examples of: {', '.join(few)}. Their scores are uncertain.")
    if weak:
        lines.append(f"{_first_upper(_measure(card))} below .5: {', '.join(weak)}.")
    if card.search is not None:
        lines += card.search.cautions
    if card.scored_on is None:
        lines.append("These weights were not scored on images outside their training; the models of the folds were.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _versions(card: Card) -> str:
    if not card.made_with:
        return ""
    return "## Made with\n\n" + ", ".join(f"{name} {version}" for name, version in card.made_with.items())


def _known(row: ClassScore) -> float | None:
    return row.scored if row.scored is not None else row.folds


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _interval(interval: Band | None) -> str:
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"


def _score(value: float | None, interval: Band | None) -> str:
    return "n/a" if value is None else f"{value:.3f}{_interval(interval)}"
