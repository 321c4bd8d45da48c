"""Random trees of images and masks whose correct reading is known; their names are not taken from lists of `init`.

Names of folders are random letters, foreign words or usual words, so that guessing only by names fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

U8 = npt.NDArray[np.uint8]
PHOTO_NAMES = ("images", "img", "RGB", "Fotos", "scans", "x", "A", "kuvat", "Input_Data", "raw")
LABEL_NAMES = ("masks", "labels", "GT", "Masken", "truth", "y", "B", "maskit", "annot", "out")
PART_NAMES = {
    "train": ("train", "Train", "TRAIN", "training", "Training"),
    "val": ("val", "Val", "valid", "validation", "dev"),
    "test": ("test", "Test", "TEST", "testing"),
}
ENDINGS = ("", "", "_m", "_mask", "-label", " seg", "_GT", ".gt")
PLAIN = (
    "flat",
    "folders",
    "parts above",
    "parts below",
    "parts in names",
    "sites",
    "many sites",
    "deeper",
    "both endings",
)
SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp", ".ppm")
MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif")
SIDE = 24
THINGS = ("kivi", "Baum", "water body", "n07", "Fahrzeug", "roof")  # names of classes
WHOM = ("patient", "subject", "scene", "Patient", "Subject_ID")
Random = np.random.Generator


@dataclass(frozen=True)
class Tree:
    """A tree on disk and its truth: the part and the labels of every image, by its path relative to the tree.

    names: of the classes by label where files beside the data tell them; groups: of images where folders or a table
    tell them; is_ambiguous: it has a second reading, so a question is right and a guess is not.
    """

    kind: str
    truth: dict[str, tuple[str, U8]]
    names: dict[int, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    is_ambiguous: bool = False


def random_tree(root: Path, seed: int) -> Tree:
    """A tree of the kind and with the names that its seed draws."""
    random = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    return _plain(root, random, kind) if kind in PLAIN else MADE[kind](root, random)


def _plain(root: Path, random: Random, kind: str) -> Tree:
    """Pairs with masks of indices, of 0 and 255, or of colours."""
    photo, label = (str(random.choice(names)) for names in (PHOTO_NAMES, LABEL_NAMES))
    ending = str(random.choice(ENDINGS)) or ("_m" if kind in {"flat", "both endings"} else "")
    head = str(random.choice(("_rgb", "-in", "_0000", " v1"))) if kind == "both endings" else ""
    suffix, mask_suffix = (str(random.choice(names)) for names in (SUFFIXES, MASK_SUFFIXES))
    n_classes = int(random.integers(2, 5))
    colours = random.choice(200, (n_classes, 3), replace=False).astype(np.uint8) + 20
    style = str(random.choice(("indices", "0 and 255", "colours")))
    parts = {"train": int(random.integers(6, 12))}
    if kind.startswith("parts"):
        parts |= {"val": 3, "test": 3} if random.random() < 0.5 else {"test": 4}
    words = {part: str(random.choice(PART_NAMES[part])) for part in parts}
    sites = {"sites": 3, "many sites": 16}.get(kind, 1)
    tree, number = Tree(kind, {}), int(random.integers(0, 500))
    for part, count in parts.items():
        for _ in range(count if sites == 1 else 2 * sites):
            number += 1
            site, name = f"s{number % sites:02}", f"{random.choice(['img', 'a', 'DSC'])}{number:04}"
            image, mask = _paths(kind, photo, label, words[part], site, name, ending)
            pixels, labels = _scene(random, n_classes)
            _save(root / (image + head + suffix), pixels)
            _save(root / (mask + mask_suffix), _drawn(labels, style, colours))
            tree.truth[image + head + suffix] = part, (labels > 0).astype(np.uint8) if style == "0 and 255" else labels
            if kind == "many sites":
                tree.groups[image + head + suffix] = site
    _clutter(root, random)
    return tree


def _clutter(root: Path, random: Random) -> None:
    """Files that lie about in folders of data."""
    for name, content in (("README.md", b"# data"), ("Thumbs.db", b"\0"), ("liesmich.txt", b"x"), (".DS_Store", b"\0")):
        if random.random() < 0.3:
            (root / name).write_bytes(content)
    if random.random() < 0.3:
        _save(root / "vorschau" / "all.jpg", random.integers(0, 255, (60, 90, 3)).astype(np.uint8))


def _paths(kind: str, photo: str, label: str, part: str, site: str, name: str, ending: str) -> tuple[str, str]:
    if kind == "flat":
        return name, name + ending
    if kind == "parts in names":
        return f"{part}_{photo}/{name}", f"{part}_{label}/{name}{ending}"
    above = {"parts above": f"{part}/", "sites": f"{site}/", "many sites": f"{site}/", "deeper": "data/v2/"}.get(
        kind, ""
    )
    below = f"{part}/" if kind == "parts below" else ""
    return f"{above}{photo}/{below}{name}", f"{above}{label}/{below}{name}{ending}"


def _scene(random: np.random.Generator, n_classes: int) -> tuple[U8, U8]:
    labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for index in range(1, n_classes):
        top, left = random.integers(0, SIDE - 9, 2)
        labels[top : top + 8, left : left + 8] = index
    labels[SIDE - 1, :n_classes] = np.arange(n_classes)
    pixels = random.integers(0, 120, (SIDE, SIDE, 3)) + 30 * labels[..., None]
    return pixels.astype(np.uint8), labels


def _drawn(labels: U8, style: str, colours: U8) -> U8:
    if style == "indices":
        return labels
    return np.where(labels > 0, 255, 0).astype(np.uint8) if style == "0 and 255" else colours[labels]


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
        return
    if path.suffix == ".tif":
        is_rgb = array.ndim == 3 and array.shape[2] == 3
        tifffile.imwrite(path, array, photometric="rgb" if is_rgb else "minisblack")
        return
    options: dict[str, Any] = (
        {"quality": 95} if path.suffix == ".jpg" else {"lossless": True} if path.suffix == ".webp" else {}
    )
    picture = Image.fromarray(array)
    if path.suffix == ".gif" and array.ndim == 3:
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    picture.save(path, **options)


def _squares(random: Random, n_classes: int) -> tuple[U8, U8, list[tuple[int, list[float]]]]:
    """A photograph, its labels, and the same as outlines: (class from 1, x0, y0, x1, y1); no two overlap."""
    labels, outlines = np.zeros((SIDE, SIDE), dtype=np.uint8), list[tuple[int, list[float]]]()
    for index in range(1, n_classes):
        left, top = 8 * (index - 1) + int(random.integers(0, 2)), int(random.integers(0, 16))
        labels[top : top + 7, left : left + 6] = index
        outlines.append((index, [left, top, left + 6, top + 7]))
    pixels = random.integers(0, 120, (SIDE, SIDE, 3)) + 30 * labels[..., None]
    return pixels.astype(np.uint8), labels, outlines


def _corners(box: list[float]) -> list[list[float]]:
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def _things(random: Random, count: int) -> list[str]:
    return [str(name) for name in random.choice(THINGS, count, replace=False)]


def _part_words(random: Random) -> list[tuple[str, str, int]]:
    """Parts with the words of their folders and their sizes."""
    sizes = {"train": int(random.integers(5, 9)), "val": 3} | ({"test": 3} if random.random() < 0.5 else {})
    return [(part, str(random.choice(PART_NAMES[part])), count) for part, count in sizes.items()]


def _coco(random: Random, names: list[str]) -> tuple[dict[str, Any], Callable[[str, Any], None]]:
    """The content of a COCO file, and what adds an image with its outlines to it; numbers of categories vary."""
    first = int(random.integers(0, 9))
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": first + 3 * number, "name": name} for number, name in enumerate(names)],
    }

    def add(file: str, outlines: Any) -> None:
        image = len(content["images"]) + 1
        content["images"].append({"id": image, "file_name": file, "width": SIDE, "height": SIDE})
        for index, box in outlines:
            flat = [value for point in _corners(box) for value in point]
            row = {"id": len(content["annotations"]) + 1, "image_id": image, "category_id": first + 3 * (index - 1)}
            content["annotations"].append({**row, "segmentation": [flat], "iscrowd": 0})

    return content, add


def _json_a_part(root: Path, random: Random) -> Tree:
    names = _things(random, 2)
    tree = Tree("a JSON a part", {}, {0: "background", **dict(enumerate(names, 1))})
    file = str(random.choice(("_annotations.coco.json", "a.json", "outlines.json")))
    for part, word, count in _part_words(random):
        content, add = _coco(np.random.default_rng(5), names)
        for number in range(count):
            pixels, labels, outlines = _squares(random, 3)
            name = f"{part}{number}.jpg"
            _save(root / word / name, pixels)
            add(name, outlines)
            tree.truth[f"{word}/{name}"] = part, labels
        (root / word / file).write_text(json.dumps(content))
    return tree


def _one_json(root: Path, random: Random) -> Tree:
    names, place = _things(random, 2), str(random.choice(PHOTO_NAMES))
    tree = Tree("one JSON", {}, {0: "background", **dict(enumerate(names, 1))})
    content, add = _coco(random, names)
    for number in range(7):
        pixels, labels, outlines = _squares(random, 3)
        _save(root / place / f"q{number:03}.png", pixels)
        add(f"q{number:03}.png", outlines)
        tree.truth[f"{place}/q{number:03}.png"] = "train", labels
    above = root / str(random.choice((".", "meta", place)))
    above.mkdir(parents=True, exist_ok=True)
    (above / "instances.json").write_text(json.dumps(content))
    return tree


def _text_outlines(root: Path, random: Random) -> Tree:
    names = _things(random, 2)
    tree = Tree("text outlines", {}, {0: "background", **dict(enumerate(names, 1))})
    above = bool(random.random() < 0.5)
    for part, word, count in _part_words(random):
        for number in range(count):
            pixels, labels, outlines = _squares(random, 3)
            folders = [f"{word}/{kind}" if above else f"{kind}/{word}" for kind in ("images", "labels")]
            _save(root / folders[0] / f"{part}{number}.jpg", pixels)
            (root / folders[1]).mkdir(parents=True, exist_ok=True)
            rows = [
                f"{index - 1} " + " ".join(f"{value / SIDE:.6f}" for point in _corners(box) for value in point)
                for index, box in outlines
            ]
            (root / folders[1] / f"{part}{number}.txt").write_text("\n".join(rows))
            tree.truth[f"{folders[0]}/{part}{number}.jpg"] = part, labels
    (root / "data.yaml").write_text(json.dumps({"names": names if above else dict(enumerate(names))}))
    return tree


def _via(root: Path, random: Random) -> Tree:
    names, key = _things(random, 2), str(random.choice(("what", "class", "Art")))
    tree, entries = Tree("VIA", {}, {0: "background", **dict(enumerate(names, 1))}), dict[str, Any]()
    for number in range(8):
        pixels, labels, outlines = _squares(random, 3)
        _save(root / f"v{number}.jpg", pixels)
        regions = [
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": [x for x, _ in _corners(box)],
                    "all_points_y": [y for _, y in _corners(box)],
                },
                "region_attributes": {key: names[index - 1]},
            }
            for index, box in outlines
        ]
        entries[f"v{number}.jpg1"] = {
            "filename": f"v{number}.jpg",
            "size": 1,
            "regions": regions,
            "file_attributes": {},
        }
        tree.truth[f"v{number}.jpg"] = "train", labels
    (root / "via_region_data.json").write_text(json.dumps(entries))
    return tree


def _labelme(root: Path, random: Random) -> Tree:
    names, place = _things(random, 2), str(random.choice((".", "scans")))
    tree = Tree("labelme", {}, {0: "background", **dict(enumerate(names, 1))})
    for number in range(8):
        pixels, labels, outlines = _squares(random, 3)
        path = (Path(place) / f"l{number}.jpg").as_posix()
        _save(root / path, pixels)
        shapes = [{"label": names[i - 1], "shape_type": "polygon", "points": _corners(box)} for i, box in outlines]
        content = {"imagePath": f"l{number}.jpg", "shapes": shapes, "imageWidth": SIDE, "imageHeight": SIDE}
        (root / path).with_suffix(".json").write_text(json.dumps(content))
        tree.truth[path] = "train", labels
    return tree


def _file_an_object(root: Path, random: Random) -> Tree:
    tree, above = Tree("a file an object", {}), str(random.choice(("", "stage1_train/", "pack/")))
    for number in range(6):
        pixels, labels, _ = _squares(random, 4)
        place = f"{above}id{int(random.integers(1 << 30)):08x}{number}"
        _save(root / place / "images" / f"{place.rsplit('/', 1)[-1]}.png", pixels)
        for index in (1, 2, 3):
            _save(root / place / "masks" / f"{index}_{number}.png", (labels == index) * np.uint8(255))
        tree.truth[f"{place}/images/{place.rsplit('/', 1)[-1]}.png"] = "train", (labels > 0).astype(np.uint8)
    return tree


def _file_a_class(root: Path, random: Random) -> Tree:
    words = ["kivi", "roof"]
    tree = Tree("a file a class", {}, {0: "background", 1: "kivi", 2: "roof"})
    for number in range(8):
        pixels, labels, _ = _squares(random, 3)
        _save(root / "images" / f"b{number}.jpg", pixels)
        for index, word in enumerate(words, 1):
            _save(root / "masks" / f"b{number}_{word}.png", (labels == index) * np.uint8(255))
        tree.truth[f"images/b{number}.jpg"] = "train", labels
    return tree


Masked = Callable[[U8, Random, int], npt.NDArray[Any]]


def _two_folders(
    root: Path,
    random: Random,
    kind: str,
    masked: Masked,
    mask_suffix: str,
    *,
    suffix: str = ".png",
    n_classes: int = 3,
    is_ambiguous: bool = False,
) -> Iterator[tuple[Tree, str, U8]]:
    """Pairs in two folders of any names; each with its path and labels, to be changed in the tree's truth."""
    photo, label = (str(random.choice(names)) for names in (PHOTO_NAMES, LABEL_NAMES))
    tree = Tree(kind, {}, is_ambiguous=is_ambiguous)
    for number in range(int(random.integers(6, 11))):
        pixels, labels = _scene(random, n_classes)
        path = f"{photo}/p{number:03}{suffix}"
        _save(root / path, pixels)
        _save(root / label / f"p{number:03}{mask_suffix}", masked(labels, random, number))
        tree.truth[path] = "train", labels
        yield tree, path, labels


def _one_hot(root: Path, random: Random) -> Tree:
    first = bool(random.random() < 0.5)
    n_classes = int(random.integers(3, 6))

    def masked(labels: U8, _: Random, __: int) -> npt.NDArray[Any]:
        bands = np.eye(n_classes, dtype=np.uint8)[labels]
        return np.moveaxis(bands, 2, 0) if first else bands

    return [tree for tree, *_ in _two_folders(root, random, "one-hot", masked, ".npy", n_classes=n_classes)][-1]


def _negative(root: Path, random: Random) -> Tree:
    """Signed or floating masks in which a negative value or NaN is no label."""
    kind = str(random.choice(("int16", "float32", "int32")))
    hole = float(random.choice((-1, -100, -9999))) if kind != "float32" else float(random.choice((-1, np.nan)))
    suffix = str(random.choice((".tif", ".npy")))

    def masked(labels: U8, _: Random, number: int) -> npt.NDArray[Any]:
        values = labels.astype(kind)
        values[number : number + 3, 10:14] = hole
        return values

    made = list(_two_folders(root, random, "negative or NaN", masked, suffix))
    tree = made[-1][0]
    for number, (_, path, labels) in enumerate(made):
        known = labels.copy()
        known[number : number + 3, 10:14] = 255
        tree.truth[path] = "train", known
    return tree


def _grey_beside_rgb(root: Path, random: Random) -> Tree:
    made = list(_two_folders(root, random, "grey beside RGB", lambda m, _, __: m * np.uint8(60), ".png"))
    tree = made[-1][0]
    for _, path, _ in made:
        if random.random() < 0.4:
            _save(root / path, np.asarray(Image.open(root / path).convert("L")))
    first = next(iter(tree.truth))
    _save(root / first, np.asarray(Image.open(root / first).convert("L")))
    return tree


def _palettes(root: Path, random: Random) -> Tree:
    """Palette files; where palettes differ between them the colours are the classes."""
    colours = random.choice(200, (3, 3), replace=False).astype(np.uint8) + 20
    is_mixed = bool(random.random() < 0.5)
    made = list(_two_folders(root, random, "palettes", lambda m, _, __: m, ".png"))
    for number, (_, path, labels) in enumerate(made):
        order = np.array([2, 0, 1]) if is_mixed and number % 2 else np.arange(3)
        picture = Image.fromarray(order.argsort().astype(np.uint8)[labels])
        picture.putpalette(colours[order].ravel().tolist())
        picture.save(_mask_beside(root, path))
    return made[-1][0]


def _mask_beside(root: Path, image: str) -> Path:
    """The file of the same name in another folder."""
    return next(one for one in root.glob(f"*/{Path(image).name}") if one != root / image)


def _names_beside(root: Path, random: Random) -> Tree:
    names = _things(random, 3)
    colours = random.choice(200, (3, 3), replace=False).astype(int) + 20
    way = int(random.integers(0, 6))
    is_coloured = way < 3
    made = list(
        _two_folders(
            root, random, "names beside", lambda m, _, __: colours.astype(np.uint8)[m] if is_coloured else m, ".png"
        )
    )
    tree = made[-1][0]
    tree.names.update(enumerate(names))
    rgb = [",".join(map(str, colour)) for colour in colours.tolist()]
    lines = list(zip(names, rgb, strict=True))
    files: tuple[tuple[str, str], ...] = (
        ("labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(f"{name}:{c}::\n" for name, c in lines)),
        ("class_dict.csv", "name,r,g,b\n" + "".join(f"{name},{c}\n" for name, c in lines)),
        ("classes.json", json.dumps([{"name": n, "color": c} for n, c in zip(names, colours.tolist(), strict=True)])),
        ("dataset.json", json.dumps({"labels": {name: value for value, name in enumerate(names)}})),
        ("_classes.csv", "Pixel Value, Class\n" + "".join(f"{value}, {name}\n" for value, name in enumerate(names))),
        ("classes.txt", "\n".join(names)),
    )
    (root / files[way][0]).write_text(files[way][1])
    return tree


def _patients(root: Path, random: Random) -> Tree:
    column = str(random.choice(WHOM))
    rows, tree = [f"image,mask,{column},age"], Tree("a table of patients", {})
    for number in range(12):
        pixels, labels = _scene(random, 2)
        _save(root / "files" / f"t{number:02}.png", pixels)
        _save(root / "files" / f"t{number:02}_m.png", labels * np.uint8(255))
        rows.append(f"files/t{number:02}.png,files/t{number:02}_m.png,W{number // 3},{40 + number}")
        tree.truth[f"files/t{number:02}.png"] = "train", labels
        tree.groups[f"files/t{number:02}.png"] = f"W{number // 3}"
    (root / "list.csv").write_text("\n".join(rows))
    return tree


def _class_folders(root: Path, random: Random) -> Tree:
    """Images with one label each, in folders of classes."""
    names = _things(random, 3)
    tree = Tree("folders of classes", {}, dict(enumerate(sorted(names))))
    for name in names:
        for number in range(5):
            path = f"{name}/{name[:2]}{number:03}.jpg"
            _save(root / path, random.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8))
            tree.truth[path] = "train", np.array([[sorted(names).index(name)]], dtype=np.uint8)
    return tree


def _two_observers(root: Path, random: Random) -> Tree:
    tree = Tree("two observers", {}, is_ambiguous=True)
    for number in range(6):
        pixels, labels = _scene(random, 2)
        _save(root / f"o{number}.jpg", pixels)
        for who, shift in (("_A1", 0), ("_A2", 1)):
            _save(root / f"o{number}{who}.png", np.roll(labels, shift, 0) * np.uint8(255))
        tree.truth[f"o{number}.jpg"] = "train", labels
    return tree


def _asked(kind: str, masked: Masked, suffix: str = ".png", n_classes: int = 2) -> Callable[[Path, Random], Tree]:
    """Pairs whose masks have a second reading."""

    def make(root: Path, random: Random) -> Tree:
        made = _two_folders(root, random, kind, masked, suffix, n_classes=n_classes, is_ambiguous=True)
        return [tree for tree, *_ in made][-1]

    return make


def _soft(labels: U8, random: Random, _: int) -> npt.NDArray[Any]:
    smooth = (labels + np.roll(labels, 1, 0) + np.roll(labels, 1, 1)) / 3
    return (smooth * 0.9 + 0.05 * random.random(labels.shape)).astype(np.float32)


def _numbered(_: U8, __: Random, number: int) -> npt.NDArray[Any]:
    values = np.zeros((SIDE, SIDE), dtype=np.uint16)
    for place in range(16):
        top, left = 6 * (place // 4), 6 * (place % 4)
        values[top : top + 4, left : left + 4] = 1 + place + 16 * number
    return values


def _two_sets(root: Path, random: Random) -> Tree:
    tree = Tree("two sets", {}, is_ambiguous=True)
    for top, sub in (("north", "x"), ("south", "y")):
        for number in range(6):
            pixels, labels = _scene(random, 2)
            _save(root / top / f"{sub}_in" / f"{number}.png", pixels)
            _save(root / top / f"{sub}_out" / f"{number}.png", labels)
            tree.truth[f"{top}/{sub}_in/{number}.png"] = "train", labels
    return tree


def _two_photographs(root: Path, random: Random) -> Tree:
    """A second folder of photographs of the same names, such as overlays or another exposure."""
    tree = Tree("two photographs", {}, is_ambiguous=True)
    first, second = random.choice(("raw", "x", "Fotos", "exposure2", "vis"), 2, replace=False)
    for number in range(7):
        pixels, labels = _scene(random, 3)
        _save(root / str(first) / f"{number:02}.png", pixels)
        _save(root / str(second) / f"{number:02}.png", (pixels // 2 + 40 * labels[..., None]).astype(np.uint8))
        _save(root / "y" / f"{number:02}.png", labels)
        tree.truth[f"{first}/{number:02}.png"] = "train", labels
    return tree


def _photographs(_: U8, random: Random, __: int) -> npt.NDArray[Any]:
    return random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


MADE: dict[str, Callable[[Path, Random], Tree]] = {
    "a JSON a part": _json_a_part,
    "one JSON": _one_json,
    "text outlines": _text_outlines,
    "VIA": _via,
    "labelme": _labelme,
    "a file an object": _file_an_object,
    "a file a class": _file_a_class,
    "one-hot": _one_hot,
    "negative or NaN": _negative,
    "grey beside RGB": _grey_beside_rgb,
    "palettes": _palettes,
    "names beside": _names_beside,
    "a table of patients": _patients,
    "folders of classes": _class_folders,
    "two observers": _two_observers,
    "two sets": _two_sets,
    "two photographs": _two_photographs,
    "probabilities": _asked("probabilities", _soft, ".tif"),
    "numbered objects": _asked("numbered objects", _numbered),
    "half size": _asked("half size", lambda labels, _, __: labels[::2, ::2] * np.uint8(255)),
    "no roles": _asked("no roles", _photographs),
}
KINDS = (*PLAIN, *MADE)
