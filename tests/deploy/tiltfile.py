"""Runs a Tiltfile in a Starlark interpreter, and says what Tilt would refuse or do in vain."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import starlark

from tests.deploy.rendered import containers, workloads
from tests.deploy.tilt_functions import AUTO, MANUAL, Asked, TiltFunctions

_PUBLIC = [
    "allow_k8s_contexts",
    "ci_settings",
    "decode_yaml_stream",
    "docker_build",
    "fall_back_on",
    "k8s_resource",
    "k8s_yaml",
    "kustomize",
    "link",
    "local_resource",
    "port_forward",
    "run",
    "sync",
    "update_settings",
    "version_settings",
]
_MODULES = """
config = struct(
    main_dir = _main_dir,
    tilt_subcommand = _subcommand,
    define_string_list = _define_string_list,
    parse = _parse,
    set_enabled_resources = _set_enabled_resources,
)
os = struct(path = struct(dirname = _dirname))
"""


def run(tiltfile: Path, subcommand: str = "up", only: tuple[str, ...] = ()) -> Asked:
    """Run a Tiltfile as `tilt up` or `tilt ci` would.

    Raises:
        starlark.StarlarkError: It is not Starlark, or calls a function as Tilt does not have it.
    """
    functions = TiltFunctions(tiltfile.parent)
    dialect = starlark.Dialect.extended()
    dialect.enable_f_strings = False
    library = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
    built_in: dict[str, Callable[..., Any]] = {
        name: getattr(functions, name) for name in _PUBLIC
    } | {
        "_define_string_list": functions.define_string_list,
        "_parse": lambda: {"only": list(only)} if only else {},
        "_set_enabled_resources": functions.set_enabled_resources,
        "_dirname": os.path.dirname,
    }

    def load(path: str) -> starlark.FrozenModule:
        extensions: dict[str, Callable[..., Any]] = {
            "ext://restart_process": functions.docker_build_with_restart,
            "ext://uibutton": functions.cmd_button,
        }
        extension = extensions.get(path)
        if extension is None:
            return evaluate(tiltfile.parent / path)
        module = starlark.Module()
        module.add_callable(extension.__name__, extension)
        return module.freeze()

    def evaluate(file: Path) -> starlark.FrozenModule:
        module = starlark.Module()
        for name, function in built_in.items():
            module.add_callable(name, function)
        module["TRIGGER_MODE_AUTO"], module["TRIGGER_MODE_MANUAL"] = AUTO, MANUAL
        module["_main_dir"], module["_subcommand"] = str(tiltfile.parent), subcommand
        for name, text in (("modules", _MODULES), (str(file), file.read_text())):
            parsed = starlark.parse(name, text, dialect)
            starlark.eval(module, parsed, library, starlark.FileLoader(load))
        return module.freeze()

    evaluate(tiltfile)
    asked = functions.asked
    asked.faults += _loose_ends(asked) + _forwards(asked) + _built(asked)
    return asked


def _loose_ends(asked: Asked) -> list[str]:
    found = []
    deployed = {one["metadata"]["name"] for one in workloads(asked.objects)}
    others = {f"{one['metadata']['name']}:{one['kind'].lower()}": one for one in asked.objects}
    for name, given in asked.resources.items():
        workload = given.get("workload")
        if workload and workload not in deployed:
            found.append(f"the resource {name} is of {workload}, which is not deployed")
        found += [
            f"the resource {name} takes {one}, which is not deployed"
            for one in given.get("objects", [])
            if one not in others
        ]
        found += [
            f"the resource {name} needs {one}, which is no resource"
            for one in given["resource_deps"]
            if one not in asked.resources
        ]
        if not given["labels"]:
            found.append(f"the resource {name} is in no group")
    found += [f"{one} is deployed without a resource" for one in deployed - set(asked.resources)]
    for button in asked.buttons.values():
        if button["resource"] not in asked.resources:
            found.append(f"the button {button['name']} is on no resource")
    return found


def _forwards(asked: Asked) -> list[str]:
    found = []
    taken: dict[int, str] = {}
    for workload in workloads(asked.objects):
        name = workload["metadata"]["name"]
        offered = {
            port["containerPort"]
            for container in workload["spec"]["template"]["spec"]["containers"]
            for port in container.get("ports", [])
        }
        for forward in asked.resources.get(name, {}).get("port_forwards", ()):
            if forward["container"] not in offered:
                found.append(f"{name} has no port {forward['container']} to forward")
            if forward["local"] in taken:
                found.append(f"{name} and {taken[forward['local']]} share a port here")
            taken[forward["local"]] = name
    return found


def _built(asked: Asked) -> list[str]:
    used = {container["image"].rpartition(":")[0] for _, container in containers(asked.objects)}
    ours = {image for image in used if image.startswith("touchline/")}
    built = set(asked.images)
    return [f"{image} is deployed and not built" for image in ours - built] + [
        f"{image} is built and not deployed" for image in built - ours
    ]
