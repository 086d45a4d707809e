"""Features of images: MobileNetV2 with its ImageNet weights, which come with this package.

The weights are torchvision's, without the classifier (`ATTRIBUTION.md`). The convolutions are stored in half precision;
all computing is in single precision.
"""

import hashlib
import io
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from tqdm import tqdm

from ..errors import ToonGANError
from ..paths import atomic_write

WEIGHTS = Path(__file__).parent / "weights" / "mobilenet_v2.pth"
WEIGHTS_SHA256 = "64cc1fcca04eb8177b6a7e5b5e54fecacb789c3437e8fc64ca5f8e096f3d16ab"
NAME = "mobilenet-v2"
SIDE = 224
LENGTH = 1280
BATCH = 16
RESIZER = "bilinear with antialias, from uint8 (torch.nn.functional.interpolate)"
# Mean and standard deviation of ImageNet's images, which the net was trained with, in grey levels.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def load_weights(path: Path = WEIGHTS) -> dict[str, torch.Tensor]:
    """The weights of the feature net in single precision.

    Raises:
        ToonGANError: the file is missing, or it is not the one that this version was made with.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ToonGANError(f"{path} cannot be read ({error.strerror}); install the package again.") from error
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise ToonGANError(
            f"{path} is not the file of feature weights that this version was made with (its SHA-256 differs); "
            "install the package again, or take the file from the repository."
        )
    state = torch.load(io.BytesIO(data), weights_only=True)
    return {key: value.float() for key, value in state.items()}


class FeatureNet(nn.Module):
    """Images, uint8 `(N, 3, H, W)`, to features `(N, 1280)`.

    Resized to `side` px, then MobileNetV2 (Sandler et al. 2018) up to its last pooling.
    """

    def __init__(self, side: int = SIDE):
        super().__init__()
        from torchvision.models import mobilenet_v2

        self.side = side
        with torch.random.fork_rng(devices=[]):  # it draws first weights, which the loaded ones replace
            self.layers = mobilenet_v2(weights=None).features
        self.layers.load_state_dict(load_weights())
        fold_norms(self.layers.eval())
        self.layers.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, enabled=False):
            size = (self.side, self.side)
            resized = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
            resized = ((resized - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
            return self.layers(resized).mean((2, 3))


def fold_norms(net: nn.Module) -> None:
    """Fold each batch norm into the convolution before it: the same numbers, in half the time."""
    for block in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        names = list(block._modules)
        for first, second in zip(names, names[1:]):
            if isinstance(block._modules[first], nn.Conv2d) and isinstance(block._modules[second], nn.BatchNorm2d):
                block._modules[first] = fuse_conv_bn_eval(block._modules[first], block._modules[second])
                block._modules[second] = nn.Identity()


def in_three_channels(images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """Images, uint8 `(N, H, W, channels)`, as uint8 `(N, 3, H, W)`: grey ones repeated, transparent ones without alpha.

    The colours of transparent images are stored as they look on white, so their first three channels are enough.
    """
    pixels = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2)
    return pixels[:, :3].expand(-1, 3, -1, -1)


@cache
def feature_net(side: int = SIDE, device: str = "cpu") -> FeatureNet:
    return FeatureNet(side).to(device)


def features_of(
    images: np.ndarray,
    device: torch.device | str = "cpu",
    side: int = SIDE,
    progress: str | None = None,
    keep: Path | None = None,
) -> np.ndarray:
    """Features of images: uint8 `(N, H, W, channels)` to float32 `(N, 1280)`; transparent ones count as they look on white.

    Neither gradients nor the global random state are touched.

    Args:
        progress: the text of a progress bar; None for no bar.
        keep: a folder in which the features of these very images are kept for the next time. If a copy is damaged or
            cannot be written, the features are computed again.
    """
    if keep is None:
        return computed(images, device, side, progress)
    about = f"{images.shape} {WEIGHTS_SHA256} {side} {RESIZER} {torch.device(device).type}"
    key = hashlib.sha256(about.encode() + np.ascontiguousarray(images).tobytes()).hexdigest()
    path = keep / f"{NAME}-{side}px-{key[:16]}.npz"
    try:
        with np.load(path) as kept:  # a zip archive: each array has a checksum
            found = kept["features"]
        if found.shape == (len(images), LENGTH) and found.dtype == np.float32:
            return found
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    found = computed(images, device, side, progress)
    try:
        keep.mkdir(exist_ok=True)
        with atomic_write(path) as part:
            np.savez(part, features=found)
    except (OSError, ToonGANError):
        pass
    return found


def computed(images: np.ndarray, device: torch.device | str, side: int, progress: str | None) -> np.ndarray:
    net = feature_net(side, str(device))
    batch = BATCH if torch.device(device).type == "cpu" else 256
    bar = tqdm(
        total=len(images), desc=progress, unit=" images", file=sys.stdout, disable=progress is None, mininterval=0.5
    )
    found = []
    with bar, torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(images), batch):
            part = in_three_channels(images[start : start + batch], device)
            found.append(net(part).cpu().numpy())
            bar.update(len(part))
    return np.concatenate(found)


class Packed(Protocol):
    """What a packed data set must have: its folder, and its images `(N, H, W, 3)`."""

    folder: Path
    images: np.ndarray


def data_features(
    data: Packed, rows: np.ndarray, device: torch.device | str = "cpu", progress: str | None = None
) -> np.ndarray:
    """Features of some rows of a data set, float32 `(len(rows), 1280)`, kept beside it for the next time."""
    return features_of(np.asarray(data.images[rows]), device, progress=progress, keep=data.folder / "features")


class MobileNetFeatures(FeatureExtractorBase):
    """The feature net as torch-fidelity knows it, under the name `mobilenet-v2`.

    Takes images, uint8 `(N, 3, H, W)`, or features computed before, float `(N, L)`, which it returns unchanged.
    """

    def __init__(self, name: str, features_list: list[str], **options):
        super().__init__(name, features_list)
        self.net = feature_net()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return (str(LENGTH),)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return str(LENGTH)

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor]:
        return (inputs if inputs.ndim == 2 else self.net(inputs),)


register_feature_extractor(NAME, MobileNetFeatures)
