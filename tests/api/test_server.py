"""Addresses to listen on."""

import socket

import pytest

from inhouse.api.connections import is_loopback
from inhouse.api.server import listen


def test_an_address_in_use_is_one_sentence():
    with listen("127.0.0.1", 0) as taken, pytest.raises(ValueError, match="choose another host or port"):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 8000), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be(host, port):
    with pytest.raises(ValueError, match="cannot listen"):
        listen(host, port)


def test_ipv6(tmp_path):
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        listen("::1", 0).close()
    except ValueError as error:
        pytest.skip(str(error))


def test_only_this_machine_reaches_a_loopback_address():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org")))
