"""Addresses, chat templates of folders, and signals."""

import socket

import pytest

from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.serve.server import chat_template_of, listen


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


def test_the_template_is_the_folders_own(tmp_path):
    assert chat_template_of(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "x"}')
    assert chat_template_of(tmp_path) is None
    (tmp_path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    assert chat_template_of(tmp_path) == CHAT_TEMPLATE
