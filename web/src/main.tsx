import "@/design/tokens.css";
import "@/design/base.css";
import "@/design/shell.css";
import "@/first";
import { afterPaint } from "@/afterPaint";
import { begin } from "@/begin";

const root = document.getElementById("root");
if (root) {
  void begin(async () => {
    // The shell of index.html is on the screen before the work of the components begins.
    await afterPaint();
    const { start } = await import("@/start");
    await start(root);
  });
}
