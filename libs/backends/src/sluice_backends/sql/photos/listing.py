"""Listings of photos: filters, sorts and cursors."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Select, and_, func, literal, or_, select

from sluice_backends.sql.schema import photo_tags, photos, tags
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.names import search_key
from sluice_core.ports.photos import PhotoCursor, PhotoFilter, PhotoSort

_COLUMNS: dict[PhotoSort, Column[Any]] = {
    PhotoSort.CREATED: photos.c.created_at,
    PhotoSort.DATED: photos.c.dated_at,
    PhotoSort.FILENAME: photos.c.filename,
}


def listing(owner: Owner, wanted: PhotoFilter, after: PhotoCursor | None) -> Select[Any]:
    """Return the query of an owner's photos, in the order of an index that begins with the owner.

    The other filters are checked along that index: an owner's photos bound their cost.
    """
    column, photo_id = _COLUMNS[wanted.sort], photos.c.photo_id
    order = (
        (column.desc(), photo_id.desc()) if wanted.descending else (column.asc(), photo_id.asc())
    )
    statement = (
        select(photos)
        .where(
            photos.c.tenant == owner.tenant,
            photos.c.user_id == owner.user_id,
            photos.c.deleted_at.is_(None),
        )
        .order_by(*order)
    )
    statement = _filtered(statement, owner, wanted)
    if after is None:
        return statement
    same = and_(
        column == after.value,
        photo_id < after.photo_id if wanted.descending else photo_id > after.photo_id,
    )
    if wanted.descending:
        # The first condition is implied by the rest; it gives the range of the index.
        return statement.where(column <= after.value, or_(column < after.value, same))
    return statement.where(column >= after.value, or_(column > after.value, same))


def cursor_of(photo: Photo, sort: PhotoSort) -> PhotoCursor:
    """Return the place of this photo in a listing."""
    match sort:
        case PhotoSort.CREATED:
            return PhotoCursor(photo.created_at, photo.photo_id)
        case PhotoSort.DATED:
            return PhotoCursor(photo.dated_at, photo.photo_id)
        case PhotoSort.FILENAME:
            return PhotoCursor(photo.filename, photo.photo_id)


def _filtered(statement: Select[Any], owner: Owner, wanted: PhotoFilter) -> Select[Any]:
    if wanted.tag:
        statement = (
            statement.join(photo_tags, photo_tags.c.photo_id == photos.c.photo_id)
            .join(tags, tags.c.tag_id == photo_tags.c.tag_id)
            .where(
                tags.c.tenant == owner.tenant,
                tags.c.user_id == owner.user_id,
                tags.c.label == wanted.tag,
            )
        )
    if wanted.status is not None:
        statement = statement.where(photos.c.status == wanted.status.value)
    if wanted.taken_from is not None:
        statement = statement.where(photos.c.dated_at >= wanted.taken_from)
    if wanted.taken_to is not None:
        statement = statement.where(photos.c.dated_at < wanted.taken_to)
    if wanted.text:
        # Not LIKE: it treats `%` and `_` as wildcards, and differs on bytes between databases.
        text = literal(search_key(wanted.text), photos.c.search_key.type)
        statement = statement.where(func.instr(photos.c.search_key, text) > literal(0))
    return statement
