"""Which pictures are images and which are their masks, in any tree: names pair them, content tells the roles.

A side is a set of files named alike: one folder (or one place in folders named by number), one ending, one suffix. Two
sides pair where the rest of their names is equal. Folders of parts become {split}, folders whose names vary a field.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from segdecay.data.detect.ambiguity import Answer, Idea, Question, lines_of, lines_of_ideas
from segdecay.data.detect.content import LOOKED_AT, Look, are_blank, are_equal, look_at, mask_score
from segdecay.data.detect.values import spread
from segdecay.data.formats.pairing import part_named

FEWEST = 2  # pairs that make a guess
MOST_NAMED = 12  # different names of folders at one place; more of them are numbers, dates or subjects
MOST_SIDES, MOST_AFFIXES = 120, 8
SHARE = 0.5  # of one side's files that must be in pairs
APART = 0.4  # difference of scores from which content alone tells the mask
RIVAL = 0.5  # share of the best guess's pairs from which another guess is a rival
TAIL = re.compile(r"([_\-. ]+[^_\-. ]*[^\W\d_][^_\-. ]*)$|(?<=\d)([A-Za-z]+)$")
HEAD = re.compile(r"^([^\W\d_][^_\-. ]*[_\-. ]+)|^([A-Za-z]+)(?=\d)")
PART_IN = re.compile(r"(?<![A-Za-z])(train(?:ing)?|val(?:id(?:ation)?)?|dev|test(?:ing)?)(?![a-z])", re.IGNORECASE)
GLUED = re.compile(r"^(train|val|test)(?=[a-z]+$)", re.IGNORECASE)  # trainannot
NUMBER_OF_PART = re.compile(r"^\d+(?=[_\-. ]+\{split\})")  # 01_train, 02_test
SHORT = re.compile(r"(?<=[a-z])(Tr|Ts|Va)$")  # imagesTr
MASK_WORDS = frozenset(
    {"mask", "masks", "label", "labels", "lbl", "lbls", "gt", "seg", "segmentation", "segmentations", "annotation",
     "annotations", "annot", "annots", "groundtruth", "truth", "target", "targets", "trimap", "trimaps", "manual",
     "segmentationclass", "labelled", "matte", "mattes"}
)  # fmt: skip
IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "jpegimages", "rgb", "photo", "photos", "sat", "input",
                         "inputs", "frames"})  # fmt: skip
MADE_WORDS = frozenset({"overlay", "overlays", "overlaid", "blend", "blended"})  # drawn from image and mask
Key = tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """Files that are named alike. folders: "*" for a place where names vary; files: by what is left of their names."""

    folders: tuple[str, ...]
    head: str
    tail: str
    suffix: str
    files: Mapping[Key, PurePosixPath]

    @property
    def affix(self) -> int:
        return len(self.head) + len(self.tail)

    @property
    def words(self) -> set[str]:
        """The words of its folders and of what its names share, in small letters."""
        return {word for text in (*self.folders, self.head, self.tail) for word in words_of(text)}


@dataclass(frozen=True)
class Match:
    """Two sides that pair, in the roles that content and names give them."""

    images: Side
    masks: Side
    keys: tuple[Key, ...]
    is_one: bool = False  # all of its masks are the same picture

    @property
    def distance(self) -> int:
        """In how many folders the two differ."""
        left, right = self.images.folders, self.masks.folders
        return abs(len(left) - len(right)) + sum(a != b for a, b in zip(left, right, strict=False))

    @property
    def rank(self) -> tuple[int, bool, int, int]:
        """The smaller the better: pairs (more), masks that differ, folders that differ, letters cut off."""
        return -len(self.keys), self.is_one, self.distance, self.images.affix + self.masks.affix


def words_of(name: str) -> set[str]:
    """The words of a name, and the name itself without marks, in small letters.

    >>> sorted(words_of("imagesTr")), sorted(words_of("Ground_Truth"))
    (['images', 'imagestr', 'tr'], ['ground', 'groundtruth', 'truth'])
    """
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return words | {re.sub(r"[^a-z]", "", name.lower())}


def sides_of(paths: Sequence[PurePosixPath]) -> list[Side]:
    """Every way in which files of a folder are named alike: all of them, and those with one beginning or ending."""
    names = defaultdict[int, set[str]](set)
    for path in paths:
        for depth, name in enumerate(path.parts[:-1]):
            names[depth].add(name)
    varying = {depth for depth, found in names.items() if len(found) > MOST_NAMED}
    places = defaultdict[tuple[str, ...], list[PurePosixPath]](list)
    for path in paths:
        places[tuple("*" if d in varying else name for d, name in enumerate(path.parts[:-1]))].append(path)
    sides = []
    for folders, files in places.items():
        suffixes = Counter(path.suffix.lower() for path in files)
        for suffix in ("", *suffixes) if len(suffixes) > 1 else ("",):
            chosen = [path for path in files if suffix in ("", path.suffix.lower())]
            common = suffix or (next(iter(suffixes)) if len(suffixes) == 1 else ".*")
            tails = list(dict.fromkeys([*_popular(TAIL, chosen), *_common_tail(chosen)]))
            heads = _popular(HEAD, chosen)
            affixes = [("", ""), *(("", tail) for tail in tails), *((head, "") for head in heads)]
            affixes += [(head, tail) for head in heads[:2] for tail in tails[:2]]
            sides += [_side(folders, head, tail, common, chosen) for head, tail in affixes]
    return [side for side in sides if len(side.files) >= FEWEST][:MOST_SIDES]


def _popular(pattern: re.Pattern[str], paths: Sequence[PurePosixPath]) -> list[str]:
    """Beginnings or endings that several names share, also of two or three words, the most frequent first."""
    counts = Counter[str]()
    for path in paths:
        stem, found = unicodedata.normalize("NFC", path.stem), ""
        for _ in range(3):
            match = pattern.search(stem)
            if match is None or len(match[0]) == len(stem):
                break
            at_end = match.end() == len(stem)
            found = match[0] + found if at_end else found + match[0]
            stem = stem[: match.start()] if at_end else stem[match.end() :]
            counts[found] += 1
    few = max(FEWEST, len(paths) // 20)
    return [text for text, count in counts.most_common() if count >= few][:MOST_AFFIXES]


def _common_tail(paths: Sequence[PurePosixPath]) -> list[str]:
    """What all names end with, from a mark on, as _0000 of nnU-Net; nothing where there is no such thing.

    >>> _common_tail([PurePosixPath("a_10_0000.png"), PurePosixPath("a_20_0000.png")])
    ['_0000']
    """
    stems = [unicodedata.normalize("NFC", path.stem) for path in paths]
    first, last = min(stems, key=_turned), max(stems, key=_turned)
    n_same = next((i for i, (a, b) in enumerate(zip(_turned(first), _turned(last), strict=False)) if a != b), 0)
    tail = first[len(first) - n_same :]
    mark = re.search(r"[_\-. ]", tail)
    return [tail[mark.start() :]] if mark and len(paths) > 1 else []


def _turned(text: str) -> str:
    return text[::-1]


def _side(folders: tuple[str, ...], head: str, tail: str, suffix: str, paths: Sequence[PurePosixPath]) -> Side:
    files = {}
    for path in paths:
        stem = unicodedata.normalize("NFC", path.stem)
        if stem.startswith(head) and stem.endswith(tail) and len(stem) > len(head) + len(tail):
            free = (name for name, fixed in zip(path.parts, folders, strict=False) if fixed == "*")
            files[(*free, stem[len(head) : len(stem) - len(tail)])] = path
    return Side(folders, head, tail, suffix, files)


def parts_in(text: str) -> list[tuple[str, int, int]]:
    """The words in a name that say a part, with where they stand.

    >>> parts_in("train_labels"), parts_in("testannot"), parts_in("imagesTr"), parts_in("street")
    ([('train', 0, 5)], [('test', 0, 4)], [('Tr', 6, 8)], [])
    """
    for pattern in (PART_IN, SHORT, GLUED):
        found = [(match[1], *match.span(1)) for match in pattern.finditer(text)]
        if found:
            return found
    return []


def _part_of(side: Side) -> str | None:
    """The part that a side's folders, else its names, tell, as they spell it."""
    for text in (*side.folders, side.tail, side.head):
        if found := parts_in(text):
            return found[0][0]
    return None


def _canonical(word: str | None) -> str | None:
    return None if word is None else {"Tr": "train", "Ts": "test", "Va": "val"}.get(word) or part_named(word)


class Looker:
    """Looks at a few files of each side, each file once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = dict[PurePosixPath, Look | None]()

    def looks(self, paths: Iterable[PurePosixPath]) -> list[Look]:
        """What a few of the files look like; those that cannot be read are left out."""
        chosen = spread([str(path) for path in paths], LOOKED_AT)
        found = [self._look(PurePosixPath(text)) for text in chosen]
        return [look for look in found if look is not None]

    def _look(self, path: PurePosixPath) -> Look | None:
        if path not in self._seen:
            self._seen[path] = look_at(self._root / path)
        return self._seen[path]

    def fit(self, match: Match) -> bool:
        """Whether sizes of the two are equal, or of one aspect ratio, in most pairs looked at."""
        keys = match.keys[:: max(1, len(match.keys) // 3)][:3]
        pairs = [(self._look(match.images.files[key]), self._look(match.masks.files[key])) for key in keys]
        known = [(one.size, other.size) for one, other in pairs if one is not None and other is not None]
        return not known or 2 * sum(_alike(*sizes) for sizes in known) > len(known)


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    same = abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)
    return same or one == other[::-1]


def matches_of(paths: Sequence[PurePosixPath], looker: Looker) -> tuple[list[Match], list[Match]]:
    """All images with masks, the best first; and sides that pair by name, where nothing tells which holds the masks."""
    sides = sides_of(paths)
    told, open_ones = list[Match](), list[Match]()
    for number, one in enumerate(sides):
        for other in sides[:number]:
            match = _match(one, other)
            if match is None or not looker.fit(match):
                continue
            role = _role(match, looker)
            if role is not None:
                match = match if role != "swap" else Match(other, one, match.keys)
                looks = looker.looks([match.masks.files[key] for key in match.keys])
                (told if role else open_ones).append(replace(match, is_one=are_equal(looks)))
    told, open_ones = (sorted(some, key=lambda match: match.rank) for some in (told, open_ones))
    stored = [match for match in told if not (match.images.words | match.masks.words) & MADE_WORDS]
    return stored or told, open_ones


def _match(one: Side, other: Side) -> Match | None:
    if one.folders.count("*") != other.folders.count("*"):
        return None
    parts = _canonical(_part_of(one)), _canonical(_part_of(other))
    if None not in parts and parts[0] != parts[1]:
        return None
    keys = tuple(key for key in one.files if key in other.files and one.files[key] != other.files[key])
    smaller = min(len(one.files), len(other.files))
    if len(keys) < FEWEST or len(keys) < SHARE * smaller:
        return None
    return Match(one, other, keys)


def _role(match: Match, looker: Looker) -> str | None:
    """Either "keep" or "swap" where roles are told, "" where they are not, None where the two are no pair."""
    one, other = (looker.looks([side.files[key] for key in match.keys]) for side in (match.images, match.masks))
    if are_blank(one) or are_blank(other):
        return None
    scores = mask_score(one), mask_score(other)
    only = match.images.words - match.masks.words, match.masks.words - match.images.words
    named = [bool(words & MASK_WORDS) - bool(words & IMAGE_WORDS) for words in only]
    lead = named[1] - named[0]  # above 0: names say that the second is the mask
    apart = scores[1] - scores[0]
    if abs(apart) >= APART:
        if apart * lead < 0 and abs(lead) > 1:
            return ""
        return "keep" if apart > 0 else "swap"
    if max(scores) < APART and not lead:
        is_whole = not match.images.affix + match.masks.affix and match.images.folders != match.masks.folders
        return "" if is_whole else None
    if lead and apart * lead >= -0.1:
        return "keep" if lead > 0 else "swap"
    return ""


@dataclass(frozen=True)
class Plan:
    """One way to read the tree. fields: of a template, by their numbers of different names."""

    images: str
    masks: str
    matches: tuple[Match, ...]
    others: tuple[tuple[PurePosixPath, PurePosixPath], ...] = ()  # pairs that no match holds

    @property
    def pairs(self) -> list[tuple[PurePosixPath, PurePosixPath]]:
        return [*self.others, *((m.images.files[key], m.masks.files[key]) for m in self.matches for key in m.keys)]


def plans_of(matches: Sequence[Match]) -> list[Plan]:
    """Templates, each with the pairs that it stands for, the one with most pairs first; no picture is in two."""
    by_text = defaultdict[tuple[str, str], list[Match]](list)
    taken = dict[PurePosixPath, tuple[str, str]]()
    for match in matches:
        text = _texts(match)
        files = [match.images.files[key] for key in match.keys]
        if any(taken.get(path, text) != text for path in files) or match in by_text[text]:
            continue
        if any(path in taken for path in files):
            continue
        taken |= dict.fromkeys(files, text)
        by_text[text].append(match)
    plans = [_with_suffixes(Plan(*text, tuple(found))) for text, found in by_text.items() if found]
    return sorted((_literal(plan) for plan in _with_places(plans)), key=lambda plan: -len(plan.pairs))


def _with_suffixes(plan: Plan) -> Plan:
    """The plan with the suffix that all of its images, and all of its masks, have; .* where they differ."""
    suffixes = [{path.suffix.lower() for path in side} for side in zip(*plan.pairs, strict=True)]
    ends = [next(iter(found)) if len(found) == 1 else ".*" for found in suffixes]
    return replace(plan, images=plan.images + ends[0], masks=plan.masks + ends[1])


def _texts(match: Match) -> tuple[str, str]:
    """The templates of a match, with {split} where both sides name a part."""
    sides = match.images, match.masks
    has_parts = all(_part_of(side) is not None for side in sides)
    texts = [_template(side, split=has_parts) for side in sides]
    return texts[0], texts[1]


def _template(side: Side, *, split: bool) -> str:
    fields = iter(("{place}", "{place_b}", "{place_c}", "{place_d}"))
    names = [next(fields, "{place_e}") if name == "*" else name for name in side.folders]
    name = f"{side.head}{{stem}}{side.tail}"
    if not split:
        return "/".join([*names, name])
    return "/".join([*(NUMBER_OF_PART.sub("*", _cut(text)) for text in names), _cut(name)])


def _cut(text: str) -> str:
    """The text with {split} for the words that say a part."""
    if text.startswith("{place"):
        return text
    stem, mark, rest = text.partition("{stem}")
    pieces = [stem, rest] if mark else [text]
    done = []
    for piece in pieces:
        found = piece
        for _, start, end in reversed(parts_in(piece)):
            found = f"{found[:start]}{{split}}{found[end:]}"
        done.append(found)
    return mark.join(done)


def _literal(plan: Plan) -> Plan:
    """A plan of training alone, with its folders by name."""
    parts = {_part_of(match.images) for match in plan.matches}
    others = {_part_of(match.masks) for match in plan.matches}
    if parts == others == {next(iter(parts))} and _canonical(next(iter(parts))) == "train":
        word = str(next(iter(parts)))
        return replace(plan, images=plan.images.replace("{split}", word), masks=plan.masks.replace("{split}", word))
    if parts != others and len(parts) == 1 and len(others) == 1:  # Train/images and training_masks
        images, masks = (
            plan.images.replace("{split}", str(next(iter(w))))
            if i == 0
            else plan.masks.replace("{split}", str(next(iter(w))))
            for i, w in enumerate((parts, others))
        )
        return replace(plan, images=images, masks=masks)
    return plan


def _with_places(plans: list[Plan]) -> list[Plan]:
    """Plans that differ in one folder only, the same in images and masks, as one plan with a field there."""
    merged = defaultdict[tuple[str, ...], list[Plan]](list)
    for plan in plans:
        left, right = plan.images.split("/"), plan.masks.split("/")
        spots = [i for i in range(min(len(left), len(right)) - 1) if left[i] == right[i] and "{" not in left[i]]
        spot = next((i for i in spots if _differs_at(plan, plans, i)), None)
        if spot is None:
            merged[plan.images, plan.masks].append(plan)
            continue
        left[spot] = right[spot] = "{place}" if "{place}" not in plan.images else "{place_b}"
        merged["/".join(left), "/".join(right)].append(plan)
    return [
        Plan(text[0], text[1], tuple(match for plan in found for match in plan.matches))
        for text, found in merged.items()
    ]


def _differs_at(plan: Plan, plans: Sequence[Plan], spot: int) -> bool:
    """Whether another plan is the same but for the folder at this place."""

    def rest(text: str) -> list[str]:
        words = text.split("/")
        return [*words[:spot], *words[spot + 1 :]]

    return any(
        other is not plan and rest(other.images) == rest(plan.images) and rest(other.masks) == rest(plan.masks)
        for other in plans
    )


def guess_pairs(root: Path, paths: Sequence[PurePosixPath]) -> tuple[list[Idea], Plan] | None:
    """Keys of dataset.yaml for images with their masks, and the pairs; None where nothing pairs.

    Raises:
        Question: several ways would do, or nothing tells images from masks.
    """
    looker = Looker(root)
    told, open_ones = matches_of(paths, looker)
    plans = plans_of(told)
    if not plans:
        _ask_for_roles(open_ones, paths)
        return None
    best = plans[0]
    _ask_for_rivals(told, best)
    others = [plan for plan in plans[1:] if len(plan.pairs) >= RIVAL * len(best.pairs)]
    if others:
        answers = [Answer(_seen(plan), _lines(plan, paths)) for plan in (best, *others[:4])]
        raise Question("Several folders would do; which of them is the data set?", answers)
    return _ideas(best, paths), best


def _seen(plan: Plan) -> str:
    return f"{len(plan.pairs)} pairs of {plan.images} and {plan.masks}"


def _lines(plan: Plan, paths: Sequence[PurePosixPath]) -> str:
    return lines_of_ideas(_ideas(plan, paths))


def _ask_for_rivals(told: Sequence[Match], best: Plan) -> None:
    """Two sets of masks for the same images: observers, or kinds of masks."""
    chosen = best.matches[0]
    rivals, used = dict[str, Match](), {path for _, path in best.pairs}
    for match in told:
        same = match.images.folders == chosen.images.folders and set(match.keys) & set(chosen.keys)
        files = {match.masks.files[key] for key in match.keys}
        is_near = len(match.keys) >= RIVAL * len(chosen.keys) and match.distance <= chosen.distance
        if same and is_near and match.is_one == chosen.is_one and not files & used:
            rivals.setdefault(_texts(match)[1], match)
            used |= files
    if not rivals:
        return
    first = lines_of(images=best.images, masks=best.masks)
    answers = [Answer(f"{best.masks} are the masks", first)]
    for match in rivals.values():
        plan = _literal(_with_suffixes(Plan(*_texts(match), (match,))))
        answers.append(Answer(f"{plan.masks} are the masks", lines_of(images=plan.images, masks=plan.masks)))
    text = f"Each image has {len(answers)} masks (two observers, or masks of two kinds?). Which of them are to be used?"
    raise Question(text, answers)


def _ask_for_roles(matches: Sequence[Match], paths: Sequence[PurePosixPath]) -> None:
    """Files that pair by name, of which nothing tells which are the masks."""
    if not matches or 2 * len(matches[0].keys) < SHARE * len(paths) or len({path.parent for path in paths}) > 2:
        return
    plan = _literal(_with_suffixes(Plan(*_texts(matches[0]), (matches[0],))))
    turned = Plan(plan.masks, plan.images, ())
    ways = [
        Answer(f"{one.masks} are the masks of {one.images}", lines_of(images=one.images, masks=one.masks))
        for one in (plan, turned)
    ]
    top = matches[0].images.folders, matches[0].masks.folders
    if all(len(folders) == 1 for folders in top):
        ways.append(Answer("they are two classes of images", lines_of(task="classification", images=".")))
    text = f"{len(matches[0].keys)} pictures have equal names in {plan.images} and {plan.masks}, and nothing tells "
    raise Question(f"{text}which of them are masks.", ways)


def _ideas(plan: Plan, paths: Sequence[PurePosixPath]) -> list[Idea]:
    """Folders where these say it all, else templates."""
    used = {path for pair in plan.pairs for path in pair}
    left = [path for path in paths if path not in used]
    ideas = _as_folders(plan, left) or [
        Idea("images", _grouped(plan, plan.images), f"{len(plan.pairs)} images match this and have a mask"),
        Idea("masks", _grouped(plan, plan.masks), "the masks with the same fields"),
    ]
    if "{split}" in plan.images:
        words = list(dict.fromkeys(str(_part_of(match.images)) for match in plan.matches))
        sizes = ", ".join(
            f"{word} is {_canonical(word)} ({sum(len(m.keys) for m in plan.matches if _part_of(m.images) == word)})"
            for word in words
        )
        ideas.append(Idea(None, None, f"Parts: {sizes} pairs."))
    if left:
        ideas.append(Idea(None, None, f"{len(left)} pictures are in no pair, for example {left[0]}; check lists them."))
    return ideas


def _grouped(plan: Plan, text: str) -> str:
    """The template with {group} for the folder that holds several images each, where there are enough of them."""
    if "{place}" not in text or "{group}" in text:
        return text
    spot = plan.images.split("/").index("{place}")
    sizes = Counter(image.parts[spot] for image, _ in plan.pairs)
    return text.replace("{place}", "{group}") if len(sizes) >= 3 and max(sizes.values()) > 1 else text


def _as_folders(plan: Plan, left: Sequence[PurePosixPath]) -> list[Idea] | None:
    """images: and masks: as folders with equal trees below, which default reading takes; None where that is not so."""
    image_names, mask_names = plan.images.split("/"), plan.masks.split("/")
    if len(image_names) < 2 or len(mask_names) < 2 or image_names[1:-1] != mask_names[1:-1]:
        return None
    inner = image_names[1:-1]
    if image_names[0] == mask_names[0] or "{" in image_names[0] + mask_names[0] or any("{place" in n for n in inner):
        return None
    tails = {(match.images.head, match.images.tail, match.masks.head) for match in plan.matches}
    mask_tails = {match.masks.tail for match in plan.matches}
    strays = [path for path in left if path.parts[0] in (image_names[0], mask_names[0]) and len(path.parts) > 1]
    fixed = [name for name in inner if "{" not in name]
    if tails != {("", "", "")} or len(mask_tails) != 1 or strays or fixed or any(n != "{split}" for n in inner):
        return None
    suffix = mask_tails.pop()
    n_pairs = len(plan.pairs)
    ideas = [
        Idea(key, name, f"{n_pairs} {what}")
        for key, name, what in (
            ("images", image_names[0], "pictures there have a mask of their name"),
            ("masks", mask_names[0], "pictures of few values there have the names of images"),
        )
        if name != key
    ]
    if suffix:
        ideas.append(Idea("mask_suffix", suffix, f'{n_pairs} masks are named as their image + "{suffix}"'))
    return ideas or [Idea(None, None, f"{n_pairs} images in images/ have a mask of their name in masks/.")]
