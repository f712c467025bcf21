"""Tilt's functions, as Tilt 0.37 has them, and those of two of its extensions.

They are Python functions, so an argument that Tilt does not know is an error, and they write down
what they are asked for. Paths must exist.
"""
# ruff: noqa: A002, N803, ARG002 - the names of arguments are Tilt's, and not all matter here

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.deploy.rendered import Object, parse, render

AUTO: Final = "auto"
MANUAL: Final = "manual"


@dataclass(slots=True)
class Asked:
    """What a Tiltfile asked Tilt for.

    Attributes:
        resources: By their names: the arguments they were configured with.
        images: By their names: the arguments they are built with.
        buttons: By their names: the arguments.
        local_commands: By the names of resources that run here: the command.
        settings: The other functions that were called, with their arguments.
        objects: What is deployed.
        faults: What Tilt would refuse, or would do to nobody's use.
    """

    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    buttons: dict[str, dict[str, Any]] = field(default_factory=dict)
    local_commands: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: list[Object] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class TiltFunctions:
    """The functions, called by a Tiltfile in a directory; each is Tilt's of that name."""

    def __init__(self, directory: Path) -> None:
        self.asked = Asked()
        self._directory = directory

    def _path(self, path: str) -> str:
        if not (self._directory / path).exists():
            self.asked.faults.append(f"{path} does not exist")
        return path

    def _set(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.asked.settings[name] = {k: v for k, v in arguments.items() if k != "self"}

    def allow_k8s_contexts(self, contexts: list[str]) -> None:
        self._set("allow_k8s_contexts", locals())

    def ci_settings(
        self, k8s_grace_period: str = "", timeout: str = "30m", readiness_timeout: str = "5m"
    ) -> None:
        self._set("ci_settings", locals())

    def version_settings(self, check_updates: bool = True, constraint: str = "") -> None:
        self._set("version_settings", locals())

    def update_settings(
        self,
        max_parallel_updates: int = 3,
        k8s_upsert_timeout_secs: int = 30,
        suppress_unused_image_warnings: Any = None,
        k8s_server_side_apply: str = "",
    ) -> None:
        self._set("update_settings", locals())

    def define_string_list(self, name: str, args: bool = False, usage: str = "") -> None:
        self._set("define_string_list", locals())

    def set_enabled_resources(self, resources: list[str]) -> None:
        self._set("set_enabled_resources", locals())

    def kustomize(self, pathToDir: str, kustomize_bin: str = "", flags: Any = ()) -> str:
        return render(Path(self._path(pathToDir)).resolve())

    def decode_yaml_stream(self, yaml_text: str, /) -> list[Any]:
        return parse(yaml_text)

    def k8s_yaml(self, yaml_text: str, /, allow_duplicates: bool = False) -> None:
        self.asked.objects += parse(yaml_text)

    def port_forward(
        self,
        local_port: int,
        container_port: int | None = None,
        name: str | None = None,
        link_path: str | None = None,
        host: str | None = None,
    ) -> dict[str, Any]:
        return {"local": local_port, "container": container_port, "name": name}

    def link(self, url: str, name: str | None) -> dict[str, Any]:
        return {"url": url, "name": name}

    def fall_back_on(self, files: list[str]) -> dict[str, Any]:
        return {"step": "fall_back_on", "paths": [self._path(file) for file in files]}

    def sync(self, local_path: str, remote_path: str) -> dict[str, Any]:
        return {"step": "sync", "paths": [self._path(local_path)], "to": remote_path}

    def run(self, cmd: Any, trigger: Any = (), echo_off: bool = False) -> dict[str, Any]:
        return {"step": "run", "paths": [], "cmd": cmd}

    def docker_build(
        self,
        ref: str,
        context: str,
        build_args: Any = None,
        dockerfile: str = "Dockerfile",
        live_update: Any = (),
        ignore: Any = (),
        only: Any = (),
        entrypoint: Any = (),
        target: str = "",
    ) -> None:
        """The arguments that can be combined with a Dockerfile of ours."""
        self._path(dockerfile)
        steps = [step["step"] for step in live_update]
        order = ["fall_back_on", "sync", "run"]
        if steps != sorted(steps, key=order.index):
            self.asked.faults.append(f"{ref}: live update is fall_back_on, sync, run in this order")
        if ref in self.asked.images:
            self.asked.faults.append(f"{ref} is built twice")
        watched = [self._path(f"{context}/{path}") for path in only]
        for step in live_update:
            for path in step["paths"]:
                if watched and not _within(path, watched):
                    self.asked.faults.append(f"{ref} never sees a change of {path}")
        self.asked.images[ref] = {
            "build_args": build_args,
            "target": target,
            "live_update": live_update,
            "dockerfile": dockerfile,
        }

    def docker_build_with_restart(
        self,
        ref: str,
        context: str,
        entrypoint: Any,
        live_update: list[Any],
        base_suffix: str = "-tilt_docker_build_with_restart_base",
        restart_file: str = "/tmp/.restart-proc",
        trigger: Any = None,
        exit_policy: str = "restart",
        **kwargs: Any,
    ) -> None:
        """Of the extension restart_process, which hands the rest on to docker_build."""
        self.docker_build(ref, context, live_update=live_update, **kwargs)
        self.asked.images[ref]["entrypoint"] = entrypoint

    def k8s_resource(
        self,
        workload: str = "",
        new_name: str = "",
        port_forwards: Any = (),
        extra_pod_selectors: Any = (),
        trigger_mode: str = AUTO,
        resource_deps: Any = (),
        objects: Any = (),
        auto_init: bool = True,
        pod_readiness: str = "",
        links: Any = (),
        labels: Any = (),
        discovery_strategy: str = "",
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        self._add(new_name or workload, given)

    def local_resource(
        self,
        name: str,
        cmd: Any = "",
        deps: Any = (),
        trigger_mode: str = AUTO,
        resource_deps: Any = (),
        ignore: Any = (),
        auto_init: bool = True,
        serve_cmd: Any = "",
        cmd_bat: Any = "",
        serve_cmd_bat: Any = "",
        allow_parallel: bool = False,
        links: Any = (),
        labels: Any = (),
        env: Any = None,
        serve_env: Any = None,
        readiness_probe: Any = None,
        dir: str = "",
        serve_dir: str = "",
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        for path in [dir, *deps]:
            self._path(path)
        self.asked.local_commands[name] = cmd
        self._add(name, given)

    def _add(self, name: str, given: dict[str, Any]) -> None:
        if name in self.asked.resources:
            self.asked.faults.append(f"the resource {name} is configured twice")
        self.asked.resources[name] = given

    def cmd_button(
        self,
        name: str,
        resource: str = "",
        argv: Any = (),
        text: str | None = None,
        location: str = "resource",
        icon_name: str | None = None,
        icon_svg: str | None = None,
        inputs: Any = (),
        disabled: bool = False,
        requires_confirmation: bool = False,
        env: Any = (),
        dir: str = "",
    ) -> None:
        """Of the extension uibutton."""
        given = {name: value for name, value in locals().items() if name != "self"}
        self._path(dir)
        self.asked.buttons[name] = given


def _within(path: str, roots: list[str]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)
