"""Sharing: a run as something to open, send or build on.

In: a run's name.
Out: files for people who have neither Python nor this package, such as a page that draws in any browser.
Imported by: the command line. It imports `evaluation`, `runs`, `datasets` and what lies below them.
"""

from importlib import import_module
from pathlib import Path

# By the name of a configuration: the module, and the function that does what it says.
KINDS = {
    "SharePageConfig": ("page", "share_page"),
    "ShareOnnxConfig": ("onnx_file", "share_onnx"),
    "ShareHubConfig": ("hub", "share_hub"),
    "ShareFilmConfig": ("film", "share_film"),
}


def share(config, progress: bool = True) -> Path:
    """Make what a configuration describes; gives its path.

    Raises:
        ToonGANError: it cannot be made; says what to do. No half-made file is left.
    """
    module, function = KINDS[type(config).__name__]
    return getattr(import_module(f".{module}", __name__), function)(config, progress)
