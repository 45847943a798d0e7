// What is taken for what: one matrix at a time, of the system, set and slot that the menus say.
function startMatrices() {
  for (const figure of document.querySelectorAll("[data-matrix]")) {
    const all = DATA.matrices, first = all[0];
    const chosen = { set: first.set, system: first.system, slot: first.slot };
    const unique = (key) => [...new Set(all.map((one) => one[key]))];
    const pick = (key) => (value) => { chosen[key] = key === "system" ? Number(value) : value; drawMatrix(figure); };
    figure.chosen = chosen;
    figure.querySelector(".controls").append(
      choice("Set", unique("set").map((name) => [name, name]), chosen.set, pick("set")),
      choice("System", unique("system").map((system) => [system, DATA.systems[system].name]), chosen.system, pick("system")),
      ...(unique("slot").length > 1 ? [choice("Slot", unique("slot").map((slot) => [slot, slot]), chosen.slot, pick("slot"))] : []),
    );
  }
}

function drawMatrix(figure) {
  const box = figure.querySelector(".chart");
  if (box.offsetParent === null) return;
  const { set, system, slot } = figure.chosen;
  const found = DATA.matrices.find((one) => one.set === set && one.system === system && one.slot === slot);
  if (!found) {
    Plotly.purge(box);
    box.textContent = "Nothing is known of these together: text has no noise, or the set was not scored.";
    return;
  }
  if (!box.classList.contains("js-plotly-plot")) box.textContent = "";
  const size = found.values.length, length = narrow(box) ? 12 : 24;
  // Cut names may fall together, so that places stand for them.
  const names = found.values.map((value) => clip(value, length));
  const rows = found.values.map(() => Array(size).fill(0));
  for (const [ref, hyp, count] of found.counts) rows[ref][hyp] = count;
  const totals = rows.map((row) => row.reduce((sum, one) => sum + one, 0));
  const shares = rows.map((row, n) => row.map((count) => (totals[n] ? (100 * count) / totals[n] : null)));
  const text = rows.map((row, ref) => row.map((count, hyp) => `is ${clip(found.values[ref], 60)}, taken for ${clip(found.values[hyp], 60)}: ${count} of ${totals[ref]}`));
  const dark = theme() === "dark";
  const places = found.values.map((_, n) => n);
  const trace = {
    type: "heatmap", z: shares, x: places, y: places, customdata: text.map((row) => row.map(plainText)), hovertemplate: "%{customdata}<extra></extra>", zmin: 0, zmax: 100, xgap: 1, ygap: 1, showscale: !narrow(box),
    // Pale enough for numbers in the colour of all text.
    colorscale: dark ? [[0, "#1b2128"], [0.02, "#22384f"], [1, "#2a66a5"]] : [[0, "#ffffff"], [0.02, "#e3eef8"], [1, "#6ea8dc"]], colorbar: { title: { text: "% of row" }, thickness: 12 },
  };
  // Numbers fit into the cells of small matrices only.
  if (size <= 16) Object.assign(trace, { text: rows.map((row) => row.map((count) => count || "")), texttemplate: "%{text}", textfont: { color: dark ? "#e8ecf0" : "#1b1f24" } });
  const ticks = { tickmode: "array", tickvals: places, ticktext: names.map(plainText), showgrid: false };
  draw(box, [trace], { height: Math.max(300, 150 + 19 * size), xaxis: { ...ticks, tickangle: -60, title: { text: "taken for" } }, yaxis: { ...ticks, autorange: "reversed", title: { text: "is" } } });
}

function drawMatrices() {
  for (const figure of document.querySelectorAll("[data-matrix]")) drawMatrix(figure);
}
