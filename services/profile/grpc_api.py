"""The profile service as its callers see it."""

from services.profile.calls.attributes import AttributeCalls
from services.profile.calls.erasing import ErasingCalls
from services.profile.calls.explaining import ExplainingCalls
from services.profile.calls.exporting import ExportCalls
from services.profile.calls.identities import IdentityCalls
from services.profile.calls.profiles import ProfileCalls
from services.profile.calls.timeline import TimelineCalls
from services.profile.calls.views import ViewCalls
from touchline.profile.v1.profile_service_pb2_grpc import ProfileServiceServicer


class ProfileService(
    ExportCalls,  # which asks the others
    ProfileCalls,
    TimelineCalls,
    ViewCalls,  # and consents
    IdentityCalls,
    ExplainingCalls,
    ErasingCalls,
    AttributeCalls,
    ProfileServiceServicer,
):
    """Implements touchline.profile.v1.ProfileService; the proto is the contract."""
