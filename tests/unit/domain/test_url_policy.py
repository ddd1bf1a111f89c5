"""Where a signed call may not be sent, however the host is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from services.domain.url_policy import (
    TARGET_REFUSED,
    Allowlist,
    Refusal,
    address_refusal,
    addresses_refusal,
    url_refusal,
)
from services.domain.url_target import Target, origin, request_path, target_of

NOTHING = Allowlist.parse(())

MALFORMED = {
    "no scheme": "crm.example/hook",
    "plain http": "http://crm.example/hook",
    "another scheme": "ftp://crm.example/hook",
    "a file": "file:///etc/passwd",
    "script": "javascript:alert(1)",
    "no slashes": "https:crm.example",
    "one slash": "https:/crm.example",
    "three slashes": "https:///crm.example",
    "no host": "https://:443/hook",
    "empty": "",
    "a user name": "https://user@crm.example/",
    "a user name and password": "https://user:secret@crm.example/",
    "a user name that looks like a host": "https://crm.example@10.0.0.1/",
    "an empty user name": "https://@crm.example/",
    "a fragment": "https://crm.example/#part",
    "an empty fragment": "https://crm.example/#",
    "a fragment that hides a host": "https://10.0.0.1#@crm.example/",
    "a backslash that hides a host": "https://10.0.0.1\\@crm.example/",
    "backslashes for slashes": "https:\\\\crm.example\\",
    "CR LF in the host": "https://crm.example\r\nX-Injected: yes/",
    "CR LF in the path": "https://crm.example/\r\nX-Injected: yes",
    "a line feed inside the scheme": "ht\ntps://crm.example/",
    "a tab in the host": "https://crm\t.example/",
    "a blank before": " https://crm.example/",
    "a blank after": "https://crm.example/ ",
    "NUL": "https://crm.example/\x00",
    "DEL": "https://crm.example/\x7f",
    "a soft hyphen": "https://crm\xad.example/",
    "a zero-width space": "https://crm\u200b.example/",
    "right to left override": "https://crm\u202e.example/",
    "a line separator": "https://crm.example/\u2028",
    "port 0": "https://crm.example:0/",
    "port 65536": "https://crm.example:65536/",
    "a negative port": "https://crm.example:-1/",
    "no port after the colon": "https://crm.example:/",
    "two ports": "https://crm.example:443:443/",
    "a port in other digits": "https://crm.example:٤٤٣/",
    "a port with a sign": "https://crm.example:+443/",
    "a port by name": "https://crm.example:https/",
    "an address with a trailing dot": "https://8.8.8.8./hook",
    "two trailing dots": "https://crm.example../",
    "an empty label": "https://crm..example/",
    "a leading dot": "https://.crm.example/",
    "a label of 64": "https://" + "a" * 64 + ".example/",
    "a name of 254": "https://" + "a." * 126 + "aa/",
    "a leading hyphen": "https://-crm.example/",
    "a trailing hyphen": "https://crm-.example/",
    "a percent-encoded host": "https://crm%2eexample/",
    "a percent-encoded address": "https://127%2e0%2e0%2e1/",
    "a comma between hosts": "https://crm.example,10.0.0.1/",
    "a star": "https://*.example/",
    "an empty punycode label": "https://xn--/",
    "an IPv6 address without brackets": "https://::1/",
    "brackets left open": "https://[2606:4700:4700::1111/",
    "brackets around a name": "https://[crm.example]/",
    "brackets around a future form": "https://[v1.crm]/",
    "brackets around an IPv4 address": "https://[1.1.1.1]/",
    "something after the brackets": "https://[2606:4700:4700::1111]crm.example/",
    "something before the brackets": "https://crm[2606:4700:4700::1111]/",
    "a zone": "https://[2606:4700:4700::1111%25eth0]/",
    "a zone unescaped": "https://[2606:4700:4700::1111%eth0]/",
    "a letter that one version of IDNA turns into others": "https://straße.example/",
    "a letter that has two small forms": "https://ς.example/",
    "a capital that is newer than IDNA": "https://Ꭰ.example/",
    "a letter that is left out": "https://a\u034fb.example/",
    "wide letters": "https://ＣＲＭ.example/",
    "longer than 512": "https://crm.example/".ljust(513, "x"),
}

PRIVATE = {
    "this host": "0.0.0.0",  # noqa: S104 -- an address to refuse
    "this network": "0.1.2.3",
    "loopback": "127.0.0.1",
    "loopback's far end": "127.255.255.254",
    "ten": "10.0.0.1",
    "172.16": "172.16.0.1",
    "172.31": "172.31.255.255",
    "192.168": "192.168.1.1",
    "carrier-grade NAT": "100.64.0.1",
    "carrier-grade NAT's far end": "100.127.255.255",
    "link-local": "169.254.1.1",
    "cloud metadata": "169.254.169.254",
    "container metadata": "169.254.170.2",
    "Alibaba Cloud metadata": "100.100.100.200",
    "Oracle metadata": "192.0.0.192",
    "Azure's host": "168.63.129.16",
    "protocol assignments": "192.0.0.8",
    "documentation 1": "192.0.2.1",
    "documentation 2": "198.51.100.1",
    "documentation 3": "203.0.113.1",
    "6to4 relays": "192.88.99.1",
    "benchmarking": "198.18.0.1",
    "benchmarking's far end": "198.19.255.255",
    "multicast": "224.0.0.1",
    "administratively scoped multicast": "239.255.255.250",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 unspecified": "::",
    "IPv6 loopback": "::1",
    "IPv4 mapped loopback": "::ffff:127.0.0.1",
    "IPv4 mapped loopback in hex": "::ffff:7f00:1",
    "IPv4 mapped, written out": "0:0:0:0:0:ffff:7f00:1",
    "IPv4 mapped metadata": "::ffff:169.254.169.254",
    "IPv4 mapped CGNAT": "::ffff:100.64.0.1",
    "IPv4 compatible": "::127.0.0.1",
    "IPv4 translated": "::ffff:0:127.0.0.1",
    "NAT64": "64:ff9b::127.0.0.1",
    "NAT64 of a public address": "64:ff9b::8.8.8.8",
    "local NAT64": "64:ff9b:1::1",
    "6to4": "2002:7f00:1::",
    "Teredo": "2001:0:53aa:64c:0:0:0:1",
    "benchmarking IPv6": "2001:2::1",
    "ORCHID": "2001:10::1",
    "ORCHIDv2": "2001:20::1",
    "documentation IPv6": "2001:db8::1",
    "documentation IPv6, the newer": "3fff::1",
    "unique local": "fd00::1",
    "unique local, the other half": "fc00::1",
    "AWS metadata IPv6": "fd00:ec2::254",
    "link-local IPv6": "fe80::1",
    "site-local": "fec0::1",
    "multicast IPv6": "ff02::1",
    "multicast IPv6 worldwide": "ff0e::1",
    "segment routing": "5f00::1",
    "discard only": "100::1",
    "dummy prefix": "100:0:0:1::1",
    "not allocated": "4000::1",
    "not allocated, high": "e000::1",
}

IN_DISGUISE = {
    "a decimal": "2130706433",
    "a hex": "0x7f000001",
    "a hex in capitals": "0X7F000001",
    "an octal": "017700000001",
    "octal parts": "0177.0.0.1",
    "hex parts": "0x7f.0x0.0x0.0x1",
    "mixed parts": "0x7f.0.1",
    "two parts": "127.1",
    "three parts": "127.0.1",
    "leading zeros": "127.000.000.001",
    "leading zeros that some read as octal": "010.8.8.8",
    "five parts": "127.0.0.0.1",
    "nothing but zero": "0",
    "too large a number": "4294967297",
    "a trailing dot": "127.0.0.1.",
    "full-width digits": "１２７.０.０.１",
    "circled digits": "①②⑦.0.0.1",
    "ideographic full stops": "127。0。0。1",
    "half-width full stops": "127｡0｡0｡1",
    "Arabic digits": "١٢٧.٠.٠.١",
    "a last label that is a number": "crm.example.1",
    "a last label that is a hex number": "crm.0x7f",
    "localhost": "localhost",
    "localhost in capitals": "LOCALHOST",
    "localhost with a dot": "localhost.",
    "localhost in other letters": "ⅼocalhost",
    "below localhost": "crm.localhost",
    "local": "printer.local",
    "internal": "metadata.google.internal",
    "internal alone": "internal",
    "localdomain": "localhost.localdomain",
    "at home": "router.home.arpa",
}


@pytest.mark.parametrize("url", MALFORMED.values(), ids=list(MALFORMED))
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    reason = url_refusal(url, NOTHING)

    assert reason is not None
    assert not reason.clause.endswith(".")


@pytest.mark.parametrize("host", IN_DISGUISE.values(), ids=list(IN_DISGUISE))
def test_a_private_host_in_disguise_is_refused(host: str) -> None:
    assert url_refusal(f"https://{host}/hook", NOTHING) is not None
    assert url_refusal(f"https://{host}:8443/hook", NOTHING) is not None


@pytest.mark.parametrize("address", PRIVATE.values(), ids=list(PRIVATE))
def test_a_private_address_is_refused_when_saved_and_when_dialled(address: str) -> None:
    host = f"[{address}]" if ":" in address else address

    assert url_refusal(f"https://{host}/hook", NOTHING) is not None
    assert address_refusal(address, 443, NOTHING) is not None
    assert addresses_refusal(["1.1.1.1", address], 443, NOTHING, host="crm.example") is not None


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://crm.example/hook", ("https", "crm.example", 443, None)),
        ("HTTPS://CRM.Example/Hook", ("https", "crm.example", 443, None)),
        ("https://crm.example", ("https", "crm.example", 443, None)),
        ("https://crm.example./hook", ("https", "crm.example", 443, None)),
        ("https://crm.example:8443/a?b=c&d=%20", ("https", "crm.example", 8443, None)),
        ("https://crm.example:443/", ("https", "crm.example", 443, None)),
        ("https://a_b.crm-1.example/", ("https", "a_b.crm-1.example", 443, None)),
        ("https://1crm.example/", ("https", "1crm.example", 443, None)),
        ("https://1.2.3.4.crm.example/", ("https", "1.2.3.4.crm.example", 443, None)),
        ("https://münchen.example/", ("https", "xn--mnchen-3ya.example", 443, None)),
        ("https://例え.example/", ("https", "xn--r8jz45g.example", 443, None)),
        ("https://crm.example/pfad/ü", ("https", "crm.example", 443, None)),
        ("https://1.1.1.1/", ("https", "1.1.1.1", 443, "1.1.1.1")),
        ("https://[2606:4700:4700::1111]:8443/", ("https", "2606:4700:4700::1111", 8443, "2606:4700:4700::1111")),
        ("https://[::ffff:1.1.1.1]/", ("https", "::ffff:1.1.1.1", 443, "::ffff:101:101")),
        ("https://crm.example/".ljust(512, "x"), ("https", "crm.example", 443, None)),
    ],
)
def test_a_good_url_leads_where_it_says(url: str, target: tuple[str, str, int, str | None]) -> None:
    found = target_of(url)

    assert url_refusal(url, NOTHING) is None
    assert isinstance(found, Target)
    assert (found.scheme, found.host, found.port, found.address and str(found.address)) == target


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700:4700::1111"])
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert address_refusal(address, 443, NOTHING) is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_judged_is_what_is_dialled(host: str, path: str) -> None:
    """The HTTP client accepts every URL that the policy accepts, with the same host and port."""
    url = f"https://{host}.example/{path}"
    target = target_of(url)
    if isinstance(target, Target):
        dialled = URL(url)
        assert (dialled.raw_host, dialled.port) == (target.host, target.port)


def test_every_letter_of_a_host_is_dialled_as_it_is_judged() -> None:
    for code in range(0x80, 0x3000):
        for host in (f"a{chr(code)}b", chr(code)):
            target = target_of(f"https://{host}.example/")
            assert not isinstance(target, Target) or URL(f"https://{host}.example/").raw_host == target.host, hex(code)


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    url_refusal(text, NOTHING)
    url_refusal("https://" + text, NOTHING)
    address_refusal(text, 443, NOTHING)
    assert len(origin(text)) == 3


@given(st.ip_addresses(v=4), st.sampled_from(["{}", "::ffff:{}"]))
def test_the_mapped_form_is_judged_like_the_address(address: object, form: str) -> None:
    plain = address_refusal(str(address), 443, NOTHING)

    assert (address_refusal(form.format(address), 443, NOTHING) is None) == (plain is None)


def test_names_are_judged_by_every_address_they_have() -> None:
    assert addresses_refusal(["1.1.1.1", "2606:4700:4700::1111"], 443, NOTHING, host="crm.example") is None
    assert addresses_refusal([], 443, NOTHING, host="crm.example") == Refusal(TARGET_REFUSED, "it has no address")
    assert addresses_refusal(["1.1.1.1", "crm.example"], 443, NOTHING, host="crm.example") is not None


@pytest.mark.parametrize(
    ("rest", "sent"),
    [
        ("/h?sp=%2Fx&sig=a%2Bb%3D~", "/h?sp=%2Fx&sig=a%2Bb%3D~"),
        ("/a/%2e%2e/b/../c//d", "/a/%2e%2e/b/../c//d"),
        ("/%7e~%zz%", "/%7e~%zz%"),
        ("", "/"),
        ("?a=b?c", "/?a=b?c"),
        ("/ü?ß", "/%C3%BC?%C3%9F"),
    ],
)
def test_a_path_is_sent_as_it_is_written(rest: str, sent: str) -> None:
    assert request_path(f"https://crm.example:8443{rest}") == sent
