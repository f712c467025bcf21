"""`touchline publish`: rules and scoring models from files."""

import json
from collections.abc import Sequence
from getpass import getuser
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format
from rich.text import Text

from libs.cli.calling import connected, console, run_command
from libs.cli.rendering import palette
from touchline.client import Client
from touchline.engagement.v1.engagement_pb2 import ModelDefinition
from touchline.engagement.v1.engagement_service_pb2 import ListModelsRequest, PublishModelRequest
from touchline.notification.v1.notification_pb2 import RuleDefinition
from touchline.notification.v1.notification_service_pb2 import ListRulesRequest, PublishRuleRequest

Definition = RuleDefinition | ModelDefinition


class DefinitionError(Exception):
    """A file holds no definition; the message says what is wrong with it."""


def publish(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE.json...", help="A RuleDefinition or ModelDefinition each."),
    ],
    by: Annotated[
        str, typer.Option(help="Who publishes. Left out: the user of this machine.")
    ] = "",
) -> None:
    """Publish rules and scoring models; what has not changed gets no new version."""
    try:
        definitions = [read_definition(path) for path in files]
    except DefinitionError as error:
        raise typer.BadParameter(f"{error} Nothing was published.") from None

    async def publish_all() -> None:
        async with connected() as client:
            for definition in definitions:
                version, is_new = await published(client, definition, by or getuser())
                symbol, style = (palette.KEPT, palette.GOOD) if is_new else ("=", palette.QUIET)
                kind = "rule" if isinstance(definition, RuleDefinition) else "model"
                told = Text(f"{symbol} {kind} {definition.name} v{version}", style=style)
                console.print(told.append("" if is_new else "  as it was"))

    run_command(publish_all())


def read_definition(path: Path) -> Definition:
    """Read a definition, written as protobuf JSON: with `rules` in it, of a model; else of a rule.

    Raises:
        DefinitionError: It can't be read, or is neither.
    """
    try:
        said = json.loads(path.read_text("utf-8"))
        if not isinstance(said, dict):
            raise TypeError("it is no JSON object")
        definition: Definition = ModelDefinition() if "rules" in said else RuleDefinition()
        return json_format.ParseDict(said, definition)
    except OSError as error:
        raise DefinitionError(f"{path} can't be read: {error.strerror}.") from error
    except (ValueError, TypeError, json_format.ParseError) as error:
        raise DefinitionError(f"{path} holds no rule and no scoring model: {error}.") from error


async def published(client: Client, definition: Definition, by: str) -> tuple[int, bool]:
    """Publish a definition unless its latest version says the same.

    Returns:
        The version that says so, and whether it is new.
    """
    latest, version = await _latest(client, definition)
    if latest == definition:
        return version, False
    if isinstance(definition, RuleDefinition):
        rule = PublishRuleRequest(definition=definition, expected_version=version, published_by=by)
        return (await client.notification.PublishRule(rule)).version, True
    model = PublishModelRequest(definition=definition, expected_version=version, published_by=by)
    return (await client.engagement.PublishModel(model)).version, True


async def _latest(client: Client, definition: Definition) -> tuple[Definition | None, int]:
    known: Sequence[tuple[Definition, int]]
    if isinstance(definition, RuleDefinition):
        listed = (await client.notification.ListRules(ListRulesRequest())).rules
        known = [(one.definition, one.version) for one in listed]
    else:
        request = ListModelsRequest(name=definition.name)
        models = (await client.engagement.ListModels(request)).models
        known = [(one.definition, one.version) for one in models]
    same = [(one, version) for one, version in known if one.name == definition.name]
    return max(same, key=lambda pair: pair[1], default=(None, 0))
