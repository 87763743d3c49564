"""Signing in by a one-time code, and the sessions that codes open.

ImagePro's OTP: who reads the owner's mail is the owner. A code works once, for ten minutes, in the browser that asked
for it, and for five tries. Whether an address is an owner's shows in nothing that these functions return or count.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyotp
from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from copywatch.errors import CopywatchError
from copywatch.ledger.models import Owner, SignIn

CODE_DIGITS = 8
CODE_LASTS = timedelta(minutes=10)
MOST_TRIES = 5
"""Wrong tries of one code. With `MOST_CODES_OF_ADDRESS` they are 25 guesses an hour at 10^8 codes."""
COUNTED_OVER = timedelta(hours=1)
MOST_CODES_OF_ADDRESS = 5
MOST_CODES_OF_CLIENT = 20
"""Codes asked for within `COUNTED_OVER`; an office behind one address is one client."""
_IPV6_CUSTOMER_BITS = 64
_LONGEST_ADDRESS = 320
_LONGEST_CLIENT = 64


class TooManyCodes(CopywatchError):
    """An address, or a client, asked for more codes than it may.

    Attributes:
        again_in: when the next one may be asked for.
    """

    def __init__(self, again_in: timedelta) -> None:
        super().__init__(
            f"sign-in: too many codes were asked for; wait {again_in.total_seconds() / 60:.0f} minutes, then ask again"
        )
        self.again_in = again_in


@dataclass(frozen=True)
class IssuedCode:
    """What became of a request for a code.

    Attributes:
        handle: what the asking browser must bring with the code.
        code: eight digits. It exists here and in the mail, and nowhere else.
        owner: whom to mail it to; None: the address is no owner's, and nobody is mailed.
    """

    handle: str
    code: str
    owner: Owner | None


@dataclass(frozen=True)
class Redeemed:
    """What became of a code.

    Attributes:
        sign_in_id: the session that it opened; None: it opened none.
        tries_left: of this handle; 0: no code will work with it any more.
    """

    sign_in_id: int | None
    tries_left: int


def mail_address(typed: str) -> str:
    """A typed mail address as the ledger writes it.

    Raises:
        CopywatchError: it is no mail address.
    """
    address = typed.strip().lower()
    local, _, domain = address.rpartition("@")
    if not local or not domain or len(address) > _LONGEST_ADDRESS or not address.isprintable() or " " in address:
        raise CopywatchError("sign-in: that is no mail address; write name@host")
    return address


def client_network(host: str) -> str:
    """What requests are counted by: the address, of IPv6 the /64 that one customer holds."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:_LONGEST_CLIENT]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), _IPV6_CUSTOMER_BITS), strict=False))
    return str(address)


def issue_code(
    session: Session, *, address: str, client: str, key: bytes, now: datetime, keep: timedelta
) -> IssuedCode:
    """Make a code for whoever reads the mail of `address`.

    Args:
        session: an open transaction.
        address: as `mail_address` gives it.
        client: where the request came from, an IP address.
        key: keys the hashes of codes and addresses; the same when the code is redeemed.
        now: the time, aware.
        keep: how long a session may last; older rows are removed.

    Raises:
        TooManyCodes: the address, whoever's it is, or the client asked too often.
    """
    # Two requests at once must not both be the last that is allowed.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('copywatch.sign_ins'))"))
    session.execute(delete(SignIn).where(SignIn.asked_at < now - max(keep + CODE_LASTS, 2 * COUNTED_OVER)))
    network, address_hash = client_network(client), _keyed(key, "address", address)
    _refuse_over(session, SignIn.client == network, MOST_CODES_OF_CLIENT, now)
    _refuse_over(session, SignIn.address_hash == address_hash, MOST_CODES_OF_ADDRESS, now)
    owner = session.scalar(select(Owner).where(Owner.email == address))
    handle = secrets.token_urlsafe(32)
    # The secret is dropped: what a stolen ledger holds is a hash under a key that is not in it.
    code = pyotp.HOTP(pyotp.random_base32(), digits=CODE_DIGITS).at(0)
    session.add(
        SignIn(
            handle_hash=_digest(handle),
            address_hash=address_hash,
            client=network,
            owner_id=owner.id if owner is not None else None,
            code_hash=_keyed(key, "code", handle + code),
            asked_at=now,
            expires_at=now + CODE_LASTS,
        )
    )
    session.flush()
    return IssuedCode(handle, code, owner)


def _refuse_over(session: Session, whose: ColumnElement[bool], most: int, now: datetime) -> None:
    count, first = session.execute(
        select(func.count(), func.min(SignIn.asked_at)).where(whose, SignIn.asked_at > now - COUNTED_OVER)
    ).one()
    if count >= most:
        raise TooManyCodes(max(first + COUNTED_OVER - now, timedelta(minutes=1)))


def redeem_code(session: Session, *, handle: str, code: str, key: bytes, now: datetime) -> Redeemed:
    """Try a code; a right one opens a session, once.

    Args:
        session: an open transaction; commit it whatever is returned, since wrong tries are counted in it.
        handle: what the browser was given when it asked.
        code: as typed; spaces and hyphens do not matter.
        key: as given to `issue_code`.
        now: the time, aware.
    """
    attempt = session.scalar(select(SignIn).where(SignIn.handle_hash == _digest(handle)).with_for_update(of=SignIn))
    if (
        attempt is None
        or attempt.redeemed_at is not None
        or attempt.expires_at <= now
        or attempt.wrong_tries >= MOST_TRIES
    ):
        return Redeemed(None, 0)
    digits = "".join(sign for sign in code if not sign.isspace() and sign != "-")
    right = hmac.compare_digest(_keyed(key, "code", handle + digits), attempt.code_hash)
    if not right or attempt.owner_id is None:
        attempt.wrong_tries += 1
        return Redeemed(None, MOST_TRIES - attempt.wrong_tries)
    attempt.redeemed_at = now
    return Redeemed(attempt.id, 0)


def signed_in_owner(session: Session, sign_in_id: int, *, now: datetime, lasts: timedelta) -> Owner | None:
    """Whose session it is; None: it was never opened, has ended, or is older than `lasts`."""
    sign_in = session.get(SignIn, sign_in_id)
    if sign_in is None or sign_in.redeemed_at is None or sign_in.signed_out_at is not None:
        return None
    return sign_in.owner if now < sign_in.redeemed_at + lasts else None


def sign_out(session: Session, sign_in_id: int, now: datetime) -> None:
    """End a session: a copy of its cookie is worth nothing from now on."""
    sign_in = session.get(SignIn, sign_in_id)
    if sign_in is not None and sign_in.signed_out_at is None:
        sign_in.signed_out_at = now


def _digest(handle: str) -> bytes:
    return hashlib.sha256(handle.encode()).digest()


def _keyed(key: bytes, purpose: str, value: str) -> bytes:
    return hmac.digest(key, f"{purpose}\x00{value}".encode("utf-8", "surrogatepass"), "sha256")
