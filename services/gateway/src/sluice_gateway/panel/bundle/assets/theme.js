// What the page needs before its modules: the theme that was chosen, before the first paint, and a
// word in place of the spinner if they cannot be loaded. A file of its own, because the content
// security policy allows no inline script, and a classic one, so that it runs without them.
// src/stores/uiStore.ts writes the entry, src/main.tsx sends the events.
(function () {
  var chosen = {};
  try {
    chosen = JSON.parse(localStorage.getItem("sluice.ui") || "{}").state || {};
  } catch {
    // No storage, or an entry of another version: system and browser decide.
  }
  if (chosen.theme === "dark" || chosen.theme === "light") {
    document.documentElement.dataset.theme = chosen.theme;
  }

  // The files of src/lib/i18n cannot be loaded either; a test compares the languages.
  var TEXTS = {
    en: {
      failed: "The page could not be loaded completely. Check your connection and try again.",
      reload: "Reload the page",
    },
    de: {
      failed:
        "Die Seite konnte nicht vollständig geladen werden. " +
        "Prüfen Sie Ihre Verbindung und versuchen Sie es erneut.",
      reload: "Seite neu laden",
    },
  };

  function language() {
    var wanted = [chosen.language].concat(navigator.languages || []);
    for (var tag of wanted) {
      var found = String(tag).split("-")[0].toLowerCase();
      if (Object.hasOwn(TEXTS, found)) return found;
    }
    return "en";
  }

  var hasFailed = false;
  function onFailed() {
    hasFailed = true;
    var main = document.querySelector("#root > .shell > main");
    if (!main) return; // the document is still being read: once more at its end
    stopListening();
    var picked = language();
    var note = document.createElement("div");
    note.className = "shell-failure";
    note.lang = picked;
    note.setAttribute("role", "alert");
    var text = document.createElement("p");
    text.textContent = TEXTS[picked].failed;
    var reload = document.createElement("a");
    reload.href = "";
    reload.textContent = TEXTS[picked].reload;
    note.append(text, reload);
    main.removeAttribute("aria-busy");
    main.replaceChildren(note);
  }

  // Of a module or one that it imports, both of which the browser reports at the element, or of
  // its code: exports that another version of a file lacks are found when modules are linked.
  function onError(event) {
    var source = event.target instanceof HTMLScriptElement ? event.target.src : event.filename;
    if (source && source.startsWith(location.origin + "/")) onFailed();
  }

  function onParsed() {
    if (hasFailed) onFailed();
  }

  function stopListening() {
    removeEventListener("error", onError, true);
    removeEventListener("sluice:start-failed", onFailed);
    removeEventListener("sluice:started", stopListening);
    document.removeEventListener("DOMContentLoaded", onParsed);
  }

  addEventListener("error", onError, true);
  addEventListener("sluice:start-failed", onFailed);
  addEventListener("sluice:started", stopListening);
  document.addEventListener("DOMContentLoaded", onParsed);
})();
