"""Who may see the pages, who may decide, and which requests a browser was tricked into sending."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import DagAccessEntity, GetUserDep, bearer_scheme, requires_access_dag
from airflow.configuration import conf
from fastapi import Depends, HTTPException, Request, status
from fastapi.security import HTTPAuthorizationCredentials

from copywatch.settings import settings

REVIEW_DAG = "review_matches"

may_read = requires_access_dag("GET", param_dag_id=REVIEW_DAG)
"""Whoever may look at the DAG may look at its pages."""

may_decide = requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=REVIEW_DAG)
"""A decision makes the DAG act, so it takes the right to run it."""


def may_configure(user: GetUserDep) -> bool:
    """Whether a user may change what all runs go by: whoever may change Airflow's variables, a reviewer may not."""
    return bool(get_auth_manager().is_authorized_variable(method="PUT", user=user))


def configures(user: GetUserDep) -> None:
    """Let only those pass who `may_configure`.

    Raises:
        HTTPException: 403.
    """
    if not may_configure(user):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "choosing a threshold takes the right to change variables")


CUSTOM_HEADER = "x-copywatch"
"""No HTML form can send it, and no page of another origin without asking first (CORS), which nobody grants."""


def own_request(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]
) -> None:
    """Refuse a change that another site's page sends with the reviewer's cookie (CSRF).

    A request with a bearer token carries what no other site knows. It is still refused when a browser says that
    another site sent it, since with `simple_auth_manager_all_admins` Airflow itself adds a token to every request.

    Raises:
        HTTPException: 403, with what was missing.
    """
    fetch_site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if fetch_site is not None and fetch_site != "same-origin":
        raise _refused(f"this request comes from another site ({fetch_site})")
    if origin is not None and fetch_site is None and origin not in _own_origins(request):
        raise _refused("this request comes from another origin")
    if bearer is not None:
        return
    if fetch_site is None and origin is None:
        raise _refused("without a bearer token a request must say where it comes from (Sec-Fetch-Site or Origin)")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and CUSTOM_HEADER not in request.headers:
        raise _refused("send it as application/json, or with the header X-Copywatch")


def _own_origins(request: Request) -> set[str]:
    """Origins that the UI is reached at: the request's own, and those an administrator named (behind a proxy)."""
    named = (conf.get("api", "base_url", fallback=""), settings().airflow_url)
    origins = {f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, named) if parts.scheme and parts.netloc}
    return origins | {f"{request.url.scheme}://{request.url.netloc}"}


def _refused(why: str) -> HTTPException:
    return HTTPException(status.HTTP_403_FORBIDDEN, f"refused: {why}")
