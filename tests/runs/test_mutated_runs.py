"""Whatever is typed, and whatever a disk or a download makes of a run's files: a sentence or the right content."""

import contextlib
import dataclasses
import decimal
import fractions
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from toongan import (
    DataConfig,
    EvaluateConfig,
    GenerateConfig,
    Run,
    ToonGANError,
    TrainConfig,
    cli,
    load_discriminator,
    load_generator,
)
from toongan.models import Discriminator, Generator, init_weights
from toongan.paths import HISTORY_COLUMNS
from toongan.runs import checkpoints
from toongan.runs.state_dicts import save_state

SOAK = 800
COMMANDS = {"train": TrainConfig, "generate": GenerateConfig, "evaluate": EvaluateConfig, "data": DataConfig}


def examples(number: int):
    """The same ones every time, whatever the machine's speed."""
    return settings(
        max_examples=number, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


# --- options ---------------------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    ["", " ", "-", "--", "-h", "None", "nan", "-inf", "1e306", "1e-320", "9" * 5000, "0x10", "1_0", "٣", "True", "con",
     "aux.v1", "a" * 64, "a.", "~", "~nobody/x.png", "x" * 300 + ".png", "/", "..", "@x", "a\0b", "\udcff.png", "a\nb"]
)  # fmt: skip
TYPED = (
    ODD
    | st.text(max_size=20)
    | st.text("0123456789-+.eE_", max_size=12)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.text(max_size=8).map("{}.png".format)
)


@st.composite
def command_lines(draw) -> list[str]:
    name = draw(st.sampled_from(list(COMMANDS)))
    options = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(COMMANDS[name])]
    line = [name]
    for option in draw(st.lists(st.sampled_from(options), min_size=1, max_size=3)):
        line += [f"{option}={draw(TYPED)}"] if draw(st.booleans()) else [option, draw(TYPED)]
    return line + draw(st.lists(TYPED, max_size=1))


@pytest.fixture(scope="module")
def quiet():
    """The command line without what its commands do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "run", lambda command: None)
        yield


@examples(250)
@given(line=command_lines())
@example(["generate", "--out", "a\0.png"])
@example(["train", "--seed", "9" * 5000])
def test_any_option(quiet, line):
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(line)
        except SystemExit as leaving:
            status = leaving.code
    assert status == 0 or (status == 2 and err.getvalue().strip()), (status, err.getvalue())
    assert "Traceback" not in err.getvalue() and "unforeseen" not in err.getvalue()


ANYTHING = (
    TYPED
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.binary(max_size=4)
    | st.lists(st.integers(), max_size=3)
    | st.sampled_from([np.int8(3), np.float16("nan"), np.True_, np.str_("x"), np.zeros(3), np.array(2), torch.ones(2),
                       Path("x.png"), decimal.Decimal("NaN"), fractions.Fraction(1, 3), 10**5000, object(), int, {}])
)  # fmt: skip


@examples(600)
@given(kind=st.sampled_from(list(COMMANDS.values())), chosen=st.data())
def test_any_value_from_a_notebook(kind, chosen):
    fields = st.sampled_from([field.name for field in dataclasses.fields(kind)])
    values = chosen.draw(st.dictionaries(fields, ANYTHING, min_size=1, max_size=3))
    try:
        config = kind(**values)
    except ToonGANError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        str(error).encode("utf-8")
    else:
        plain = (str, int, float, bool, tuple, Path, type(None))
        assert all(isinstance(value, plain) for value in vars(config).values())
        assert kind(**vars(config)) == config, "what was accepted is accepted again"


# --- files -----------------------------------------------------------------------------------------------------------


@st.composite
def mutated(draw, originals) -> bytes:
    """One of some files after one to three accidents."""
    which = st.integers(0, len(originals) - 1)  # not sampled_from: it would show whole files
    data = originals[draw(which)]
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        if draw(st.booleans()):
            place = max(len(data) - 1 - place, 0)  # small numbers are drawn more often, and the end matters most
        more = draw(st.binary(min_size=1, max_size=8))
        other = originals[draw(which)]
        flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[place : place + 1])
        changes = {
            "flip": data[:place] + flipped + data[place + 1 :],
            "overwrite": data[:place] + more + data[place + len(more) :],
            "insert": data[:place] + more + data[place:],
            "lose": data[:place] + data[place + len(more) :],
            "cut": data[:place],
            "extend": data + more,
            "splice": data[:place] + other[min(place, len(other)) :],
            "join": data + other,
        }
        data = changes[draw(st.sampled_from(list(changes)))]
    assume(data not in originals)
    return data


class Hidden(list):
    """Files that hypothesis need not show."""

    def __repr__(self):
        return "..."


class Files:
    """Valid files of two small runs, and what is in them."""

    def __init__(self, folder: Path):
        torch.manual_seed(0)
        self.folder, self.path = folder, folder / "mutated"
        sizes = ((32, 8, 4), (32, 9, 4), (32, 8, 4, False, 3, 5))
        self.nets = [init_weights(Generator(*each)) for each in sizes]
        self.critics = [init_weights(Discriminator(32, 4)), init_weights(Discriminator(32, 5))]
        self.generators, self.discriminators = map(self.bytes_of, (self.nets, self.critics))
        self.states = [{"done": done, "trainer": {"G": net.state_dict()}} for done, net in enumerate(self.nets)]
        self.checkpoints = [checkpoints.encode(state) for state in self.states]
        buffer = io.BytesIO()
        torch.save(self.nets[0].state_dict(), buffer, _use_new_zipfile_serialization=False)
        self.older = [buffer.getvalue()]
        self.run = Run("mutated", folder / "run", folder / "images").make()
        row = dict(zip(HISTORY_COLUMNS, [1, 0.5, 2.25, 0.125, 3.0, 0.75, 0.25, None]))
        self.run.save(
            self.nets[0], self.critics[0], [row] * 3, {"run": "mutated", "steps": 3, "device": "CPU, 2 cores"}
        )
        self.histories = [self.run.history_path.read_bytes()]
        self.infos = [self.run.info_path.read_bytes()]

    def bytes_of(self, nets) -> list[bytes]:
        for net in nets:
            save_state(self.path, net)
            yield self.path.read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    made = Files(tmp_path_factory.mktemp("files"))
    made.generators, made.discriminators = list(made.generators), list(made.discriminators)
    return made


def same(state: dict, other: dict) -> bool:
    return state.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in state.items())


def look_at_net(files: Files, data: bytes, load, nets, exact: bool = True) -> None:
    files.path.write_bytes(data)
    try:
        net = load(files.path)
    except ToonGANError as error:
        assert str(files.path) in str(error) and "\n" not in str(error)
    else:
        assert not exact or any(same(net.state_dict(), one.state_dict()) for one in nets), "weights of no net at all"
    assert files.path.read_bytes() == data


def look_at_checkpoint(files: Files, data: bytes) -> None:
    try:
        state = checkpoints.decode(data)
    except (checkpoints.Damaged, ToonGANError) as error:
        assert str(error)
    else:
        one = files.states[state["done"]]
        assert same(state["trainer"]["G"], one["trainer"]["G"])


def look_at_table(files: Files, data: bytes) -> None:
    files.run.history_path.write_bytes(data)
    try:
        curves = files.run.history()
    except ToonGANError as error:
        assert "history.csv" in str(error) and "\n" not in str(error)
    else:
        assert tuple(curves) == HISTORY_COLUMNS
        assert all(value is None or isinstance(value, float) for column in curves.values() for value in column)
    assert files.run.history_path.read_bytes() == data


def look_at_info(files: Files, data: bytes) -> None:
    files.run.info_path.write_bytes(data)
    try:
        info = files.run.info()
    except ToonGANError as error:
        assert "run.json" in str(error) and "\n" not in str(error)
    else:
        assert isinstance(info, dict)
    assert files.run.info_path.read_bytes() == data


def test_valid_files_round_trip(files):
    for load, nets, contents in (
        (load_generator, files.nets, files.generators),
        (load_discriminator, files.critics, files.discriminators),
        (load_generator, files.nets, files.older),
    ):
        for net, data in zip(nets, contents):
            files.path.write_bytes(data)
            assert same(load(files.path).state_dict(), net.state_dict())
    for state, data in zip(files.states, files.checkpoints):
        assert same(checkpoints.decode(data)["trainer"]["G"], state["trainer"]["G"])
        assert checkpoints.encode(state) == data
    files.run.info_path.write_bytes(files.infos[0])
    files.run.history_path.write_bytes(files.histories[0])
    assert files.run.info()["steps"] == 3 and len(files.run.info()["sha256"]) == 2
    assert files.run.history()["distance"] == [None] * 3 and files.run.history()["kimg"] == [0.5] * 3


def each_kind(files: Files, number: int) -> int:
    """Look at so many mutated files of each kind; gives how many in all."""
    kinds = [
        (files.generators, lambda data: look_at_net(files, data, load_generator, files.nets)),
        (files.discriminators, lambda data: look_at_net(files, data, load_discriminator, files.critics)),
        (files.older, lambda data: look_at_net(files, data, load_generator, files.nets, exact=False)),
        (files.checkpoints, lambda data: look_at_checkpoint(files, data)),
        (files.histories, lambda data: look_at_table(files, data)),
        (files.infos, lambda data: look_at_info(files, data)),
    ]
    seen = 0
    for originals, look in kinds:

        @examples(number)
        @given(data=mutated(Hidden(originals)))
        def run(data):
            nonlocal seen
            look(data)
            seen += 1

        run()
    return seen


def test_mutated_files(files):
    assert each_kind(files, 120) >= 600


@pytest.mark.soak
def test_many_mutated_files(files):
    assert each_kind(files, SOAK) >= 2000
