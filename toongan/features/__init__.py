"""Features: images as numbers, by which they are compared, and small nets that learn from them.

In: images, uint8 `(N, H, W, channels)`, and where there are any, their labels.
Out: features, float32 `(N, 1280)`, of a MobileNetV2 whose ImageNet weights lie in `weights/`; distances between them;
classifiers; what an `AttributeReader` reads in an image; the nearest of many images.
Imported by: lessons, `runs`, `evaluation` and `sharing`. It imports plain modules only.
"""

from .fidelity import Rows, compared
from .linear import fit_linear, halves_of, separation, wilson
from .mobilenet import (
    BATCH,
    LENGTH,
    NAME,
    RESIZER,
    SIDE,
    WEIGHTS,
    WEIGHTS_SHA256,
    FeatureNet,
    data_features,
    features_of,
    load_weights,
)
from .readers import AttributeReader, learnable
from .thumbnails import memorisation, nearest

__all__ = [
    "BATCH",
    "LENGTH",
    "NAME",
    "RESIZER",
    "SIDE",
    "WEIGHTS",
    "WEIGHTS_SHA256",
    "AttributeReader",
    "FeatureNet",
    "Rows",
    "compared",
    "data_features",
    "features_of",
    "fit_linear",
    "halves_of",
    "learnable",
    "load_weights",
    "memorisation",
    "nearest",
    "separation",
    "wilson",
]
