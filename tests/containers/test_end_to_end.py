"""The end-to-end tests, reused unchanged on the official images of Redis, MySQL, Apache Kafka and
MinIO. Their fixtures come from the conftest beside this file.
"""

from __future__ import annotations

from e2e.test_budget import test_uploads_through_a_64_mib_budget_all_finish
from e2e.test_chunk_shapes import (
    test_an_empty_object_needs_one_empty_chunk_or_none,
    test_chunks_of_a_declared_size_become_the_object,
    test_file_of_equal_zero_chunks_becomes_the_object,
    test_undeclared_random_chunk_sizes_become_the_object,
)
from e2e.test_crash_points import test_restarted_server_finishes_the_crashed_upload
from e2e.test_folder import (
    test_real_files_come_back_byte_for_byte,
    test_undecodable_name_fails_without_stopping_the_others,
)
from e2e.test_server_killed import (
    test_killed_client_resumes_and_reports_skipped_bytes,
    test_server_kills_during_an_upload_lose_nothing,
)

__all__ = [
    "test_an_empty_object_needs_one_empty_chunk_or_none",
    "test_chunks_of_a_declared_size_become_the_object",
    "test_file_of_equal_zero_chunks_becomes_the_object",
    "test_killed_client_resumes_and_reports_skipped_bytes",
    "test_real_files_come_back_byte_for_byte",
    "test_restarted_server_finishes_the_crashed_upload",
    "test_server_kills_during_an_upload_lose_nothing",
    "test_undeclared_random_chunk_sizes_become_the_object",
    "test_undecodable_name_fails_without_stopping_the_others",
    "test_uploads_through_a_64_mib_budget_all_finish",
]
