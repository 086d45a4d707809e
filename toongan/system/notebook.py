"""What the first cell of every chapter imports: it installs the packages that are missing, on a fresh Colab for example."""

import subprocess
import sys
from importlib.util import find_spec

from ..errors import REQUIREMENTS, ToonGANError

# Of requirements.txt, what neither Colab nor Kaggle has.
OFTEN_MISSING = ("dicebear", "dicebear_styles", "imagehash", "resvg_py", "torch_fidelity", "tyro")


def install_missing() -> None:
    """Install requirements.txt unless all of it is there.

    Raises:
        ToonGANError: pip cannot, without a network for example.
    """
    missing = [name for name in OFTEN_MISSING if find_spec(name) is None]
    if not missing:
        return
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)])
    if done.returncode:
        raise ToonGANError(
            f"These packages are missing, and pip could not install them: {', '.join(missing)}. Check the network and "
            f"run the cell again, or run pip install -r {REQUIREMENTS}."
        )


install_missing()
