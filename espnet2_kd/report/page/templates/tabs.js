const TABS = [...document.querySelectorAll("[role=tab]")];

function show(name) {
  for (const tab of TABS) {
    const open = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", String(open));
    tab.tabIndex = open ? 0 : -1;
    document.getElementById(tab.dataset.tab).classList.toggle("open", open);
  }
  drawVisible();
  drawCurves();
  drawMatrices();
  if (name === "utterances") drawList();
}

// The address has the tab, and for an utterance its set and place, so that it can be passed on.
function follow() {
  const [name, set, utt] = decodeURIComponent(location.hash.slice(1)).split("/");
  const known = TABS.some((tab) => tab.dataset.tab === name);
  if (name === "utterances" && DATA.sets[set] && DATA.sets[set].utts[utt]) {
    browser.set = Number(set);
    browser.utt = Number(utt);
    browser.find = "";
    browser.heard = false;
    drawControls();
  }
  show(known ? name : "summary");
}

function redraw() {
  applyTheme();
  redrawCharts();
  drawCurves();
  drawMatrices();
  if (document.getElementById("utterances").classList.contains("open")) drawDetail();
}

TABS.forEach((tab, n) => {
  tab.onclick = () => { history.replaceState(null, "", `#${tab.dataset.tab}`); show(tab.dataset.tab); };
  tab.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { const next = TABS[(n + step + TABS.length) % TABS.length]; next.focus(); next.click(); }
  };
});
document.getElementById("theme").onclick = () => { chosenTheme = theme() === "dark" ? "light" : "dark"; redraw(); };
systemDark.addEventListener("change", redraw);
window.addEventListener("hashchange", follow);
let resized = 0;
let width = window.innerWidth;
window.addEventListener("resize", () => {
  // On a phone the address bar that comes and goes resizes too.
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  clearTimeout(resized);
  resized = setTimeout(redraw, 150);
});
startCurves();
startUtterances();
startMatrices();
follow();
