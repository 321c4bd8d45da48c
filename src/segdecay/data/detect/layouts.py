"""Which layout of annotations lies in a folder: COCO, VOC, Cityscapes, labelme, VIA, YOLO, a table, a mask an object.

Each guess returns keys of dataset.yaml with their reasons, or None where nothing looks like it. Nothing is decoded.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from segdecay.data.checks.findings import names_of
from segdecay.data.detect.ambiguity import Answer, Idea, Question, lines_of_ideas
from segdecay.data.detect.class_name_files import BACKGROUND, is_ignored, named_beside, plain_name
from segdecay.data.detect.image_or_mask import PART_IN
from segdecay.data.formats.coco import path_of_address, read_coco
from segdecay.data.formats.labelme import read_labelme
from segdecay.data.formats.pairing import SUFFIXES, files_below, part_named
from segdecay.data.formats.tables import COLUMNS, columns_of, existing, inner_path, read_table
from segdecay.data.formats.via import class_of_region, read_via
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
MOST_COCO, BOX = 20, 5
MOST_ASKED = 6  # files of annotations that a question lists
LOOKED_AT = 400  # files of which names or JSON are read
MOST_HEAD = 2000  # letters of a text file that tell which tool wrote it
SEEN_JSON, MOST_BYTES = 3, 1 << 26  # JSON files that are opened to tell the tool that wrote them, and their size
GROUP_WORDS = frozenset(
    {"patient", "patient_id", "subject", "subject_id", "case", "case_id", "scene", "scene_id", "site", "slide", "video",
     "group", "session", "animal", "plant", "field"}
)  # fmt: skip
CITYSCAPES = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road", "sidewalk",
    "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole", "polegroup",
    "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus",
    "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip  # names of labelIds 0–33, as the data set's own page lists them
CITYSCAPES_VOID = frozenset({0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30})  # not evaluated there


def guess_layout(folder: Path) -> list[Idea] | None:
    """The keys of dataset.yaml that name a layout; None where images/ and masks/ or class folders are to be sought."""
    refuse_exports(folder)
    refuse_channels(folder)
    for guess in (_voc, _cityscapes, _coco, _via, _labelme, _yolo, _table, _instances):
        ideas = guess(folder)
        if ideas is not None:
            return ideas
    return None


def refuse_exports(folder: Path) -> None:
    """Name exports of other tools with the one step that converts them.

    Raises:
        DataError: there is one.
    """
    files = files_below(folder)
    for path in [path for path in files if path.suffix.lower() == ".json"][:SEEN_JSON]:
        values = _json_of(folder / path)
        first = values[0] if isinstance(values, list) and values and isinstance(values[0], dict) else {}
        is_studio = "annotations" in first and "data" in first
        if is_studio or (
            "image" in first and any(key in first for key in ("label", "tag", "annotation_id", "annotator"))
        ):
            raise DataError(
                f"{folder / path} is an export of Label Studio. Export the project again as COCO (polygons) or as PNG "
                "(brushes), one mask file an object, and run init on that folder."
            )
        if (
            isinstance(values, dict)
            and isinstance(values.get("objects"), list)
            and "size" in values
            and path.parts[-2:-1] == ("ann",)
        ):
            raise DataError(
                f"{folder / path} is of a Supervisely project. Run its app 'Export to COCO' (or 'Export as masks'), "
                "and run init on that folder."
            )
    for path in [path for path in files if path.suffix.lower() in {".csv", ".ndjson"}][:SEEN_JSON]:
        with (folder / path).open(encoding="utf-8-sig", errors="replace") as stream:
            head = stream.read(MOST_HEAD)
        if "region_shape_attributes" in head.partition("\n")[0]:
            raise DataError(
                f"{folder / path} is a CSV export of VGG Image Annotator. Export the annotations again as JSON, "
                "and run init on that folder."
            )
        if path.suffix.lower() == ".ndjson" and '"data_row"' in head:
            raise DataError(
                f"{folder / path} is an export of Labelbox. Convert it to COCO JSON with outlines, or to mask images, "
                "and run init on that folder."
            )
    for path in [path for path in files if path.suffix.lower() == ".xml"][:1]:
        head = (folder / path).read_text(encoding="utf-8", errors="replace")[:MOST_HEAD]
        if ("<annotations>" in head and "<image " in head) or "<meta>" in head:
            raise DataError(
                f"{folder / path} is an export 'CVAT for images'. Export the task again as 'COCO 1.0' or "
                "'Segmentation mask 1.1', and run init on that folder."
            )


def refuse_channels(folder: Path) -> None:
    """Name several files an image, one a channel, as nnU-Net keeps them: X_0000.png and X_0001.png for a mask X.png.

    Raises:
        DataError: there are some.
    """
    stems = defaultdict[str, set[str]](set)
    plain = set[str]()
    for path in _pictures(folder):
        channel = re.fullmatch(r"(.+)_(\d{4})", path.stem)
        if channel:
            stems[channel[1]].add(channel[2])
        else:
            plain.add(path.stem)
    several = [stem for stem, channels in stems.items() if stem in plain and {"0000", "0001"} <= channels]
    if len(several) > 1 and 2 * len(several) > len(plain):
        n_channels = len(stems[several[0]])
        raise DataError(
            f"{folder} holds {n_channels} files an image, one a channel ({several[0]}_0000 to _{n_channels - 1:04}), "
            "as nnU-Net keeps them; one file an image is read. Join them into X.tif, for example in Python: "
            "tifffile.imwrite('X.tif', numpy.dstack([first, second]), planarconfig='contig')."
        )


def _json_of(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig")) if path.stat().st_size <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
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
    for path in _json_files(folder)[:MOST_COCO]:
        try:
            values = read_coco(folder / path)
        except DataError:
            continue
        name_of = {str(row.get("id")): str(row.get("name")) for row in values["categories"]}
        found[path] = Counter(name_of.get(str(row.get("category_id")), "") for row in values["annotations"])
        listed[path] = [str(row.get("file_name")) for row in values["images"][:LOOKED_AT]]
    if not found:
        return None

    def ideas(annotations: str, files: Sequence[PurePosixPath]) -> list[Idea]:
        return _ideas_of_coco(folder, annotations, files, found, listed)

    annotations, files, left = _with_split(list(found), ideas)
    others = [Idea(None, None, f"Other COCO files are not used: {names_of(left)}.")] if left else []
    return [*ideas(annotations, files), *others]


def _ideas_of_coco(
    folder: Path,
    annotations: str,
    files: Sequence[PurePosixPath],
    found: Mapping[PurePosixPath, Counter[str]],
    listed: Mapping[PurePosixPath, list[str]],
) -> list[Idea]:
    """The keys for these files. found: annotations by category in each file; listed: names of images in each file."""
    images = _images_of_coco(folder, annotations, files, listed)
    used = [name for name in dict.fromkeys(n for path in files for n in found[path]) if name]
    counts = sum(sum(found[path].values()) for path in files)
    each = "the JSON file"
    if "{split}" in annotations:
        each = "a JSON file a part: " + ", ".join(f"{path} ({len(listed[path])} images)" for path in files)
    return [
        Idea("layout", "coco", f"{counts} annotations of COCO"),
        Idea("annotations", annotations, each),
        *([Idea("images", images, "file names of the JSON are found there")] if images != "images" else []),
        *_ideas_of_labels(used, "categories with annotations; pixels that no annotation covers are background"),
        Idea("overlap", "large first", "assumed: small objects lie on top. file order draws as listed"),
    ]


def _ideas_of_labels(labels: Iterable[str], why: str) -> list[Idea]:
    """Classes of drawn annotations, the background first, and `names` for labels that mean it or that are ignored."""
    meant = {label: plain_name(label) for label in labels}
    kept = [name for label, name in meant.items() if not is_ignored(label)]
    names = {
        label: None if is_ignored(label) else name
        for label, name in meant.items()
        if label != name or is_ignored(label)
    }
    told = Idea("names", names, "labels that mean the background, or (null) that pixels are ignored")
    return [Idea("classes", list(dict.fromkeys([BACKGROUND, *kept])), why), *([told] if names else [])]


def _with_split(
    paths: list[PurePosixPath], ideas: Callable[[str, Sequence[PurePosixPath]], list[Idea]]
) -> tuple[str, list[PurePosixPath], list[str]]:
    """One file, or one template for the files of parts; the files that it stands for, and those that were left.

    ideas: the keys of dataset.yaml for one of the files, by its name.

    Raises:
        Question: several files that are no parts.
    """

    def answers(some: Sequence[PurePosixPath]) -> list[Answer]:
        return [Answer(str(path), lines_of_ideas(ideas(str(path), [path]))) for path in some[:MOST_ASKED]]

    groups = defaultdict[str, list[PurePosixPath]](list)
    for path in paths:
        groups[_split_of(path)].append(path)
    template, files = max(groups.items(), key=lambda group: len(group[1]))
    if len(files) == 1 and len(paths) > 1:
        raise Question(f"There are {len(paths)} files of annotations; which of them is to be read?", answers(paths))
    left = [str(path) for path in paths if path not in files]
    parts = {part_named(match[1]) for path in files if (match := _pattern_of(template).fullmatch(str(path)))}
    if len(files) > 1 and len(parts) < len(files):
        text = f"{len(files)} files of annotations are of one part; which of them is to be read?"
        raise Question(text, answers(files))
    return (template, files, left) if len(files) > 1 else (str(files[0]), files, left)


def _pattern_of(template: str) -> re.Pattern[str]:
    first, *others = (re.escape(piece) for piece in template.split("{split}"))
    return re.compile(first + "([A-Za-z]+)" + r"\1".join(others)) if others else re.compile("()" + first)


def _split_of(path: PurePosixPath) -> str:
    """A path with {split} for the part that it names first, wherever the same word stands."""
    text = str(path)
    match = PART_IN.search(text)
    if match is None:
        return text
    return re.sub(rf"(?<![A-Za-z]){match[1]}(?![a-z])", "{split}", text)


def _images_of_coco(
    folder: Path, annotations: str, files: Sequence[PurePosixPath], listed: Mapping[PurePosixPath, list[str]]
) -> str:
    """Where the listed images are: beside the JSON, in images/, or anywhere; with {split} for the part."""
    first = files[0]
    match = _pattern_of(annotations).fullmatch(str(first))
    word = match[1] if match else ""
    places = _folders(folder)
    if word:
        places.sort(key=lambda place: word not in re.split(r"[/_\-. ]", place))
    beside = first.parent.as_posix()
    for place in dict.fromkeys([beside, *places] if beside in places else places):
        text = re.sub(rf"(?<![A-Za-z]){word}(?![a-z])", "{split}", place) if word else place
        every = [(path, _pattern_of(annotations).fullmatch(str(path))) for path in files]
        here = [(text.replace("{split}", found[1]) if found else text, listed[path]) for path, found in every]
        if all(_hits(folder, one, names) for one, names in here):
            return text
    return "images"


def _folders(folder: Path) -> list[str]:
    below = sorted({str(path.parent) for path in files_below(folder) if path.suffix.lower() in SUFFIXES})
    return list(dict.fromkeys([*(top for top in ("images", ".") if (folder / top).is_dir()), *below]))


def _hits(folder: Path, place: str, names: list[str]) -> bool:
    def is_there(name: str) -> bool:
        paths = [inner_path(one, place) for one in [*path_of_address(name), name]]
        return any(path is not None and existing(folder, path) is not None for path in paths)

    return bool(names) and 2 * sum(map(is_there, names)) > len(names)


def _via(folder: Path) -> list[Idea] | None:
    found = dict[PurePosixPath, list[Mapping[str, Any]]]()
    for path in _json_files(folder)[:MOST_COCO]:
        try:
            found[path] = read_via(folder / path)
        except ValueError:
            continue
    if not found:
        return None

    def ideas(annotations: str, files: Sequence[PurePosixPath]) -> list[Idea]:
        return _ideas_of_via(folder, annotations, {path: found[path] for path in files})

    annotations, files, left = _with_split(list(found), ideas)
    others = [Idea(None, None, f"Other files of VIA are not used: {names_of(left)}.")] if left else []
    return [*ideas(annotations, files), *others]


def _ideas_of_via(
    folder: Path, annotations: str, found: Mapping[PurePosixPath, Sequence[Mapping[str, Any]]]
) -> list[Idea]:
    """The keys for these files. found: the entries of each file, one an image.

    Raises:
        Question: several attributes may name the class.
    """
    regions = [region for entries in found.values() for entry in entries for region in entry["regions"]]
    values = defaultdict[str, Counter[str]](Counter)
    for region in regions:
        for name in region.get("region_attributes") or {}:
            label = class_of_region(region, name)
            if label is not None:
                values[name][label] += 1
    beside = any((folder / path.parent / entry["filename"]).is_file() for path in found for entry in found[path][:20])
    names = [entry["filename"] for entry in next(iter(found.values()))][:LOOKED_AT]
    place = None if beside else next((one for one in _folders(folder) if _hits(folder, one, names)), None)
    ideas = [
        Idea("layout", "via", f"{len(regions)} regions of VGG Image Annotator"),
        Idea("annotations", annotations, "the JSON file" if "{split}" not in annotations else "a JSON file a part"),
        *([Idea("images", place, "file names of the JSON are found there")] if place else []),
    ]
    overlap = Idea("overlap", "large first", "assumed: small regions lie on top. file order draws as listed")
    full = [name for name, counter in values.items() if counter.total() == len(regions)]
    if not full:
        why = "no attribute names a class: all regions are of one"
        return [*ideas, Idea("classes", [BACKGROUND, "object"], why), overlap]

    def of_attribute(name: str) -> list[Idea]:
        labels = _ideas_of_labels(values[name], "pixels that no region covers are background")
        return [*ideas, Idea("attribute", name, "its values are the classes"), *labels, overlap]

    if len(full) > 1:
        answers = [Answer(f"{name} ({', '.join(values[name])})", lines_of_ideas(of_attribute(name))) for name in full]
        raise Question("Regions have several attributes; which of them names the class?", answers)
    return of_attribute(full[0])


def _yolo(folder: Path) -> list[Idea] | None:
    """images/X.jpg with labels/X.txt, with folders of parts above or below them; names from data.yaml and the like."""
    texts = [path for path in files_below(folder) if path.suffix.lower() == ".txt" and len(path.parts) > 1]
    pictures = _pictures(folder)
    stems = {_part_and_stem(path): path for path in pictures}
    paired = [path for path in texts if _part_and_stem(path) in stems and _is_outline(folder / path)]
    if len(paired) < 2 or len(pictures) > len(stems):
        return None  # a second picture of a name is a mask: those count then
    image, text = stems[_part_and_stem(paired[0])], paired[0]
    templates = []
    for one, others in ((image, pictures), (text, texts)):
        suffixes = {path.suffix.lower() for path in others}
        suffix = next(iter(suffixes)) if len(suffixes) == 1 else ".*"
        words = [re.sub(PART_IN, "{split}", name) for name in one.parts[:-1]]
        templates.append("/".join([*words, f"{{stem}}{suffix}"]))
    if ("{split}" in templates[0]) != ("{split}" in templates[1]):
        return None
    numbers = sorted({int(line.split()[0]) for path in paired[:LOOKED_AT] for line in _lines_of(folder / path)})
    named = named_beside(folder, [folder / path.parent for path in texts[:1]])
    names = dict(named.by_value) if named is not None and named.by_value else {}
    values = {number: names.get(number, f"class {number}") for number in sorted({*numbers, *names})}
    source = f"names of {named.file}" if names and named is not None else "give the classes their names"
    classes = [*dict.fromkeys(["background", *values.values()])]
    return [
        Idea("layout", "yolo", f"{len(paired)} text files of outlines, as YOLO segmentation writes them"),
        Idea("images", templates[0], "where the images are"),
        Idea("annotations", templates[1], "the text files of the same names"),
        Idea("values", values, source),
        Idea("classes", classes, "pixels that no outline covers are background"),
        Idea("overlap", "large first", "assumed: small objects lie on top. file order draws as listed"),
    ]


def _part_and_stem(path: PurePosixPath) -> tuple[str, str]:
    parts = [part for name in path.parts[:-1] if (part := part_named(name)) is not None]
    return parts[0] if parts else "", path.stem


def _lines_of(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return []


def _is_outline(path: Path) -> bool:
    """Whether the first line of a text file is a class number and the corners of an outline, or a box.

    Raises:
        DataError: it is a box, which is no mask.
    """
    for line in _lines_of(path)[:1]:
        try:
            numbers = [float(word) for word in line.split()]
        except ValueError:
            return False
        if len(numbers) == BOX and all(0 <= one <= 1 for one in numbers[1:]):
            raise DataError(
                f"{path} holds boxes of YOLO (class, x, y, width, height): boxes are no masks. Export outlines "
                "(YOLO segmentation), COCO JSON with outlines, or mask images."
            )
        return len(numbers) >= 7 and len(numbers) % 2 == 1 and numbers[0].is_integer() and max(numbers[1:]) <= 1.05
    return True


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
    place = next(iter(places)) if len(places) == 1 else "."
    return [
        Idea("layout", "labelme", f"{places.total()} JSON files of labelme"),
        *([Idea("annotations", place, "the folder that holds them")] if place != "." else []),
        *_ideas_of_labels(labels, "labels of the shapes; pixels that no shape covers are background"),
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
        group = next((name for name in there if name.lower() in GROUP_WORDS), None)
        groups = {str(row.get(group)) for _, row in rows} if group else set()
        if group and group != "group" and 1 < len(groups) < len(rows):
            columns["group"] = group
        unread = [name for name in there if name not in {*COLUMNS, image, mask, *columns.values()}]
        which = "which column of the table is which"
        if "group" in columns:
            which += f"; rows of one {group} ({len(groups)}) stay in one fold. Leave group out if they need not"
        return [
            Idea("layout", "table", f"{path.name} has files in its columns {image} and {mask}"),
            Idea("annotations", path.name, "the table"),
            *([Idea("columns", columns, which)] if columns else []),
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
    whole = _pictures(folder)
    prefix = _common(whole)
    paths = [PurePosixPath(*path.parts[len(prefix) :]) for path in whole if path.parts[: len(prefix)] == prefix]
    above = "".join(f"{name}/" for name in prefix)
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
            Idea("images", above + image_text.format(top=images, suffix=suffix), "where the images are"),
            Idea(
                "masks", above + mask_text.format(masks=masks, other=other), "every file is an object of the one class"
            ),
            Idea("classes", ["background", "object"], "give the class of the objects its name"),
            Idea("overlap", "large first", "assumed: small objects lie on top. file order draws as listed"),
        ]
    return None


def _common(paths: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """The folders above all pictures; of several parts, those of training alone where only they hold masks."""
    with_masks = [path for path in paths if any(name.lower() in MASK_WORDS for name in path.parts[:-1])]
    found = list[str]()
    for names in zip(*(path.parts[:-1] for path in with_masks), strict=False):
        if len(set(names)) > 1 or names[0].lower() in (*MASK_WORDS, *IMAGE_WORDS):
            break
        found.append(names[0])
    return tuple(found)
