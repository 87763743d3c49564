"""What Airflow loads of Copywatch: the pages, their place in the menu, and the links on tasks.

Every Airflow process imports this, the task runner too, so it imports next to nothing: the pages' application is made
at its first request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin
from task_links import ReviewPageLink, RowsOfRunLink, SiteLink

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='{colour}' "
    "stroke-width='2' stroke-linejoin='round'%3E%3Crect x='3' y='3' width='12' height='12' rx='2'/%3E"
    "%3Crect x='9' y='9' width='12' height='12' rx='2'/%3E%3C/svg%3E"
)


class Pages:
    """The pages as an ASGI application that is imported when it is first asked for something."""

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Hand the request on."""
        from copywatch_pages.application import application

        await application()(scope, receive, send)


class CopywatchPlugin(AirflowPlugin):
    """The plugin; in the Airflow UI the pages are `/plugin/review` and `/plugin/thresholds`."""

    name = "copywatch"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = [
        {"app": Pages(), "url_prefix": "/copywatch", "name": "Copywatch pages"}
    ]
    external_views: ClassVar[list[dict[str, Any]]] = [
        {
            "name": "Review",
            # Relative, so that it also holds where Airflow lives below a path.
            "href": "copywatch/review",
            "url_route": "review",
            "destination": "nav",
            "nav_top_level": True,
            "icon": _ICON.format(colour="%2371819c"),
            "icon_dark_mode": _ICON.format(colour="%23a9b6c9"),
        },
        {
            "name": "Thresholds",
            "href": "copywatch/thresholds",
            "url_route": "thresholds",
            "destination": "nav",
            "category": "admin",
        },
    ]
    # Global ones are computed by the API server at every look, so they are there while a task waits or runs. Links on
    # an operator are computed when its task ends, which is too late for a sensor that waits for reviewers.
    global_operator_extra_links: ClassVar[list[Any]] = [ReviewPageLink(), SiteLink(), RowsOfRunLink()]
