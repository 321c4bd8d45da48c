"""CIFAR-10 from where it is handed out, by torchvision, which checks the archive against its known MD5.

Knows the one address and a folder. What was unpacked is read as any other folder of CIFAR-10, never unpickled.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from segdecay.data.sources.cifar10 import find_cifar
from segdecay.errors import DataError, DiskFullError

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"


def fetch_cifar(folder: Path) -> Path:
    """The folder of CIFAR-10, fetched (170 MB) unless it is there.

    Raises:
        DataError: no network, another file than the known one, or a folder that cannot be written.
        DiskFullError: there is no room for it.
    """
    if find_cifar(folder) is not None:
        return folder
    from torchvision.datasets import CIFAR10, utils

    beside = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        utils.download_and_extract_archive(CIFAR10.url, str(beside), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
        (beside / CIFAR10.filename).unlink(missing_ok=True)
        beside.rename(folder)
    except (OSError, RuntimeError, EOFError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        if DiskFullError.is_told_by(error):
            raise DiskFullError(str(folder)) from error
        raise DataError(
            f"CIFAR-10 cannot be fetched from {CIFAR10.url}: {error}. Fetch it by hand from {SOURCE} (the binary or "
            "the Python version), unpack it, and give --data FOLDER."
        ) from error
    if find_cifar(folder) is None:
        raise DataError(f"What was fetched into {folder} is no CIFAR-10. Remove that folder and try again.")
    return folder
