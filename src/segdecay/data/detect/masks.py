"""The content of masks, and the keys of dataset.yaml that describe it: values, colours, a band a class, probabilities.

Every guess shows the share of pixels of each value, so that an inverted mask is seen; values that may mean
several things become a question with the lines for each answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.checks.labels import MANY_VALUES
from segdecay.data.dataset import MOST_CLASSES
from segdecay.data.detect.ambiguity import Answer, Idea, Question, lines_of
from segdecay.data.detect.class_name_files import Named, is_ignored
from segdecay.data.detect.values import guess_colours, guess_values, share_text, spread
from segdecay.data.formats.reader import read_bytes
from segdecay.data.images.bit_depth import Depth, count_pages
from segdecay.data.images.decode import Picture, UnusableError, read_image, read_mask
from segdecay.data.images.label_maps import colour_counts
from segdecay.data.images.palette import Colour, colour_text

LOOKED_AT = 1000  # masks that are read, spread evenly; `check` reads all
MOST_KEPT = 4096  # different values that are counted one by one
FEW_PAGES = 4  # up to so many pages may be bands of one mask; more are frames
SOFT = 0.9  # share of pixels near 0 and 255 in a mask that was saved with loss
NEAR = 24  # grey levels
OBJECTS = 8  # numbers of the mask with most, from which they may number objects
FEW_FILES = 0.34  # share of files in which a number of an object occurs
OBJECT_LINES = {"values": {0: "background"}, "other": "object"}
MOST_LISTED = 40  # numbers of objects that a question lists as classes
FEW_STACKS = 3  # below it folds cannot hold out whole stacks
FOLDS_OF_FEW = {"folds": "blocks"}
ARRAYS = frozenset({".npy", ".mat"})
PICTURE_MODES = frozenset({"1", "L", "P", "LA", "RGB", "RGBA"})
SAVE_INDICES = "save one file of class indices an image, as 8-bit grey PNG"


@dataclass
class Held:
    """Counts over the masks that were looked at."""

    values: Counter[float] = field(default_factory=Counter)
    files_of: Counter[float] = field(default_factory=Counter)
    colours: Counter[Colour] = field(default_factory=Counter)
    files_of_colours: Counter[Colour] = field(default_factory=Counter)
    clear: Counter[Colour] = field(default_factory=Counter)  # colours of pixels with alpha 0
    palettes: dict[int, set[Colour]] = field(default_factory=lambda: defaultdict(set))
    palette_colours: Counter[Colour] = field(default_factory=Counter)
    highest: list[int] = field(default_factory=list)  # of the files whose values run without a gap
    bands: Counter[int] = field(default_factory=Counter)
    n_files = n_lossy = n_unread = n_fractions = n_hot = n_soft_hot = n_nan = 0
    n_tied = n_pixels = 0  # of masks of several bands; tied: pixels without a single largest band
    n_opaque_alpha = n_half_clear = 0
    band_shares: list[npt.NDArray[np.float64]] = field(default_factory=list)


def ideas_of_masks(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    named: Named | None,
    void: int | None = None,
    *,
    pages: str | None = None,
) -> list[Idea]:
    """Keys of dataset.yaml for what masks hold.

    images, masks: by the same names; void: a value of no class; pages: what pages of a TIFF are, where that is known.

    Raises:
        Question: values that may mean several things.
    """
    paged = _of_pages(images, masks) if pages is None else []
    page = 0 if paged or pages == "frames" else None
    held, looked = Held(), spread(list(masks), LOOKED_AT)
    for name in looked:
        try:
            mask = read_mask(read_bytes(masks[name]), page, wide=True)
            _look(held, mask, images.get(name), is_array=masks[name].suffix.lower() in ARRAYS)
        except UnusableError:
            held.n_unread += 1
    ideas = list(paged)
    if len(looked) < len(masks):
        ideas.append(Idea(None, None, f"Looked at {len(looked)} of {len(masks)} masks; check reads all."))
    if held.n_unread:
        ideas.append(Idea(None, None, f"{held.n_unread} masks could not be read; check names them."))
    return [*ideas, *_meaning(held, named, void)]


def _of_pages(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[Idea]:
    """Masks and images of as many pages each: frames of a stack. Nothing elsewhere: pages of a mask are its bands.

    Raises:
        Question: the pages are so few that they may be bands of both.
    """
    tiffs = [name for name in masks if masks[name].suffix.lower() in {".tif", ".tiff"}]
    for name in spread(tiffs, 3):
        n_masks, n_images = count_pages(masks[name]), count_pages(images[name]) if name in images else 1
        if n_masks == 1 or n_masks != n_images:
            continue
        is_few = len(masks) < FEW_STACKS
        if n_masks > FEW_PAGES:
            why = f"{masks[name].name} and its image have {n_masks} pages each: every page is an image with its mask"
            blocks = f"{'one stack' if len(masks) == 1 else 'few stacks'}: blocks of neighbouring frames are held out "
            blocks += "together"
            return [Idea("pages", "frames", why), *([Idea("folds", "blocks", blocks)] if is_few else [])]
        frames = Answer("each page is the mask of a frame", lines_of(pages="frames", **FOLDS_OF_FEW if is_few else {}))
        text = f"{masks[name].name} has {n_masks} pages, its image {n_images}. What are the pages of a mask?"
        raise Question(text, [frames, _pages_as_classes(images[name], masks[name], n_masks)])
    return []


def _pages_as_classes(image: Path, mask: Path, n_pages: int) -> Answer:
    """The answer that each page of a mask is a class, with the step before it where the files do not fit that."""
    meaning, held = "each page is a class", Held()
    try:
        are_frames = read_image(read_bytes(image), Depth("percentile")).pixels.shape[2] != n_pages
        _look_at_bands(held, _stored(read_mask(read_bytes(mask), wide=True)), image)
    except UnusableError:
        are_frames = True
    if are_frames:
        return Answer(meaning, "# save each image as one page, and run init again")
    if held.n_tied:
        return Answer(meaning, f"# pages leave pixels in no class, or in several: {SAVE_INDICES}")
    names = ["background", *(f"class {i}" for i in range(1, n_pages))]
    return Answer(meaning, lines_of(one_hot=True, classes=names))


def _stored(mask: Picture) -> npt.NDArray[Any]:
    return mask.pixels if mask.wide is None else mask.wide


def _look(held: Held, mask: Picture, image: Path | None, *, is_array: bool) -> None:
    """Count one mask, in place. is_array: of numbers, so that three bands need not be red, green and blue."""
    held.n_files += 1
    held.n_lossy += mask.lossy
    stored = _stored(mask)
    bands = stored.shape[2]
    held.bands[bands] += 1
    are_bands = mask.wide is not None or mask.mode not in PICTURE_MODES or mask.pages > 1 or int(stored.max()) <= 1
    are_bands = are_bands or (is_array and bool(((stored != 0).sum(axis=2) == 1).all()))
    if bands > 1 and are_bands:
        _look_at_bands(held, stored, image)
        return
    if mask.mode in {"LA", "RGBA"}:
        alpha = mask.pixels[..., -1]
        held.n_half_clear += bool(((alpha > 0) & (alpha < 255)).any())
        held.n_opaque_alpha += bool((alpha == 255).all())
        shown = mask.pixels[..., :-1] if mask.mode == "RGBA" else np.repeat(mask.pixels[..., :1], 3, axis=2)
        held.clear.update(colour_counts(shown[alpha == 0]) if (alpha == 0).any() else {})
        found = colour_counts(shown[alpha > 0]) if (alpha > 0).any() else {}
        held.colours.update(found)
        held.files_of_colours.update(found.keys())
        return
    if bands == 3:
        found = colour_counts(stored)
        held.colours.update(found)
        held.files_of_colours.update(list(found)[:MOST_KEPT])
        return
    values, counts = np.unique(stored[..., 0], return_counts=True)
    if values.dtype.kind == "f":
        is_nan = np.isnan(values)
        held.n_nan += int(counts[is_nan].sum())
        values, counts = values[~is_nan], counts[~is_nan]
        held.n_fractions += bool((values != np.rint(values)).any())
    kept = {float(v): int(n) for v, n in zip(values[:MOST_KEPT].tolist(), counts[:MOST_KEPT].tolist(), strict=True)}
    held.values.update(kept)
    held.files_of.update(kept.keys())
    if len(values) > 1 and bool((np.diff(values) == 1).all()) and values[0] in (0, 1):
        held.highest.append(int(values[-1]))
    if mask.mode == "P":
        for value, n in kept.items():
            if value < len(mask.colours):
                held.palettes[int(value)].add(mask.colours[int(value)])
                held.palette_colours[mask.colours[int(value)]] += n


def _look_at_bands(held: Held, stored: npt.NDArray[Any], image: Path | None) -> None:
    """Whether each pixel is in exactly one band."""
    if image is not None and stored.shape[2] > MANY_VALUES:
        try:
            size = read_image(read_bytes(image)).pixels.shape[:2]
        except UnusableError:
            size = stored.shape[:2]
        stored = np.moveaxis(stored, 0, -1) if stored.shape[:2] != size == stored.shape[1:] else stored
    held.bands = Counter({stored.shape[2]: held.n_files})
    is_hot = ((stored == 0) | (stored == stored.max())).all() and bool(((stored != 0).sum(axis=2) == 1).all())
    held.n_hot += bool(is_hot)
    is_soft = stored.dtype.kind == "f" and bool(np.abs(stored.sum(axis=2) - 1).max() < 1e-3) and stored.min() >= 0
    held.n_soft_hot += bool(is_soft and not is_hot)
    is_largest = stored == stored.max(axis=2, keepdims=True)
    held.n_tied += int((is_largest.sum(axis=2) > 1).sum())
    held.n_pixels += is_largest[..., 0].size
    held.band_shares.append(is_largest.mean(axis=(0, 1)))


def _meaning(held: Held, named: Named | None, void: int | None) -> list[Idea]:
    """The keys for what was counted.

    Raises:
        Question: it may mean several things.
    """
    ideas = []
    if held.n_nan:
        ideas.append(Idea(None, None, f"{held.n_nan} pixels of masks are NaN: they are ignored."))
    if held.band_shares:
        return [*ideas, *_one_hot(held, named)]
    if held.n_fractions:
        _ask_for_threshold(held, "hold fractions: probabilities?")
    grey_only = held.colours and not held.clear and all(r == g == b for r, g, b in held.colours)
    grey = {float(r): n for (r, _, _), n in held.colours.items()} if grey_only else {}
    _ask_about_loss(held, held.values or grey)
    if any(len(seen) > 1 for seen in held.palettes.values()):
        text = "Palettes differ between masks, so their colours count, not their indices."
        return [*ideas, Idea(None, None, text), *_of_colours(held, held.palette_colours, named)]
    if (
        named is not None
        and named.by_colour
        and held.palette_colours
        and not set(held.palette_colours) - {*named.by_colour}
    ):
        return [*ideas, *_of_colours(held, held.palette_colours, named)]
    if void is not None and void in held.values:
        count = held.values.pop(void)
        ideas.append(Idea("ignore", [void], f"{void} is the void of this layout ({count} pixels)"))
    if held.colours and not held.values:
        if grey_only:
            return [*ideas, *_of_grey(held, grey, named)]
        return [*ideas, *_of_colours(held, held.colours, named)]
    if held.colours:
        text = "Some masks are in colour and some hold numbers; check names them. Save all alike."
        ideas.append(Idea(None, None, text))
    if not held.values:
        return ideas
    return [*ideas, *_of_values(held, named)]


def _one_hot(held: Held, named: Named | None) -> list[Idea]:
    n_bands = next(iter(held.bands))
    if held.n_hot + held.n_soft_hot < held.n_files:
        names = [f"class {i}" for i in range(n_bands)]
        answers = [Answer("a band a class, and the largest counts", lines_of(one_hot=True, classes=names))]
        seen = "pixels are in none of them or in several"
        if held.n_tied:
            seen = f"{100 * held.n_tied / held.n_pixels:.1f} % of the {seen}"
            answers = [Answer("a band a class", f"# give each pixel one class: {SAVE_INDICES}")]
        text = f"Masks have {n_bands} bands, and {seen}: what are the bands?"
        raise Question(text, [*answers, Answer("something else", f"# {SAVE_INDICES}")])
    shares = np.mean(held.band_shares, axis=0)
    names = named.names if named is not None and len(named.names) == n_bands else []
    first = "background" if shares[0] >= shares.max() else "class 0"
    source = f"names of {named.file}" if names and named is not None else "give the classes their names"
    seen = ", ".join(f"{100 * share:.1f} %" for share in shares)
    kind = "exactly one band" if held.n_hot else "bands that add up to 1"
    why = f"every pixel is in {kind} of {n_bands}: the bands are the classes, in their order ({seen} of the pixels)"
    classes = names or [first, *(f"class {i}" for i in range(1, n_bands))]
    return [Idea("one_hot", True, why), Idea("classes", classes, source)]


def _is_soft(values: Mapping[float, int]) -> bool:
    """Whether values lie around 0 and 255 with some between them."""
    total = sum(values.values())
    near = sum(n for value, n in values.items() if value <= NEAR or value >= 255 - NEAR)
    return max(values) > 255 - NEAR and near >= SOFT * total and len(values) > 2


def _ask_for_threshold(held: Held, what: str) -> None:
    """Ask which value separates two classes.

    Raises:
        Question: always.
    """
    values = held.values or Counter({float(r): n for (r, _, _), n in held.colours.items()})
    low, high = min(values), max(values)
    middle = 0.5 if low >= 0 and high <= 1 else round((low + high) / 2)
    total = sum(values.values())
    above = 100 * sum(n for value, n in values.items() if value >= middle) / total
    lines = lines_of(threshold=middle, classes=["background", "object"])
    answers = [
        Answer(f"two classes, the second from {middle:g} on ({above:.1f} % of the pixels)", lines),
        Answer("more classes", "# save class indices as 8-bit grey PNG, without smoothing"),
    ]
    raise Question(f"Masks {what} ({len(values)} values, {low:g} to {high:g}). How are they to be read?", answers)


def _ask_about_loss(held: Held, values: Mapping[float, int]) -> None:
    """Masks whose values were blurred. values: of grey masks, empty for colours.

    Raises:
        Question: they are.
    """
    if values and (held.n_lossy or len(values) > MANY_VALUES) and _is_soft(values):
        _ask_for_threshold(held, "were saved with loss, or resized with smoothing: their values lie around two")
    if held.n_lossy and len(held.values or held.colours) > MANY_VALUES:
        _refuse_lossy(held)


def _refuse_lossy(held: Held) -> None:
    """Masks of several classes or of colours in JPEG: no line of dataset.yaml brings their values back.

    Raises:
        Question: always.
    """
    kind = "values" if held.values else "colours"
    text = f"{held.n_lossy} of {held.n_files} masks are JPEG, which blurs {kind} (they hold "
    text += f"{len(held.values or held.colours)} different {kind}): classes cannot be told from them."
    raise Question(text, [Answer("the only way", "# export the masks as PNG")])


def _of_values(held: Held, named: Named | None) -> list[Idea]:
    values, ideas = held.values, list[Idea]()
    negative = sorted(int(value) for value in values if value < 0)
    if negative:
        seen = share_text(values, [float(value) for value in negative])
        why = f"masks hold {', '.join(map(str, negative))} ({seen}): negative, so taken as unlabelled"
        ideas.append(Idea("ignore", negative, why))
    counts = {int(value): n for value, n in values.items() if value >= 0}
    known = set(named.by_value) if named is not None else set()
    if not set(counts) <= known | {255}:
        _ask_for_objects(held, counts)
    found = guess_values(counts, named)
    both = [idea for idea in found if idea.key == "ignore"]
    if negative and both:
        found = [idea for idea in found if idea.key != "ignore"]
        ideas[0] = Idea("ignore", [*negative, *both[0].value], f"{ideas[0].why}; {both[0].why}")
    return [*ideas, *found]


def _ask_for_objects(held: Held, counts: Mapping[int, int]) -> None:
    """Values that number objects: each in few files, or running without a gap to another end in each file.

    Raises:
        Question: they look so.
    """
    others = [value for value in counts if value not in (0, 255)]
    files = held.n_files
    in_few = [value for value in others if held.files_of[float(value)] <= max(1, FEW_FILES * files)]
    ends = Counter(held.highest)
    runs = len(held.highest) >= 0.8 * files and files > 2 and len(ends) > 2 and max(ends) >= OBJECTS
    runs = runs and max(ends.values()) <= 0.6 * files
    if not (len(others) >= OBJECTS and (runs or len(in_few) >= 0.8 * len(others)) and len(others) > 2):
        return
    if len(others) < 2 * OBJECTS and not runs:
        return
    text = (
        f"Masks hold {len(counts)} values, {min(counts)} to {max(counts)}, most of them in few files: do they number "
        f"objects, or are they classes? 0 is {share_text(counts, [0]) if 0 in counts else 'in none'}."
    )
    answers = [Answer("every number is an object of one class", lines_of(**OBJECT_LINES))]
    if len(counts) <= MOST_LISTED:
        names = {value: "background" if value == 0 else f"class {value}" for value in sorted(counts)}
        answers.append(Answer("every number is a class", lines_of(values=names)))
    elif len(counts) <= MOST_CLASSES:
        answers.append(Answer("every number is a class", "# values: with a line NUMBER: NAME for each"))
    raise Question(text, answers)


def _of_grey(held: Held, grey: Mapping[float, int], named: Named | None) -> list[Idea]:
    """Numbers that were saved as RGB with three equal bands."""
    plain = Held()
    plain.values, plain.n_files, plain.files_of = Counter(grey), held.n_files, Counter()
    plain.files_of.update({float(r): n for (r, _, _), n in held.files_of_colours.items()})
    classes = [*named.names] if named is not None else []
    ideas = _of_values(plain, named)
    stated = next((idea.value for idea in ideas if idea.key == "values"), None)
    listed = next((idea.value for idea in ideas if idea.key == "classes"), classes)
    ignored = [value for idea in ideas if idea.key == "ignore" for value in idea.value]
    by_value = stated or dict(enumerate(listed))
    shown = {value: name for value, name in by_value.items() if value in grey}
    colours = {colour_text((v, v, v)): name for v, name in shown.items()}
    source = f"; names of {named.file}" if named is not None else ""
    why = f"masks are grey saved as RGB ({share_text(grey, sorted(grey))}){source}"
    found = [Idea("classes", list(dict.fromkeys(by_value.values())), "in the order of their values")]
    found.append(Idea("colors", colours, why))
    if ignored:
        found.append(Idea("ignore", [colour_text((v, v, v)) for v in ignored], "lies apart: taken as unlabelled"))
    return [*found, *(idea for idea in ideas if idea.key is None)]


def _of_colours(held: Held, counts: Counter[Colour], named: Named | None) -> list[Idea]:
    """Colours with their names, or a template of names."""
    ideas = _of_alpha(held, counts)
    if any(idea.key == "transparent" for idea in ideas):
        counts = Counter({colour: n for colour, n in counts.items() if n})
    listed = dict(named.by_colour) if named is not None else {}
    strange = [colour for colour in counts if colour not in listed]
    if named is not None and listed and len(strange) < len(counts):
        total = sum(counts.values())
        shares = ", ".join(
            f"{name} {100 * counts[colour] / total:.1f} %" for colour, name in listed.items() if counts[colour]
        )
        ignored = [colour_text(colour) for colour, name in listed.items() if is_ignored(name)]
        names = {colour_text(colour): name for colour, name in listed.items() if not is_ignored(name)}
        if strange:
            seen = ", ".join(f"{colour_text(c)} ({100 * counts[c] / total:.2f} %)" for c in strange[:6])
            text = f"Masks hold colours that {named.file} does not name: {seen}. What are they?"
            more = [*ignored, *(colour_text(colour) for colour in strange)]
            lines = lines_of(classes=named.names, colors=names, ignore=more)
            raise Question(text, [Answer("unlabelled", lines), Answer("classes", "# add a line for each to colors")])
        ideas += [Idea("classes", named.names, f"names of {named.file}")]
        ideas += [Idea("colors", names, f"colours of {named.file} ({shares} of the pixels)")]
        ideas += [Idea("ignore", ignored, f"{named.file} calls it ignored")] if ignored else []
        return [*ideas, *_word_on_void(names)]
    if len(counts) > OBJECTS:
        _ask_for_coloured_objects(held, counts)
    if len(counts) == 1 and held.clear:
        only = next(iter(counts))
        why = "all that is not transparent has one colour"
        return [
            *ideas,
            Idea("classes", ["background", "object"], why),
            Idea("colors", {colour_text(only): "object"}, why),
        ]
    found = guess_colours(counts, named.names if named is not None else [], sum(held.clear.values()))
    if any(idea.key == "transparent" for idea in ideas):
        found = [
            Idea("classes", ["background", *(n for n in idea.value if n != "background")], idea.why)
            if idea.key == "classes"
            else idea
            for idea in found
        ]
    return [*ideas, *found]


def _word_on_void(names: Mapping[str, str]) -> list[Idea]:
    """A remark on classes whose names say that nothing was labelled there."""
    return [
        Idea(None, None, f"'{name}' is a class here; if it means unlabelled, remove it and set ignore: ['{colour}'].")
        for colour, name in names.items()
        if name.lower() in {"void", "unlabeled", "unlabelled", "unknown", "undefined", "unclassified"}
    ]


def _of_alpha(held: Held, counts: Counter[Colour]) -> list[Idea]:
    """The class of clear pixels: guessed to be the background."""
    if not held.clear:
        return []
    total = sum(held.clear.values()) + sum(counts.values())
    share = 100 * sum(held.clear.values()) / total
    if held.n_half_clear:
        text = "Masks have an alpha band with values between clear and opaque: smoothed edges. How are they to be read?"
        raise Question(text, [Answer("any way", "# export masks without anti-aliasing, or as class indices")])
    why = f"{share:.1f} % of the pixels are clear (alpha 0): taken as background. null: ignored"
    return [Idea("transparent", "background", why)]


def _ask_for_coloured_objects(held: Held, counts: Counter[Colour]) -> None:
    """Colours that tell objects apart: each in few files.

    Raises:
        Question: they look so.
    """
    others = [colour for colour in counts if sum(colour)]
    few = [c for c in others if held.files_of_colours[c] <= max(1, FEW_FILES * held.n_files)]
    if held.n_lossy or held.n_files < 3 or len(few) < 0.8 * len(others) or len(others) < 2 * OBJECTS:
        return
    text = f"Masks hold {len(counts)} colours, most of them in few files: do they tell objects apart, or classes?"
    lines = lines_of(classes=["background", "object"], colors={"#000000": "background"}, other="object")
    raise Question(
        text,
        [
            Answer("every colour is an object of one class", lines),
            Answer("every colour is a class", "# colors: with a line for each colour"),
        ],
    )
