"""Pages that stand alone: one file each, one style, light and dark, no JavaScript needed; all text is escaped."""

from typing import Any


def render_page(room: str, template: str, **values: Any) -> str:
    """A room's template, which extends `page.html.jinja` with the blocks title, body and style."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader  # here: few verbs make a page

    loader = ChoiceLoader([PackageLoader(room, "."), PackageLoader("inhouse.common", ".")])
    return Environment(loader=loader, autoescape=True).get_template(template).render(**values)
