"""How a server behaves towards strangers: every limit in one place."""

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings


class HttpSettings(Settings):
    """Limits of one server. What goes over a limit is refused with an HTTP status and a sentence, never dropped."""

    max_body_bytes: PositiveInt = Field(default=4 * 2**20, description="of one request; more gets 413")
    max_connections: PositiveInt = Field(default=512, description="requests at work; more get 503")
    max_connections_per_peer: PositiveInt = Field(
        default=128, description="open connections of one address; this machine's own are not counted"
    )
    header_timeout: PositiveFloat = Field(
        default=10.0, description="seconds that a connection may be silent, or take for a request's headers"
    )
    read_timeout: PositiveFloat = Field(default=30.0, description="seconds for a request's body to arrive")
    write_timeout: PositiveFloat = Field(default=60.0, description="seconds that a client may leave a chunk unread")
    ping_interval: PositiveFloat = Field(
        default=10.0, description="seconds after which a stream that has nothing to say says so, to keep it open"
    )
    shutdown_timeout: PositiveInt = Field(default=10, description="seconds for running requests after SIGTERM")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="names that requests may call the server, on loopback beside its own; none: any"
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="web pages that may ask, such as http://localhost:3000; * is all"
    )
    tls_certificate: Path | None = Field(default=None, description="a PEM file: the server speaks HTTPS")
    tls_key: Path | None = Field(default=None, description="the certificate's private key, if not in the same file")
    access_log: bool = Field(default=False, description="a line for every request on stderr: no bodies, no keys")


class ServeSettings(HttpSettings):
    """Of a server with a model of its own."""

    max_queue: int = Field(default=256, ge=0, description="sequences that may wait for a place; more get 429")
    max_choices: PositiveInt = Field(default=128, description="prompts times n in one request")
    max_embedding_tokens: PositiveInt = Field(default=300_000, description="of all inputs of one request together")
    max_logprobs: PositiveInt = Field(default=2_000_000, description="in one response: tokens times candidates")
