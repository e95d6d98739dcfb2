"""The HTTP application of the gateway: its routes, behind the keys and the counting."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inhouse.api.body import read_body
from inhouse.api.events import EventStream, unless_gone
from inhouse.api.metrics import ServerMetrics
from inhouse.api.middleware import stack
from inhouse.gateway.call import opened
from inhouse.gateway.conversation import conversation_of
from inhouse.gateway.faces.chat import Chat
from inhouse.gateway.faces.errors import ALL_HANDLERS, as_api_error
from inhouse.gateway.faces.face import Face
from inhouse.gateway.faces.messages import Messages
from inhouse.gateway.faces.responses import Responses
from inhouse.gateway.gateway import Asked, Call, Gateway
from inhouse.gateway.keyed import Keyed
from inhouse.gateway.types import Caller, CallRefused
from inhouse.providers.errors import ProviderError
