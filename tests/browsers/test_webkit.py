"""A smoke test in the WebKit engine: log in, upload, see the thumbnail."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from browsers.support.photo_files import PhotoFiles
from browsers.support.site import PASSWORD
from browsers.support.texts import text
from browsers.support.webkit import webkit_page
from support.keyed_server import keyed_server


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:setting remote_server_addr:DeprecationWarning")  # by Selenium
def test_photos_upload_in_webkit(photos: PhotoFiles, tmp_path: Path) -> None:
    """The user registers in the page itself."""
    files = photos.thumbs(5, "webkit")
    with keyed_server(tmp_path) as server, webkit_page() as page:
        page.open(f"http://{server.gateway_address}/")
        page.find("tab", text("auth.register")).click()
        page.find("textbox", text("auth.email")).send_keys("ann@example.com")
        page.find("textbox", text("auth.newPassword")).send_keys(PASSWORD)
        page.find("button", text("auth.submitRegister")).click()
        page.find("button", text("drop.chooseFiles"))
        chooser = page.driver.find_element(
            By.CSS_SELECTOR, "input[type=file]:not([webkitdirectory])"
        )
        chooser.send_keys("\n".join(map(str, files)))
        page.wait_for_text(text("panel.uploaded", count=len(files)))
        page.find("link", text("nav.gallery")).click()
        page.wait_for_images("[role=grid] img", len(files))
