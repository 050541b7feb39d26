/// <reference types="vitest/config" />
import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const gateway = process.env["SLUICE_GATEWAY_URL"] ?? "http://127.0.0.1:8080";
const proxied = ["/api", "/commands", "/queries", "/files", "/.well-known", "/openapi.json"];

/**
 * Name the scripts of the components in the page: the first script imports them only when the
 * shell has been painted, and they are under way since the page came.
 */
function preloadStart(): Plugin {
  return {
    name: "preload-start",
    apply: "build",
    transformIndexHtml: {
      order: "post",
      handler(html, { bundle = {} }) {
        const named = new Set<string>();
        const add = (name: string) => {
          const chunk = bundle[name];
          if (chunk?.type !== "chunk" || named.has(name)) return;
          named.add(name);
          chunk.imports.forEach(add);
        };
        const chunks = Object.values(bundle).filter((each) => each.type === "chunk");
        const start = chunks.find((each) => each.facadeModuleId?.endsWith("/src/start.tsx"));
        if (start === undefined) throw new Error("There is no chunk of src/start.tsx.");
        add(start.fileName);
        return [...named]
          .filter((name) => !html.includes(`"/${name}"`))
          .map((name) => ({
            tag: "link",
            attrs: {
              rel: "modulepreload",
              crossorigin: true,
              fetchpriority: "low",
              href: `/${name}`,
            },
            injectTo: "head" as const,
          }));
      },
    },
  };
}

/** The bundle is package data of the gateway. Its names have no hashes, so that a rebuild of the
 * same sources changes no file; the gateway answers with an ETag of the content. */
export default defineConfig({
  plugins: [react(), preloadStart()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: {
    outDir: "../services/gateway/src/sluice_gateway/panel/bundle",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    // One style sheet, loaded before the first paint: lazy pages do not appear unstyled.
    cssCodeSplit: false,
    // Of the browsers that have light-dark(), so that it is not taken apart.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    modulePreload: { polyfill: false },
    // `make web-check` has the budget: what the first view loads, compressed.
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1000,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/[name].js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
  worker: {
    format: "es",
    rolldownOptions: { output: { entryFileNames: "assets/[name].js" } },
  },
  server: {
    proxy: {
      ...Object.fromEntries(proxied.map((path) => [path, { target: gateway, changeOrigin: true }])),
      "/ws": { target: gateway, ws: true, changeOrigin: true },
    },
  },
  test: {
    environment: "jsdom",
    include: ["src/**/*.test.{ts,tsx}"],
    setupFiles: ["tests/setup.ts"],
    restoreMocks: true,
    // Pages in jsdom take seconds beside other work; tests wait for events, not for this.
    testTimeout: 30_000,
  },
});
