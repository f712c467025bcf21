"""Records batches, one after the other, through whichever replica answers."""

from collections.abc import Sequence

import grpc

from touchline.client.attempts import Attempts
from touchline.client.channels import Replica, Replicas
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import Verdict
from touchline.ingestion.v1.ingestion_service_pb2 import BatchRecordEventsRequest
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub


class Ingestions:
    """The replicas of the ingestion service, with a stub of each."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._stubs = {replica: IngestionServiceStub(replica.calls) for replica in replicas.all}

    def next(self) -> tuple[Replica, IngestionServiceStub]:
        """Return the next replica in turn that does not fail, if there is one."""
        replica = self._replicas.next()
        return replica, self._stubs[replica]

    async def failed(self, replica: Replica, failure: CallFailed, attempts: Attempts) -> None:
        """Return when to try again after a replica failed.

        Raises:
            CallFailed: The failure, if trying again can't help or patience has ended.
        """
        replica.told(failure)
        await attempts.failed(failure, elsewhere=self._replicas.has_good_one)

    async def record(self, batch: Sequence[Event], attempts: Attempts) -> Sequence[Verdict]:
        """Record a batch, again and again with the same ids, and return its verdicts.

        Raises:
            CallFailed: It failed for good, or patience ended.
        """
        request = BatchRecordEventsRequest(events=batch)
        while True:
            replica, stub = self.next()
            try:
                response = await stub.BatchRecordEvents(request, timeout=attempts.seconds)
            except grpc.aio.AioRpcError as error:
                await self.failed(replica, CallFailed.of(error), attempts)
            else:
                replica.told(None)
                attempts.succeeded()
                return response.verdicts
