"""Packages that not everybody needs: the extra `share` of `pyproject.toml`."""

import sys
from importlib import import_module
from types import ModuleType

from ..errors import ToonGANError


def needed(*names: str) -> list[ModuleType]:
    """The packages of these names, imported.

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
            f"{names} {are} not installed, and needed for this: {sys.executable} -m pip install {' '.join([*others, last])}"
        )
    return found
