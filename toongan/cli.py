"""The command line, derived from the configuration dataclasses."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from .config import (
    DataConfig,
    EvaluateConfig,
    GenerateConfig,
    ShareFilmConfig,
    ShareHubConfig,
    ShareOnnxConfig,
    SharePageConfig,
    TrainConfig,
    check_choice,
    optional,
)
from .errors import ToonGANError, missing_package, out_of_memory, to_continue, unusable_file
from .paths import display
from .presets import PRESETS, without
from .system import terminal
from .system.unforeseen import unforeseen


@dataclass(frozen=True)
class TrainCommand:
    """Train a generator and a discriminator; writes G.pth, D.pth, curves and sample grids."""

    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]
    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Start from the settings of a named run, which other options override: quickstart, avatars-64, avatars-128, adventurer-64, on-request-64, gpu-64, gpu-128, gpu-anime, eight-gpus."""

    def __post_init__(self):
        optional(check_choice, self.preset, "preset", tuple(PRESETS))


SHARED = (SharePageConfig, ShareOnnxConfig, ShareHubConfig, ShareFilmConfig)
ShareKind = (
    Annotated[SharePageConfig, tyro.conf.subcommand("page")]
    | Annotated[ShareOnnxConfig, tyro.conf.subcommand("onnx")]
    | Annotated[ShareHubConfig, tyro.conf.subcommand("hub")]
    | Annotated[ShareFilmConfig, tyro.conf.subcommand("film")]
)


@dataclass(frozen=True)
class ShareCommand:
    """Turn a run into something to open, send or build on: a page, an ONNX file, a folder for the Hub, a film."""

    settings: Annotated[ShareKind, tyro.conf.arg(name="")]


Command = (
    Annotated[TrainCommand, tyro.conf.subcommand("train")]
    | Annotated[GenerateConfig, tyro.conf.subcommand("generate")]
    | Annotated[EvaluateConfig, tyro.conf.subcommand("evaluate")]
    | Annotated[ShareCommand, tyro.conf.subcommand("share")]
    | Annotated[DataConfig, tyro.conf.subcommand("data")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command.

    Exits with 2 after an error that the user can fix, 130 after an interrupt, 141 when nobody reads the output any
    more, and 1 after an unforeseen error.
    """
    terminal.prepare()
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--"]:  # torchrun needs it before our options, since it has a --run-path of its own
        arguments = arguments[1:]
    if status := terminal.flushed(outcome(arguments)):
        sys.exit(status)


def outcome(arguments: list[str]) -> int:
    """Run one command and return its exit status; stderr says what went wrong."""
    command = None
    try:
        command = parsed(arguments)
        run(command)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        terminal.say(f"\nInterrupted.{hint(command)}")
        return 130
    except Exception as error:
        if about_output(error) and (fault := terminal.fault()):
            return terminal.explain(fault, hint(command))
        if sentence := put_right(error, command):
            terminal.say(f"error: {to_continue(on_the_command_line(sentence, arguments), restarts(command))}")
            return 2
        terminal.say(f"error: {to_continue(unforeseen(error, arguments), restarts(command))}")
        return 1
    return 0


def parsed(arguments: list[str]) -> DataConfig | TrainConfig | GenerateConfig | EvaluateConfig | ShareKind:
    """The configuration that the arguments describe.

    Raises:
        ToonGANError: a value is not usable.
        SystemExit: an option is unknown, or help was asked for and shown.
    """
    about = "Teach a DCGAN to draw cartoon faces."
    command = tyro.cli(Command, prog="python -m toongan", args=expanded(arguments), description=about)
    return command.settings if isinstance(command, (TrainCommand, ShareCommand)) else command


def expanded(arguments: list[str]) -> list[str]:
    """The arguments, with the options of the preset added unless they are given."""
    name = chosen(arguments)
    if arguments[:1] != ["train"] or name not in PRESETS:
        return arguments
    given = {each[2:].partition("=")[0].replace("-", "_") for each in arguments if each.startswith("--")}
    settings = {"run": name, **PRESETS[name]}
    options = [(f"--{key.replace('_', '-')}", str(value)) for key, value in without(settings, given).items()]
    return ["train", *(text for option in options for text in option), *arguments[1:]]


def chosen(arguments: list[str]) -> str | None:
    """The value of `--preset`; None if there is none."""
    for place, each in enumerate(arguments):
        option, equals, value = each.partition("=")
        if option == "--preset":
            return value if equals else next(iter(arguments[place + 1 :]), None)
    return None


def about_output(error: Exception) -> bool:
    """Whether the cause may be an unwritable stdout: a failed write that names no file, or a broken pipe."""
    return (isinstance(error, OSError) and error.filename is None) or isinstance(error.__cause__, BrokenPipeError)


def put_right(error: Exception, command) -> ToonGANError | None:
    """What the user can do about an error, if that is known."""
    if isinstance(error, ToonGANError):
        return error
    return out_of_memory(error, command) or missing_package(error) or unusable_file(error)


def on_the_command_line(error: ToonGANError, arguments: list[str]) -> str:
    text = error.for_command_line()
    return text.replace("--dataset", "NAME", 1) if arguments[:1] == ["data"] else text  # not an option there


def hint(command) -> str:
    if not isinstance(command, (DataConfig, TrainConfig)):
        return ""
    return to_continue(" Run the same command again to continue.", restarts(command))


def restarts(command) -> bool:
    return isinstance(command, TrainConfig) and command.restart


def run(command) -> None:
    # Imported late, so that `--help` and a wrong option do not wait for torch.
    if isinstance(command, DataConfig):
        from .datasets import prepare

        data = prepare(command)
        of = f" of {data.meta['count']:,}" if len(data) < data.meta["count"] else ""
        print(f"{len(data):,}{of} images of {command.image_size} px in {display(data.folder)}")
    elif isinstance(command, TrainConfig):
        from .devices.distributed import launched
        from .runs.training_loop import train

        trained = train(command)
        if launched().leads and not trained.info()["finished"]:
            sys.exit(130)
    elif isinstance(command, EvaluateConfig):
        from .evaluation import evaluate

        evaluate(command)
    elif isinstance(command, SHARED):
        from .sharing import share

        share(command)
    else:
        from .runs.generate import generate

        print(display(generate(command)))
