"""How the attributes of generated images are spread, and which values a generator has forgotten."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from ..features import AttributeReader

LEGIBLE = 0.7  # share of right answers from which a reader is believed
FORGOTTEN = 0.1  # share of its frequency in the data below which a value counts as forgotten


def attribute_coverage(
    reader: AttributeReader,
    generated: np.ndarray,
    held_out: np.ndarray,
    labels: list[dict[str, str]],
    floor: np.ndarray,
) -> dict[str, dict]:
    """How the attributes of generated images are spread, compared with those of held-out images.

    All images are uint8 `(N, H, W, channels)` and are read by the same reader, so its mistakes count on both sides.

    Args:
        labels: of the held-out images.
        floor: as many other real images.

    Returns:
        for each attribute
        accuracy: how often the reader is right on held-out images, as the mean over the attribute's values;
        legible: whether that is often enough to say more; if so,
        distance: the share of the images that would have to change for the mixes to be the same, and its floor;
        values: how many values at least ten held-out images have;
        forgotten: those of them that are drawn less than a tenth as often as they should be;
        mix: value to [share of the real images, share of the generated images].
    """
    truth = reader.targets(labels)
    real, fake, other = (reader.read(each) for each in (held_out, generated, floor))
    found = {}
    for column, (name, values) in enumerate(reader.values.items()):
        size = len(values)
        right = [
            (real[truth[:, column] == value, column] == value).double().mean()
            for value in range(size)
            if (truth[:, column] == value).any()
        ]
        accuracy = float(torch.stack(right).mean()) if right else 0.0
        found[name] = {"accuracy": accuracy, "legible": accuracy >= LEGIBLE}
        if not found[name]["legible"]:
            continue
        counts = (torch.bincount(each[:, column], minlength=size) for each in (real, fake, other))
        mixes = [count.double() / count.sum() for count in counts]
        enough = mixes[0] * len(real) >= 10
        gone = enough & (mixes[1] < FORGOTTEN * mixes[0])
        found[name] |= {
            "distance": float((mixes[0] - mixes[1]).abs().sum() / 2),
            "floor": float((mixes[0] - mixes[2]).abs().sum() / 2),
            "values": int(enough.sum()),
            "forgotten": [values[i] for i in gone.nonzero().flatten().tolist()],
            "mix": {value: [float(mixes[0][i]), float(mixes[1][i])] for i, value in enumerate(values)},
        }
    return found


def plot_mix(ax: plt.Axes, name: str, attribute: dict, most: int = 12) -> None:
    """A bar chart of an attribute: how often each value occurs in real images, and how often in generated ones.

    It shows the `most` values that differ most, and every forgotten one before those. The legend is left to the
    caller, who knows where there is room: `fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center")`.
    """
    gone, mix = attribute["forgotten"], attribute["mix"]
    apart = sorted(mix, key=lambda value: (value not in gone, -abs(mix[value][0] - mix[value][1]), value))
    shown = [value for value in mix if value in apart[:most]]
    at, (real, fake) = np.arange(len(shown)), 100 * np.array([mix[value] for value in shown]).T
    ax.barh(at - 0.2, real, 0.4, color="0.35", label="held-out real")
    ax.barh(at + 0.2, fake, 0.4, color="0.8", edgecolor="0.2", hatch="///", label="generated")
    ax.set_yticks(at, [f"{value or 'none'}{' (forgotten)' if value in gone else ''}" for value in shown])
    ax.invert_yaxis()
    more = f"the {len(shown)} of {len(mix)} values that differ most\n" if len(mix) > most else ""
    ax.set_title(
        f"{name.replace('_', ' ')}\n{more}{attribute['distance']:.0%} apart, floor {attribute['floor']:.0%}",
        fontsize=10,
    )
    ax.set_xlabel("share of the images (%)")
