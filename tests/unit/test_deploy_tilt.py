"""The Tiltfile, run by a Starlark interpreter with Tilt's functions."""

import re
from pathlib import Path

import pytest
import starlark
import typer.main

from libs.cli.__main__ import app
from libs.rpc.arguments import read_arguments
from tests.deploy import tiltfile
from tests.deploy.rendered import CHECKOUT, DEPLOY, SERVICES, named, of_kind, overlay_objects
from tests.deploy.tilt_functions import AUTO, MANUAL

TILT = CHECKOUT / "tilt"


@pytest.fixture(scope="module")
def copy_of_tilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of links, but for a tilt/ of its own, which a test may break."""
    root = tmp_path_factory.mktemp("checkout")
    for path in CHECKOUT.iterdir():
        if path.name not in ("tilt", ".git", ".venv"):
            (root / path.name).symlink_to(path)
    (root / "tilt").mkdir()
    return root / "tilt"


def test_tilt_refuses_nothing_and_every_workload_is_in_a_group() -> None:
    asked = tiltfile.run(TILT / "Tiltfile")
    assert asked.faults == []
    assert {*SERVICES, "postgres", "nats", "mailpit", "grafana"} <= set(asked.resources)
    assert set(asked.images) == {f"touchline/{service}" for service in SERVICES}
    assert {"import-contacts", "import-calls"} <= set(asked.buttons)
    assert {"allow_k8s_contexts", "ci_settings", "version_settings"} <= set(asked.settings)


def test_live_updates_bring_all_code_of_the_image_and_start_the_service_again() -> None:
    for name, image in tiltfile.run(TILT / "Tiltfile").images.items():
        service = name.removeprefix("touchline/")
        synced = {step["to"] for step in image["live_update"] if step["step"] == "sync"}
        assert synced == {"/app/libs", "/app/services/__init__.py", f"/app/services/{service}"}
        assert image["entrypoint"] == ["python", "-m", f"services.{service}"]
        assert image["build_args"] == {"SERVICE": service}
        assert f" AS {image['target']}\n" in Path(image["dockerfile"]).read_text()


def test_the_smoke_test_runs_by_itself_in_ci_and_by_hand_otherwise() -> None:
    by_hand = tiltfile.run(TILT / "Tiltfile").resources["smoke"]
    in_ci = tiltfile.run(TILT / "Tiltfile", "ci").resources["smoke"]
    assert (by_hand["trigger_mode"], by_hand["auto_init"]) == (MANUAL, False)
    assert (in_ci["trigger_mode"], in_ci["auto_init"]) == (AUTO, True)
    assert sorted(in_ci["resource_deps"]) == SERVICES


def test_named_resources_alone_are_run() -> None:
    asked = tiltfile.run(TILT / "Tiltfile", only=("ingestion", "profile"))
    assert asked.settings["set_enabled_resources"]["resources"] == ["ingestion", "profile"]


def test_what_runs_here_is_there() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    for command in tiltfile.run(TILT / "Tiltfile").local_commands.values():
        program, *arguments = command.split()
        if program == "make":
            assert f"\n{arguments[0]}:" in makefile
        else:
            assert program == ".venv/bin/python"
            assert any((CHECKOUT / argument).exists() for argument in arguments)
    commands = set(getattr(typer.main.get_command(app), "commands"))  # noqa: B009 (of a group)
    for button in tiltfile.run(TILT / "Tiltfile").buttons.values():
        for argument in button["argv"]:
            assert not argument.startswith("examples/") or (CHECKOUT / argument).exists()
        if button["argv"][0] == ".venv/bin/touchline":
            assert button["argv"][1] in commands


def test_an_upgrade_is_finished_by_the_process_that_runs() -> None:
    objects = overlay_objects("dev")
    (namespace,) = {one["metadata"]["name"] for one in of_kind(objects, "Namespace")}
    buttons = tiltfile.run(TILT / "Tiltfile").buttons
    for service in SERVICES:
        said = buttons[f"finish-upgrade-{service}"]["argv"]
        kubectl, program = said[: said.index("--")], said[said.index("--") + 1 :]
        assert kubectl == ["kubectl", "--namespace", namespace, "exec", f"deployment/{service}"]
        assert program[:3] == ["python", "-m", f"services.{service}"]
        told = read_arguments(service, program[3:], folds=service != "ingestion")
        assert told.migrate == "after"


def test_a_database_is_made_anew_as_the_overlay_dev_has_it_and_only_with_consent() -> None:
    objects = overlay_objects("dev")
    buttons = tiltfile.run(TILT / "Tiltfile").buttons
    anew = {name: one for name, one in buttons.items() if name.startswith("fold-anew-")}
    assert set(anew) == {"fold-anew-profile", "fold-anew-engagement"}
    (namespace,) = {one["metadata"]["name"] for one in of_kind(objects, "Namespace")}
    made = (DEPLOY / "kubernetes" / "overlays" / "dev" / "databases.sql").read_text()
    for button in anew.values():
        assert button["requires_confirmation"] is True
        _, _, command = button["argv"]
        assert set(re.findall(r"--namespace (\S+)", command)) == {namespace}
        (again,) = re.findall(r"CREATE DATABASE \w+ OWNER \w+", command)
        assert f"{again};\n" in made
        assert f"DROP DATABASE {again.split()[2]} " in command
        named(objects, "StatefulSet", "postgres")
        named(objects, "Deployment", command.rpartition("deployment/")[2])


@pytest.mark.parametrize(
    ("good", "bad", "noticed"),
    [
        ("resource_deps = ['cluster']", "resource_deps = ['clutser']", "clutser"),
        ("name = 'profile', port = 7420", "name = 'profile', port = 7425", "7425"),
        ("name = 'profile', port = 7420", "name = 'profile', port = 7430", "7430"),
        ("struct(name = 'profile', port = 7420),", "", "touchline/profile"),
        ("port_forward(9090, 9090", "port_forward(3000, 9090", "share a port"),
        ("ROOT + '/protos/touchline'", "ROOT + '/proto'", "does not exist"),
        ("'grafana',\n", "'grafanna',\n", "grafanna"),
        ("labels = ['infra']", "labels = []", "no group"),
        ("resource = 'profile',\n    argv", "resource = 'profil',\n    argv", "on no resource"),
    ],
)
def test_a_broken_copy_is_noticed(copy_of_tilt: Path, good: str, bad: str, noticed: str) -> None:
    text = (TILT / "Tiltfile").read_text()
    assert good in text
    (copy_of_tilt / "Tiltfile").write_text(text.replace(good, bad))
    (copy_of_tilt / "services.star").write_text((TILT / "services.star").read_text())
    assert any(noticed in fault for fault in tiltfile.run(copy_of_tilt / "Tiltfile").faults)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("auto_init = False", "autoinit = False"),
        ("ci_settings(timeout", "ci_setting(timeout"),
        ("manifest['kind'].lower()", "manifest['kind'].lowered()"),
    ],
)
def test_what_tilt_would_not_run_is_not_run_here(copy_of_tilt: Path, good: str, bad: str) -> None:
    text = (TILT / "Tiltfile").read_text()
    assert good in text
    (copy_of_tilt / "Tiltfile").write_text(text.replace(good, bad))
    (copy_of_tilt / "services.star").write_text((TILT / "services.star").read_text())
    with pytest.raises(starlark.StarlarkError):
        tiltfile.run(copy_of_tilt / "Tiltfile")
