"""The documents say what is there: links, commands, calls, decisions and settings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from libs.cli.__main__ import app
from touchline.ingestion.v1 import ingestion_service_pb2 as ingestion
from touchline.profile.v1 import profile_service_pb2 as profile
from touchline.projection.v1 import projection_service_pb2 as projection

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DECISIONS = ROOT / "docs" / "adr"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])

_FENCED = re.compile(r"^[ \d.]*```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SETTING = re.compile(r"\bTOUCHLINE_[A-Z_]+\b")
_OUTSIDE = re.compile(r"^[a-z]+:")


def _prose(document: Path) -> str:
    return _FENCED.sub("", document.read_text())


def _code(document: Path) -> str:
    """Return what a document says in code: fenced blocks of shell, and spans."""
    shell = [block for kind, block in _FENCED.findall(document.read_text()) if kind == "sh"]
    return "\n".join([*shell, *_SPAN.findall(_prose(document))])


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _prose(document), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


def _broken_links(document: Path) -> Iterator[str]:
    for link in _LINK.findall(_prose(document)):
        if _OUTSIDE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield link


def _commands() -> set[str]:
    group: Any = typer.main.get_command(app)
    return set(group.commands)


def _without(pattern: str, text: str) -> set[str]:
    return set(re.findall(pattern, text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    assert not list(_broken_links(document))


def test_a_broken_link_would_be_seen(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("# Here\n[a](missing.md) [b](#here) [c](#there) [d](https://example.com)\n")
    assert list(_broken_links(document)) == ["missing.md", "#there"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = _without(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    named = _without(r"\bmake (?:[A-Z]+=\S+ )*([a-z][a-z-]*)", _code(document))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_exists(document: Path) -> None:
    named = _without(r"(?m)(?:^|/|\s)touchline ([a-z]+)\b", _code(document))
    assert named <= _commands()


def test_the_readme_names_every_command_and_the_targets_of_its_first_screen() -> None:
    named = _without(r"(?m)^\| `touchline ([a-z]+)", README.read_text())
    assert named == _commands()
    assert {"demo", "up"} <= _without(r"(?m)^make ([a-z]+)", README.read_text())


def test_the_readme_names_every_rpc_of_every_service() -> None:
    services = {
        name: set(service.methods_by_name)
        for module in (ingestion, profile, projection)
        for name, service in module.DESCRIPTOR.services_by_name.items()
    }
    told = README.read_text()
    listed = {
        name: _without(r"`(\w+)`", told.split(f"[`{name}`]")[1].splitlines()[0].split(";")[0])
        for name in services
    }
    assert listed == services


def test_the_index_lists_every_decision_under_its_title() -> None:
    files = {path.name: path.read_text() for path in DECISIONS.glob("[0-9]*.md")}
    listed = dict(
        re.findall(r"\[\d{4}\]\((\S+)\) \| (.+) \|", (DECISIONS / "README.md").read_text())
    )
    titles = {
        name: text.splitlines()[0].removeprefix(f"# {int(name[:4])}. ")
        for name, text in files.items()
    }
    assert listed == titles
    assert sorted(int(name[:4]) for name in files) == list(range(1, len(files) + 1))


@pytest.mark.parametrize("part", ["Context", "Decision", "Consequences"])
def test_every_decision_has_its_three_parts(part: str) -> None:
    lacking = [
        path.name
        for path in DECISIONS.glob("[0-9]*.md")
        if f"\n## {part}\n" not in path.read_text()
    ]
    assert not lacking


def test_every_setting_that_the_code_reads_is_documented_and_no_other() -> None:
    code = [
        path.read_text()
        for directory in ("libs", "services")
        for path in (ROOT / directory).rglob("*.py")
        if "_pb2" not in path.name
    ]
    read = {name for text in code for name in _SETTING.findall(text)}
    assert read == set(_SETTING.findall((ROOT / "docs" / "settings.md").read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_a_document_names_is_in_the_list(document: Path) -> None:
    known = set(_SETTING.findall((ROOT / "docs" / "settings.md").read_text()))
    assert set(_SETTING.findall(document.read_text())) <= known
