"""A generator as an ONNX file, for other languages and runtimes."""

import io
import json
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from ..conditional import random_latent
from ..config import ShareOnnxConfig
from ..errors import ToonGANError
from ..models import Generator
from ..paths import atomic_write, display, make_way
from ..runs import Run, find_run, load_generator, seeded
from ..system.extras import needed
from .folding import folded

OPSET = 18
INPUT, OUTPUT = "latent", "images"
COMPARED, TOLERANCE = 64, 1e-3  # vectors drawn by both; how far values in [-1, 1] may be apart


def share_onnx(config: ShareOnnxConfig, progress: bool = True) -> Path:
    """Write `G.onnx` of a run; gives its path.

    Input `latent`, float32 `(N, latent_dim)` for any N; output `images`, `(N, channels, H, W)` in [-1, 1].

    Raises:
        ToonGANError: no such run, packages are missing, the folder cannot be written to, or the file would draw other
            images than PyTorch does.
    """
    needed("onnx", "onnxscript", "onnxruntime")
    run = find_run(config.run)
    generator = load_generator(run.generator_path)
    path = make_way(config.out or Run.named(config.run).generated / "G.onnx", "out", "G.onnx")
    with atomic_write(path) as part:
        write(generator, part, run.name)
        apart = difference(generator, part)
        if not apart <= TOLERANCE:
            raise ToonGANError(
                f"The ONNX file would draw other images than PyTorch does ({apart:.2g} apart); "
                "another version of onnxruntime or torch may do better."
            )
    if progress:
        print(
            f"{display(path)}, {path.stat().st_size / 1e6:.1f} MB, opset {OPSET}: {INPUT} (N, {generator.latent_dim}) to {OUTPUT} "
            f"(N, {generator.channels}, {generator.image_size}, {generator.image_size}) in [-1, 1]; at most {apart:.1g} from PyTorch."
        )
    return path


def write(generator: Generator, path: Path, name: str) -> None:
    import onnx

    net = Unflattened(generator)
    some = torch.zeros(2, generator.latent_dim)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net, (some,), dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT], verbose=False,
            dynamic_shapes={INPUT: {0: torch.export.Dim("N", min=1)}}, external_data=False,
        )  # fmt: skip
    model = program.model_proto
    about = {"run": name, "made_with": "ToonGAN", "range": "-1 to 1"}
    if attributes := generator.attributes:
        about["attributes"] = json.dumps(attributes.values)
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path), save_as_external_data=False)


class Unflattened(torch.nn.Module):
    """The folded generator, from latent vectors `(N, latent_dim)`."""

    def __init__(self, generator: Generator):
        super().__init__()
        net = folded(generator)
        self.main, self.palette = net.main, net.palette

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        maps = self.main(latent[:, :, None, None])
        return maps if self.palette is None else self.palette(maps, latent)


def quiet():
    """Silence what the exporter prints as it works."""
    from contextlib import ExitStack

    stack = ExitStack()
    stack.enter_context(redirect_stdout(io.StringIO()))
    stack.enter_context(redirect_stderr(io.StringIO()))
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logger = logging.getLogger(name)
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
    return stack


@torch.no_grad()
def difference(generator: Generator, path: Path) -> float:
    """How far the images of a file are from those of PyTorch, at most, over 64 latent vectors."""
    import onnxruntime

    latent = random_latent(generator, COMPARED, seeded(0, "onnx"))
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (images,) = session.run([OUTPUT], {INPUT: latent.numpy()})
    return float((torch.from_numpy(images) - generator.eval()(latent)).abs().max())
