(function () {
  "use strict";
  const $ = (id) => document.getElementById(id);

  // Theme: the system's, unless the reader chooses.
  const root = document.documentElement, theme = $("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", "Switch to the " + (isDark() ? "light" : "dark") + " theme"); };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  name();

  // Copying the command.
  const copy = $("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", () => navigator.clipboard.writeText($("command").textContent).then(
      () => { copy.textContent = "Copied"; setTimeout(() => { copy.textContent = "Copy"; }, 1500); },
      () => { getSelection().selectAllChildren($("command")); }));
  }

  // Explanations of columns, on hover and on focus.
  const tip = $("tip");
  const show = (event) => {
    const place = event.currentTarget.getBoundingClientRect();
    tip.textContent = event.currentTarget.dataset.help;
    tip.hidden = false;
    const left = Math.max(8, Math.min(place.left, innerWidth - tip.offsetWidth - 8));
    const above = place.top - tip.offsetHeight - 8;
    tip.style.left = left + "px";
    tip.style.top = (above > 4 ? above : place.bottom + 8) + "px";
  };
  const hide = () => { tip.hidden = true; };
  document.querySelectorAll("[data-help]").forEach((button) => {
    button.addEventListener("mouseenter", show);
    button.addEventListener("focus", show);
    button.addEventListener("mouseleave", hide);
    button.addEventListener("blur", hide);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, true);

  // Tables: sorted, filtered, and in pages where they are long; each has controls of its own.
  const start = (table) => {
    const $ = (id) => document.getElementById(id + table.dataset.end);
    const body = table.tBodies[0], size = 100, data = $("lines");
    const element = (tag, text, kind) => { const made = document.createElement(tag); if (text) made.textContent = text; if (kind) made.className = kind; return made; };
    const build = (line) => {
      const row = element("tr", "", line.role), head = element("th", line.label);
      head.scope = "row";
      const verdict = element("td");
      if (line.verdict) verdict.append(element("span", line.verdict, "chip c-" + line.colour));
      else verdict.textContent = line.role === "gold" ? "the reference" : "before forgetting";
      row.append(head, verdict);
      for (const [text, , more, mark] of line.cells) {
        const made = element("td", "", "number " + (mark || ""));
        made.append(element("span", text, "v"));
        if (more) made.append(element("small", more));
        row.append(made);
      }
      return row;
    };
    const lines = data
      ? JSON.parse(data.textContent).map((line) => ({ label: line.label, verdict: line.verdict, values: line.cells.map(([, number]) => (number === undefined ? "" : number)), row: () => build(line) }))
      : Array.from(body.rows, (row) => ({
          label: row.cells[0].textContent,
          verdict: row.cells[1].querySelector(".chip") ? row.cells[1].textContent : "",
          values: Array.from(row.cells).slice(2).map((cell) => (cell.dataset.sort === "" ? "" : Number(cell.dataset.sort))),
          row: () => row,
        }));
    const original = lines.slice();
    let at = 0, order = original, column = -1, down = false;
    const find = $("find"), only = $("only"), pages = $("pages");
    const key = (line) => (column === 0 ? line.label.toLowerCase() : column === 1 ? line.verdict : line.values[column - 2]);
    const draw = () => {
      const words = find.value.trim().toLowerCase();
      const kept = order.filter((line) => line.label.toLowerCase().includes(words) && (!only.value || line.verdict === only.value));
      const last = Math.max(0, Math.ceil(kept.length / size) - 1);
      at = Math.min(at, last);
      body.replaceChildren(...kept.slice(at * size, (at + 1) * size).map((line) => line.row()));
      $("shown").textContent = kept.length + " of " + lines.length + " models";
      pages.hidden = last === 0;
      $("at").textContent = "page " + (at + 1) + " of " + (last + 1);
      $("back").disabled = at === 0;
      $("on").disabled = at === last;
    };
    const sort = (chosen) => {
      down = chosen === column ? !down : false;
      column = chosen;
      order = original.slice().sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;
        return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
      });
      table.querySelectorAll("thead th").forEach((head, i) => head.setAttribute("aria-sort", i === column ? (down ? "descending" : "ascending") : "none"));
      at = 0;
      draw();
    };
    table.querySelectorAll("thead button").forEach((button) => button.addEventListener("click", () => sort(Number(button.dataset.column))));
    find.addEventListener("input", () => { at = 0; draw(); });
    only.addEventListener("change", () => { at = 0; draw(); });
    const turn = (by) => { at += by; draw(); table.scrollIntoView({ block: "start" }); };
    $("back").addEventListener("click", () => turn(-1));
    $("on").addEventListener("click", () => turn(1));
    $("controls").hidden = false;
    draw();
  };
  document.querySelectorAll("table.results").forEach(start);
})();
