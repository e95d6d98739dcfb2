"""Pages that stand alone: one file each, one style, light and dark, no JavaScript needed; all text is escaped."""

from functools import cache
from typing import Any


def render_page(room: str, template: str, **values: Any) -> str:
    """A room's template, which extends `page.html.jinja` with the blocks title, body and style."""
    return _environment(room).get_template(template).render(**values)


@cache
def _environment(room: str) -> Any:
    """It keeps compiled templates, for who makes a page often."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader  # here: few verbs make a page

    loader = ChoiceLoader([PackageLoader(room, "."), PackageLoader("inhouse.common", ".")])
    return Environment(loader=loader, autoescape=True)
