"""Puts the `touchline` command together."""

from collections.abc import Callable, Mapping
from typing import Final

import typer

from libs.cli import (
    backup_commands,
    commands,
    consent_command,
    erase_command,
    event_type_commands,
    expectation_commands,
    export_command,
    feed_command,
    merge_commands,
    notification_commands,
    parked_commands,
    profile_commands,
    projection_commands,
    publish_command,
    rebuild_command,
    rejected_commands,
    scoring_commands,
    verify_command,
)
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
_COMMANDS: Final[Mapping[str, Mapping[str, Callable[..., None] | typer.Typer]]] = {
    "Run": {
        "up": up,
        "demo": demo,
    },
    "Record": {
        "import": import_command,
        "publish": publish_command.publish,
        "promise": expectation_commands.promise,
        "types": event_type_commands.types,
    },
    "Customers": {
        "profile": profile_commands.profile,
        "timeline": commands.timeline,
        "view": commands.view,
        "score": scoring_commands.score,
        "scores": scoring_commands.scores,
        "explain": scoring_commands.explain,
        "expectations": expectation_commands.expectations,
        "consents": consent_command.consents,
        "inbox": notification_commands.inbox,
        "find": profile_commands.find,
    },
    "Who is who": {
        "merge": merge_commands.merge,
        "unmerge": merge_commands.unmerge,
        "detach": merge_commands.detach,
        "suggestions": merge_commands.suggestions,
    },
    "At a customer's wish": {
        "export": export_command.export,
        "erase": erase_command.erase,
    },
    "Look into it": {
        "why": notification_commands.why,
        "rules": notification_commands.rules,
        "tail": commands.follow,
        "rejected": rejected_commands.rejected,
    },
    "Operate": {
        "status": commands.show_status,
        "projections": projection_commands.projections,
        "verify": verify_command.verify,
        "rebuild": rebuild_command.rebuild,
        "feed": feed_command.feed,
        "parked": parked_commands.parked,
        "backup": backup_commands.backup,
        "restore": backup_commands.restore,
    },
}

for title, named in _COMMANDS.items():
    for name, command in named.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=title)
        else:
            app.command(name, rich_help_panel=title)(command)

if __name__ == "__main__":
    app(prog_name="touchline")
