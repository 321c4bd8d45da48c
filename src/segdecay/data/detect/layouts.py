"""Which layout lies in a folder: COCO, VOC, Cityscapes, labelme, a table, one mask an object, masks beside images.

Each guess returns keys of dataset.yaml with their reasons, or None where nothing looks like it. Nothing is decoded.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from segdecay.data.checks.findings import names_of
from segdecay.data.detect.values import Idea
from segdecay.data.formats.coco import read_coco
from segdecay.data.formats.labelme import read_labelme
from segdecay.data.formats.pairing import PART_ALIASES, PARTS, SUFFIXES, files_below
from segdecay.data.formats.tables import COLUMNS, columns_of, existing, inner_path, read_table
from segdecay.data.formats.voc import IMAGES, LISTS, MASKS
from segdecay.errors import ConfigError, DataError

MASK_WORDS = (
    "mask",
    "masks",
    "label",
    "labels",
    "gt",
    "seg",
    "segmentation",
    "annotation",
    "matte",
    "target",
    "trimap",
)
IMAGE_WORDS = ("image", "images", "img", "rgb", "photo", "sat", "file", "filename", "path", "input")
NO_MASKS = (*IMAGE_WORDS, "color", "colour", "overlay", "vis", "pred", "thumb", "copy", "nir", "depth")
LOOKED_AT = 400  # files of which names or JSON are read
CITYSCAPES = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road", "sidewalk",
    "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole", "polegroup",
    "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus",
    "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip  # names of labelIds 0–33, as the data set's own page lists them
CITYSCAPES_VOID = frozenset({0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30})  # not evaluated there


def guess_layout(folder: Path) -> list[Idea] | None:
    """The keys of dataset.yaml that name a layout; None where images/ and masks/ or class folders are to be sought."""
    for guess in (_voc, _cityscapes, _coco, _labelme, _table, _instances, _beside):
        ideas = guess(folder)
        if ideas is not None:
            return ideas
    return None


def _voc(folder: Path) -> list[Idea] | None:
    if not (folder / IMAGES).is_dir() or not (folder / MASKS).is_dir() or not (folder / LISTS).is_dir():
        return None
    return [Idea("layout", "voc", f"{IMAGES}/, {MASKS}/ and lists of names in {LISTS}/")]


def _cityscapes(folder: Path) -> list[Idea] | None:
    if not (folder / "leftImg8bit").is_dir() or not (folder / "gtFine").is_dir():
        return None
    names = [path.name for path in files_below(folder / "gtFine")]
    kind = next((kind for kind in ("labelTrainIds", "labelIds") if any(n.endswith(f"_{kind}.png") for n in names)), "")
    if not kind:
        return None
    images, masks = (
        "leftImg8bit/{split}/{group}/{stem}_leftImg8bit.png",
        f"gtFine/{{split}}/{{group}}/{{stem}}_gtFine_{kind}.png",
    )
    ideas = [
        Idea("images", images, "the layout of Cityscapes; each city is a group"),
        Idea("masks", masks, f"masks hold {kind}"),
    ]
    kept = [index for index in range(len(CITYSCAPES)) if index not in CITYSCAPES_VOID | {0}]
    if kind == "labelTrainIds":
        classes = [CITYSCAPES[index] for index in kept]
        return [*ideas, Idea("classes", classes, "the 19 classes of Cityscapes"), Idea("ignore", [255], "its void")]
    values = {index: CITYSCAPES[index] for index in kept}
    void = sorted(CITYSCAPES_VOID)
    return [
        *ideas,
        Idea("values", values, "the 19 classes that Cityscapes evaluates"),
        Idea("ignore", void, "its void"),
    ]


def _json_files(folder: Path) -> list[PurePosixPath]:
    return [path for path in files_below(folder) if path.suffix.lower() == ".json"][:LOOKED_AT]


def _coco(folder: Path) -> list[Idea] | None:
    found: dict[PurePosixPath, Counter[str]] = {}
    listed: dict[PurePosixPath, list[str]] = {}
    for path in _json_files(folder)[:20]:
        try:
            values = read_coco(folder / path)
        except DataError:
            continue
        name_of = {repr(row.get("id")): str(row.get("name")) for row in values["categories"]}
        found[path] = Counter(name_of.get(repr(row.get("category_id")), "") for row in values["annotations"])
        listed[path] = [str(row.get("file_name")) for row in values["images"][:LOOKED_AT]]
    if not found:
        return None
    annotations, remark = _with_split(list(found))
    first = next(path for path in found if annotations in (str(path), str(_split_of(path)[0])))
    images = next((place for place in _folders(folder) if _hits(folder, place, listed[first])), "images")
    word = _split_of(first)[1]
    images = images.replace(word, "{split}") if word and "{split}" in annotations else images
    used = [name for name in dict.fromkeys(n for c in found.values() for n in c) if name]
    classes = used if "background" in used else ["background", *used]
    counts = sum(sum(counter.values()) for counter in found.values())
    ideas = [
        Idea("layout", "coco", f"{counts} annotations of COCO"),
        Idea("annotations", annotations, "the JSON file" if "{split}" not in annotations else "a JSON file a part"),
        *([Idea("images", images, "file names of the JSON are found there")] if images != "images" else []),
        Idea("classes", classes, "categories with annotations; pixels that no annotation covers are background"),
        Idea("overlap", "large first", "assumed: small objects lie on top. file order draws as listed"),
    ]
    return [*ideas, *([Idea(None, None, remark)] if remark else [])]


def _split_of(path: PurePosixPath) -> tuple[PurePosixPath, str]:
    """A path with {split} for the part in its name, and the word that stood there."""
    for word in (*PARTS, *PART_ALIASES):
        match = re.search(rf"(?<![a-z]){word}(?![a-z])", path.name)
        if match:
            return path.with_name(path.name[: match.start()] + "{split}" + path.name[match.end() :]), word
    return path, ""


def _with_split(paths: list[PurePosixPath]) -> tuple[str, str]:
    """One file, or one template for the files of parts; and a remark on those that were left."""
    groups = defaultdict[PurePosixPath, list[PurePosixPath]](list)
    for path in paths:
        groups[_split_of(path)[0]].append(path)
    template, files = max(groups.items(), key=lambda group: len(group[1]))
    left = [str(path) for path in paths if path not in files]
    remark = f"Other COCO files are not used: {names_of(left)}." if left else ""
    return str(template), remark


def _folders(folder: Path) -> list[str]:
    below = sorted({str(path.parent) for path in files_below(folder) if path.suffix.lower() in SUFFIXES})
    return list(dict.fromkeys([*(top for top in ("images", ".") if (folder / top).is_dir()), *below]))


def _hits(folder: Path, place: str, names: list[str]) -> bool:
    paths = [inner_path(name, place) for name in names]
    return 2 * sum(path is not None and existing(folder, path) is not None for path in paths) > len(names)


def _labelme(folder: Path) -> list[Idea] | None:
    labels, places = Counter[str](), Counter[str]()
    for path in _json_files(folder):
        try:
            values = read_labelme(folder / path)
        except ValueError:
            continue
        if isinstance(values["imagePath"], str):
            places[path.parts[0] if len(path.parts) > 1 else "."] += 1
            labels.update(str(shape.get("label")) for shape in values["shapes"])
    if not labels:
        return None
    classes = list(labels) if "background" in labels else ["background", *labels]
    place = next(iter(places)) if len(places) == 1 else "."
    return [
        Idea("layout", "labelme", f"{places.total()} JSON files of labelme"),
        *([Idea("annotations", place, "the folder that holds them")] if place != "." else []),
        Idea("classes", classes, "labels of the shapes; pixels that no shape covers are background"),
        Idea("overlap", "large first", "assumed: small objects lie on top. file order draws as listed"),
    ]


def _table(folder: Path) -> list[Idea] | None:
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in {".csv", ".json"} and path.is_file()]
    for path in paths:
        try:
            rows = read_table(path)[:LOOKED_AT]
        except (ConfigError, DataError):
            continue
        there = columns_of(rows)
        files = [column for column in there if _are_files(folder, [str(row.get(column) or "") for _, row in rows])]
        mask = next((name for name in files if set(re.findall("[a-z]+", name.lower())) & set(MASK_WORDS)), None)
        image = next((name for name in files if name != mask), None)
        if mask is None or image is None:
            continue
        columns = {ours: name for ours, name in (("image", image), ("mask", mask)) if ours != name}
        unread = [name for name in there if name not in {*COLUMNS, image, mask}]
        return [
            Idea("layout", "table", f"{path.name} has files in its columns {image} and {mask}"),
            Idea("annotations", path.name, "the table"),
            *([Idea("columns", columns, "which column of the table is which")] if columns else []),
            *([Idea(None, None, f"Columns that are not read: {names_of(unread)}.")] if unread else []),
        ]
    return None


def _are_files(folder: Path, names: list[str]) -> bool:
    paths = [inner_path(name) for name in names]
    return bool(names) and 2 * sum(
        path is not None and path.suffix.lower() in SUFFIXES and (folder / path).is_file() for path in paths
    ) > len(names)


def _pictures(folder: Path) -> list[PurePosixPath]:
    return [path for path in files_below(folder) if path.suffix.lower() in SUFFIXES]


def _instances(folder: Path) -> list[Idea] | None:
    """One folder of mask files an image: images/A.png with masks/A/*.png, or A/images/A.png with A/masks/*.png."""
    paths = _pictures(folder)
    shapes: tuple[tuple[Callable[[PurePosixPath], str], str, str], ...] = (
        (lambda path: path.parts[0], "{top}/{{stem}}{suffix}", "{masks}/{{stem}}/*{other}"),
        (lambda path: path.parts[1], "{{stem}}/{top}/*{suffix}", "{{stem}}/{masks}/*{other}"),
    )
    for depth, (top_of, image_text, mask_text) in enumerate(shapes):
        tops = defaultdict[str, list[PurePosixPath]](list)
        for path in paths:
            if len(path.parts) > 1 + depth:
                tops[top_of(path)].append(path)
        masks = next((top for top in tops if top.lower() in MASK_WORDS), None)
        images = next((top for top in tops if top.lower() in IMAGE_WORDS), None)
        if masks is None or images is None or any(len(path.parts) != 3 for path in tops[masks]):
            continue
        stems = {path.parts[1 - depth] for path in tops[masks]}
        shown = {path.parts[0] if depth else path.stem for path in tops[images]}
        if not stems & shown or len(tops[masks]) <= len(tops[images]):
            continue
        suffix, other = (Counter(path.suffix for path in tops[top]).most_common(1)[0][0] for top in (images, masks))
        many = f"{len(tops[masks])} mask files for {len(shown)} images: one an object"
        return [
            Idea("layout", "parts", many),
            Idea("images", image_text.format(top=images, suffix=suffix), "where the images are"),
            Idea("masks", mask_text.format(masks=masks, other=other), "every file is an object of the one class"),
            Idea("classes", ["background", "object"], "give the class of the objects its name"),
            Idea("overlap", "large first", "assumed: small objects lie on top. file order draws as listed"),
        ]
    return None


def _beside(folder: Path) -> list[Idea] | None:
    """Masks in the same folders as their images, told apart by their suffix or by an ending of their stem."""
    places = defaultdict[str, list[PurePosixPath]](list)
    for path in _pictures(folder):
        places[str(path.parent)].append(path)
    everything = [path for paths in places.values() for path in paths]
    if not everything:
        return None
    best: tuple[int, str, str] = (0, "", "")
    for image_end, mask_end in _endings(everything):
        stems = {str(path)[: -len(image_end)] for path in everything if str(path).endswith(image_end)}
        found = sum(str(path).endswith(mask_end) and str(path)[: -len(mask_end)] in stems for path in everything)
        best = max(best, (found, image_end, mask_end), key=lambda one: one[0])
    found, image_end, mask_end = best
    if found < 2 or 2 * found < 0.9 * len(everything):
        return None
    below = "" if set(places) == {"."} else "**/"
    ideas = [
        Idea("images", f"{below}{{stem}}{image_end}", f"{found} images named so have a mask beside them"),
        Idea("masks", f"{below}{{stem}}{mask_end}", "the masks beside them"),
    ]
    left = len(everything) - 2 * found
    return [*ideas, *([Idea(None, None, f"{left} pictures are in no pair; check names them.")] if left else [])]


def _endings(paths: list[PurePosixPath]) -> list[tuple[str, str]]:
    """Pairs of endings by which images and masks may be told apart: .jpg and .png, or .jpg and _mask.png."""
    suffixes = sorted({path.suffix for path in paths})
    words = Counter(
        match[0]
        for path in paths
        for match in [re.search(r"[_\-. ]([A-Za-z]+)$", path.stem)]
        if match and match[1].lower() in (*MASK_WORDS, *IMAGE_WORDS)
    )
    tails = [word for word, count in words.items() if count > 1]
    masks = [f"{tail}{suffix}" for tail in tails if tail[1:].lower() in MASK_WORDS for suffix in suffixes]
    masks += [f"{tail}{suffix}" for tail in _learned_tails(paths) if tail not in tails for suffix in suffixes]
    images = [f"{tail}{suffix}" for tail in ("", *tails) for suffix in suffixes if tail[1:].lower() not in MASK_WORDS]
    pairs = [(image, mask) for mask in masks for image in images]
    jpegs = [suffix for suffix in suffixes if suffix.lower() in {".jpg", ".jpeg", ".tif", ".tiff"}]
    return pairs + [(jpeg, suffix) for jpeg in jpegs for suffix in suffixes if suffix.lower() == ".png"]


def _learned_tails(paths: list[PurePosixPath]) -> list[str]:
    """The ending, a word in any language, that most often makes the name of one picture that of another."""
    stems = {str(path.with_suffix("")) for path in paths}
    ends = (re.fullmatch(r"(.+?)([_\-. ][^\W\d_]+)", stem) for stem in stems)
    tails = Counter(end[2] for end in ends if end and end[1] in stems and end[2][1:].lower() not in NO_MASKS)
    return [tail for tail, count in tails.most_common(1) if count > 1]
