"""The command line as a whole: its commands, and how errors are shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.markup import escape

from .. import __version__
from .annotate import annotate
from .ask import ask
from .campaigns import backup, import_answers, report, status
from .demo import demo
from .export import export
from .init import init
from .learn import learn
from .scan import scan
from .score import score
from .simulate import simulate
from .study import study
from .terminal import ERRORS
from .where import where
from .wording import speak_options

__all__ = ["app", "main"]

app = typer.Typer(
    help="Active incremental fine-tuning: ask experts about the images that teach most.",
    epilog="Start with: aift init images --classes benign,malignant, then aift annotate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Paragraphs of the docstrings are wrapped to the terminal.
    rich_markup_mode="markdown",
)
CAMPAIGNS, POOLS, STUDIES = "Campaigns", "Pools and models", "Studies"
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    CAMPAIGNS: (init, annotate, ask, learn, status, report, import_answers, export, backup),
    POOLS: (scan, score, where),
    STUDIES: (demo, simulate, study),
}
_NAMES: dict[Callable[..., None], str] = {import_answers: "import"}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(_NAMES.get(_command), rich_help_panel=_panel)(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aift-sklearn {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    An error of the package, or of a file, is one readable line and exit status 2.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.
    """
    try:
        app(arguments)
    except Exception as error:
        # Here, since scikit-learn comes with the errors, and a help page must not wait for that.
        from ..errors import AIFTError

        if not isinstance(error, (AIFTError, OSError)):
            raise
        text = escape(speak_options(str(error)))
        ERRORS.print(f"[bold red]Error:[/] {text}", highlight=False, soft_wrap=True)
        sys.exit(2)
