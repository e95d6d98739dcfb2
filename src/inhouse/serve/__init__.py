"""The OpenAI-compatible HTTP API over the engine."""

from inhouse.serve.app import create_app
from inhouse.serve.server import serve
from inhouse.serve.settings import ServeSettings

__all__ = ["ServeSettings", "create_app", "serve"]
