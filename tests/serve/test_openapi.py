"""The document that the server describes itself by."""

import json
import re

from starlette.routing import Route


def test_it_has_every_path_and_no_other(server):
    document = server.get("/openapi.json").json()
    described = {
        (re.sub(r"\{model\}", "{model:path}", path), method.upper())
        for path, operations in document["paths"].items()
        for method in operations
    }
    routes = {
        (route.path, method)
        for route in server.served_app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert described == routes


def test_its_references_lead_somewhere_and_its_names_are_those_of_the_types(server):
    document = server.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred <= schemas.keys()
    assert {"ChatRequest", "ChatMessage", "CompletionRequest", "TokenizeRequest", "Error"} <= referred
    chat = schemas["ChatRequest"]
    assert chat["required"] == ["model", "messages"]
    assert chat["additionalProperties"] is False
    assert chat["properties"]["temperature"]["anyOf"][0] == {"maximum": 2.0, "minimum": 0.0, "type": "number"}
    assert chat["properties"]["functions"]["anyOf"][0]["enum"][0] == []
    assert {"type": "null"} in chat["properties"]["stop"]["anyOf"]


def test_with_a_key_it_says_so(run_server):
    with run_server(api_key="secret") as server:
        assert server.get("/openapi.json").status_code == 401
        document = server.get("/openapi.json", headers={"authorization": "Bearer secret"}).json()
    assert document["security"] == [{"key": []}, {"x-api-key": []}]
    assert document["paths"]["/health"]["get"]["security"] == []
