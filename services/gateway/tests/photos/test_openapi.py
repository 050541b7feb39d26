"""The OpenAPI document of jobs and photos."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
from openapi_spec_validator import validate

from sluice_core.photos.ids import ID_PATTERN
from support.photo_gateway import PhotoGateway, jpeg

ROUTES = {
    "/commands/upload-jobs": {"post"},
    "/commands/upload-jobs/{jobId}/cancel": {"post"},
    "/commands/upload/progress": {"post"},
    "/commands/upload/{photoId}/parts": {"post"},
    "/commands/upload/{photoId}/finalize": {"post"},
    "/commands/upload/{photoId}/renew": {"post"},
    "/commands/upload/{photoId}/retry": {"post"},
    "/commands/upload/{photoId}/cancel": {"post"},
    "/commands/photos/{photoId}/reprocess": {"post"},
    "/commands/photos/{photoId}/tags": {"post", "delete"},
    "/commands/photos/{photoId}": {"delete"},
    "/queries/upload-jobs": {"get"},
    "/queries/upload-jobs/{jobId}": {"get"},
    "/queries/upload-limits": {"get"},
    "/queries/photos": {"get"},
    "/queries/photos/{photoId}": {"get"},
    "/queries/photos/{photoId}/download-url": {"get"},
    "/queries/tags": {"get"},
}


async def document_of(photos: PhotoGateway) -> Any:
    return (await photos.http.get("/openapi.json")).json()


async def test_document_is_valid_openapi(photos: PhotoGateway) -> None:
    document = await document_of(photos)
    assert document["openapi"] == "3.1.0"
    validate(document)


async def test_every_route_is_documented(photos: PhotoGateway) -> None:
    paths = (await document_of(photos))["paths"]
    assert ROUTES.items() <= {path: set(paths[path]) for path in paths}.items()


async def test_every_route_documents_its_errors(photos: PhotoGateway) -> None:
    """With problem details, and never with the answers that FastAPI has by itself."""
    document = await document_of(photos)
    for path in ROUTES:
        for operation in document["paths"][path].values():
            assert operation["security"] == [{"bearer": []}]
            responses = operation["responses"]
            assert "422" not in responses
            assert "application/problem+json" in responses["default"]["content"]
            assert len(operation["operationId"]) > 3
    assert "HTTPValidationError" not in document["components"]["schemas"]
    parameters = document["paths"]["/commands/upload-jobs"]["post"]["parameters"]
    assert [one["name"] for one in parameters] == ["Idempotency-Key"]
    assert document["paths"]["/queries/photos"]["get"]["responses"].keys() == {"200", "default"}


async def test_forms_are_documented(photos: PhotoGateway) -> None:
    """What a request has to look like, as far as JSON Schema can say it."""
    document = await document_of(photos)

    def parameter(method: str, path: str, name: str) -> Any:
        operation = document["paths"][path][method]
        (found,) = (one for one in operation["parameters"] if one["name"] == name)
        return found["schema"]

    assert parameter("get", "/queries/photos/{photoId}", "photoId")["pattern"] == ID_PATTERN
    assert parameter("get", "/queries/upload-jobs/{jobId}", "jobId")["pattern"] == ID_PATTERN
    key = parameter("post", "/commands/upload-jobs", "Idempotency-Key")
    assert (key["minLength"], key["maxLength"]) == (1, 255)
    assert parameter("get", "/queries/photos", "tag")["maxLength"] == 64
    assert "takenAt" in parameter("get", "/queries/photos", "sort")["pattern"]
    labels = parameter("delete", "/commands/photos/{photoId}/tags", "tag")
    assert labels["items"]["maxLength"] == 64
    schemas = document["components"]["schemas"]
    file = schemas["FileBody"]["properties"]
    assert (file["filename"]["maxLength"], file["bytes"]["minimum"]) == (255, 1)
    assert "image/heic" in file["mimeType"]["enum"]
    assert "S3_PRESIGNED" in schemas["NewJobBody"]["properties"]["strategy"]["enum"]
    assert schemas["TagsBody"]["properties"]["tags"]["items"]["maxLength"] == 64


async def test_operation_ids_are_unique(photos: PhotoGateway) -> None:
    paths = (await document_of(photos))["paths"]
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(set(ids)) == len(ids)


async def test_answers_have_their_documented_shape(photos: PhotoGateway) -> None:
    document = await document_of(photos)
    components = {"components": document["components"]}

    def check(method: str, template: str, response: Any) -> Any:
        responses = document["paths"][template][method.lower()]["responses"]
        documented = responses.get(str(response.status_code), responses["default"])
        content_type = response.headers["content-type"]
        schema = documented["content"][content_type]["schema"]
        jsonschema.Draft202012Validator({**schema, **components}).validate(response.json())
        return response.json()

    async def call(method: str, template: str, body: Any = None, query: str = "") -> Any:
        path = re.sub(r"{(\w+)}", lambda found: ids[found[1]], template) + query
        return check(method, template, await photos.call(method, path, body))

    ids: dict[str, str] = {"jobId": "job_unknown", "photoId": "ph_unknown"}
    for template, methods in ROUTES.items():
        for method in methods:
            await call(method.upper(), template)  # a refusal, or an empty list
    files = [jpeg("a.jpg"), jpeg("b.jpg", 9_000_000)]
    job = await call("POST", "/commands/upload-jobs", {"files": files})
    single, multipart = (item["photoId"] for item in job["items"])
    ids = {"jobId": job["jobId"], "photoId": multipart}
    await call("POST", "/commands/upload/{photoId}/parts")
    await call("POST", "/commands/upload/{photoId}/renew")
    await call("POST", "/commands/upload/{photoId}/retry")
    await call("POST", "/commands/upload/{photoId}/cancel")
    ids["photoId"] = single
    report = {"photoId": single, "bytesSent": 1, "bytesTotal": 10}
    await call("POST", "/commands/upload/progress", report)
    await call("POST", "/commands/upload/progress", [report, {**report, "bytesSent": 11}])
    await photos.put(job["items"][0], b"x" * 10)
    await call("POST", "/commands/upload/{photoId}/finalize")
    await photos.arrive(single, is_processed=True)
    await call("POST", "/commands/photos/{photoId}/tags", {"tags": ["a"]})
    await call("GET", "/queries/photos/{photoId}")
    await call("GET", "/queries/photos/{photoId}/download-url", None, "?variant=256")
    assert len((await call("GET", "/queries/photos"))["items"]) == 2
    assert (await call("GET", "/queries/tags"))["items"] == [{"label": "a", "count": 1}]
    await call("DELETE", "/commands/photos/{photoId}/tags", None, "?tag=a")
    await call("GET", "/queries/upload-jobs/{jobId}")
    await call("GET", "/queries/upload-jobs")
    await call("GET", "/queries/upload-limits")
    await call("POST", "/commands/upload-jobs/{jobId}/cancel")
