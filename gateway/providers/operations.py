"""The operations of OpenAI's API beside conversations: below which paths, by which methods, with what bodies."""

from __future__ import annotations

RERANK = ("rerank", "rerank_v2")
TEXT = ("chat", "completions", "embeddings")
IMAGES = ("images", "image_edits", "image_variations")
AUDIO = ("speech", "transcriptions", "translations")
FILES = ("file_create", "file_get", "file_delete", "file_content")
RESPONSES = ("responses", "response_get", "response_delete", "response_items", "response_cancel")
BATCHES = ("batch_create", "batch_get", "batch_cancel")

PATHS = {
    "chat": b"/chat/completions",
    "completions": b"/completions",
    "embeddings": b"/embeddings",
    "responses": b"/responses",
    "response_get": b"/responses/{id}",
    "response_delete": b"/responses/{id}",
    "response_items": b"/responses/{id}/input_items",
    "response_cancel": b"/responses/{id}/cancel",
    "rerank": b"/rerank",
    "rerank_v2": b"/rerank",
    "moderations": b"/moderations",
    "images": b"/images/generations",
    "image_edits": b"/images/edits",
    "image_variations": b"/images/variations",
    "speech": b"/audio/speech",
    "transcriptions": b"/audio/transcriptions",
    "translations": b"/audio/translations",
    "file_create": b"/files",
    "file_get": b"/files/{id}",
    "file_delete": b"/files/{id}",
    "file_content": b"/files/{id}/content",
    "batch_create": b"/batches",
    "batch_get": b"/batches/{id}",
    "batch_cancel": b"/batches/{id}/cancel",
}
"""Below the base URL; `{id}` stands for what the request is about."""
METHODS = {
    "response_get": b"GET",
    "response_delete": b"DELETE",
    "response_items": b"GET",
    "file_get": b"GET",
    "file_delete": b"DELETE",
    "file_content": b"GET",
    "batch_get": b"GET",
}
"""Of those that are no POST."""
FORMS = frozenset({"image_edits", "image_variations", "transcriptions", "translations", "file_create"})
"""Those whose bodies are multipart forms."""
