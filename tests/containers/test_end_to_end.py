"""The end-to-end tests, reused unchanged on the official images of Redis, MySQL, Apache Kafka and
MinIO. Their fixtures come from the conftest beside this file.
"""

from __future__ import annotations

from e2e.test_budget import test_two_hundred_uploads_through_a_budget_of_64_mib_all_finish
from e2e.test_chunk_shapes import (
    test_a_file_of_zeros_whose_chunks_are_all_equal_becomes_the_object,
    test_an_empty_object_needs_one_empty_chunk_or_none,
    test_chunks_of_a_declared_size_become_the_object,
    test_chunks_of_random_sizes_without_a_declared_one_become_the_object,
)
from e2e.test_crash_points import test_the_restarted_server_finishes_what_died
from e2e.test_folder import (
    test_a_name_that_is_not_text_is_reported_and_the_others_go_on,
    test_thousands_of_real_files_come_back_byte_for_byte,
)
from e2e.test_server_killed import (
    test_a_killed_client_resumes_and_says_how_much_it_skipped,
    test_ten_kills_of_the_server_during_one_upload_lose_and_repeat_nothing,
)

__all__ = [
    "test_a_file_of_zeros_whose_chunks_are_all_equal_becomes_the_object",
    "test_a_killed_client_resumes_and_says_how_much_it_skipped",
    "test_a_name_that_is_not_text_is_reported_and_the_others_go_on",
    "test_an_empty_object_needs_one_empty_chunk_or_none",
    "test_chunks_of_a_declared_size_become_the_object",
    "test_chunks_of_random_sizes_without_a_declared_one_become_the_object",
    "test_ten_kills_of_the_server_during_one_upload_lose_and_repeat_nothing",
    "test_the_restarted_server_finishes_what_died",
    "test_thousands_of_real_files_come_back_byte_for_byte",
    "test_two_hundred_uploads_through_a_budget_of_64_mib_all_finish",
]
