"""Alerts to a webhook, signed as Standard Webhooks has it (https://www.standardwebhooks.com, version 1.0.0).

The signature is HMAC-SHA256 of `id.timestamp.body` in base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import urlsplit

from app import __version__
from app.backends.delivering import Poster
from app.config import Settings
from app.config_values import webhook_key
from app.core.addresses import is_forbidden, is_private
from app.core.alerts import AlertMessage
from app.core.exported_spans import Delivery
from app.core.ports import Clock

LATER = (408, 425, 429, 500, 502, 503, 504)
PRIVATE = "{host} is a private address; say LOUPE_ALERT_WEBHOOK_PRIVATE=on if alerts are to go there"
FORBIDDEN = "{host} is a link-local or cloud metadata address, which is refused"


def webhook_of(settings: Settings, clock: Clock) -> WebhookHttp | None:
    """Where the settings say that alerts go; None where they say nothing."""
    if settings.alert_webhook is None:
        return None
    secret = settings.alert_webhook_secret
    key = webhook_key(secret.get_secret_value()) if secret else b""
    return WebhookHttp(settings.alert_webhook.get_secret_value(), key, clock, private=settings.alert_webhook_private)


class WebhookHttp:
    """Unsigned where `key` is empty. `private`: addresses of this machine and of private networks may be reached too.
    Used in one event loop."""

    def __init__(self, url: str, key: bytes, clock: Clock, *, private: bool = False) -> None:
        self._url, self._key, self._clock, self._private = url, key, clock, private
        self._poster = Poster("the webhook", LATER, public=not private)

    @property
    def place(self) -> str:
        """The receiver's name: the rest of the address is often its secret."""
        return urlsplit(self._url).netloc

    async def send(self, message: AlertMessage) -> Delivery:
        host = urlsplit(self._url).hostname or ""
        if is_forbidden(host):
            return Delivery(taken=False, why=FORBIDDEN.format(host=host))
        if not self._private and (is_private(host) or host == "localhost" or host.endswith(".localhost")):
            return Delivery(taken=False, why=PRIVATE.format(host=host))
        body = json.dumps(dict(message.content), ensure_ascii=False, separators=(",", ":")).encode()
        delivery, _ = await self._poster.post(self._url, body, self._headers(message.id, body))
        return delivery

    def _headers(self, name: str, body: bytes) -> dict[str, str]:
        moment = str(int(self._clock.now()))
        told = {
            "content-type": "application/json; charset=utf-8", "user-agent": f"loupe/{__version__}",
            "webhook-id": name, "webhook-timestamp": moment,
        }  # fmt: skip
        if self._key:
            told["webhook-signature"] = signature(self._key, name, moment, body)
        return told

    async def close(self) -> None:
        await self._poster.close()


def signature(key: bytes, name: str, moment: str, body: bytes) -> str:
    digest = hmac.new(key, f"{name}.{moment}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
