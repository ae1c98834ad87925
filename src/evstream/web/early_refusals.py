"""The short way out for who asks for what is not at hand while as many wait as may.

Under overload most are told so, and each of them takes something from those who are served. The
long way would tell them the same: it looks at the signature, unpacks what the URL says of source
and product, and asks the lanes last. Nobody is let in here, so what a URL says of who asks is
believed, and a forged one is refused like the others while the lane is full.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_plus

from starlette.types import Scope

from evstream.domain.errors import RequestError
from evstream.domain.lanes import Asker
from evstream.edge import Deliveries
from evstream.web.replies import problem_reply
from evstream.web.short_way import OF_BODIES, lines_of
from evstream.wire.signed_urls import asker_from_query

_PATH = re.compile(r"/v1/products/([0-9a-f]{64})")
ANSWERS_MAX = 256
ASKER_BYTES_MAX = 512
"""Nobody has signed it yet, and it is remembered."""
UNUSUAL = OF_BODIES | {b"authorization"}
_ASKER = re.compile(rb"(?:^|&)w=([^&]*)")


class EarlyRefusals:
    """Sends away whoever comes with a signed URL and would be sent away by the lanes.

    Parameters
    ----------
    site : str
        Where this edge is.
    """

    def __init__(self, deliveries: Deliveries, site: str) -> None:
        self._deliveries = deliveries
        self._site = site
        self._answers: dict[tuple[str, object], tuple[int, bytes, bytes]] = {}

    def answer(self, scope: Scope) -> tuple[int, bytes, bytes] | None:
        """Return status, header lines and content; None: go the long way."""
        path, query = _PATH.fullmatch(scope["path"]), scope["query_string"]
        if scope["method"] != "GET" or path is None or b"&s=" not in b"&" + query:
            return None
        # Of who shows a token, it is not known yet whose share of a lane they ask for.
        if any(name in UNUSUAL for name, _ in scope["headers"]):
            return None
        given = _ASKER.search(query)
        if given is not None and len(given[1]) > ASKER_BYTES_MAX:
            return None
        asker = Asker() if given is None else _asker(given[1])
        if asker is None:
            return None
        error = self._deliveries.turned_away(path[1], asker.ask(self._site))
        if error is None:
            return None
        # Few numbers are told again and again.
        same = error.message, error.fields["retry_after_s"]
        if same not in self._answers:
            if len(self._answers) >= ANSWERS_MAX:
                self._answers.clear()
            answer = problem_reply(error)
            lines = lines_of(answer.raw_headers)
            self._answers[same] = answer.status_code, lines, bytes(answer.body)
        return self._answers[same]


@lru_cache(1024)
def _asker(packed: bytes) -> Asker | None:
    """Read for whom a product is; None where it is not said as it should be."""
    try:
        return asker_from_query(unquote_plus(packed.decode("ascii")))
    except (RequestError, UnicodeDecodeError):
        return None
