"""The command that says what can be set."""

from typing import Annotated

from patchcollide.cli.framework import Argument, command, echo


@command
def settings(
    section: Annotated[
        str | None,
        Argument(help="Only this section's, such as objective.", show_default="all"),
    ] = None,
) -> None:
    """Prints every setting with its default, unit and meaning, as --set takes it."""
    from patchcollide.config_table import setting_lines

    echo("\n".join(setting_lines(section)))
