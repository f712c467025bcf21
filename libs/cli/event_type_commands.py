"""`touchline types`: types of custom events."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.text import Text

from libs.cli.calling import connected, console, fail, program, run_command
from libs.cli.rendering import event_types as rendering
from libs.cli.rendering import palette
from touchline.client import Client
from touchline.ingestion.v1.ingestion_pb2 import CustomEventType
from touchline.ingestion.v1.ingestion_service_pb2 import (
    ListCustomEventTypesRequest,
    RegisterCustomEventTypeRequest,
)

_KEYS: Final = ("name", "description", "schema")

types: Final = typer.Typer(help="List the types of custom events; show or register them.")


@types.callback(invoke_without_command=True)
def list_types(context: typer.Context) -> None:
    """List the registered types of custom events, with the properties of their events."""
    if context.invoked_subcommand is not None:
        return

    async def show() -> None:
        async with connected() as client:
            listed = await _listed(client)
        hint = f"Register one with `{program()} types register FILE.json`."
        now = datetime.now().astimezone()
        console.print(rendering.event_types(list(listed.values()), now=now, hint=hint))

    run_command(show())


@types.command("show")
def show_type(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Show a type as the file that registers it."""

    async def show() -> None:
        async with connected() as client:
            one = (await _listed(client)).get(name)
        if one is None:
            fail(f"No type of custom events is named {name!r}.")
        told = {
            "name": one.name,
            "description": one.description,
            "schema": json.loads(one.json_schema),
        }
        console.print(Text(json.dumps(told, indent=2, ensure_ascii=False)), soft_wrap=True)

    run_command(show())


@types.command("register")
def register_types(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE.json", help="An object with name, description and schema."),
    ],
) -> None:
    """Register types of custom events; what has not changed gets no new version."""
    try:
        wanted = [read_type(path) for path in files]
    except TypeFileError as error:
        raise typer.BadParameter(f"{error} Nothing was registered.") from None

    async def register() -> None:
        async with connected() as client:
            known = await _listed(client)
            for one in wanted:
                request = RegisterCustomEventTypeRequest(
                    event_type=one,
                    expected_version=known[one.name].version if one.name in known else 0,
                )
                done = await client.ingestion.RegisterCustomEventType(request)
                symbol, style = (
                    ("=", palette.QUIET) if done.unchanged else (palette.KEPT, palette.GOOD)
                )
                told = Text(f"{symbol} type {one.name} v{done.event_type.version}", style=style)
                console.print(told.append("  as it was" if done.unchanged else ""))

    run_command(register())


class TypeFileError(Exception):
    """A file defines no type of custom events; the message says what is wrong with it."""


def read_type(path: Path) -> CustomEventType:
    """Read a type from a JSON object with its name, its description and its schema.

    Raises:
        TypeFileError: It can't be read, or is no such object.
    """
    try:
        said = json.loads(
            path.read_text("utf-8"), object_pairs_hook=_object, parse_constant=_no_number
        )
    except OSError as error:
        raise TypeFileError(f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise TypeFileError(f"{path} is no JSON: {error}.") from error
    if not isinstance(said, dict):
        raise TypeFileError(f"{path} holds no JSON object.")
    if unknown := sorted(said.keys() - set(_KEYS)):
        raise TypeFileError(
            f"{path} has {unknown[0]!r}, and only {', '.join(_KEYS)} mean anything."
        )
    name, description, schema = said.get("name"), said.get("description", ""), said.get("schema")
    if not isinstance(name, str) or not isinstance(description, str):
        raise TypeFileError(f"{path} needs a name, and name and description have to be texts.")
    if not isinstance(schema, dict):
        raise TypeFileError(f"{path} needs a schema: the JSON Schema of the properties, an object.")
    text = json.dumps(schema, ensure_ascii=False)
    return CustomEventType(name=name, description=description, json_schema=text)


async def _listed(client: Client) -> dict[str, CustomEventType]:
    listed = await client.ingestion.ListCustomEventTypes(ListCustomEventTypesRequest())
    return {one.name: one for one in listed.event_types}


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
