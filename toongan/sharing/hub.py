"""A folder that is ready for the Hugging Face Hub: weights, a model card with nothing left empty, samples and the page."""

import hashlib
import json
from pathlib import Path

from ..conditional import random_latent
from ..config import ShareHubConfig
from ..data import tile, to_image
from ..datasets.catalogue import credit_of
from ..errors import ToonGANError
from ..evaluation.card import card_of
from ..models import Generator
from ..paths import MARK, atomic_write, display, make_way
from ..runs import Run, draw, find_run, load_generator, seeded
from ..runs.asking import from_plain, to_plain
from ..runs.state_dicts import plain_state
from ..system.extras import needed
from ..system.signature import save_image
from .page import compared_with, named, page_of, trained_on

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

    A folder that this has made before is brought up to date: nothing is deleted, and a model card that somebody has
    changed stays as it is.

    Raises:
        ToonGANError: no such run, packages are missing, the folder cannot be written to, or the Hub refuses.
    """
    needed("huggingface_hub", "safetensors")
    run = find_run(config.run)
    generator = load_generator(run.generator_path)
    place = config.out or Run.named(config.run).generated / "hub"
    if not is_ours_or_free(place):
        raise ToonGANError(
            f"is {display(place)}, which holds something else already; name a folder that does not exist yet.", "out"
        )
    make_way(place / MARK, "out", MARK)
    fill(place, run, generator, config.push, progress)
    if progress:
        names = ", ".join(sorted(path.name for path in place.iterdir() if path.name != MARK))
        print(f"{display(place)}: {names}")
    if config.push:
        address = push(place, config.push)
        if progress:
            print(f"Pushed to {address}")
    elif progress:
        print("Read its README.md, change what you like, and push it: the same command with --push OWNER/NAME")
    return place


def is_ours_or_free(place: Path) -> bool:
    """Whether a folder was made here, is empty, or does not exist."""
    try:
        names = [path.name for path in place.iterdir()]
    except FileNotFoundError:
        return True
    except OSError:  # a file, for example
        return False
    return not names or MARK in names


def fill(folder: Path, run: Run, generator: Generator, repository: str | None, progress: bool) -> None:
    """Write the five files, the mark first. A changed model card stays; only the address in it is brought up to date."""
    from safetensors.torch import save

    card, mark, open_address = folder / "README.md", folder / MARK, f"OWNER/{run.name}"
    text = str(model_card(run, generator, repository or open_address))
    made = mark.read_text("utf-8").split() if mark.is_file() else []  # the SHA-256 of each card that was made here
    before = card.read_text("utf-8") if card.is_file() else ""
    if before and sha256(before) not in made:
        text = before.replace(open_address, repository) if repository else before
        if progress:
            print("README.md was changed since it was made, and stays as it is; delete it to get a new one.")
    else:
        write(mark, " ".join([*made, sha256(text)]))
    with atomic_write(folder / "model.safetensors") as part:
        part.write_bytes(save(plain_state(generator), metadata={"format": "pt"}))  # its save_file hides it from others
    sizes = {
        name: getattr(generator, name) for name in ("image_size", "latent_dim", "base_channels", "channels", "colours")
    }
    if attributes := generator.attributes:
        sizes["attributes"] = to_plain(attributes)
    faces = draw(generator, random_latent(generator, 32, seeded(0, "generate")))
    with atomic_write(folder / "samples.png") as part:
        save_image(to_image(tile(faces)), part)
    write(folder / "config.json", json.dumps(sizes, indent=2) + "\n")
    write(folder / "faces.html", page_of(run, progress))
    write(card, text)


def write(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def model_card(run: Run, generator: Generator, repository: str):
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
    measures = card_of(run)
    rows = figures_of(measures)
    compared = named(measures["compared_with"]["dataset"]) if measures else ""
    results = [
        EvalResult(
            task_type=TASK, dataset_type=compared.replace(":", "-").replace(" ", "-").replace("'", ""), dataset_name=compared_with(measures),
            metric_type=kind, metric_name=f"{title}, {measures['count']:,} samples", metric_value=round(value, 4),
        )
        for kind, title, value, _ in rows
    ]  # fmt: skip
    about = ModelCardData(
        language="en", library_name="pytorch", pipeline_tag=TASK, tags=["gan", "dcgan", "cartoon", "faces", "toongan"],
        model_name=run.name if results else None, eval_results=results or None, **head,
    )  # fmt: skip
    names = ["image_size", "latent_dim", "base_channels", *(["colours"] if generator.colours else [])]
    sizes = ", ".join(f"{name}={getattr(generator, name)}" for name in names)
    table = "".join(f"| {title} | {value:.4g} | {floor:.4g} |\n" for _, title, value, floor in rows)
    measured = (
        f"Compared with {compared_with(measures)}. The last column is the floor: the same for as many other real images.\n\n"
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


def figures_of(card: dict | None) -> list[tuple[str, str, float, float]]:
    """From a run's card: kind, title, the value for generated images, and that for real ones."""
    figures = card["figures"] if card else {}
    return [
        (kind, title, factor * figures[name]["generated"], factor * figures[name]["floor"])
        for name, kind, title, factor in FIGURES
        if name in figures
    ]


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
            repo_id=repository,
            folder_path=folder,
            ignore_patterns=[MARK],
            commit_message="Add the generator, its card and its page",
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

        def __init__(self, image_size=64, latent_dim=100, base_channels=64, channels=3, colours=0, attributes=None):
            super().__init__(image_size, latent_dim, base_channels, channels=channels, colours=colours)
            self.attributes = from_plain(attributes) if attributes else None

    HubGenerator.__module__, HubGenerator.__qualname__ = __name__, name
    globals()[name] = HubGenerator
    return HubGenerator
