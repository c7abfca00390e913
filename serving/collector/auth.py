"""Write keys as Segment's clients send them: Basic with the key as user name, or in the body."""

import base64
import binascii
from collections.abc import Mapping

from serving.collector.errors import Refusal


class WriteKeys:
    """Which source a write key stands for."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """``keys`` is source name to write key."""
        self._sources = {key: source for source, key in keys.items()}
        self._usual_headers = {
            b"Basic " + base64.b64encode(f"{key}:".encode()): source
            for key, source in self._sources.items()
        }

    def source(self, authorization: bytes | None, key_in_body: object) -> str:
        """The source of a request; a header, where there is one, decides alone.

        Raises:
            Refusal: 401, there is no write key or it is not known.
        """
        if authorization is None:
            found = self._sources.get(key_in_body) if isinstance(key_in_body, str) else None
        else:
            found = self._usual_headers.get(authorization) or self._by_user_name(authorization)
        if found is None:
            raise Refusal(401, "invalid_write_key", "the write key is missing or not known")
        return found

    def _by_user_name(self, authorization: bytes) -> str | None:
        """Any password, any case of "Basic", and the colon left out, as Segment still allows."""
        scheme, _, encoded = authorization.partition(b" ")
        if scheme.lower() != b"basic":
            return None
        try:
            user_name = base64.b64decode(encoded, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return None
        return self._sources.get(user_name)
