"""Optional packages: the extra `share` of `pyproject.toml`."""

import sys
from importlib import import_module
from types import ModuleType

from ..errors import ToonGANError


def needed(*names: str) -> list[ModuleType]:
    """Import the packages with these names.

    Raises:
        ToonGANError: some are missing; says how to install them.
    """
    found, missing = [], []
    for name in names:
        try:
            found.append(import_module(name))
        except ModuleNotFoundError as error:
            missing.append(error.name.partition(".")[0] if error.name else name)
    if missing:
        *others, last = sorted(set(missing))
        names, are = (f"{', '.join(others)} and {last}", "are") if others else (last, "is")
        raise ToonGANError(
            f"{names} {are} needed for this, and not installed; first run: "
            f"{sys.executable} -m pip install {' '.join([*others, last])}"
        )
    return found
