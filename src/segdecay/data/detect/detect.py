"""`segdecay init`: guess a dataset.yaml from the content of a folder, with a reason for each guess.

Reads names, masks and images; writes nothing. Where the data have several readings it asks.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from segdecay.data.checks.findings import names_of
from segdecay.data.detect.ambiguity import Answer, Idea, Question, lines_of_ideas
from segdecay.data.detect.class_name_files import named_beside
from segdecay.data.detect.image_labels import guess_labels
from segdecay.data.detect.image_or_mask import IMAGE_WORDS, MASK_WORDS, Plan, guess_pairs, words_of
from segdecay.data.detect.layouts import guess_layout
from segdecay.data.detect.masks import ideas_of_masks
from segdecay.data.detect.several_masks import guess_class_files
from segdecay.data.detect.values import guess_groups, guess_images
from segdecay.data.formats import LAYOUTS
from segdecay.data.formats.pairing import (
    READABLE,
    SUFFIXES,
    files_below,
    format_of_name,
    part_named,
    read_rows,
)
from segdecay.data.images.bit_depth import count_pages
from segdecay.data.spec import class_names, parse_spec
from segdecay.errors import ConfigError, DataError

VOID = 255  # of Pascal VOC: borders of objects
FLIP = Idea(
    "flip",
    "horizontal",
    "assumed: left and right may be exchanged. Set none for text and digits, both for views from above or a microscope",
)


class DoubtError(DataError):
    """The content of a folder has several readings; the message is the question, with the lines for each answer."""


@dataclass(frozen=True)
class Guess:
    """A dataset.yaml, and one line for each thing that was guessed or left open."""

    spec_yaml: str
    explanations: tuple[str, ...]


def guess_spec(folder: Path) -> Guess:
    """The dataset.yaml that fits the content of a folder.

    Raises:
        DoubtError: the content has several readings.
        DataError: the folder is missing, or holds nothing that can be read.
        ConfigError: a file of groups is not valid.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. init needs one that holds images and masks, or images and labels.")
    ideas = list[Idea]()
    try:
        return _guess_of(_gathered(folder, ideas))
    except Question as question:
        known = [idea for idea in ideas if idea.key is not None]
        whole = Question(question.text, [_completed(folder, known, answer) for answer in question.answers])
        text = f"{folder}: {whole}"
        if known:
            lines = lines_of_ideas(known)
            text += "\nThe other lines of dataset.yaml:\n" + "".join(f"    {line}\n" for line in lines.splitlines())
        raise DoubtError(text.rstrip()) from question


def _completed(folder: Path, known: Sequence[Idea], answer: Answer) -> Answer:
    """The answer with all further lines that follow from it, so that check accepts them."""
    said = yaml.safe_load(answer.lines)
    if not isinstance(said, dict) or said.get("task") == "classification":
        return answer  # a step to take, or lines that need no others
    ideas = [*known, *(Idea(key, value, answer.meaning) for key, value in said.items())]
    with contextlib.suppress(Question):  # a second question is asked by check
        _add_from_source(folder, ideas)
    return Answer(answer.meaning, lines_of_ideas([idea for idea in ideas if idea not in known]))


def _gathered(folder: Path, ideas: list[Idea]) -> list[Idea]:
    """All guesses about a folder. `ideas` is filled in place, so that a question can show those made before it."""
    layout = guess_layout(folder)
    if layout is not None:
        ideas += layout
        _add_from_source(folder, ideas)
        return [*ideas, FLIP]
    paths = [path for path in files_below(folder) if path.suffix.lower() in SUFFIXES]
    classes = _guess_class_files(paths)
    if classes is not None:
        ideas += classes
        _add_from_source(folder, ideas)
        return [*ideas, FLIP]
    found = _stack(folder, paths) or guess_pairs(folder, paths)
    if found is None:
        labelled = guess_labels(folder)
        if labelled is not None:
            return labelled
        raise DataError(_nothing(folder, paths))
    keys, plan = found
    ideas += keys
    images = {image.with_suffix("").as_posix(): folder / image for image, _ in plan.pairs}
    masks = {image.with_suffix("").as_posix(): folder / mask for image, mask in plan.pairs}
    named = named_beside(folder, _folders_of(folder, plan))
    ideas += ideas_of_masks(images, masks, named)
    are_frames = any(idea.key == "pages" and idea.value == "frames" for idea in ideas)
    ideas += guess_images(images, masks, 0 if are_frames else None)
    if are_frames:
        ideas.append(Idea(None, None, "Groups are the stacks: frames of one stack are one group."))
    elif not any(idea.key == "images" and "{group}" in str(idea.value) for idea in ideas):
        ideas += _ideas_of_groups(folder, plan)
    return [*ideas, FLIP]


def _folders_of(folder: Path, plan: Plan) -> list[Path]:
    """The folders of masks and images and those above them, where a list of names may lie."""
    found = list[Path]()
    for pair in plan.pairs[:1]:
        for path in reversed(pair):
            found += [folder / above for above in path.parents]
    return found


def _stack(folder: Path, paths: Sequence[PurePosixPath]) -> tuple[list[Idea], Plan] | None:
    """One TIFF of frames and one of their masks; None elsewhere.

    Raises:
        Question: nothing tells which of the two holds the masks.
    """
    tiffs = [path for path in paths if path.suffix.lower() in {".tif", ".tiff"}]
    if len(tiffs) != 2 or len(paths) != len(tiffs):
        return None
    pages = [count_pages(folder / path) for path in tiffs]
    if pages[0] != pages[1] or pages[0] < 2:
        return None
    named = [bool(words_of(str(path)) & MASK_WORDS) for path in tiffs]
    if named[0] == named[1]:
        answers = [
            Answer(f"{mask} holds the masks", _stack_lines(image, mask)) for image, mask in (tiffs, reversed(tiffs))
        ]
        raise Question(f"Two stacks of {pages[0]} pages; which of them holds masks?", answers)
    image, mask = tiffs if named[1] else reversed(tiffs)
    ideas = [
        Idea("images", _stack_template(image, mask, image), f"a stack of {pages[0]} pages"),
        Idea("masks", _stack_template(image, mask, mask), "the stack of their masks"),
    ]
    return ideas, Plan(str(image), str(mask), (), ((image, mask),))


def _stack_template(image: PurePosixPath, mask: PurePosixPath, one: PurePosixPath) -> str:
    """A template for one of two files: what both names begin with is the stem."""
    common = 0
    while common < min(len(image.name), len(mask.name)) and image.name[common] == mask.name[common]:
        common += 1
    start = image.name[:common].rstrip("-_. ")
    if not start:
        return str(one)
    return str(one.with_name("{stem}" + one.name[len(start) :]))


def _stack_lines(image: PurePosixPath, mask: PurePosixPath) -> str:
    texts = [_stack_template(image, mask, one) for one in (image, mask)]
    return f"images: '{texts[0]}'\nmasks: '{texts[1]}'\npages: frames\nfolds: blocks"


def _guess_class_files(paths: Sequence[PurePosixPath]) -> list[Idea] | None:
    """Several mask files an image in a folder of masks beside a folder of images."""
    tops = {path.parts[0] for path in paths if len(path.parts) == 2}
    images = [top for top in tops if words_of(top) & IMAGE_WORDS]
    masks = [top for top in tops if words_of(top) & MASK_WORDS and top not in images]
    if len(images) != 1 or len(masks) != 1:
        return None
    shown, drawn = ([path for path in paths if path.parts[:-1] == (top,)] for top in (images[0], masks[0]))
    return guess_class_files(shown, drawn) if shown and drawn else None


def _add_from_source(folder: Path, ideas: list[Idea]) -> None:
    """Add the guesses from masks, images and names, where a layout names the files; in place."""
    known = {idea.key: idea.value for idea in ideas}
    spec = parse_spec(_as_yaml(ideas), source="the guessed dataset.yaml")
    if not class_names(spec, folder):
        spec = spec.model_copy(update={"classes": ("background", "object")})  # the list of files does not depend on it
    try:
        placed = LAYOUTS[spec.layout](folder, spec).placed
    except (DataError, ConfigError) as error:
        ideas.append(Idea(None, None, f"It cannot be read yet: {' '.join(str(error).split())}"))
        return
    images = {one.pair.name: one.pair.image for one in placed}
    masks = {one.pair.name: one.pair.mask for one in placed if one.pair.mask != one.pair.image}
    if masks and "classes" not in known and "values" not in known:
        void = VOID if spec.layout == "voc" else None
        named = named_beside(folder, next(iter(masks.values())).parents if masks else ())
        ideas += ideas_of_masks(images, masks, named, void, pages=spec.pages)
    ideas += guess_images(images, masks, 0 if spec.pages == "frames" else None, settled=frozenset(map(str, known)))
    if any(one.group != one.pair.name for one in placed) and not (folder / "groups.csv").exists():
        ideas.append(Idea(None, None, "Groups are those that the layout names."))
        return
    names = [one.pair.name for one in placed if one.pair.part != "test"]
    ideas += _ideas_of_csv(folder / "groups.csv") if (folder / "groups.csv").exists() else guess_groups(_stems(names))


def _stems(names: Sequence[str]) -> list[str]:
    return [PurePosixPath(name).name for name in names]


def _ideas_of_groups(folder: Path, plan: Plan) -> list[Idea]:
    if (folder / "groups.csv").exists():
        return _ideas_of_csv(folder / "groups.csv")
    pool = [image for image, _ in plan.pairs if not any(part_named(name) == "test" for name in image.parts[:-1])]
    return guess_groups([path.stem for path in pool])


def _ideas_of_csv(path: Path) -> list[Idea]:
    rows = read_rows(path)
    groups = {row.group for row in rows if row.group}
    ideas = [Idea("groups", path.name, f"{path.name} gives {len(rows)} images {len(groups)} groups")]
    pool = [row for row in rows if row.split is None or part_named(row.split) != "test"]
    folds = {row.fold for row in pool}
    if len(folds) > 1 and None not in folds:
        ideas.append(Idea("folds", "given", f"{path.name} has a column fold with {len(folds)} folds"))
    return ideas


def _nothing(folder: Path, paths: Sequence[PurePosixPath]) -> str:
    """Why nothing can be guessed: what the folder holds, and what is read."""
    files = files_below(folder)
    foreign = Counter(kind for path in files if (kind := format_of_name(path.name)))
    if foreign and len(paths) <= sum(foreign.values()):
        kinds = ", ".join(f"{kind} ({count} files)" for kind, count in foreign.most_common(3))
        fix = "Save each image (of a volume each slice) as PNG, TIFF or .npy."
        return f"{folder} holds {kinds}, which is not read. {fix}"
    suffixes = Counter(path.suffix.lower() for path in files)
    seen = names_of(sorted({path.parts[0] for path in files})) or "no file at all"
    text = f"{folder} holds no images with masks that belong together; it holds {seen}."
    if suffixes[".xml"]:
        text += f" Its {suffixes['.xml']} .xml files look like boxes of VOC or outlines of CVAT, which are not read: "
        text += "export masks, or COCO JSON with outlines."
    if suffixes[".txt"] > 1:
        text += f" Its {suffixes['.txt']} .txt files are no outlines of YOLO that fit the images."
    if not paths:
        return f"{text} Images are {READABLE}."
    return (
        f"{text} Masks pair with images by equal names (endings such as _mask may differ), in folders or side by side. "
        "Name the two in dataset.yaml: images: and masks: as folders or as templates such as {site}/rgb/{stem}.jpg "
        "(docs/sources.md shows every layout). Class folders (CLASS/*.png), a labels.csv and CIFAR-10 are known, too."
    )


def _guess_of(ideas: Sequence[Idea]) -> Guess:
    text = _as_yaml(ideas)
    parse_spec(text, source="the guessed dataset.yaml")
    return Guess(text, tuple(f"{idea.key}: {idea.why}." if idea.key else idea.why for idea in ideas))


def _as_yaml(ideas: Sequence[Idea]) -> str:
    """The keys with their reasons as comments above them."""
    lines = ["# Guessed by segdecay init. Read every line; segdecay check shows what it leads to."]
    for idea in ideas:
        lines += [f"# {idea.why}"]
        if idea.key is not None:
            lines += [yaml.safe_dump({idea.key: idea.value}, sort_keys=False, allow_unicode=True).rstrip()]
    return "\n".join(lines) + "\n"
