// Sound, spectrogram, and below it when each system gave out its words, all on one axis of time.
function timeline(clipData, lanes, ends) {
  const seconds = clipData.shown;
  const sound = element("audio", { controls: "", preload: "metadata", src: `data:audio/flac;base64,${clipData.sound}` });
  const now = element("div", { class: "now" });
  const place = (ms) => `${(100 * ms) / 1000 / axis}%`;
  const last = Math.max(0, ...lanes.flatMap((lane) => [...lane.words.map(([, ms]) => ms), ...lane.frames])) / 1000;
  // What came out after the end of the sound needs room too.
  const axis = Math.max(seconds, Math.min(last * 1.04, seconds * 2));
  const image = element("img", { alt: "spectrogram", src: `data:image/png;base64,${clipData.picture}` });
  image.style.width = `${(100 * seconds) / axis}%`;
  const marks = element("div", { class: "ends" });
  for (const [word, ms] of ends) {
    const mark = element("i", { title: `${clip(word, 60)} ends` });
    mark.style.left = place(ms);
    marks.append(mark);
  }
  const spectrum = element("div", { class: "spectrum" }, image, marks, now);
  spectrum.onclick = (event) => {
    const box = spectrum.getBoundingClientRect();
    sound.currentTime = Math.min(seconds, ((event.clientX - box.left) / box.width) * axis);
  };
  const follow = () => {
    now.style.left = place(1000 * sound.currentTime);
    if (!sound.paused && sound.isConnected) requestAnimationFrame(follow);
  };
  for (const event of ["play", "seeked", "pause", "timeupdate"]) sound.addEventListener(event, follow);
  const box = element("div", { class: "timeline" }, spectrum);
  for (const lane of lanes) box.append(laneOf(lane, place, axis));
  const ruler = element("div", { class: "axis" });
  const step = [0.2, 0.5, 1, 2, 5, 10].find((one) => axis / one <= 8) || 20;
  for (let at = 0; at <= axis + 1e-6; at += step) {
    const tick = element("span", {}, `${Number(at.toFixed(1))} s`);
    tick.style.left = place(1000 * at);
    ruler.append(tick);
  }
  box.append(ruler);
  const cut = clipData.seconds > seconds + 0.01 ? element("p", { class: "note" }, `The first ${seconds.toFixed(0)} of ${clipData.seconds.toFixed(0)} seconds.`) : null;
  return element("div", {}, sound, cut, box);
}

function laneOf(lane, place, axis) {
  const row = element("div", { class: "lane" }, element("span", { class: "name" }, lane.name));
  lane.words.forEach(([word, ms], n) => {
    const mark = element("span", { class: "mark", dir: "auto", title: `${clip(word, 60)}: came out at ${(ms / 1000).toFixed(2)} s` }, clip(word, 40));
    mark.style.left = place(ms);
    const next = n + 1 < lane.words.length ? lane.words[n + 1][1] : 1000 * axis;
    mark.style.maxWidth = `${Math.max(0, (100 * (next - ms)) / 1000 / axis)}%`;
    mark.style.borderLeftColor = lane.colour;
    row.append(mark);
  });
  for (const ms of lane.frames) {
    const fire = element("i", { class: "fire", title: `token from the frame at ${(ms / 1000).toFixed(2)} s` });
    fire.style.left = place(ms);
    fire.style.borderLeftColor = lane.colour;
    row.append(fire);
  }
  return row;
}
