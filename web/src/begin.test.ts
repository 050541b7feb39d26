import { readFileSync } from "node:fs";
import { beforeEach, expect, test, vi } from "vitest";
import { begin } from "./begin";
import { LANGUAGES } from "./lib/i18n";
import de from "./lib/i18n/locales/de.json";
import en from "./lib/i18n/locales/en.json";

const page = readFileSync("index.html", "utf8");
const early = readFileSync("public/assets/theme.js", "utf8");

/** Run the classic script of the page as the browser does, before its modules. */
function runEarlyScript(): void {
  const script = document.createElement("script");
  script.textContent = early;
  document.head.append(script);
}

function languages(...wanted: readonly string[]): void {
  vi.spyOn(navigator, "languages", "get").mockReturnValue(wanted);
}

const main = () => document.querySelector("main");
const alert = () => document.querySelector("[role=alert]");
const failedToStart = () =>
  begin(() => Promise.reject(new TypeError("Failed to fetch dynamically imported module")));

beforeEach(() => {
  dispatchEvent(new Event("sluice:started")); // the listeners of the test before go
  localStorage.clear();
  document.body.innerHTML = new DOMParser().parseFromString(page, "text/html").body.innerHTML;
  vi.stubGlobal("reportError", vi.fn());
  languages("en-GB");
  runEarlyScript();
});

test("a page whose components cannot be loaded says so and can be reloaded", async () => {
  await failedToStart();
  expect(alert()?.textContent).toContain("could not be loaded");
  expect(alert()?.querySelector("a")?.getAttribute("href")).toBe("");
  expect(main()?.hasAttribute("aria-busy")).toBe(false);
  expect(document.querySelector(".shell-spinner")).toBeNull();
  expect(reportError).toHaveBeenCalledOnce();
});

test("a module of the page that cannot be loaded is reported by its element", () => {
  const script = document.createElement("script");
  script.type = "module";
  script.src = "/assets/index.js";
  document.body.append(script);
  script.dispatchEvent(new Event("error"));
  expect(alert()).not.toBeNull();
});

test("a module that lacks what another one imports is an error of the window", () => {
  dispatchEvent(new ErrorEvent("error", { filename: `${location.origin}/assets/index.js` }));
  expect(alert()).not.toBeNull();
});

test("a failure before the shell was read is shown after it", () => {
  const { innerHTML } = document.body;
  document.body.innerHTML = "";
  dispatchEvent(new ErrorEvent("error", { filename: `${location.origin}/assets/index.js` }));
  document.body.innerHTML = innerHTML;
  document.dispatchEvent(new Event("DOMContentLoaded"));
  expect(alert()).not.toBeNull();
});

test("errors of other origins and pictures are not failures of the page", () => {
  dispatchEvent(new ErrorEvent("error", { filename: "https://extension.example/a.js" }));
  document.querySelector("img")?.dispatchEvent(new Event("error"));
  expect(alert()).toBeNull();
  expect(main()?.getAttribute("aria-busy")).toBe("true");
});

test("a page that has started is left alone", async () => {
  await begin(() => Promise.resolve());
  dispatchEvent(new ErrorEvent("error", { filename: `${location.origin}/assets/index.js` }));
  expect(alert()).toBeNull();
});

test.each([
  ["a browser", () => undefined, ["fr-FR", "de-AT", "en"]],
  [
    "a choice",
    () => {
      localStorage.setItem("sluice.ui", JSON.stringify({ state: { language: "de" } }));
    },
    ["en"],
  ],
])("the language of %s is kept", async (_, choose, wanted) => {
  dispatchEvent(new Event("sluice:started"));
  choose();
  languages(...wanted);
  runEarlyScript();
  await failedToStart();
  expect(alert()?.getAttribute("lang")).toBe("de");
  expect(alert()?.querySelector("a")?.textContent).toBe(de.common.reload);
});

test("there is a text in each language of the page", async () => {
  const reload: Readonly<Record<string, string>> = { de: de.common.reload, en: en.common.reload };
  for (const language of LANGUAGES) {
    dispatchEvent(new Event("sluice:started"));
    document.body.innerHTML = new DOMParser().parseFromString(page, "text/html").body.innerHTML;
    languages(language);
    runEarlyScript();
    await failedToStart();
    expect(alert()?.getAttribute("lang")).toBe(language);
    expect(alert()?.querySelector("a")?.textContent).toBe(reload[language]);
  }
});
