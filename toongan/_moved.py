"""Earlier import paths, which scripts and notebooks may still use."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# A module of an earlier version, and the modules that hold its names now.
MOVED = {
    "avatars": ("datasets.avatars",),
    "colab": ("system.colab",),
    "doctor": ("runs.doctor",),
    "engine": ("runs.training_loop", "runs.trainer", "runs.plan", "runs.judge", "runs.generate"),
    "hardware": ("devices.hardware",),
    "holdout": ("datasets.holdout",),
    "nets": ("runs.state_dicts",),
    "trainer": ("runs.trainer",),
}


class MovedModules(MetaPathFinder, Loader):
    """Finds a module under its earlier name, unless another module has that name now."""

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == __package__ and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        package, _, name = module.__name__.rpartition(".")
        places = [import_module(f"{package}.{place}") for place in MOVED[name]]

        def look_up(attribute: str):
            for place in places:
                if hasattr(place, attribute):
                    return getattr(place, attribute)
            raise AttributeError(f"module {module.__name__!r} has no attribute {attribute!r}")

        module.__doc__, module.__getattr__ = places[0].__doc__, look_up


sys.meta_path.append(MovedModules())
