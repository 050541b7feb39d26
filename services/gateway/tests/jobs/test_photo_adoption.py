"""Adoption of photos by the gateway itself."""

from __future__ import annotations

from unittest.mock import AsyncMock

from sluice_gateway.projection.adoption import PhotoAdopter
from support.photo_gateway import PhotoGateway


async def test_adopted_object_is_not_read_again(photos: PhotoGateway) -> None:
    """Notifications repeat, and each reading costs the whole photo where there is no CRC32C."""
    (item,) = (await photos.create(10))["items"]
    await photos.put(item, b"x" * 10)
    photo = await photos.photo(item["photoId"])
    adopter = PhotoAdopter(photos.catalogue, photos.objects)
    await adopter(photo.object, happened_at=1.0)
    node = await photos.catalogue.get_node(photo.owner.tenant, photo.node_id)
    assert (node.size, node.path) == (10, photo.path)
    objects = AsyncMock()
    await PhotoAdopter(photos.catalogue, objects)(photo.object, happened_at=2.0)
    assert objects.mock_calls == []
