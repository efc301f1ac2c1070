(function () {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const table = $("runs");
  if (!table) return;
  const body = table.tBodies[0], rows = Array.from(body.rows), filters = ["data", "method", "verdict", "state"];
  const has = (row, key, value) => !value || (row.dataset[key] || "").split("\n").includes(value);
  let column = 4, down = true;

  const draw = () => {
    const words = $("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const text = (row.textContent + " " + row.dataset.methods + " " + row.dataset.verdicts).toLowerCase();
      const fits = words.every((word) => text.includes(word)) && has(row, "data", $("data").value) && has(row, "methods", $("method").value) &&
        has(row, "verdicts", $("verdict").value) && has(row, "state", $("state").value);
      row.hidden = !fits;
      n += fits;
    }
    $("shown").textContent = n + " of " + rows.length + (rows.length === 1 ? " run" : " runs");
    $("none").hidden = n > 0;
    const state = new URLSearchParams();
    if (words.length) state.set("find", $("find").value);
    for (const key of filters) if ($(key).value) state.set(key, $(key).value);
    history.replaceState(null, "", state.toString() ? "?" + state : location.pathname);
  };
  const sort = (chosen) => {
    down = chosen === column ? !down : false;
    column = chosen;
    const key = (row) => row.cells[column].dataset.sort;
    const order = rows.slice().sort((a, b) => key(a).localeCompare(key(b), undefined, { numeric: true }) * (down ? -1 : 1));
    body.append(...order);
    table.querySelectorAll("thead th").forEach((head, i) => head.setAttribute("aria-sort", i === column ? (down ? "descending" : "ascending") : "none"));
  };
  table.querySelectorAll("thead button").forEach((button) => button.addEventListener("click", () => sort(Number(button.dataset.column))));
  $("find").addEventListener("input", draw);
  filters.forEach((key) => $(key).addEventListener("change", draw));

  // The address keeps the filters, so that going back from a run finds them again.
  const asked = new URLSearchParams(location.search);
  $("find").value = asked.get("find") || "";
  for (const key of filters) if (Array.from($(key).options, (o) => o.value).includes(asked.get(key))) $(key).value = asked.get(key);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      if (event.key === "Escape" && event.target === $("find")) { event.target.value = ""; draw(); event.target.blur(); }
      return;
    }
    if (event.key === "/") { event.preventDefault(); $("find").focus(); return; }
    if (event.key !== "j" && event.key !== "k") return;
    const links = Array.from(body.rows).filter((row) => !row.hidden).map((row) => row.querySelector("a"));
    const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
    const next = links[event.key === "j" ? Math.min(at + 1, links.length - 1) : Math.max(at - 1, 0)];
    if (next) next.focus();
  });
  $("controls").hidden = false;
  draw();
})();
