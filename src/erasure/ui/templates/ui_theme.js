(function () {
  "use strict";
  // Theme: the system's, unless the reader chooses; kept for the other pages of this visit.
  const root = document.documentElement, button = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const kept = sessionStorage.getItem("theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", "Switch to the " + (isDark() ? "light" : "dark") + " theme"); };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; sessionStorage.setItem("theme", root.dataset.theme); name(); });
  system.addEventListener("change", name);
  name();
})();
