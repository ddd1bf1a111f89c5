"""Where a signed call may not go, however the place is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from services.domain.address import (
    Allowances,
    Target,
    origin,
    refusal_of_address,
    refusal_of_addresses,
    refusal_of_url,
    target_of,
)

NOTHING = Allowances.parse(())

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
    reason = refusal_of_url(url, NOTHING)

    assert reason is not None
    assert not reason.endswith(".")


@pytest.mark.parametrize("host", IN_DISGUISE.values(), ids=list(IN_DISGUISE))
def test_a_private_host_in_disguise_is_refused(host: str) -> None:
    assert refusal_of_url(f"https://{host}/hook", NOTHING) is not None
    assert refusal_of_url(f"https://{host}:8443/hook", NOTHING) is not None


@pytest.mark.parametrize("address", PRIVATE.values(), ids=list(PRIVATE))
def test_a_private_address_is_refused_when_saved_and_when_dialled(address: str) -> None:
    host = f"[{address}]" if ":" in address else address

    assert refusal_of_url(f"https://{host}/hook", NOTHING) is not None
    assert refusal_of_address(address, 443, NOTHING) is not None
    assert refusal_of_addresses(["1.1.1.1", address], 443, NOTHING, "crm.example") is not None


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

    assert refusal_of_url(url, NOTHING) is None
    assert isinstance(found, Target)
    assert (found.scheme, found.host, found.port, found.address and str(found.address)) == target


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700:4700::1111"])
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert refusal_of_address(address, 443, NOTHING) is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_judged_is_what_is_dialled(host: str, path: str) -> None:
    """Our HTTP client reads every URL that we accept, and reads the same host and port."""
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
    refusal_of_url(text, NOTHING)
    refusal_of_url("https://" + text, NOTHING)
    refusal_of_address(text, 443, NOTHING)
    assert len(origin(text)) == 3


@given(st.ip_addresses(v=4), st.sampled_from(["{}", "::ffff:{}"]))
def test_the_mapped_form_is_judged_like_the_address(address: object, form: str) -> None:
    plain = refusal_of_address(str(address), 443, NOTHING)

    assert (refusal_of_address(form.format(address), 443, NOTHING) is None) == (plain is None)


def test_names_are_judged_by_every_address_they_have() -> None:
    assert refusal_of_addresses(["1.1.1.1", "2606:4700:4700::1111"], 443, NOTHING, "crm.example") is None
    assert refusal_of_addresses([], 443, NOTHING, "crm.example") == "it has no address"
    assert refusal_of_addresses(["1.1.1.1", "crm.example"], 443, NOTHING, "crm.example") is not None


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("crm.internal:8080", "http://crm.internal:8080/hook"),
        ("CRM.internal.:8080", "https://crm.INTERNAL:8080/hook"),
        ("crm:443", "https://crm/hook"),
        ("localhost:9000", "http://localhost:9000/"),
        ("10.1.0.0/16:443", "https://10.1.2.3/"),
        ("10.1.2.3/16:443", "https://10.1.2.3/"),
        ("10.1.2.3:8080", "http://10.1.2.3:8080/"),
        ("10.1.2.3:443", "https://[::ffff:10.1.2.3]/"),
        ("[fd00::1]:443", "https://[fd00::1]/"),
        ("fd00::/8:443", "https://[fd12::1]/"),
        ("93.184.0.0/16:80", "http://93.184.216.34/"),
    ],
)
def test_the_operator_may_allow_a_place(entry: str, url: str) -> None:
    assert refusal_of_url(url, NOTHING) is not None or url == "https://crm/hook"
    assert refusal_of_url(url, Allowances.parse([entry])) is None


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("crm.internal:8080", "http://crm.internal:8081/"),
        ("crm.internal:8080", "http://crm.internal/"),
        ("crm.internal:8080", "http://a.crm.internal:8080/"),
        ("crm.internal:8080", "http://crm.internal.example:8080/"),
        ("10.1.0.0/16:443", "https://10.2.0.1/"),
        ("10.1.0.0/16:443", "http://10.1.0.1/"),
        ("crm.internal:443", "https://user@crm.internal/"),
        ("127.0.0.1:443", "https://2130706433/"),
    ],
)
def test_nothing_else_is_allowed_with_it(entry: str, url: str) -> None:
    assert refusal_of_url(url, Allowances.parse([entry])) is not None


def test_an_allowed_name_may_resolve_to_a_private_address() -> None:
    allowances = Allowances.parse(["crm.internal:8080"])

    assert refusal_of_addresses(["10.0.0.1"], 8080, allowances, "crm.internal") is None
    assert refusal_of_addresses(["10.0.0.1"], 8080, allowances, "other.internal") is not None
    assert refusal_of_addresses(["10.0.0.1"], 8081, allowances, "crm.internal") is not None


@pytest.mark.parametrize(
    ("own", "address", "port"),
    [
        ("127.0.0.1:9092", "127.0.0.1", 9092),
        ("127.0.0.1:9092", "127.9.9.9", 9092),
        ("127.0.0.1:9092", "::1", 9092),
        ("127.0.0.1:9092", "::ffff:127.0.0.1", 9092),
        ("127.0.0.1:9092", "0.0.0.0", 9092),  # noqa: S104
        ("127.0.0.1:9092", "::", 9092),
        ("localhost:9092", "127.0.0.1", 9092),
        ("0.0.0.0:8080", "127.0.0.1", 8080),
        ("[::]:8080", "::1", 8080),
        ("[::1]:5432", "127.0.0.1", 5432),
        ("10.0.0.7:5432", "10.0.0.7", 5432),
    ],
)
def test_our_own_servers_are_refused_whatever_is_allowed(own: str, address: str, port: int) -> None:
    everything = [f"0.0.0.0/0:{port}", f"::/0:{port}", f"localhost:{port}", f"crm.internal:{port}"]
    allowances = Allowances.parse(everything, never=[own])
    host = f"[{address}]" if ":" in address else address

    assert refusal_of_url(f"http://{host}:{port}/", allowances) == "it leads to a server of this product itself"
    assert refusal_of_address(address, port, allowances, "crm.internal") is not None
    assert refusal_of_address(address, port + 1, Allowances.parse([f"{host}:{port + 1}"], never=[own])) is None


@pytest.mark.parametrize("own", ["127.0.0.1:9092", "[::1]:9092", "localhost:9092", "0.0.0.0:9092"])
def test_localhost_is_our_own_server_by_name_too(own: str) -> None:
    allowances = Allowances.parse(["localhost:9092", "a.localhost:9092"], never=[own])

    assert refusal_of_url("http://localhost:9092/", allowances) == "it leads to a server of this product itself"


def test_our_own_server_by_its_name() -> None:
    allowances = Allowances.parse(["broker.internal:9092"], never=["broker.internal:9092"])

    assert refusal_of_url("https://broker.internal:9092/", allowances) is not None
    assert refusal_of_addresses(["10.0.0.1"], 9092, allowances, "broker.internal") is not None


@pytest.mark.parametrize(
    "entry",
    ["", "crm", "crm:", ":443", "crm:0", "crm:65536", "crm:-1", "crm:٤٤٣", "*:443", "a b:443", "10.0.0.0/33:443"],
)
def test_an_entry_that_cannot_be_meant_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"host-or-network:port|neither a host name nor a network"):
        Allowances.parse([entry])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://crm.example/a", "https://CRM.example:443/b?c", True),
        ("https://crm.example/", "https://crm.example./", True),
        ("https://münchen.example/", "https://xn--mnchen-3ya.example/", True),
        ("https://crm.example/", "http://crm.example/", False),
        ("https://crm.example/", "https://crm.example:8443/", False),
        ("https://crm.example/", "https://www.crm.example/", False),
        ("not a url", "not a url either", False),
    ],
)
def test_two_urls_of_one_origin(one: str, other: str, same: bool) -> None:  # noqa: FBT001 -- a column of the table
    assert (origin(one) == origin(other)) is same
