const curves = { systems: new Set(), seeds: false, parts: { train: true, valid: true }, terms: new Set(), log: false };
const trainings = DATA.curves.trainings;
// What one looks for first: the sum, the task's own loss, every distillation term and its weight.
const MAIN_TERM = /^(loss|loss_task|loss_kd_.*|acc)$/;

function startCurves() {
  const controls = document.getElementById("curve-controls");
  if (!trainings.length) {
    controls.replaceChildren("No training has left a log with results of an epoch.");
    return;
  }
  const names = [...new Map(trainings.map((one) => [one.system, one.ended ? DATA.systems[one.system].name : one.name])).entries()];
  names.forEach(([system]) => curves.systems.add(system));
  DATA.curves.terms.filter((term) => MAIN_TERM.test(term)).forEach((term) => curves.terms.add(term));
  if (!curves.terms.size) DATA.curves.terms.forEach((term) => curves.terms.add(term));
  const fields = (title, boxes) => element("fieldset", {}, element("legend", {}, title), ...boxes);
  const toggle = (set, key) => (on) => { on ? set.add(key) : set.delete(key); drawCurves(); };
  controls.replaceChildren(
    fields("Systems", names.map(([system, name]) => check(name, true, toggle(curves.systems, system), element("span", { class: "swatch", "data-swatch": system })))),
    fields("Terms", DATA.curves.terms.map((term) => check(term, curves.terms.has(term), toggle(curves.terms, term)))),
    fields("Show", [
      check("training", true, (on) => { curves.parts.train = on; drawCurves(); }),
      check("validation", true, (on) => { curves.parts.valid = on; drawCurves(); }),
      check("all seeds", false, (on) => { curves.seeds = on; drawCurves(); }),
      check("logarithmic", false, (on) => { curves.log = on; drawCurves(); }),
    ]),
  );
  const unended = trainings.filter((one) => !one.ended).map((one) => `${one.name}: ${one.epochs} of ${one.planned || "?"} epochs, has not ended`);
  if (unended.length) controls.append(element("p", { class: "strong" }, unended.join("; ")));
}

function curveTraces(term) {
  const traces = [];
  for (const one of trainings) {
    if (!curves.systems.has(one.system) || (!curves.seeds && one.ended && !one.first)) continue;
    for (const part of ["train", "valid"]) {
      const values = one[part][term];
      if (!values || !curves.parts[part]) continue;
      traces.push({
        type: "scatter", mode: values.length > 30 ? "lines" : "lines+markers", system: one.system, dash: part === "train" ? "solid" : "dash", hollow: part === "valid",
        name: `${one.name}, ${part}`, x: values.map(([epoch]) => epoch), y: values.map(([, value]) => value),
        hovertemplate: "%{fullData.name}<br>epoch %{x}: %{y:.4g}<extra></extra>", showlegend: false,
      });
    }
  }
  return traces;
}

function drawCurves() {
  const charts = document.getElementById("curve-charts");
  if (charts.offsetParent === null) return;
  for (const swatch of document.querySelectorAll("[data-swatch]")) swatch.style.borderTopColor = colourOf(Number(swatch.dataset.swatch));
  const wanted = DATA.curves.terms.filter((term) => curves.terms.has(term));
  for (const figure of [...charts.children]) if (!wanted.includes(figure.dataset.term)) { Plotly.purge(figure.lastChild); figure.remove(); }
  wanted.forEach((term, place) => {
    let figure = [...charts.children].find((one) => one.dataset.term === term);
    if (!figure) {
      figure = element("figure", { class: "card", "data-term": term }, element("figcaption", {}, term), element("div", { class: "chart" }));
      charts.insertBefore(figure, charts.children[place] || null);
    }
    const traces = curveTraces(term), last = Math.max(1, ...traces.flatMap((trace) => trace.x));
    draw(figure.lastChild, traces, { height: 270, xaxis: { title: { text: "epoch" }, tick0: 0, dtick: Math.ceil(last / 8) }, yaxis: { type: curves.log ? "log" : "linear" } });
  });
}
