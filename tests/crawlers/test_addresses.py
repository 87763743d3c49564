"""What a crawl may connect to."""

from __future__ import annotations

import contextlib
import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address

from copywatch.sites import Site
from crawlers.addresses import AddressNotAllowed, AddressPolicy, GuardedResolver, literal_address, why_not

PRIVATE = [
    "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "0.0.0.0", "0.1.2.3",
    "100.64.0.1", "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::a00:1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:db8::1", "::ffff:0:0",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2a00:1450::200e"]


@pytest.mark.parametrize("address", PRIVATE)
def test_refused(address: str) -> None:
    assert why_not(ipaddress.ip_address(address), private_allowed=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_allowed(address: str) -> None:
    assert why_not(ipaddress.ip_address(address), private_allowed=False) is None


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0"])
def test_never_allowed(address: str) -> None:
    assert why_not(ipaddress.ip_address(address), private_allowed=True)


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "017700000001", "[::1]", "127.0.0.1.",
     "[::ffff:7f00:1]", "[fe80::1%25eth0]", "0X7F.0.0.1", "0", "[::]"],
)  # fmt: skip
def test_odd_literals(host: str) -> None:
    assert literal_address(host) is not None
    with pytest.raises(AddressNotAllowed):
        AddressPolicy(private_allowed=False).check(f"http://{host}/x.jpg")


@pytest.mark.parametrize("host", ["example.com", "1.2.3.4.5", "0xyz", "dead.beef", "1e100.net", "256.1.1.1x", "a-1"])
def test_names_are_no_literals(host: str) -> None:
    assert literal_address(host) is None


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)", "s3://bucket/x", "http://", "http://a@b.example/",
     "http://example.com:22/", "http://example.com:99999/", "http://[::1", "http://" + "a" * 64 + ".example/",
     "http://a..b/", "http://example.com/" + "x" * 3000, "//example.com/", "http://example.com:0/"],
)  # fmt: skip
def test_urls_refused(url: str) -> None:
    with pytest.raises(AddressNotAllowed):
        AddressPolicy(private_allowed=True).check(url)


def test_ports_and_image_hosts() -> None:
    site = Site(name="a", start=["http://a.example:8000/"], image_hosts=["CDN.example", "b.example:9000"])  # type: ignore[call-arg]
    policy = AddressPolicy.of(site)
    policy.check("http://a.example:8000/page")
    policy.check("https://cdn.example/x.jpg", image=True)
    policy.check("http://b.example:9000/x.jpg", image=True)
    for url, image in [
        ("http://b.example:9000/page", False),
        ("http://b.example/x.jpg", True),
        ("http://a.example:8000/x.jpg", True),
        ("http://cdn.example:9000/x.jpg", True),
    ]:
        with pytest.raises(AddressNotAllowed):
            policy.check(url, image=image)


@given(st.text(max_size=60), st.booleans())
def test_any_text_is_judged_or_refused(text: str, image: bool) -> None:
    policy = AddressPolicy(private_allowed=False)
    for url in (text, f"http://{text}", f"http://{text}/x"):
        with contextlib.suppress(AddressNotAllowed):
            policy.check(url, image=image)


class Receiver:
    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.complete = 0

    def resolutionBegan(self, resolution: object) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self.addresses.append((address.host, address.port))

    def resolutionComplete(self) -> None:
        self.complete += 1


def test_resolver_passes_on_only_what_may_be_connected_to_and_remembers_it() -> None:
    answers = [["10.0.0.1", "8.8.8.8", "::1"], ["127.0.0.1"]]

    class Lookup:
        def resolveHostName(self, receiver: Any, name: str, port: int, *more: object) -> object:
            receiver.resolutionBegan(None)
            for host in answers.pop(0):
                receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, port))
            receiver.resolutionComplete()
            return receiver

    policy = AddressPolicy(private_allowed=False)
    resolver = GuardedResolver(SimpleNamespace(nameResolver=Lookup()), policy)
    for port in (80, 443):
        receiver = Receiver()
        resolver.resolveHostName(receiver, "mixed.example", port)
        assert (receiver.addresses, receiver.complete) == ([("8.8.8.8", port)], 1), "the second answer is not asked for"
    assert policy.refusal("http://mixed.example/") is None
    receiver = Receiver()
    resolver.resolveHostName(receiver, "Rebound.example", 80)
    assert (receiver.addresses, receiver.complete) == ([], 1)
    assert "loopback" in (policy.refusal("http://rebound.example:8080/x") or "")
