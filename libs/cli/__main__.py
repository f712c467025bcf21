"""Puts the `touchline` command together."""

import typer

from libs.cli import commands
from libs.cli.demo import demo
from libs.cli.import_command import import_command
from libs.cli.up import up

app = typer.Typer(
    name="touchline",
    help="Every touch with a customer on one line of events, and the views that fold it.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
app.command()(up)
app.command()(demo)
app.command("import")(import_command)
app.command()(commands.timeline)
app.command()(commands.view)
app.command("tail")(commands.follow)
app.command("status")(commands.show_status)
app.command()(commands.rejected)
app.command("verify")(commands.verify_all)

if __name__ == "__main__":
    app(prog_name="touchline")
