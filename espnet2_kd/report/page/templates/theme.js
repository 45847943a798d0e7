"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);

// Colours that people with every kind of colour vision tell apart (Okabe and Ito), darker on white, brighter on black.
const COLOURS = {
  light: ["#0072b2", "#c14d00", "#007a5e", "#a8427e", "#7a5c00", "#2b2f36", "#3f6fd1", "#8a3b12"],
  dark: ["#56b4e9", "#ff9e4a", "#2fd1a5", "#f29ccb", "#f0e442", "#e8ecf0", "#9db8ff", "#ffb08a"],
};
// Neither colour alone tells systems apart.
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const MARKERS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;

function theme() {
  return chosenTheme || (systemDark.matches ? "dark" : "light");
}

function applyTheme() {
  document.documentElement.dataset.theme = theme();
}

function colourOf(system) {
  const colours = COLOURS[theme()];
  return colours[system % colours.length];
}

// element("td", {class: "x"}, "text", child): text never becomes markup.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick" || name === "onchange" || name === "oninput") made[name] = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// choice("Set", [["value", "label"]], value, f): a labelled menu.
function choice(label, options, value, onchange) {
  const menu = element("select", { "aria-label": label, onchange: () => onchange(menu.value) });
  for (const [each, text] of options) menu.append(element("option", { value: each, selected: String(each) === String(value) ? "" : null }, clip(text, 60)));
  return element("label", { class: "field" }, label, menu);
}

function check(label, checked, onchange, swatch) {
  const box = element("input", { type: "checkbox", checked: checked ? "" : null, onchange: () => onchange(box.checked) });
  return element("label", { class: "check" }, box, swatch || null, element("bdi", {}, clip(label, 60)));
}

function clip(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

applyTheme();
document.documentElement.classList.add("js");
