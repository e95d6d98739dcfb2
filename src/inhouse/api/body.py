"""Reading a request's JSON body: within a time, up to a size."""

import asyncio

from starlette.requests import Request

from inhouse.api.errors import ApiError
from inhouse.api.settings import HttpSettings
from inhouse.common.waiting import within


async def read_body(request: Request, limits: HttpSettings) -> bytes:
    """The body, refused as soon as it is known to be over the limit: declared so, or counted while it arrives."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # a web page may post text/plain to a loopback server without the browser asking it first; JSON it may not
        raise ApiError(415, "The request's body must be sent as Content-Type: application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise ApiError(415, "The request's body must be sent as it is, without a Content-Encoding.")
    most, declared = limits.max_body_bytes, request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) <= most:
        try:
            body = await within(lambda: asyncio.timeout(limits.read_timeout), _read(request, most))
        except TimeoutError:
            message = f"The request's body did not arrive within {limits.read_timeout:g} s."
            raise ApiError(408, message, headers={"connection": "close"}) from None
        if body is not None:
            return body
    raise ApiError(413, f"The request's body is over {most} bytes.", headers={"connection": "close"})


async def _read(request: Request, most: int) -> bytes | None:
    """None where it is longer."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)
