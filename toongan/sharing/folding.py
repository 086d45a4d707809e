"""A generator as a short list of arrays: batch norm folded into the convolutions, smooth kernels stored as 3×3 ones."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..models import Generator, SmoothKernel
from ..runs.start import small_kernel

SMOOTH = 1e-4  # how far a kernel may be from a smooth one, as a share of its largest weight


@dataclass(frozen=True)
class Layer:
    """One layer of a folded generator: a transposed convolution, its bias, then ReLU; after the last, tanh or a palette.

    Attributes:
        weight: float32 `(in, out, k, k)`; k is 3 where the 4×4 kernel is a smooth one, made from a 3×3 one (chapter 02).
        bias: float32 `(out,)`.
    """

    weight: np.ndarray
    bias: np.ndarray


@torch.no_grad()
def folded(generator: Generator) -> Generator:
    """The same generator without batch norm: its `main` has transposed convolutions with biases, ReLU, and tanh at its end."""
    net = copy.deepcopy(generator).eval()
    layers, found = list(net.main), []
    for layer, after in zip(layers, [*layers[1:], None]):
        if isinstance(layer, nn.ConvTranspose2d) and isinstance(after, nn.BatchNorm2d):
            found.append(fuse_conv_bn_eval(layer, after, transpose=True))
        elif not isinstance(layer, nn.BatchNorm2d):
            found.append(layer)
    net.main = nn.Sequential(*found).eval()
    return net


@torch.no_grad()
def layers_of(generator: Generator) -> list[Layer]:
    found = []
    for layer in folded(generator).main:
        if isinstance(layer, nn.ConvTranspose2d):
            weight = layer.weight
            bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
            if layer.stride[0] == 2:
                small = small_kernel(weight)
                if (SmoothKernel()(small) - weight).abs().max() <= SMOOTH * weight.abs().max():
                    weight = small
            found.append(Layer(weight.numpy().copy(), bias.numpy().copy()))
    return found
