"""Google Colab's Drive and downloads, used only when a chapter's parameter asks for them."""

from pathlib import Path

from ..errors import ToonGANError
from ..paths import drive as drive_folder

MOUNT = "/content/drive"


def mirror_in_drive() -> Path:
    """Mount Google Drive, which asks for a click; returns the folder in it for the second copies of checkpoints.

    Raises:
        ToonGANError: this is not Colab, or Drive was not allowed.
    """
    try:
        from google.colab import drive
    except ImportError as error:
        raise ToonGANError(
            "is for Google Colab; set it to False here, where checkpoints are on your own disk.", "DRIVE"
        ) from error
    try:
        drive.mount(MOUNT)
    except Exception as error:  # its exceptions have private types, which differ from version to version
        raise ToonGANError(
            f"could not be mounted ({error}); run the cell again and allow access, or set DRIVE to False.", "DRIVE"
        ) from error
    return drive_folder() / "checkpoints"


def download(*paths: Path) -> None:
    """Send files to the computer that runs the browser.

    Raises:
        ToonGANError: this is not Colab.
    """
    try:
        from google.colab import files
    except ImportError as error:
        raise ToonGANError(
            f"is for Google Colab; set it to False here, where the files are in {paths[0].parent}.", "DOWNLOAD"
        ) from error
    for path in paths:
        files.download(str(path))
