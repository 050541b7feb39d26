// Sets the theme that was chosen before the first paint. A file of its own, because the content
// security policy allows no inline script. src/stores/uiStore.ts writes the entry.
(function () {
  try {
    var stored = JSON.parse(localStorage.getItem("sluice.ui") || "{}");
    var theme = stored.state && stored.state.theme;
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch {
    // No storage, or an entry of another version: the system decides.
  }
})();
