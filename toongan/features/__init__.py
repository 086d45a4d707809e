"""Features: images as 1,280 numbers each, by which they are compared.

In: images, uint8 `(N, H, W, 3)`.
Out: features, float32 `(N, 1280)`, of a MobileNetV2 whose ImageNet weights lie in `weights/`.
Imported by: lessons, `runs` and `evaluation`. It imports plain modules only.
"""

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

__all__ = [
    "BATCH",
    "LENGTH",
    "NAME",
    "RESIZER",
    "SIDE",
    "WEIGHTS",
    "WEIGHTS_SHA256",
    "FeatureNet",
    "data_features",
    "features_of",
    "load_weights",
]
