const PAGE_SIZE = 60;
const browser = { set: 0, order: "worst", system: "all", find: "", heard: false, utt: null, shown: PAGE_SIZE };

function currentSet() {
  return DATA.sets[browser.set];
}

function systemsOf(set) {
  return Object.keys(set.seeds).map(Number).sort((a, b) => a - b);
}

function errorsOf(utt) {
  if (browser.system !== "all") return utt.errors[browser.system] ?? 0;
  return Object.values(utt.errors).reduce((sum, one) => sum + one, 0);
}

function gainOf(set, utt) {
  return (utt.errors[set.base] ?? 0) - (utt.errors[browser.system] ?? 0);
}

function saidIn(utt) {
  return DATA.kind === "intent" ? utt.text || utt.ref.map(([slot, value]) => `${slot}=${value}`).join(" ") : utt.ref.join(" ");
}

function searchable(utt) {
  if (utt.searchable === undefined) {
    const hyps = Object.values(utt.hyps).map((steps) => steps.map((step) => (typeof step === "string" ? step : step.slice(0, 2).filter((word) => word !== null).join(" "))).join(" "));
    utt.searchable = [utt.id, utt.speaker || "", saidIn(utt), ...hyps].join("\n").toLowerCase();
  }
  return utt.searchable;
}

function chosenUtts() {
  const set = currentSet(), words = browser.find.toLowerCase().trim();
  const found = set.utts.map((utt, place) => ({ utt, place })).filter(({ utt }) => (!words || searchable(utt).includes(words)) && (!browser.heard || utt.clip !== null));
  const by = {
    worst: (a, b) => errorsOf(b.utt) - errorsOf(a.utt),
    best: (a, b) => errorsOf(a.utt) - errorsOf(b.utt),
    better: (a, b) => gainOf(set, b.utt) - gainOf(set, a.utt),
    worse: (a, b) => gainOf(set, a.utt) - gainOf(set, b.utt),
    longest: (a, b) => b.utt.words - a.utt.words,
    id: (a, b) => (a.utt.id < b.utt.id ? -1 : 1),
  }[browser.order];
  return found.sort((a, b) => by(a, b) || a.place - b.place);
}

function startUtterances() {
  drawControls();
  drawList();
}

function drawControls() {
  const box = document.getElementById("utt-controls");
  if (!DATA.sets.length || !DATA.sets.some((set) => set.utts.length)) {
    box.replaceChildren("No utterances: no set was scored, or none was asked for.");
    return;
  }
  const set = currentSet(), names = systemsOf(set).map((system) => [system, DATA.systems[system].name]);
  if (browser.system !== "all" && !names.some(([system]) => String(system) === browser.system)) browser.system = "all";
  const comparable = browser.system !== "all" && set.base !== null && String(set.base) !== browser.system;
  const orders = [["worst", "most errors first"], ["best", "fewest errors first"], ...(comparable ? [["better", `better than ${DATA.systems[set.base].name}`], ["worse", `worse than ${DATA.systems[set.base].name}`]] : []), ["longest", "longest first"], ["id", "by id"]];
  if (!orders.some(([order]) => order === browser.order)) browser.order = "worst";
  const search = element("input", { type: "search", id: "utt-search", placeholder: "id or words", value: browser.find, oninput: () => { browser.find = search.value; browser.shown = PAGE_SIZE; drawList(); } });
  const again = (change) => (value) => { change(value); browser.shown = PAGE_SIZE; drawControls(); drawList(); };
  box.replaceChildren(
    choice("Set", DATA.sets.map((one, n) => [n, one.name]), browser.set, again((value) => { browser.set = Number(value); browser.utt = null; })),
    choice("Errors of", [["all", "all systems"], ...names], browser.system, again((value) => { browser.system = value; })),
    choice("Order", orders, browser.order, again((value) => { browser.order = value; })),
    element("label", { class: "field" }, "Find", search),
    check("with sound only", browser.heard, again((on) => { browser.heard = on; })),
  );
}

function drawList() {
  const list = document.getElementById("utt-list"), set = currentSet();
  list.hidden = !set || !set.utts.length;
  document.getElementById("utt-detail").hidden = list.hidden;
  if (list.hidden) return;
  const found = chosenUtts();
  const seeds = systemsOf(set).map((system) => `${DATA.systems[system].name} seed ${set.seeds[system]}`).join(", ");
  const heard = set.utts.filter((utt) => utt.clip !== null).length;
  document.getElementById("utt-note").textContent =
    `${found.length} of ${set.utts.length} shown; the set has ${set.total}. ${heard} with sound${set.silent ? ` (${set.silent})` : ""}. Of each system one training: ${clip(seeds, 400)}.`;
  if (browser.utt === null || !set.utts[browser.utt]) browser.utt = found.length ? found[0].place : null;
  list.replaceChildren(
    ...found.slice(0, browser.shown).map(({ utt, place }) => {
      const count = DATA.kind === "intent" ? `${errorsOf(utt)} wrong` : `${errorsOf(utt)} errors`;
      return element("li", {}, element("button", { type: "button", "data-place": place, "aria-current": place === browser.utt ? "true" : "false", onclick: () => openUtt(place) },
        element("bdi", { class: "id" }, `${utt.clip !== null ? "♪ " : ""}${clip(utt.id, 80)}`), element("span", { class: "count" }, count), element("bdi", { class: "said" }, clip(saidIn(utt), 120))));
    }),
  );
  if (found.length > browser.shown) list.append(element("li", {}, element("button", { type: "button", class: "more", onclick: () => { browser.shown += PAGE_SIZE; drawList(); } }, `${found.length - browser.shown} more`)));
  if (!found.length) list.append(element("li", { class: "note" }, "Nothing like that."));
  drawDetail();
}

function openUtt(place) {
  browser.utt = place;
  history.replaceState(null, "", `#utterances/${browser.set}/${place}`);
  for (const button of document.querySelectorAll("#utt-list [data-place]")) button.setAttribute("aria-current", Number(button.dataset.place) === place ? "true" : "false");
  drawDetail();
  if (window.innerWidth <= 760) document.getElementById("utt-detail").scrollIntoView();
}

function drawDetail() {
  const box = document.getElementById("utt-detail"), set = currentSet(), utt = set.utts[browser.utt];
  if (!utt) {
    box.replaceChildren();
    return;
  }
  const systems = systemsOf(set).filter((system) => utt.hyps[system]);
  const parts = [element("h3", {}, element("bdi", { title: utt.id.slice(0, 300) }, clip(utt.id, 120)))];
  const about = [utt.speaker ? `speaker ${clip(utt.speaker, 80)}` : "", utt.clip !== null ? `${DATA.clips[utt.clip].seconds.toFixed(2)} s` : ""].filter(Boolean).join(", ");
  if (about) parts.push(element("p", { class: "note" }, element("bdi", {}, about)));
  if (utt.clip !== null) {
    const lanes = systems.filter((system) => utt.live && utt.live[system]).map((system) => ({ name: DATA.systems[system].name, colour: colourOf(system), words: utt.live[system].words, frames: utt.live[system].frames }));
    const ends = Object.values(utt.live || {}).map((one) => one.ends).find((one) => one.length) || [];
    parts.push(timeline(DATA.clips[utt.clip], lanes, ends));
    if (lanes.length) parts.push(element("p", { class: "note" }, "Each mark: when the word before which it stands came out, as if live" + (ends.length ? "; dashed: where the words of the reference end" : "") + (lanes.some((lane) => lane.frames.length) ? "; dotted: the frames that gave the tokens (of a CIF model, where it fired)." : ".")));
    else if (DATA.kind === "asr") parts.push(element("p", { class: "note" }, "This utterance was not decoded as if live: no times of its words."));
  } else parts.push(element("p", { class: "note" }, "No sound on this page for this utterance."));
  if (DATA.kind === "intent") parts.push(slotTable(set, utt, systems));
  else {
    const counts = systems.map((system) => `${DATA.systems[system].name} (${utt.errors[system]})`);
    parts.push(wordLegend(), alignedTable(counts, utt.ref, systems.map((system) => utt.hyps[system]), box.clientWidth - 24));
  }
  box.replaceChildren(...parts);
}

// Slots of an utterance: what they are, and what every system takes them for, how sure it is.
function slotTable(set, utt, systems) {
  const head = element("tr", {}, element("th", {}, "system"), ...utt.ref.map(([slot]) => element("th", {}, element("bdi", {}, clip(slot, 40)))));
  const truth = element("tr", { class: "ref" }, element("th", { scope: "row" }, "reference"), ...utt.ref.map(([, value]) => element("td", {}, element("bdi", {}, clip(value, 80)))));
  const rows = systems.map((system) => element("tr", {}, element("th", { scope: "row" }, clip(DATA.systems[system].name, 60)), ...utt.hyps[system].map(([, value, sure], n) => {
    const right = value === utt.ref[n][1];
    const shown = element("span", { class: `w ${right ? "right" : "sub"}`, dir: "auto" }, clip(value, 80), right ? null : element("span", { class: "mark-of" }, " wrong"));
    return element("td", {}, shown, sure === null ? "" : ` ${Math.round(100 * sure)} %`);
  })));
  const said = utt.text ? element("p", {}, "Said: ", element("bdi", {}, clip(utt.text, 600))) : null;
  return element("div", {}, said, element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("thead", {}, head), element("tbody", {}, truth, ...rows))));
}
