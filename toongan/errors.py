"""The one exception a user is meant to read."""


class ToonGANError(Exception):
    """Something the user can put right; the message says what and how.

    `option` is the name of the setting at fault (`image_size`), if there is one.
    Notebooks show it as written, the command line as a flag (`--image-size`).
    """

    def __init__(self, message: str, option: str | None = None):
        super().__init__(message)
        self.message = message
        self.option = option

    def __str__(self) -> str:
        return f"{self.option} {self.message}" if self.option else self.message

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the sentence alone."""
        return [f"error: {self}"]

    def for_command_line(self) -> str:
        if self.option is None:
            return self.message
        return f"--{self.option.replace('_', '-')} {self.message}"
