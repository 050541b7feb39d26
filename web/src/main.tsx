import "@/design/tokens.css";
import "@/design/base.css";
import "@/design/shell.css";
import "@/first";
import { afterPaint } from "@/afterPaint";

/** The shell of index.html is on the screen before the work of the components begins. */
async function begin(element: HTMLElement): Promise<void> {
  await afterPaint();
  const { start } = await import("@/start");
  await start(element);
}

const root = document.getElementById("root");
if (root) void begin(root);
