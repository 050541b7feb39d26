"""The WebKit engine: WebKitGTK's MiniBrowser, driven by Selenium on a display of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from selenium.webdriver import WebKitGTK
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from selenium.webdriver.webkitgtk.options import Options
from selenium.webdriver.webkitgtk.service import Service

from browsers.support.engines import browser_environment, browser_program

SCREEN: Final = "1280x900x24"
WAIT_SECONDS: Final = 60.0
# Its accessible tree is not reachable by WebDriver, so names are computed as far as pages need it.
_BY_ROLE: Final = {
    "button": "button, [role=button]",
    "tab": "[role=tab]",
    "textbox": "input, textarea",
    "region": "section, [role=region], [role=dialog], aside",
    "link": "a[href]",
}


class WebKitPage:
    """The one page of the browser."""

    def __init__(self, driver: WebKitGTK) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def find(self, role: str, name: str) -> WebElement:
        """Wait for the element of this role with this name, as the browser computes it."""

        def found(driver: WebKitGTK) -> WebElement | bool:
            for element in driver.find_elements(By.CSS_SELECTOR, _BY_ROLE[role]):
                if element.accessible_name == name:
                    return element
            return False

        element = WebDriverWait(self.driver, WAIT_SECONDS, 0.1).until(
            found, f"there is no {role} {name!r}"
        )
        assert isinstance(element, WebElement)
        return element

    def wait_for_text(self, text: str) -> None:
        """Wait until the page shows this text."""
        WebDriverWait(self.driver, WAIT_SECONDS, 0.1).until(
            lambda driver: text in driver.find_element(By.TAG_NAME, "body").text,
            f"the page does not show {text!r}",
        )

    def wait_for_images(self, selector: str, count: int) -> None:
        """Wait until this many pictures are loaded."""
        loaded = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter((one) => one.complete && one.naturalWidth > 0).length"
        )
        WebDriverWait(self.driver, WAIT_SECONDS, 0.1).until(
            lambda driver: driver.execute_script(loaded, selector) == count,
            f"there are not {count} pictures",
        )


@contextmanager
def webkit_page() -> Iterator[WebKitPage]:
    """Run the browser inside the block."""
    program, driver_program = browser_program("webkit"), browser_program("webkit-driver")
    with _display() as display:
        options = Options()
        options.binary_location = program
        options.add_argument("--automation")
        environment = browser_environment(
            DISPLAY=display,
            WEBKIT_DISABLE_COMPOSITING_MODE="1",  # without a graphics card pages stay empty
        )
        driver = WebKitGTK(options=options, service=Service(driver_program, env=environment))
        try:
            yield WebKitPage(driver)
        finally:
            driver.quit()


@contextmanager
def _display() -> Iterator[str]:
    """Run an X server on the first free display inside the block."""
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="ascii") as chosen:
        try:
            process = subprocess.Popen(
                [
                    *(browser_program("xvfb"), "-displayfd", str(writer)),
                    *("-screen", "0", SCREEN, "-nolisten", "tcp"),
                ],
                pass_fds=(writer,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(writer)
        try:
            number = chosen.readline().strip()
            assert number, "Xvfb did not start"
            yield f":{number}"
        finally:
            process.terminate()
            process.wait(30)
