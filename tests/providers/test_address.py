"""Addresses and keys: what is no address is said in a sentence, and no sentence has a key in it."""

import pytest

from inhouse.providers.address import check_address, is_address, key_from


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("https://api.example.com/openai/v2", "https://api.example.com/openai/v2"),
    ],
)
def test_an_address_gets_a_version_where_it_has_no_path(given: str, meant: str) -> None:
    assert is_address(given)
    assert check_address(given) == meant


@pytest.mark.parametrize(
    "given", ["https://user:secret@a.com", "https://a.com/v1?key=secret", "https://a.com/#secret", "https://:1/", "ftp://a.com",
              "http://a.com:99999/"],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_its_secret(given: str) -> None:
    with pytest.raises(ValueError) as error:
        check_address(given)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "2852039166", "0xa9fea9fe", "169.254.43518", "[fe80::1]", "[::ffff:169.254.169.254]",
             "[fd00:ec2::254]", "metadata.google.internal", "METADATA.google.internal."],
)  # fmt: skip
def test_where_a_cloud_keeps_credentials_is_no_endpoint(host: str) -> None:
    with pytest.raises(ValueError, match="credentials"):
        check_address(f"http://{host}/v1")


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.8", "[::1]", "gpu-7", "models.internal"])
def test_models_of_ones_own_may_be_anywhere(host: str) -> None:
    assert check_address(f"http://{host}:8000") == f"http://{host}:8000/v1"


@pytest.mark.parametrize("value", ["", "  ", "sec ret", "secr\u00e9t", "secret\nx: y"])
def test_a_key_that_is_none_is_named_by_its_variable_only(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", value)
    with pytest.raises(ValueError, match="THE_KEY") as error:
        key_from("THE_KEY")
    assert "sec" not in str(error.value)


def test_a_key_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "sk-123\n")
    key = key_from("THE_KEY")
    assert key is not None
    assert key.get_secret_value() == "sk-123"
    assert "123" not in f"{key} {key!r}"
    assert key_from(None) is None
