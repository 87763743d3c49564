"""What the portal keeps secret: the keys that it signs with, and the tokens that it takes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from copywatch.errors import SettingsError
from copywatch.settings import ENV_PREFIX, Settings

SHORTEST_SECRET = 32
SHORTEST_TOKEN = 16
_HOW_TO_MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


@dataclass(frozen=True)
class Keys:
    """Independent keys, derived from the one secret of the settings.

    Attributes:
        session: signs the session cookie, hexadecimal.
        codes: keys the hashes of one-time codes and addresses in the ledger.
        forms: makes the tokens that forms carry.
        check_tokens: SHA-256 of each bearer token of the check API.
    """

    session: str
    codes: bytes
    forms: bytes
    check_tokens: tuple[bytes, ...]

    def takes_token(self, token: str) -> bool:
        """Is it one of the administrator's? Takes the same time whichever it is nearly."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self.check_tokens]
        return any(matches)

    def form_token(self, visit: str) -> str:
        """What forms of one visit carry, hexadecimal."""
        return hmac.digest(self.forms, visit.encode(), "sha256").hex()


def keys_of(config: Settings, *, local_only: bool) -> Keys:
    """The keys that the settings give; without a secret, random ones.

    Args:
        config: `portal_secret` and `check_tokens` are read.
        local_only: the portal is reached from its own machine only, so it may do without a secret.

    Raises:
        SettingsError: the secret is missing or short, or a token is short.
    """
    secret = config.portal_secret.get_secret_value()
    if not secret:
        if not local_only:
            raise SettingsError(
                f"{ENV_PREFIX}PORTAL_SECRET is not set, and the portal would be reached from other machines: without "
                "it, sessions could not outlive a restart or be shared between processes. "
                f"Set it ({_HOW_TO_MAKE_ONE}), or bind to 127.0.0.1."
            )
        secret = secrets.token_urlsafe(SHORTEST_SECRET)
    elif len(secret) < SHORTEST_SECRET:
        raise SettingsError(
            f"{ENV_PREFIX}PORTAL_SECRET has {len(secret)} characters, at least {SHORTEST_SECRET} are needed; "
            f"{_HOW_TO_MAKE_ONE}."
        )
    tokens = [token for part in config.check_tokens.get_secret_value().split(",") if (token := part.strip())]
    for number, token in enumerate(tokens, start=1):
        if len(token) < SHORTEST_TOKEN:
            raise SettingsError(
                f"{ENV_PREFIX}CHECK_TOKENS: token {number} of {len(tokens)} has {len(token)} characters, at least "
                f"{SHORTEST_TOKEN} are needed; {_HOW_TO_MAKE_ONE}."
            )

    def derived(purpose: str) -> bytes:
        return hmac.digest(secret.encode(), f"copywatch portal {purpose}".encode(), "sha256")

    return Keys(
        session=derived("session").hex(),
        codes=derived("codes"),
        forms=derived("forms"),
        check_tokens=tuple(hashlib.sha256(token.encode()).digest() for token in tokens),
    )
