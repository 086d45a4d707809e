"""A folder that is ready for the Hugging Face Hub: weights, a model card with nothing left empty, samples and the page."""

import json
import shutil
from pathlib import Path

from ..conditional import random_latent
from ..config import ShareHubConfig
from ..data import tile, to_image
from ..datasets.catalogue import credit_of
from ..errors import ToonGANError
from ..models import Generator
from ..paths import cannot_write, display, replace, writable_folder
from ..runs import Run, draw, find_run, load_generator, seeded
from ..runs.asking import from_plain, to_plain
from ..runs.state_dicts import plain_state
from ..system.extras import needed
from ..system.signature import save_image
from .page import named, page_of, trained_on

# What the Hub calls the licences of the images; all others are "other", with their name and address.
LICENCES = {"CC0 1.0": "cc0-1.0", "CC BY 4.0": "cc-by-4.0", "CC BY-SA 4.0": "cc-by-sa-4.0", "MIT": "mit"}
TASK = "unconditional-image-generation"
FIGURES = (
    ("frechet_distance", "frechet-distance-mobilenet-v2", "Fréchet distance (MobileNetV2)", 1),
    ("kernel_distance", "kernel-distance-mobilenet-v2", "Kernel distance × 1,000 (MobileNetV2)", 1),
    ("precision", "precision", "Precision", 1),
    ("recall", "recall", "Recall", 1),
)


def share_hub(config: ShareHubConfig, progress: bool = True) -> Path:
    """Make `generated/RUN/hub/`; gives its path. With `push`, upload it.

    Raises:
        ToonGANError: no such run, packages are missing, the folder cannot be written to, or the Hub refuses.
    """
    needed("huggingface_hub", "safetensors")
    run = find_run(config.run)
    generator = load_generator(run.generator_path)
    place = config.out or writable_folder(Run.named(config.run).generated) / "hub"
    if place.exists() and not (place / "config.json").is_file():
        raise ToonGANError(
            f"is a folder with other files in it, {display(place)}; name a folder that does not exist yet.", "out"
        )
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        fill(part, run, generator, config.push, progress)
        shutil.rmtree(place, ignore_errors=True)
        replace(part, place)
    except OSError as error:
        raise cannot_write(place, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if progress:
        names = ", ".join(sorted(path.name for path in place.iterdir()))
        print(f"{display(place)}: {names}")
    if config.push:
        address = push(place, config.push)
        if progress:
            print(f"Pushed to {address}")
    elif progress:
        print("Read its README.md, then push it: the same command with --push OWNER/NAME")
    return place


def fill(folder: Path, run: Run, generator: Generator, repository: str | None, progress: bool) -> None:
    from safetensors.torch import save_file

    save_file(plain_state(generator), folder / "model.safetensors", metadata={"format": "pt"})
    sizes = {name: getattr(generator, name) for name in ("image_size", "latent_dim", "base_channels", "channels")}
    if attributes := generator.attributes:
        sizes["attributes"] = to_plain(attributes)
    (folder / "config.json").write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")
    faces = draw(generator, random_latent(generator, 32, seeded(0, "generate")))
    save_image(to_image(tile(faces)), folder / "samples.png")
    (folder / "faces.html").write_text(page_of(run, progress), encoding="utf-8")
    (folder / "README.md").write_text(str(card_of(run, generator, repository or f"OWNER/{run.name}")), encoding="utf-8")


def card_of(run: Run, generator: Generator, repository: str):
    """The model card: a head that the Hub reads, and a text that people read."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    info = run.info()
    settings, data = info.get("settings", {}), info.get("data", {})
    dataset = settings.get("dataset", "unknown")
    credit = credit_of(dataset) or {
        "title": "the author's own images",
        "creator": "",
        "license": "",
        "license_url": "",
    }
    licence = LICENCES.get(credit["license"], "other")
    head = {"license": licence}
    if licence == "other":
        head |= {
            "license_name": (credit["license"] or "unknown").lower().replace(" ", "-")[:60],
            "license_link": credit["license_url"] or "LICENSE",
        }
    metrics, rows = figures_of(run)
    results = [
        EvalResult(
            task_type=TASK, dataset_type=named(dataset).replace(":", "-").replace(" ", "-").replace("'", ""), dataset_name=f"{credit['title']}, {metrics['count']:,} held-out images",
            metric_type=kind, metric_name=f"{title}, {metrics['count']:,} samples", metric_value=round(value, 4),
        )
        for kind, title, value, _ in rows
    ]  # fmt: skip
    about = ModelCardData(
        language="en", library_name="pytorch", pipeline_tag=TASK, tags=["gan", "dcgan", "cartoon", "faces", "toongan"],
        model_name=run.name if results else None, eval_results=results or None, **head,
    )  # fmt: skip
    sizes = ", ".join(f"{name}={getattr(generator, name)}" for name in ("image_size", "latent_dim", "base_channels"))
    table = "".join(f"| {title} | {value:.4g} | {floor:.4g} |\n" for _, title, value, floor in rows)
    measured = (
        f"Compared with {metrics['count']:,} images that it was never trained on. The last column is the floor: the same for as many other real images.\n\n"
        f"| | generated | floor |\n|---|---|---|\n{table}"
        if rows
        else f"Not measured yet: `python -m toongan evaluate --run {run.name}`."
    )
    by = ", ".join(filter(None, (credit["title"], credit["creator"])))
    text = f"""---
{about.to_yaml()}
---

# {run.name}

A DCGAN (Radford et al. 2015) that draws faces of {generator.image_size}×{generator.image_size} pixels, trained with the notebook series ToonGAN.
`faces.html` in this repository draws them in any browser, without a server.

![32 samples](samples.png)

## Use

```python
from toongan.sharing.hub import HubGenerator
from toongan.conditional import random_latent
from toongan.runs import draw

G = HubGenerator.from_pretrained("{repository}")
faces = draw(G, random_latent(G, 16))  # uint8 (16, {generator.image_size}, {generator.image_size}, {generator.channels})
```

`model.safetensors` is a plain state dict of `toongan.models.Generator({sizes})`.

## Training

- Images: {trained_on(data)} of {named(dataset)}: {by or "unknown"}; licence: {credit["license"] or "unknown"} {credit.get("license_url", "")}
- Length: {info.get("kimg", 0):,.0f} thousand images, {info.get("seconds", 0) / 60:,.0f} minutes on {info.get("device", "an unknown device")}
- Date, seed: {info.get("date", "unknown")}, {info.get("seed", "unknown")}
- Settings: recipe {settings.get("recipe", "unknown")}, batch size {settings.get("batch_size", "unknown")}, precision {settings.get("precision", "unknown")}

## How good it is

{measured}

## Limits

The faces are generated. Label them as generated wherever you show them.

The generator draws what its training images have: their style, their skin and hair, and nothing else. It was made to teach. What may be done with its faces depends on the licence of those images.
"""  # fmt: skip
    return ModelCard(text)


def figures_of(run: Run) -> tuple[dict, list[tuple[str, str, float, float]]]:
    """The card of a run, and from it: kind, title, the value for generated images, and that for real ones."""
    try:
        card = json.loads((run.checkpoints / "metrics.json").read_text(encoding="utf-8"))
        return card, [
            (kind, title, factor * card["figures"][name]["generated"], factor * card["figures"][name]["floor"])
            for name, kind, title, factor in FIGURES
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return {}, []


def push(folder: Path, repository: str) -> str:
    """Upload the folder; gives its address.

    Raises:
        ToonGANError: no token, a token that may not do this, or no connection.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.whoami()
        address = api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Add the generator, its card and its page"
        )
        return str(address)
    except LocalTokenNotFoundError as error:
        raise ToonGANError(
            "needs a token of the Hugging Face Hub; run: hf auth login (or set HF_TOKEN).", "push"
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise ToonGANError(
                f"was refused by the Hub: the token may not write to {repository}; make one with the role write, then: hf auth login",
                "push",
            ) from error
        raise ToonGANError(f"failed at the Hub ({str(error).splitlines()[0]}); try again later.", "push") from error
    except OSError as error:
        raise ToonGANError(
            f"found no connection to the Hub ({error}); the folder is made, so try again later.", "push"
        ) from error


def __getattr__(name: str):
    """`HubGenerator`, made on first use, since its base class comes from an extra."""
    if name != "HubGenerator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    (hub,) = needed("huggingface_hub")

    class HubGenerator(Generator, hub.PyTorchModelHubMixin):
        """A `Generator` that `from_pretrained` and `push_to_hub` know; `attributes` is what it can be asked for."""

        def __init__(self, image_size=64, latent_dim=100, base_channels=64, channels=3, attributes=None):
            super().__init__(image_size, latent_dim, base_channels, channels=channels)
            self.attributes = from_plain(attributes) if attributes else None

    HubGenerator.__module__, HubGenerator.__qualname__ = __name__, name
    globals()[name] = HubGenerator
    return HubGenerator
