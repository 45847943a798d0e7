const LONGEST_WORD = 48;
const GAP = "∅";

function shownWord(word) {
  return word === null ? GAP : clip(word, LONGEST_WORD);
}

// [reference, hypothesis] pairs of one system, by place: before which reference word something was put in, and what
// became of each.
function byPlace(steps, length) {
  const put = Array.from({ length: length + 1 }, () => []), became = [];
  for (const step of steps) {
    const [ref, hyp] = typeof step === "string" ? [step, step] : step;
    if (ref === null) put[became.length].push(hyp);
    else became.push({ kind: hyp === null ? "del" : ref === hyp ? "right" : "sub", word: hyp });
  }
  return { put, became };
}

// Columns shared by all systems: for each a reference word (or none) and what every system has there.
function columnsOf(ref, systems) {
  const places = systems.map((steps) => byPlace(steps, ref.length));
  const columns = [];
  for (let at = 0; at <= ref.length; at++) {
    const width = Math.max(0, ...places.map((one) => one.put[at].length));
    for (let n = 0; n < width; n++) columns.push({ ref: null, cells: places.map((one) => (n < one.put[at].length ? { kind: "ins", word: one.put[at][n] } : null)) });
    if (at < ref.length) columns.push({ ref: ref[at], cells: places.map((one) => one.became[at] || { kind: "del", word: null }) });
  }
  return columns;
}

const SIGN = { right: "", sub: "s", del: "d", ins: "i" };
const TITLE = { right: "right", sub: "substituted", del: "left out", ins: "put in" };

function wordCell(cell) {
  if (cell === null) return element("td", {});
  const sign = SIGN[cell.kind] ? element("span", { class: "mark-of", "aria-hidden": "true" }, SIGN[cell.kind]) : null;
  return element("td", {}, element("span", { class: `w ${cell.kind}`, dir: "auto", title: `${TITLE[cell.kind]}${cell.word && cell.word.length > LONGEST_WORD ? `: ${cell.word.slice(0, 300)}` : ""}` }, shownWord(cell.word), sign));
}

// Lines of the width that is there: a row for the reference and one for every system.
function alignedTable(names, ref, systems, width) {
  const lines = [[]];
  let used = 130;
  for (const column of columnsOf(ref, systems)) {
    const longest = Math.max(1, (column.ref || "").length, ...column.cells.map((cell) => (cell ? shownWord(cell.word).length + 1 : 0)));
    const size = 20 + 9 * Math.min(longest, LONGEST_WORD);
    if (used + size > width && lines[lines.length - 1].length) {
      lines.push([]);
      used = 130;
    }
    lines[lines.length - 1].push(column);
    used += size;
  }
  const box = element("div", { class: "aligned" });
  for (const line of lines) {
    const body = element("tbody", {});
    body.append(element("tr", { class: "ref" }, element("th", { scope: "row" }, "reference"), ...line.map((column) => element("td", {}, column.ref === null ? "" : element("span", { class: "w", dir: "auto" }, shownWord(column.ref))))));
    names.forEach((name, n) => body.append(element("tr", {}, element("th", { scope: "row", title: name.slice(0, 300) }, clip(name, 28)), ...line.map((column) => wordCell(column.cells[n])))));
    box.append(element("div", { class: "scroll", tabindex: "0" }, element("table", {}, body)));
  }
  return box;
}

function wordLegend() {
  const sample = (kind, word, text) => element("span", {}, element("span", { class: `w ${kind}` }, word, element("span", { class: "mark-of" }, SIGN[kind])), ` ${text}`);
  return element("div", { class: "legend" }, sample("sub", "word", "another word"), sample("del", GAP, "left out"), sample("ins", "word", "put in"), element("span", {}, "no mark: right"));
}
