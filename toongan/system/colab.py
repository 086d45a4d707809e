"""Google Colab's Drive and downloads. Nothing here happens unless a parameter of a chapter asks for it."""

from pathlib import Path

from ..errors import ToonGANError
from ..paths import drive as drive_folder

MOUNT = "/content/drive"


def mirror_in_drive() -> Path:
    """Mount Google Drive, which asks for a click, and give the folder in it for the second copies of checkpoints.

    Raises:
        ToonGANError: this is not Colab, or Drive was not allowed.
    """
    try:
        from google.colab import drive
    except ImportError as error:
        raise ToonGANError(
            "is for Google Colab; set it to False here, checkpoints are on your disk anyway.", "DRIVE"
        ) from error
    try:
        drive.mount(MOUNT)
    except Exception as error:  # its errors are of private types, and differ from version to version
        raise ToonGANError(
            f"could not be mounted ({error}); run the cell again and allow it, or set DRIVE to False.", "DRIVE"
        ) from error
    return drive_folder() / "checkpoints"


def download(*paths: Path) -> None:
    """Send files to the laptop in front of the browser.

    Raises:
        ToonGANError: this is not Colab.
    """
    try:
        from google.colab import files
    except ImportError as error:
        raise ToonGANError(
            f"is for Google Colab; set it to False here, the files are in {paths[0].parent}.", "DOWNLOAD"
        ) from error
    for path in paths:
        files.download(str(path))
