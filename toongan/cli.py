"""The command line, derived from the configuration dataclasses."""

import sys
from typing import Annotated

import tyro

from .config import DataConfig, EvaluateConfig, GenerateConfig, TrainConfig
from .errors import ToonGANError
from .paths import display

Command = (
    Annotated[TrainConfig, tyro.conf.subcommand("train")]
    | Annotated[GenerateConfig, tyro.conf.subcommand("generate")]
    | Annotated[EvaluateConfig, tyro.conf.subcommand("evaluate")]
    | Annotated[DataConfig, tyro.conf.subcommand("data")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command. Exits with 2 after a wrong setting, 130 after an interrupt."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--"]:  # what torchrun needs before them, since it has a --run-path of its own
        arguments = arguments[1:]
    command = None
    try:
        command = tyro.cli(
            Command, prog="python -m toongan", args=arguments, description="Teach a DCGAN to draw cartoon faces."
        )
        run(command)
    except ToonGANError as error:
        text = error.for_command_line()
        if isinstance(command, DataConfig):
            text = text.replace("--dataset", "NAME", 1)  # there it is an argument, not an option
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        hint = " The same command goes on from there." if isinstance(command, (DataConfig, TrainConfig)) else ""
        print(f"\nInterrupted.{hint}", file=sys.stderr)
        sys.exit(130)


def run(command) -> None:
    # Imported here: `--help` and a wrong option should not wait for torch.
    if isinstance(command, DataConfig):
        from .datasets import prepare

        data = prepare(command)
        of = f" of {data.meta['count']:,}" if len(data) < data.meta["count"] else ""
        print(f"{len(data):,}{of} pictures of {command.image_size} px in {display(data.folder)}")
    elif isinstance(command, TrainConfig):
        from .distributed import launched
        from .engine import train

        trained = train(command)
        if launched().leads and not trained.info()["finished"]:
            sys.exit(130)
    elif isinstance(command, EvaluateConfig):
        from .evaluation import evaluate

        evaluate(command)
    else:
        from .engine import generate

        print(display(generate(command)))
