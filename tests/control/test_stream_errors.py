"""The statuses that a client of a stream can get are those that it is told of."""

import re
from pathlib import Path

from gateway.control.denoise_mux import CODES

ROOT = Path(__file__).parents[2]
OWN = {"CANCELLED"}
"""Only the client's own doing."""


def test_the_proto_file_and_the_documentation_name_every_status():
    proto, page = (ROOT / path for path in ("proto/denoise.proto", "docs/grpc.md"))
    commented = re.findall(r"^//   ([A-Z_]{6,}) ", proto.read_text(), re.MULTILINE)
    tabled = re.findall(r"^\| `([A-Z_]+)` \|", page.read_text(), re.MULTILINE)
    assert set(commented) == set(tabled) == set(CODES) - OWN
