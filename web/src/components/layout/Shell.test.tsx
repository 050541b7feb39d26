import { readFileSync } from "node:fs";
import { cleanup, render, screen } from "@testing-library/react";
import { expect, test } from "vitest";
import { Shell } from "./Shell";

/** Elements, attributes and texts, without the white space between them. */
function outline(node: Element): unknown {
  const attributes = [...node.attributes].map(({ name, value }) => `${name}=${value}`).sort();
  const children = [...node.childNodes].flatMap((child) => {
    if (child instanceof Element) return [outline(child)];
    const text = child.textContent?.trim() ?? "";
    return text === "" ? [] : [text];
  });
  return [node.tagName, attributes, children];
}

test("the shell of index.html is the one of the components", () => {
  const page = new DOMParser().parseFromString(readFileSync("index.html", "utf8"), "text/html");
  const written = page.querySelector("#root > .shell");
  if (written === null) throw new Error("index.html has no shell.");
  const { container } = render(<Shell />);
  const drawn = container.firstElementChild;
  if (drawn === null) throw new Error("Nothing was drawn.");
  expect(outline(written)).toEqual(outline(drawn));
});

test("what is said of the wait is in the busy part of the page", () => {
  render(<Shell>please wait</Shell>);
  expect(screen.getByRole("main").getAttribute("aria-busy")).toBe("true");
  expect(screen.getByRole("main").textContent).toBe("please wait");
  cleanup();
});
