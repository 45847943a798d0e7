const CHART_OPTIONS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"], displayModeBar: false };

// A name beside a chart must leave room for it.
function narrow(box) {
  return box.clientWidth < 520;
}

// Plotly reads some tags and entities in texts: names have none.
function plainText(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function themed(layout, box) {
  const style = getComputedStyle(document.documentElement);
  const [text, soft, line] = ["--text", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = (given) => ({ automargin: true, gridcolor: line, zerolinecolor: soft, linecolor: line, ...given, title: { text: plainText(((given || {}).title || {}).text || ""), font: { size: 13, color: soft } } });
  return {
    margin: { l: 50, r: 16, t: 10, b: 44 },
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, size: 13, family: "system-ui, sans-serif" },
    hoverlabel: { namelength: 40 },
    xaxis: axis(layout.xaxis),
    yaxis: axis(layout.yaxis),
    legend: { orientation: "h", y: -0.22, yanchor: "top", x: 0, font: { size: narrow(box) ? 11 : 12 } },
    dragmode: false,
  };
}

// A trace says whose it is; the theme knows how that looks.
function painted(trace, box) {
  const { system, hollow, big, dash, ...plain } = trace;
  if (system === undefined) return plain;
  if (plain.y && typeof plain.y[0] === "string") plain.y = plain.y.map((name) => plainText(narrow(box) && name.length > 18 ? `${name.slice(0, 4)}…${name.slice(-13)}` : name));
  const colour = colourOf(system);
  if (plain.type === "bar") return { ...plain, marker: { color: colour } };
  plain.marker = { color: colour, symbol: MARKERS[system % MARKERS.length] + (hollow ? "-open" : ""), size: big ? 12 : hollow ? 7 : 8, line: { width: hollow ? 1.5 : 0 } };
  plain.line = { color: colour, width: 2, dash: dash || DASHES[system % DASHES.length] };
  for (const error of ["error_x", "error_y"]) if (plain[error]) plain[error] = { ...plain[error], color: colour, thickness: 2, width: 5 };
  if (plain.name) plain.name = plainText(clip(plain.name, narrow(box) ? 34 : 60));
  return plain;
}

function draw(box, traces, layout) {
  return Plotly.react(box, traces.map((trace) => painted(trace, box)), themed(layout, box), CHART_OPTIONS);
}

function drawFigure(box) {
  const figure = DATA.figures[box.dataset.figure];
  const legend = figure.layout.showlegend ? 26 * Math.ceil(figure.traces.length / (narrow(box) ? 1 : 2)) : 0;
  draw(box, figure.traces, { ...figure.layout, height: figure.layout.height + legend });
}

// Charts are drawn when they are first seen: hidden ones have no width.
function drawVisible() {
  for (const box of document.querySelectorAll("[data-figure]")) if (box.offsetParent !== null && !box.dataset.drawn) {
    box.dataset.drawn = "true";
    drawFigure(box);
  }
}

function redrawCharts() {
  for (const box of document.querySelectorAll("[data-drawn]")) delete box.dataset.drawn;
  drawVisible();
}
document.addEventListener("toggle", () => drawVisible(), true);
