"""The eventsourcing library's own test cases, unedited, on the line.

Each test method runs in a thread, as services call applications, on an empty line: notification ids
are positions, and the cases expect them to start at 1. docs/adr/0015-aggregates.md says which cases
do not apply.
"""

import asyncio
import unittest
from collections.abc import AsyncIterator
from typing import ClassVar
from unittest import TestCase

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    NotSupportedError,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.tests import application as applications
from eventsourcing.tests import persistence as cases
from eventsourcing.utils import Environment, get_topic

from libs.eventstore.aggregates import Factory, LineTrackingRecorder
from libs.eventstore.aggregates.recorders import LineAggregateRecorder, LineApplicationRecorder
from tests.aggregates import Lent, build_stores, lent_line
from tests.servers import MakeDatabase, OwnNats


class OnTheLine:
    __test__ = False  # pytest would run it without a line
    lent: ClassVar[Lent]


class AggregateRecorders(OnTheLine, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return LineAggregateRecorder(self.lent.borrowed, "test")


class ApplicationRecorders(OnTheLine, cases.ApplicationRecorderTestCase):
    def create_recorder(self) -> ApplicationRecorder:
        return LineApplicationRecorder(self.lent.borrowed, "test")

    def test_insert_subscribe(self) -> None:
        """The library leaves it to recorders whether they pass this case: its asserts are there."""
        self.optional_test_insert_subscribe()


class NonInterleaving(OnTheLine, cases.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> ApplicationRecorder:
        return LineApplicationRecorder(self.lent.borrowed, "test")


class TrackingRecorders(OnTheLine, cases.TrackingRecorderTestCase):
    def create_recorder(self) -> TrackingRecorder:
        return LineTrackingRecorder(self.lent.borrowed, "view")


class OfAView(LineTrackingRecorder):
    """A view's own recorder."""


class Factories(OnTheLine, cases.InfrastructureFactoryTestCase[Factory]):
    def setUp(self) -> None:
        self.env = Environment("test", self.lent.environment)
        super().setUp()

    def expected_factory_class(self) -> type[Factory]:
        return Factory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return LineAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return LineApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return LineTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return OfAView

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        raise AssertionError("there is none")

    def test_create_process_recorder(self) -> None:
        with pytest.raises(NotSupportedError, match="outbox"):
            self.factory.process_recorder()


class ExampleApplications(OnTheLine, applications.ExampleApplicationTestCase):
    expected_factory_topic = get_topic(Factory)


class Applications(OnTheLine, applications.ApplicationTestCase):
    pass


_CASES: tuple[type[OnTheLine], ...] = (
    *(AggregateRecorders, ApplicationRecorders, NonInterleaving, TrackingRecorders, Factories),
    *(ExampleApplications, Applications),
)
_METHODS = [
    pytest.param(case, method, id=f"{case.__name__}.{method}")
    for case in _CASES
    if issubclass(case, TestCase)
    for method in unittest.defaultTestLoader.getTestCaseNames(case)
]


@pytest.fixture
async def lent(database_from_template: MakeDatabase, nats: OwnNats) -> AsyncIterator[Lent]:
    async with lent_line(await database_from_template(build_stores), nats) as lent:
        yield lent


@pytest.mark.parametrize(("case", "method"), _METHODS)
async def test_the_librarys_case_passes(
    case: type[TestCase], method: str, lent: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lent.environment.items():
        monkeypatch.setenv(name, value)
    bound = type(case.__name__, (case,), {"lent": lent})
    result = unittest.TestResult()
    await asyncio.to_thread(bound(method).run, result)
    assert not [trace for _, trace in (*result.errors, *result.failures)]
    assert (result.testsRun, result.skipped) == (1, [])


def test_every_case_was_found() -> None:
    assert len(_METHODS) == 32
