"""Every fault of a folder's files is found before training, with file, value and fix."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_folder import HALF, RNG, Folder
from PIL import Image, ImageOps

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import Fault, report_from_json, report_to_json, summarise
from segdecay.data.images.decode import read_image, turned
from segdecay.data.loading import load_dataset
from segdecay.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "set")


def test_a_sound_folder_has_no_findings(folder: Folder) -> None:
    dataset, report = folder.read()
    assert report.findings == ()
    assert dataset is not None
    np.testing.assert_array_equal(dataset.mask(0), HALF)
    assert [(row.name, row.pixels, row.share, row.images, row.groups) for row in report.classes] == [
        ("background", 72, 0.5, 3, 3),
        ("road", 72, 0.5, 3, 3),
    ]
    assert report.images == {"train": 3}


def test_a_size_mismatch_names_both_sizes(folder: Folder) -> None:
    folder.mask("a", HALF[:, :6])
    message = folder.findings()["size_mismatch"].message
    assert message == "images/a.png is 8x6 (width x height), its mask 6x6. Re-export both in one size."


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_a_mask_of_unrotated_pixels_is_explained_by_exif(folder: Folder) -> None:
    folder.image("a", exif=exif_of(6))
    message = folder.findings()["size_mismatch"].message
    assert message == (
        "images/a.png is 6x8 (width x height), its mask 8x6; EXIF orientation 6: the mask fits the unrotated pixels. "
        "Set exif: ignore, or re-export."
    )
    folder.spec("exif: ignore")
    assert folder.dataset().items[0].height == 6


def test_a_mask_of_rotated_pixels_is_explained_by_exif(folder: Folder) -> None:
    folder.image("a", exif=exif_of(8))
    folder.mask("a", np.ascontiguousarray(HALF.T))
    folder.spec("exif: ignore")
    assert (
        "the mask fits the rotated pixels. Set exif: apply, or re-export." in folder.findings()["size_mismatch"].message
    )
    folder.spec("exif: apply")
    assert folder.dataset().items[0].height == 8


def test_a_turn_that_sizes_do_not_show_is_a_warning_until_exif_is_set(folder: Folder) -> None:
    folder.image("a", exif=exif_of(3))
    finding = folder.findings()["exif_unclear"]
    assert finding.level == "warning"
    assert "EXIF orientation 3 and was turned; its mask fits both ways" in finding.message
    folder.spec("exif: apply")
    assert folder.findings() == {}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_turns_as_pillow_does(orientation: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", exif=exif_of(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue()))))
    np.testing.assert_array_equal(turned(read_image(buffer.getvalue())).pixels, expected)


def test_missing_partners_are_counted_and_the_first_five_named(folder: Folder) -> None:
    for i in range(7):
        folder.image(f"lonely{i}")
    folder.mask("spare", HALF)
    message = folder.findings()["pairing"].message
    assert message.startswith("7 images have no mask (images/lonely0.png, ")
    assert "images/lonely4.png and 2 more), 1 mask has no image (masks/spare.png). Paired by exact stem." in message


def test_a_suffix_that_would_pair_them_is_offered(folder: Folder) -> None:
    for name in "abc":
        (folder.root / "masks" / f"{name}.png").rename(folder.root / "masks" / f"{name}_gt.png")
    assert 'Set mask_suffix: "_gt" in dataset.yaml.' in folder.findings()["pairing"].message
    folder.spec("mask_suffix: _gt")
    assert len(folder.dataset().items) == 3


def test_bands_that_differ_are_named_with_the_majority(folder: Folder) -> None:
    folder.image("c", RNG.integers(0, 255, (6, 8, 4), dtype=np.uint8))
    message = folder.findings()["bands_differ"].message
    assert message == "images/c.png has 4 bands (RGB + alpha), the set has 3 (2 files). Set bands: [0, 1, 2]."
    folder.spec("bands: [0, 1, 2]")
    assert folder.dataset().bands == 3


def test_a_grey_image_among_rgb_ones_is_named(folder: Folder) -> None:
    folder.image("c", HALF)
    said = folder.findings()["bands_differ"].message
    assert "has 1 band (grey), the set has 3 (2 files). Set grey_as_rgb: true" in said


def test_alpha_is_never_dropped_silently(folder: Folder) -> None:
    for name in "abc":
        folder.image(name, np.full((6, 8, 4), 255, dtype=np.uint8))
    message = folder.findings()["alpha"].message
    assert message.startswith(
        "images/a.png has 4 bands (RGB + alpha), opaque everywhere. Alpha is never dropped silently."
    )
    assert "Set bands: [0, 1, 2] to leave it out, or bands: [0, 1, 2, 3] to learn from it." in message


def test_a_band_that_an_image_lacks_is_named(folder: Folder) -> None:
    folder.spec("bands: [0, 3]")
    message = folder.findings()["bands_missing"].message
    assert message.startswith(
        "images/a.png has 3 bands (RGB); bands: [0, 3] asks for band 3. Bands of this file are 0–2."
    )


def test_chosen_bands_keep_their_order(folder: Folder) -> None:
    pixels = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    folder.image("a", pixels)
    folder.spec("bands: [2, 0]")
    np.testing.assert_array_equal(folder.dataset().image(0), pixels[..., [2, 0]])


def test_sixteen_bits_are_refused_with_what_would_be_clipped(folder: Folder) -> None:
    deep = np.linspace(112, 10874, 48).reshape(6, 8).astype(np.uint16)
    Image.fromarray(deep).save(folder.root / "images" / "a.png")
    message = folder.findings()["deep"].message
    assert message.startswith("images/a.png is uint16, 112–10874: reading it as 8 bit would clip 98 %.")


def test_a_sixteen_bit_rgb_png_is_not_read_as_8_bit(folder: Folder) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)  # width, height, bits, RGB
    rows = zlib.compress((b"\0" + bytes(8 * 6)) * 6)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (folder.root / "images" / "a.png").write_bytes(content)
    assert folder.findings()["deep"].message.startswith("images/a.png has 16 bits per band: reading it as 8 bit drops")


def test_cut_short_empty_and_foreign_files_are_told_apart(folder: Folder) -> None:
    whole = (folder.root / "images" / "a.png").read_bytes()
    (folder.root / "images" / "a.png").write_bytes(whole[: len(whole) // 2])
    (folder.root / "masks" / "b.png").write_bytes(b"")
    (folder.root / "images" / "c.png").write_bytes(b"<html>not found</html>")
    found = folder.findings()
    assert found["empty_file"].message.startswith("masks/b.png is empty (0 bytes).")
    assert found["unreadable"].message.startswith("images/a.png is damaged or cut short (")
    assert "images/c.png holds no image (PNG, JPEG, GIF, WebP, BMP," in found["unreadable"].message


def test_a_broken_link_is_a_file_that_cannot_be_read(folder: Folder) -> None:
    (folder.root / "images" / "a.png").unlink()
    (folder.root / "images" / "a.png").symlink_to(folder.root / "nowhere.png")
    assert "images/a.png cannot be read (No such file" in folder.findings()["unreadable"].message


def test_links_that_leave_the_folder_are_followed(folder: Folder, tmp_path: Path) -> None:
    (folder.root / "images" / "a.png").rename(tmp_path / "a.png")
    (folder.root / "images" / "a.png").symlink_to(tmp_path / "a.png")
    assert folder.findings() == {}


def test_decompression_bombs_are_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # 48 pixels: Pillow warns
    assert "has more than 40 pixels" in folder.findings()["too_many_pixels"].message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # more than twice: Pillow raises
    assert "has more than 20 pixels" in folder.findings()["too_many_pixels"].message


def test_one_class_only_is_wrong(folder: Folder) -> None:
    for name in "abc":
        folder.mask(name, HALF * 0)
    message = folder.findings()["one_class"].message
    assert message.startswith("One class only: every labelled pixel for training is 'background'")


def test_a_class_that_is_never_seen_is_a_warning(folder: Folder) -> None:
    (folder.root / "classes.txt").write_text("background\nroad\nsky\n")
    finding = folder.findings()["class_never_seen"]
    assert finding.level == "warning"
    assert finding.message.startswith("class 'sky' occurs in no mask")


def test_masks_that_label_nothing_are_wrong(folder: Folder) -> None:
    folder.spec("ignore: [7]")
    for name in "abc":
        folder.mask(name, HALF * 0 + 7)
    assert "No pixel of any training mask is labelled" in folder.findings()["nothing_labelled"].message


def test_all_faults_are_reported_in_one_error(folder: Folder) -> None:
    folder.mask("a", HALF * 9)
    (folder.root / "images" / "b.png").write_bytes(b"")
    folder.image("lonely")
    config = DataConfig.model_validate({"path": str(folder.root)})
    with pytest.raises(DataError, match=r"(?s)cannot be used:.*no mask.*is empty.*holds 9"):
        load_dataset(config, cache=folder.root / "cache")


def test_warnings_stand_beside_what_is_wrong(folder: Folder) -> None:
    (folder.root / "groups.csv").write_text("name,group\na,x\nb,y\nc,z\nghost,z\n")
    config = DataConfig.model_validate({"path": str(folder.root)})
    load_dataset(config, cache=folder.root / "cache")
    folder.mask("a", HALF * 9)
    with pytest.raises(DataError, match=r"(?s)holds 9.*warning: groups.csv names 1 images .*ghost"):
        load_dataset(config, cache=folder.root / "cache")


def test_nothing_is_cached_when_something_is_wrong(folder: Folder) -> None:
    folder.mask("a", HALF * 9)
    folder.read()
    assert list((folder.root / "cache").iterdir()) == []


def test_repeated_faults_name_five_files_and_count_the_others() -> None:
    faults = [Fault("wrong", "x", f"{i}.png", f"holds {i}; classes are 0–4.", "Fix it.") for i in range(8)]
    assert summarise(faults)[0].message == (
        "0.png holds 0; classes are 0–4. Fix it. The same in 7 more: 1.png holds 1; 2.png holds 2; 3.png holds 3; "
        "4.png holds 4 and 3 more."
    )


def test_a_report_survives_json(folder: Folder) -> None:
    (folder.root / "classes.txt").write_text("background\nroad\nsky\n")
    report = folder.read()[1]
    assert report_from_json(report_to_json(report)) == report
