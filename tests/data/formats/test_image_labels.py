"""Images with one label each: every layout gives the same kind of data set, and every fault is told with its fix."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_data import (
    NAMES,
    binary_batch,
    bright_images,
    planes_of,
    published_sums,
    write_cifar_binary,
    write_cifar_python,
    write_class_folders,
    write_table,
)
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import CheckReport, Notebook
from segdecay.data.dataset import Dataset, class_pixels, open_dataset
from segdecay.data.detect.detect import guess_spec
from segdecay.data.formats import build_source
from segdecay.data.formats.cifar10 import PUBLISHED_MD5, CifarSource, _from_binary, batches_of
from segdecay.data.loading import load_dataset, read_dataset
from segdecay.data.spec import DatasetSpec, parse_spec
from segdecay.data.splits.folds import fold_plan
from segdecay.errors import ConfigError, DataError


@pytest.fixture
def small_files_are_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of the small files of the Python layout stand in for those of the real ones."""
    monkeypatch.setattr("segdecay.data.formats.cifar10.PUBLISHED_MD5", published_sums())


def _spec(root: Path, text: str) -> Path:
    (root / "dataset.yaml").write_text(text)
    return root


def _class_folders(root: Path) -> str:
    write_class_folders(root)
    return str(_spec(root, "task: classification\nimages: .\n"))


def _table(root: Path) -> str:
    return str(write_table(root))


def _binary(root: Path) -> str:
    return f"cifar10:{write_cifar_binary(root)}"


def _python(root: Path) -> str:
    return f"cifar10:{write_cifar_python(root)}"


LAYOUTS = {"class folders": _class_folders, "table": _table, "binary": _binary, "Python": _python}


def _read(path: Path | str, cache: Path | None = None) -> tuple[Dataset | None, CheckReport]:
    return read_dataset(DataConfig(path=str(path)), cache=cache)


def _messages(path: Path | str) -> dict[str, str]:
    return {finding.code: finding.message for finding in _read(path)[1].findings if finding.level == "wrong"}


@pytest.mark.usefixtures("small_files_are_published")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_images_with_one_label_each(layout: str, tmp_path: Path) -> None:
    dataset, report = load_dataset(DataConfig(path=LAYOUTS[layout](tmp_path / "data")))
    assert dataset.task == "classification"
    assert dataset.classes == NAMES
    assert report.of_level("wrong") == ()
    for index in range(len(dataset.items)):
        image, mask = dataset.image(index), dataset.mask(index)
        assert mask.shape == (1, 1)
        assert abs(float(image.mean()) - (40 + 80 * mask[0, 0])) < 15  # the label is that of the brightness
    assert open_dataset(dataset.root) == dataset


@pytest.mark.usefixtures("small_files_are_published")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_source_is_the_same_twice_and_its_key_follows_its_content(layout: str, tmp_path: Path) -> None:
    path = LAYOUTS[layout](tmp_path / "data")
    config = DataConfig(path=path)
    first, second = build_source(config), build_source(config)
    assert first.key() == second.key()
    assert first.facts == second.facts
    for one, other in zip(first.samples(Notebook()), second.samples(Notebook()), strict=True):
        assert (one.name, one.part, one.group, one.sha256) == (other.name, other.part, other.group, other.sha256)
        np.testing.assert_array_equal(one.image, other.image)
        assert one.image.dtype == one.mask.dtype == np.uint8
    names = [sample.name for sample in first.samples(Notebook())]
    assert len(set(names)) == len(names)
    file = max((p for p in (tmp_path / "data").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[-20] ^= 255
    file.write_bytes(bytes(content))
    assert build_source(config).key() != first.key()


@pytest.mark.usefixtures("small_files_are_published")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_init_recognises_every_layout(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout](tmp_path / "data")
    (tmp_path / "data" / "dataset.yaml").unlink(missing_ok=True)
    guess = guess_spec(tmp_path / "data")
    assert "every image has one label." in guess.explanations[0]
    (tmp_path / "data" / "dataset.yaml").write_text(guess.spec_yaml)
    dataset, _ = load_dataset(DataConfig(path=str(tmp_path / "data")))
    assert (dataset.task, dataset.classes) == ("classification", NAMES)


@pytest.mark.usefixtures("small_files_are_published")
def test_both_layouts_of_cifar_hold_the_same_images(tmp_path: Path) -> None:
    one, other = (load_dataset(DataConfig(path=make(tmp_path / name)))[0] for name, make in list(LAYOUTS.items())[2:])
    assert one.fingerprint == other.fingerprint
    assert len(one.part("train")) == 30
    assert len(one.part("test")) == 12
    assert {item.group for item in one.items} == {item.name for item in one.items}


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_a_binary_file_reads_as_it_was_written(labels: list[int], seed: int) -> None:
    own = np.array(labels, dtype=np.uint8)
    planes = np.random.default_rng(seed).integers(0, 256, (len(own), 3072)).astype(np.uint8)
    found = _from_binary(binary_batch(own, planes))
    np.testing.assert_array_equal(found[0], own)
    np.testing.assert_array_equal(found[1], planes)


def test_planes_become_red_green_and_blue(tmp_path: Path) -> None:
    image = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    image[0, 3, 5] = (1, 2, 3)
    write_cifar_binary(tmp_path, train=2, batches=1)
    (tmp_path / "data_batch_1.bin").write_bytes(binary_batch(np.array([0, 1], np.uint8), planes_of(image)))
    first = next(CifarSource(tmp_path, DatasetSpec(task="classification", labels="cifar10")).samples(Notebook()))
    assert first.image[3, 5].tolist() == [1, 2, 3]


def _cut(folder: Path) -> None:
    path = folder / "data_batch_1.bin"
    path.write_bytes(path.read_bytes()[:-100])


def _empty(folder: Path) -> None:
    (folder / "data_batch_1.bin").write_bytes(b"")


def _label_200(folder: Path) -> None:
    path = folder / "data_batch_1.bin"
    path.write_bytes(b"\xc8" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (
            _cut,
            "cut_short",
            ["data_batch_1.bin has 45,995 bytes", "3,073 bytes (2,973 are left over)"],
        ),
        (_empty, "cut_short", ["data_batch_1.bin has 0 bytes", "3,073"]),
        (
            _label_200,
            "label_unknown",
            ["holds label 200 (image 0, 1 in all)", "labels are 0–2"],
        ),
    ],
)
def test_a_spoilt_binary_file_is_told(
    spoil: Callable[[Path], None], code: str, said: list[str], tmp_path: Path
) -> None:
    write_cifar_binary(tmp_path / "data")
    spoil(tmp_path / "data")
    message = _messages(f"cifar10:{tmp_path / 'data'}")[code]
    assert [part for part in said if part not in message] == []


def test_faults_of_several_files_are_told_at_once(tmp_path: Path) -> None:
    write_cifar_binary(tmp_path)
    _cut(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\x09" + (tmp_path / "test_batch.bin").read_bytes()[1:])
    assert set(_messages(f"cifar10:{tmp_path}")) == {"cut_short", "label_unknown"}


def test_the_sums_are_those_that_torchvision_checks() -> None:
    from torchvision.datasets import CIFAR10

    listed = dict([*CIFAR10.train_list, *CIFAR10.test_list])
    assert {**listed, CIFAR10.meta["filename"]: CIFAR10.meta["md5"]} == PUBLISHED_MD5


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()  # noqa: S324


def _running(mark: Path) -> bytes:
    """A pickle that makes a file when it is read."""
    command = f"touch {mark}".encode()
    return b"\x80\x02cos\nsystem\nU" + bytes([len(command)]) + command + b"\x85R."


@pytest.mark.usefixtures("small_files_are_published")
def test_a_pickle_that_is_not_published_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    write_cifar_python(tmp_path / "data")
    content = _running(tmp_path / "mark")
    (tmp_path / "data" / "data_batch_1").write_bytes(content)
    message = _messages(f"cifar10:{tmp_path / 'data'}")["pickle_refused"]
    for said in (
        f"data_batch_1 is a pickle, which can run code, and not the published file: its MD5 is {_md5(content)}",
        f"only {published_sums()['data_batch_1']} is read.",
        "Fetch cifar-10-python.tar.gz again, or use the binary layout",
    ):
        assert said in message
    assert "data_batch_2" not in message
    assert not (tmp_path / "mark").exists()
    pickle.loads(content)  # noqa: S301 - what any other reader would have done
    assert (tmp_path / "mark").exists()


def test_no_small_file_of_the_python_layout_is_published(tmp_path: Path) -> None:
    folder = write_cifar_python(tmp_path)
    with pytest.raises(
        DataError, match=r"batches\.meta is a pickle.* its MD5 is .*only 5ff9c542aee3614f3951f8cda6e48888"
    ):
        build_source(DataConfig(path=f"cifar10:{folder}"))
    spec = _spec(folder, "task: classification\nlabels: cifar10\nclasses: [cat, dog, ship]\n")
    message = _messages(spec)["pickle_refused"]
    assert [batch.path.name for batch in batches_of(folder) if batch.path.name not in message] == []


@pytest.mark.usefixtures("small_files_are_published")
def test_a_pickle_of_another_name_is_refused(tmp_path: Path) -> None:
    write_cifar_python(tmp_path / "data")
    (tmp_path / "data" / "data_batch_6").write_bytes((tmp_path / "data" / "data_batch_2").read_bytes())
    message = _messages(f"cifar10:{tmp_path / 'data'}")["pickle_refused"]
    assert "data_batch_6 is a pickle" in message
    assert "only data_batch_1, data_batch_2, test_batch, batches.meta are read" in message


@pytest.mark.usefixtures("small_files_are_published")
def test_names_of_the_python_layout_that_are_not_published_run_nothing(tmp_path: Path) -> None:
    write_cifar_python(tmp_path)
    assert build_source(DataConfig(path=f"cifar10:{tmp_path}")).facts.classes == NAMES
    (tmp_path / "batches.meta").write_bytes(_running(tmp_path / "mark"))
    with pytest.raises(DataError, match=r"batches.meta is a pickle, which can run code, and not the published file"):
        build_source(DataConfig(path=f"cifar10:{tmp_path}"))
    assert not (tmp_path / "mark").exists()


def test_a_file_larger_than_any_batch_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar_binary(tmp_path)
    monkeypatch.setattr("segdecay.data.formats.cifar10.MOST_BYTES", 1000)
    assert "at most 1,000 are read" in _messages(f"cifar10:{tmp_path}")["too_large"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("batches.meta.txt", None, "batches.meta.txt is missing"),
        ("batches.meta.txt", b"cat\n", "names 1 classes"),
        ("batches.meta.txt", b"cat\ncat\n", "at least two different"),
    ],
)
def test_names_of_classes_that_are_missing_or_few_are_told(
    name: str, content: bytes | None, said: str, tmp_path: Path
) -> None:
    write_cifar_binary(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        build_source(DataConfig(path=f"cifar10:{tmp_path}"))


def test_a_folder_of_cifar_without_a_spec_says_how_to_name_it(tmp_path: Path) -> None:
    write_cifar_binary(tmp_path / "cifar-10-batches-bin")
    with pytest.raises(DataError, match=r"Name it as cifar10:.*segdecay init"):
        build_source(DataConfig(path=str(tmp_path)))
    with pytest.raises(DataError, match=r"holds no CIFAR-10. Needed are data_batch_1.bin"):
        build_source(DataConfig(path=f"cifar10:{tmp_path / 'nothing'}"))


def test_faults_of_class_folders_are_told_at_once(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "data")
    _spec(root, "task: classification\nimages: .\nclasses: [cat, dog, ship, truck]\n")
    image = Image.fromarray(bright_images(1)[0][0])
    image.save(root / "train" / "lost.png")
    (root / "train" / "catt").mkdir()
    image.save(root / "train" / "catt" / "1.png")
    (root / "train" / "truck").mkdir()
    (root / "more" / "cat").mkdir(parents=True)
    image.save(root / "more" / "cat" / "1.png")
    found = _messages(root)
    assert "train/lost.png lies in no class folder. Move it into the folder of its class" in found["outside_classes"]
    assert "'catt', which is no class; classes are cat, dog, ship, truck" in found["label_unknown"]
    assert "Did you mean 'cat'?" in found["label_unknown"]
    assert "train/truck/ holds no image" in found["class_folder_empty"]
    assert "more/cat/1.png lies outside of train, val and test." in found["outside_parts"]


def test_a_class_folder_that_is_empty_in_one_part_only_is_a_warning(tmp_path: Path) -> None:
    root = Path(_class_folders(tmp_path / "data"))
    shutil.rmtree(root / "test" / "cat")
    (root / "test" / "cat").mkdir()
    dataset, report = _read(root)
    assert dataset is not None
    assert [one.level for one in report.findings if one.code == "class_folder_empty"] == ["warning"]


def test_faults_of_a_table_are_told_at_once(tmp_path: Path) -> None:
    rows = "name,label\n" + "".join(f"i{n:02d},{NAMES[n % 3]}\n" for n in range(16))
    rows += "i03,cat\ni16,shipp\nghost,cat\n"
    root = write_table(tmp_path / "data", rows=rows)
    _spec(root, "task: classification\nlabels: labels.csv\nclasses: [cat, dog, ship]\n")
    found = _messages(root)
    assert "1 image has no label (images/i17.png)" in found["label_missing"]
    assert "labels.csv names 1 images that are not there (ghost)" in found["group_of_nothing"]
    assert "labels.csv line 18 names 'i03' again (line 5)" in found["group_twice"]
    assert "line 19 gives 'i16' the label 'shipp'; classes are cat, dog, ship" in found["label_unknown"]
    assert "Did you mean 'ship'?" in found["label_unknown"]


def test_a_table_may_name_groups_parts_and_folds(tmp_path: Path) -> None:
    lines = [f"i{n:02d}.png,{NAMES[n % 3]},g{n // 6},{'test' if n >= 12 else 'train'}" for n in range(18)]
    root = write_table(tmp_path / "data", rows="\n".join(["name,label,group,split", *lines]) + "\n")
    dataset, _ = load_dataset(DataConfig(path=str(root)))
    assert [item.group for item in dataset.items][::6] == ["g0", "g1", "g2"]
    assert len(dataset.part("test")) == 6


def test_columns_of_a_table_that_are_missing_or_strange_are_told(tmp_path: Path) -> None:
    root = write_table(tmp_path / "data", rows="name,klass\ni00,cat\n")
    with pytest.raises(DataError, match=r"Unknown column 'klass'.*it has no column label.*name,label\[,group\]"):
        build_source(DataConfig(path=str(root)))


def test_keys_that_exclude_each_other_are_told_together() -> None:
    text = "task: classification\nlabels: cifar\nmasks: m\nvalues: {0: a, 1: b}\n"
    with pytest.raises(ConfigError) as told:
        parse_spec(text)
    for part in ("masks is about masks", "values is about masks", "'cifar' is not a source of labels", "'cifar10'"):
        assert part in str(told.value)
    with pytest.raises(ConfigError, match="labels needs task: classification"):
        parse_spec("labels: folders\n")


def test_a_class_without_an_image_is_told_in_words_of_labels(tmp_path: Path) -> None:
    root = Path(_class_folders(tmp_path / "data"))
    _spec(root, "task: classification\nimages: .\nclasses: [cat, dog, ship, truck]\n")
    (finding,) = (one for one in _read(root)[1].findings if one.code == "class_never_seen")
    assert "class 'truck' is the label of no image" in finding.message


def test_counts_are_of_images_and_folds_balance_them(tmp_path: Path) -> None:
    dataset, report = load_dataset(DataConfig(path=_binary(tmp_path)))
    assert [row.images for row in report.classes] == [14, 14, 14]
    assert class_pixels(dataset).sum(axis=1).tolist() == [1] * 42
    plan = fold_plan(dataset, method=None, n_folds=5, seed=0, block_gap=2)
    assert plan.table == ((2,) * 5,) * 3


def test_resizing_leaves_labels_alone(tmp_path: Path) -> None:
    path = _binary(tmp_path)
    dataset, _ = load_dataset(DataConfig(path=path, size=(16, 24)))
    assert dataset.image(0).shape == (16, 24, 3)
    assert dataset.mask(0).shape == (1, 1)


def test_segmentation_data_of_before_open_without_a_task(shapes: Path) -> None:
    import json

    dataset, _ = load_dataset(DataConfig(path=str(shapes)))
    card = dataset.root / "dataset.json"
    values = json.loads(card.read_text())
    assert values.pop("task") == "segmentation"
    card.write_text(json.dumps(values))
    assert open_dataset(dataset.root).task == "segmentation"
