"""What sessions need of the gateway."""

import pytest

from gateway.config import Config, EngineConfig
from gateway.control.stream_session import Desk


@pytest.mark.parametrize(
    ("kind", "models"),
    [("ort", ["standard"]), ("triton", ["standard"]), ("speex", ["speex"]), ("passthrough", ["passthrough"])],
)
def test_a_network_goes_by_its_name_wherever_it_runs(kind, models):
    desk = Desk(Config(engine=EngineConfig(kind=kind, model="standard")), legs=None, delays=dict)
    assert desk.models() == models
