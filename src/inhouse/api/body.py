"""Reading a request's JSON body: within a time, up to a size."""

import asyncio

from starlette.requests import Request

from inhouse.api.errors import ApiError
from inhouse.api.settings import ServeSettings


async def read_body(request: Request, limits: ServeSettings) -> bytes:
    """The body, refused as soon as it is known to be over the limit: declared so, or counted while it arrives."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # a web page may post text/plain to a loopback server without the browser asking it first; JSON it may not
        raise ApiError(415, "The request's body must be sent as Content-Type: application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise ApiError(415, "The request's body must be sent as it is, without a Content-Encoding.")
    most, declared = limits.max_body_bytes, request.headers.get("content-length", "0")
    try:
        async with asyncio.timeout(limits.read_timeout):
            body = bytearray()
            if not declared.isdecimal() or int(declared[:20]) <= most:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        break
                else:
                    return bytes(body)
    except TimeoutError:
        message = f"The request's body did not arrive within {limits.read_timeout:g} s."
        raise ApiError(408, message, headers={"connection": "close"}) from None
    raise ApiError(413, f"The request's body is over {most} bytes.", headers={"connection": "close"})
