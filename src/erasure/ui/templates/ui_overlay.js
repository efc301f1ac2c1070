(function () {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const query = document.body.dataset.query, labels = [document.body.dataset.a, document.body.dataset.b];
  const roles = { forget: "forgotten", retain: "retained", test: "held out" };
  const percent = (share) => (100 * share).toFixed(share > 0 && share < 0.1 ? 2 : 1) + "\u00a0%";

  const svg = (tag, attributes, ...inside) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...inside);
    return made;
  };
  const element = (tag, kind, ...inside) => { const made = document.createElement(tag); if (kind) made.className = kind; made.append(...inside); return made; };
  const plot = (width, height, label) => svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });

  const load = async (name, more) => {
    const answer = await fetch("data/" + name + ".json?" + query + (more || ""));
    const found = await answer.json().catch(() => ({ error: "The server gave no readable answer." }));
    if (found.error) throw new Error(found.error);
    return found;
  };
  const failed = (id, error) => { $(id).hidden = false; $(id).textContent = error instanceof TypeError ? "The server does not answer; is erasure ui still running?" : error.message; };

  // Map of the features.
  const mark = {
    forget: (x, y) => `M${x},${y - 4.4}l4.4,4.4 -4.4,4.4 -4.4,-4.4z`,
    retain: (x, y) => `M${x - 2.2},${y}a2.2,2.2 0 1,0 4.4,0a2.2,2.2 0 1,0 -4.4,0`,
    test: (x, y) => `M${x - 2.6},${y}a2.6,2.6 0 1,0 5.2,0a2.6,2.6 0 1,0 -5.2,0`,
  };
  const W = 440, H = 380, M = { left: 22, right: 8, top: 8, bottom: 22 };

  const showMap = (found) => {
    const all = found.first.concat(found.second);
    const range = (k) => { const values = all.map((p) => p[k]), low = Math.min(...values), high = Math.max(...values), pad = (high - low || 1) * 0.04; return [low - pad, high + pad]; };
    const [x, y] = [range(0), range(1)];
    const place = (p) => [M.left + ((p[0] - x[0]) / (x[1] - x[0])) * (W - M.left - M.right), H - M.bottom - ((p[1] - y[0]) / (y[1] - y[0])) * (H - M.top - M.bottom)];
    const spots = [found.first.map(place), found.second.map(place)];
    const present = Object.keys(roles).filter((role) => found.roles.includes(role));
    const shown = new Set(present);
    const isShown = (i) => shown.has(found.roles[i]) && (!$("map-apart").checked || found.called_first[i] !== found.called_second[i]);
    const tell = (i) => `Sample ${found.ids[i]} (${found.labels[i]}, ${roles[found.roles[i]]}): ${labels[0]} says ${found.called_first[i]}, ${labels[1]} says ${found.called_second[i]}`;
    const halos = [];

    const panels = ["map-first", "map-second"].map((id, number) => {
      const drawn = plot(W, H, `Map of ${found.n} samples under ${labels[number]}; single samples can be found by their position with the field above.`);
      const layers = svg("g", {});
      drawn.append(
        svg("rect", { class: "frame", x: M.left, y: M.top, width: W - M.left - M.right, height: H - M.top - M.bottom }),
        svg("text", { x: (W + M.left) / 2, y: H - 6, "text-anchor": "middle" }, `component 1, ${percent(found.shares[0])}`),
        svg("text", { transform: `translate(13,${H / 2}) rotate(-90)`, "text-anchor": "middle" }, `component 2, ${percent(found.shares[1])}`),
        layers);
      const halo = svg("circle", { class: "halo", r: 8, visibility: "hidden" });
      drawn.append(halo);
      halos.push(halo);
      drawn.addEventListener("pointermove", (event) => point(event, number, drawn));
      drawn.addEventListener("pointerleave", () => { $("tip").hidden = true; settle(); });
      $(id).replaceChildren(drawn);
      return layers;
    });
    const highlight = (i) => halos.forEach((halo, number) => {
      if (i < 0) { halo.setAttribute("visibility", "hidden"); return; }
      halo.setAttribute("cx", spots[number][i][0]);
      halo.setAttribute("cy", spots[number][i][1]);
      halo.setAttribute("visibility", "visible");
    });
    const point = (event, number, drawn) => {
      const box = drawn.getBoundingClientRect(), scale = W / box.width;
      const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
      let nearest = -1, least = 14 * 14;
      spots[number].forEach(([sx, sy], i) => {
        const d = (sx - px) ** 2 + (sy - py) ** 2;
        if (d < least && isShown(i)) { least = d; nearest = i; }
      });
      highlight(nearest);
      const tip = $("tip");
      tip.hidden = nearest < 0;
      if (nearest < 0) return;
      tip.textContent = tell(nearest);
      tip.style.left = Math.max(8, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)) + "px";
      tip.style.top = (event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18) + "px";
    };
    const settle = () => {
      const asked = $("map-find").value.trim();
      const i = asked === "" ? -1 : found.ids.indexOf(Number(asked));
      highlight(i);
      $("map-found").textContent = asked === "" ? "" : i >= 0 ? tell(i) + "." : `Sample ${asked} is not on the map.`;
    };
    const draw = () => panels.forEach((layers, number) => {
      layers.replaceChildren(...["retain", "test", "forget"].filter((role) => shown.has(role)).map((role) => svg("path", {
        class: "r-" + role,
        d: spots[number].map(([sx, sy], i) => (found.roles[i] === role && isShown(i) ? mark[role](Math.round(sx * 10) / 10, Math.round(sy * 10) / 10) : "")).join(""),
      })));
    });

    $("map-roles").replaceChildren(...present.map((role) => {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      box.addEventListener("change", () => { if (box.checked) shown.add(role); else shown.delete(role); draw(); });
      const swatch = svg("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" }, svg("path", { class: "r-" + role, d: mark[role](7, 7) }));
      return element("label", "", box, " ", swatch, " " + roles[role]);
    }));
    $("map-apart").addEventListener("change", draw);
    $("map-find").addEventListener("input", settle);
    const n = found.n.toLocaleString("en"), total = found.n_total.toLocaleString("en");
    $("map-caption").textContent =
      `Each mark is a sample, placed by the ${found.kind === "features" ? "features of the last hidden layer" : "logits (this model returns no features)"}. ` +
      `Both maps are centred on their own mean and share one basis: the two directions in which both models together vary most, with ${percent(found.shares[0] + found.shares[1])} of all variance. ` +
      (found.n + found.n_not_finite < found.n_total ? `Of ${total} samples ${n}, evenly chosen, are shown. ` : "") +
      (found.n_not_finite ? `${found.n_not_finite} samples whose values are not finite numbers are left out. ` : "") +
      "Networks that were trained apart may turn and mirror their features: compare how well the forgotten samples mix with the others, rather than where they are.";
    draw();
    $("map").hidden = false;
    $("map-status").hidden = true;
  };

  // The attack.
  const R = { size: 380, left: 54, right: 10, top: 10, bottom: 40 };
  let current = null, asked = 0;
  const kinds = (model) => (model.is_reference ? "ref" : model.label === labels[0] ? "a" : "b");
  const right = (model, i) => (model.tpr[i] + 1 - model.fpr[i]) / 2;

  const axis = () => {
    if (!$("attack-log").checked) return { at: (v) => v, ticks: [0, 0.25, 0.5, 0.75, 1] };
    const positive = current.models.flatMap((m) => m.fpr).filter((v) => v > 0);
    const least = Math.max(1e-4, Math.min(0.1, ...positive)), depth = Math.log10(least);
    return { at: (v) => 1 - Math.log10(Math.max(v, least)) / depth, least, ticks: [1e-4, 1e-3, 1e-2, 1e-1, 1].filter((t) => t >= least * 0.99) };
  };
  const drawRoc = (i) => {
    const scale = axis(), inner = R.size - R.left - R.right, tall = R.size - R.top - R.bottom;
    const px = (v) => R.left + scale.at(v) * inner, py = (v) => R.size - R.bottom - scale.at(v) * tall;
    const drawn = plot(R.size, R.size, `Share found against share of false alarms for ${current.models.map((m) => m.label).join(", ")}; the rates at the threshold are in the table.`);
    for (const tick of scale.ticks) {
      const name = tick === 0 ? "0" : percent(tick).replace(/\.?0+(?=\u00a0)/, "");
      drawn.append(
        svg("line", { class: "grid", x1: px(tick), x2: px(tick), y1: R.top, y2: R.size - R.bottom }),
        svg("line", { class: "grid", y1: py(tick), y2: py(tick), x1: R.left, x2: R.size - R.right }),
        svg("text", { x: px(tick), y: R.size - R.bottom + 15, "text-anchor": tick === 1 ? "end" : "middle" }, name),
        svg("text", { x: R.left - 6, y: py(tick) + 4, "text-anchor": "end" }, name));
    }
    drawn.append(
      svg("text", { x: R.left + inner / 2, y: R.size - 6, "text-anchor": "middle" }, "false alarms"),
      svg("text", { transform: `translate(11,${R.top + tall / 2}) rotate(-90)`, "text-anchor": "middle" }, "found"));
    const steps = Array.from({ length: 60 }, (_, k) => k / 59).map((t) => ($("attack-log").checked ? Math.pow(scale.least, 1 - t) : t));
    drawn.append(svg("path", { class: "chance line", d: "M" + steps.map((v) => `${px(v).toFixed(1)},${py(v).toFixed(1)}`).join("L") }));
    const ordered = current.models.slice().sort((one, two) => two.is_reference - one.is_reference);
    for (const model of ordered) drawn.append(svg("path", { class: `line l-${kinds(model)}`, d: "M" + model.fpr.map((f, k) => `${px(f).toFixed(1)},${py(model.tpr[k]).toFixed(1)}`).join("L") }));
    for (const model of ordered) {
      const cx = px(model.fpr[i]), cy = py(model.tpr[i]), kind = kinds(model);
      drawn.append(kind === "b" ? svg("rect", { class: "p-b", x: cx - 5.5, y: cy - 5.5, width: 11, height: 11 }) : svg("circle", { class: "p-" + kind, cx, cy, r: kind === "a" ? 6.5 : 5 }));
    }
    $("attack-roc").replaceChildren(drawn);
  };
  const drawScores = (i) => {
    if (!current.axis) {
      $("attack-scores").replaceChildren(element("p", "note", "The measure keeps its curve, not what it scored each sample, so there are no distributions to show."));
      return;
    }
    const wide = 380, tall = 128, base = 96, { low, high, marks } = current.axis;
    const px = (v) => 6 + ((Math.min(Math.max(v, low), high) - low) / (high - low)) * (wide - 12);
    const path = (counts, n, top) => "M" + px(low) + "," + base + counts.map((count, k) => { const y = (base - (Math.min(count / n, top) / top) * (base - 6)).toFixed(1); return `L${px(current.edges[k]).toFixed(1)},${y}L${px(current.edges[k + 1]).toFixed(1)},${y}`; }).join("") + `L${px(high)},${base}`;
    const panels = current.models.filter((m) => !m.is_reference).map((model) => {
      const top = Math.max(...model.forget.map((c) => c / model.n[0]), ...model.test.map((c) => c / model.n[1]));
      const drawn = plot(wide, tall, `Distribution of the attack's number for ${model.label}: ${model.n[0]} forgotten and ${model.n[1]} held-out samples.`);
      const cut = px(current.at[i]), isBelow = current.key === "loss";
      const [from, to] = isBelow ? [6, cut] : [cut, wide - 6];
      drawn.append(
        svg("rect", { class: "called", x: from, y: 2, width: Math.max(0, to - from), height: base - 2 }),
        svg("path", { class: "h-forget", d: path(model.forget, model.n[0], top) }),
        svg("path", { class: "h-test", d: path(model.test, model.n[1], top) }),
        svg("line", { class: "grid", x1: 6, x2: wide - 6, y1: base, y2: base }),
        ...marks.filter(([at]) => at >= low && at <= high).map(([at, name]) => svg("text", { x: px(at), y: base + 14, "text-anchor": px(at) < 20 ? "start" : px(at) > wide - 24 ? "end" : "middle" }, name)),
        svg("line", { class: "cut", x1: cut, x2: cut, y1: 0, y2: base + 3 }));
      return element("div", "", element("h3", "model " + kinds(model), model.label), drawn);
    });
    const key = (kind, name) => [svg("svg", { width: 22, height: 10, viewBox: "0 0 22 10", "aria-hidden": "true" }, svg("path", { class: kind, d: "M0,9L0,3L22,3L22,9" })), " " + name];
    const legend = element("p", "note legend", element("span", "", ...key("h-forget", "forgotten")), element("span", "", ...key("h-test", "held out")), element("span", "", current.axis.title + "; shaded: called seen in training"));
    $("attack-scores").replaceChildren(...panels, legend);
  };
  const drawRates = (i) => {
    const cells = (...texts) => texts.map((text) => element("td", "number", text));
    $("attack-rates").replaceChildren(...current.models.map((model) => {
      const kind = kinds(model), swatch = svg("svg", { class: "swatch", width: 26, height: 12, viewBox: "0 0 26 12", "aria-hidden": "true" },
        svg("line", { class: `line l-${kind}`, x1: 0, x2: 26, y1: 6, y2: 6 }), kind === "b" ? svg("rect", { class: "p-b", x: 8.5, y: 1.5, width: 9, height: 9 }) : svg("circle", { class: "p-" + kind, cx: 13, cy: 6, r: kind === "a" ? 5 : 4 }));
      const head = element("th", "", swatch, model.label + (model.is_reference ? " (the reference)" : ""));
      head.scope = "row";
      return element("tr", "", head, ...cells(percent(model.tpr[i]), percent(model.fpr[i]), percent(right(model, i)), model.auc === null ? "–" : model.auc.toFixed(3)));
    }));
  };
  const move = () => {
    const i = Number($("attack-at").value);
    $("attack-shown").textContent = current.shown[i];
    $("attack-at").setAttribute("aria-valuetext", `${current.shown[i]}: ` + current.models.map((m) => `${m.label} ${percent(m.tpr[i])} found, ${percent(m.fpr[i])} false alarms`).join("; "));
    drawRates(i);
    drawRoc(i);
    drawScores(i);
  };
  const showAttack = async () => {
    const mine = ++asked;
    try {
      const found = await load("attack", "&attack=" + encodeURIComponent($("attack-kind").value));
      if (mine !== asked) return;
      current = found;
      const slider = $("attack-at"), first = found.models.find((m) => m.label === labels[0]);
      slider.max = found.at.length - 1;
      slider.value = first.tpr.reduce((best, _, i) => (right(first, i) > right(first, best) ? i : best), 0);
      $("attack-rule").textContent = `Called seen in training: ${found.rule}`;
      const dropped = found.models.reduce((sum, m) => sum + m.n_not_finite, 0);
      $("attack-caption").textContent = found.caption + (dropped ? ` ${dropped} outputs that are not finite numbers are left out.` : "");
      $("attack-figure").hidden = false;
      $("attack-status").hidden = true;
      move();
    } catch (error) {
      if (mine === asked) failed("attack-status", error);
    }
  };
  $("attack-kind").addEventListener("change", showAttack);
  $("attack-log").addEventListener("change", move);
  $("attack-at").addEventListener("input", move);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") $("tip").hidden = true; });

  load("embedding").then(showMap).catch((error) => failed("map-status", error));
  showAttack();
})();
