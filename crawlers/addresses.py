"""Where a crawl may connect to.

A hostile page can name any address: a machine of our own network, the cloud's metadata service, a host name that
resolves to either, or to one the first time and the other the next. So addresses are judged twice: `AddressPolicy`
reads what a URL says, redirects included, and `GuardedResolver` judges every address that a name resolved to before
anything connects to it. There is no third way to a connection: proxies are off.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from scrapy.exceptions import IgnoreRequest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from zope.interface import implementer  # type: ignore[import-untyped]

from copywatch.sites import Site

logger = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = frozenset({80, 443, 8080, 8443})
LONGEST_URL = 2083
"""Characters; the longest address that browsers agreed on."""

NOT_LISTED = "the host is not among the site's image_hosts"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
# What inet_aton takes for an IPv4 address beside the dotted form: 2130706433, 0x7f.1, 0177.0.0.1, 127.1
_ODD_LITERAL = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+)){0,3}\.?", re.IGNORECASE)


class AddressNotAllowed(IgnoreRequest):
    """This address may not be connected to; the message says why."""


def literal_address(host: str) -> Address | None:
    """The IP address that a URL's host spells out, in any of the spellings that a resolver takes; None: a name."""
    bare = host.strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    if not _ODD_LITERAL.fullmatch(bare):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare.rstrip(".")))
    except (OSError, ValueError):
        return None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, by whichever of the mappings; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def why_not(address: Address, *, private_allowed: bool) -> str | None:
    """Why nothing may connect to this address; None: it may.

    Link-local addresses hold the cloud's metadata service and no site, so that `allow_private_addresses` does not
    open them either; multicast, reserved and unspecified ones hold nobody.
    """
    inner = _embedded(address)
    shown = str(address) if inner == address else f"{address} ({inner})"
    if inner.is_loopback:
        return None if private_allowed else f"{shown} is this machine itself (loopback)"
    for kind in ("unspecified", "link_local", "multicast", "reserved"):
        if getattr(inner, f"is_{kind}"):
            return f"{shown} is {kind.replace('_', '-')}"
    if not inner.is_global or getattr(inner, "is_site_local", False):
        return None if private_allowed else f"{shown} is private"
    return None


@dataclass
class AddressPolicy:
    """What one site's crawl may reach."""

    private_allowed: bool
    """Loopback and private addresses may be reached: the site is inside the administrator's own network."""

    ports: frozenset[int] = PORTS
    """Ports that may be connected to on any host."""

    image_hosts: frozenset[str] | None = None
    """Hosts, or `host:port`, whose images are fetched; None: any."""

    refused_names: dict[str, str] = field(default_factory=dict)
    """Host names whose every address was refused, and why: filled by the resolver."""

    def __deepcopy__(self, memo: object) -> AddressPolicy:
        # Scrapy copies settings deeply, and what the resolver refused must reach the spider.
        return self

    @classmethod
    def of(cls, site: Site) -> AddressPolicy:
        """The policy that `sites.yaml` asks for."""
        own = {parts.port or _DEFAULT_PORTS[parts.scheme] for parts in map(urlsplit, site.start)}
        hosts = None if site.image_hosts is None else frozenset(host.lower() for host in site.image_hosts)
        return cls(private_allowed=site.allow_private_addresses, ports=PORTS | own, image_hosts=hosts)

    def check(self, url: str, *, image: bool = False) -> None:
        """Judge what a URL says, before any name is looked up.

        Raises:
            AddressNotAllowed: it may not be fetched.
        """
        if len(url) > LONGEST_URL:
            raise AddressNotAllowed(f"an address of {len(url)} characters, at most {LONGEST_URL}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise AddressNotAllowed(f"no valid address: {error}") from error
        if parts.scheme not in _DEFAULT_PORTS:
            raise AddressNotAllowed(f"{parts.scheme or 'no scheme'}: only http and https are fetched")
        host = (parts.hostname or "").lower()
        if "@" in parts.netloc:
            raise AddressNotAllowed("a user name in the address")
        port = port if port is not None else _DEFAULT_PORTS[parts.scheme]
        listed = f"{host}:{port}" in (self.image_hosts or ())
        if image and self.image_hosts is not None and host not in self.image_hosts and not listed:
            raise AddressNotAllowed(NOT_LISTED)
        if port not in self.ports and not (image and listed):
            raise AddressNotAllowed(f"port {port}")
        literal = literal_address(host)
        if literal is not None:
            if trouble := why_not(literal, private_allowed=self.private_allowed):
                raise AddressNotAllowed(trouble)
        elif not host or len(host) > 253 or any(not 0 < len(label) < 64 for label in host.rstrip(".").split(".")):
            raise AddressNotAllowed("no valid host name")

    def admits(self, name: str, address: str) -> bool:
        """Whether an address that `name` resolved to may be connected to; notes why not."""
        try:
            trouble = why_not(ipaddress.ip_address(address.partition("%")[0]), private_allowed=self.private_allowed)
        except ValueError:
            trouble = f"{address!r} is no address"
        if trouble is None:
            return True
        self.refused_names[name.lower()] = f"{name}: {trouble}"
        return False

    def refusal(self, url: str) -> str | None:
        """Why the resolver refused the host of `url`; None: it did not."""
        return self.refused_names.get((urlsplit(url).hostname or "").lower())


_Resolved = tuple[type[IPv4Address] | type[IPv6Address], str]


@implementer(IResolutionReceiver)
class _Filter:
    """Passes on the addresses that the policy admits, and remembers them for the rest of the crawl."""

    def __init__(self, receiver: Any, resolver: GuardedResolver, name: str) -> None:
        self._receiver = receiver
        self._resolver = resolver
        self._name = name
        self._admitted: list[_Resolved] = []

    def resolutionBegan(self, resolution: object) -> None:  # noqa: N802
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: IPv4Address | IPv6Address) -> None:  # noqa: N802
        if self._resolver.policy.admits(self._name, address.host):
            self._admitted.append((type(address), address.host))
            self._receiver.addressResolved(address)
        else:
            logger.debug("%s resolves to %s, which may not be connected to", self._name, address.host)

    def resolutionComplete(self) -> None:  # noqa: N802
        if self._admitted:
            # One answer that is right does not make up for one that is wrong, but it can be connected to.
            self._resolver.policy.refused_names.pop(self._name.lower(), None)
            self._resolver.remember(self._name, self._admitted)
        self._receiver.resolutionComplete()


@implementer(IHostnameResolver)
class GuardedResolver:
    """Scrapy's DNS resolver (`TWISTED_DNS_RESOLVER`): IPv4 and IPv6, and only addresses that the policy admits.

    Twisted connects to the very addresses that this hands out, literals included, so a name that resolves to
    something else the next time (DNS rebinding) gains nothing.
    """

    _REMEMBERED = 10_000

    def __init__(self, reactor: Any, policy: AddressPolicy) -> None:
        self._reactor = reactor
        self._lookup = reactor.nameResolver
        self.policy = policy
        self._known: dict[str, list[_Resolved]] = {}

    @classmethod
    def from_crawler(cls, crawler: Any, reactor: Any) -> GuardedResolver:
        return cls(reactor, crawler.settings["ADDRESS_POLICY"])

    def install_on_reactor(self) -> None:
        self._reactor.installNameResolver(self)

    def remember(self, name: str, addresses: list[_Resolved]) -> None:
        """Keep an answer for the rest of the crawl."""
        if len(self._known) < self._REMEMBERED:
            self._known[name] = addresses

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: Any,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[Any] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> Any:
        """Look a name up; see `twisted.internet.interfaces.IHostnameResolver`."""
        known = self._known.get(hostName)
        if known is None:
            guarded = _Filter(resolutionReceiver, self, hostName)
            return self._lookup.resolveHostName(guarded, hostName, portNumber, addressTypes, transportSemantics)
        resolutionReceiver.resolutionBegan(None)
        for kind, host in known:
            resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolutionReceiver
