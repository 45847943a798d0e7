// The page of the live demo: sound goes to the server, words come back. The messages are described in live/protocol.py.

const PAUSE_MS = 800; // silence that ends a sentence
const VOICED_MS = 200; // less is no speech
const SILENCE_MS = 10_000; // without speech the sentence begins anew after so long
const FLOOR_DB = -75;
const ABOVE_FLOOR_DB = 10;
const QUIETEST_SPEECH_DB = -55;
const AT_ONCE_SECONDS = 0.5;
const MAX_UNSENT_BYTES = 200_000;
const HOPELESS_UNSENT_BYTES = 8_000_000;
const MAX_FILE_BYTES = 300_000_000;

const get = (id) => document.getElementById(id);
const ui = Object.fromEntries(
  ["start", "choose", "file", "stop", "level", "pauses", "pace", "status", "fault", "systems", "save", "clear"].map((id) => [id, get(id)]),
);

const CLOSE_REASONS = {
  1006: "The connection to the server was lost: is it still running?",
  1009: "The server refused a message that was too long.",
  1011: "The server failed; its log says how.",
  1012: "The server was stopped.",
};

function say(text) {
  ui.status.textContent = text;
}

function complain(text) {
  ui.fault.textContent = text;
  ui.fault.hidden = !text;
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

function percentile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const low = Math.floor(place);
  return sorted[low] + (sorted[Math.ceil(place)] - sorted[low]) * (place - low);
}

// Whether someone speaks: louder than the quiet around, which is followed down at once and up slowly.
class Pauses {
  constructor() {
    this.floor = -40;
    this.reset();
  }

  reset() {
    this.voiced = 0;
    this.silent = 0;
  }

  get isVoiced() {
    return this.voiced >= VOICED_MS;
  }

  // Take a piece's level; true where a sentence ends: speech followed by a pause, or a long time without any.
  hear(db, ms) {
    this.floor = Math.max(FLOOR_DB, Math.min(db, this.floor + ms / 1000));
    if (db > Math.max(this.floor + ABOVE_FLOOR_DB, QUIETEST_SPEECH_DB)) {
      this.voiced += ms;
      this.silent = 0;
    } else {
      this.silent += ms;
    }
    return this.silent >= (this.isVoiced ? PAUSE_MS : SILENCE_MS);
  }
}

// One column: what a model made of all that was said, and how quickly.
class Column {
  constructor(about) {
    this.about = about;
    this.root = get("system").content.firstElementChild.cloneNode(true);
    this.part = (name) => this.root.querySelector(name);
    this.part("h2").textContent = about.name;
    this.part(".badge").textContent = Column.describe(about);
    this.part(".transcript").setAttribute("aria-label", `What ${about.name} understood`);
    this.clear();
    ui.systems.append(this.root);
  }

  static describe(about) {
    if (about.mode === "full_context") {
      const kind = about.kind === "intents" ? "intents" : "full context";
      const guesses = about.guess_ms ? `, guesses every ${about.guess_ms / 1000}\u00a0s` : "";
      return `${kind}: waits for the end${guesses}${about.note ? ` (${about.note})` : ""}`;
    }
    return `streams: answers every ${Math.round(about.chunk_ms)}\u00a0ms, needs ${Math.round(about.lookahead_ms)}\u00a0ms`;
  }

  clear() {
    this.utterances = [];
    this.latencies = [];
    this.heardMs = this.computeMs = 0;
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = "No words yet.";
    this.part(".transcript").replaceChildren(empty);
    this.behind(0);
    this.measure();
  }

  behind(ms) {
    this.part(".behind").hidden = ms < 1000;
    this.part(".behind").textContent = `falling behind: ${(ms / 1000).toFixed(1)} s of sound wait`;
  }

  // session: where the result comes from; it knows when sound was sent.
  take(result, session) {
    const utterance = this.find(session, result.utterance);
    const now = performance.now();
    utterance.audioMs = result.audio_ms;
    utterance.computeMs = result.compute_ms;
    if (result.type === "result") {
      utterance.final = result.final;
      utterance.cut = result.cut;
      if (result.words) {
        const same = result.words.findIndex((word, i) => word.text !== utterance.words[i]?.text);
        const changed = same < 0 ? result.words.length : same;
        utterance.shownAt.length = changed;
        while (utterance.shownAt.length < result.words.length) utterance.shownAt.push(now);
        utterance.words = result.words;
      }
      if (result.intents) utterance.intents = result.intents;
      if (session.isPaced && result.words) {
        utterance.latencies = result.words.map((word, i) => utterance.shownAt[i] - session.sentAt(result.utterance, word.end_ms));
      } else if (session.isPaced && result.final && session.isVoiced(result.utterance)) {
        utterance.latencies = [now - session.sentAt(result.utterance, Infinity)];
      }
      this.draw(utterance);
    }
    this.measure();
  }

  find(session, number) {
    let utterance = this.utterances.find((u) => u.session === session && u.number === number);
    if (!utterance) {
      utterance = { session, number, words: [], shownAt: [], latencies: [], intents: [], audioMs: 0, computeMs: 0, root: null };
      this.utterances.push(utterance);
    }
    return utterance;
  }

  draw(utterance) {
    if (!utterance.root) {
      if (!utterance.words.length && !utterance.intents.length) return;
      // Of silence a classifier has no choice but to say something.
      if (this.about.kind === "intents" && !utterance.session.isVoiced(utterance.number)) return;
      this.part(".empty")?.remove();
      utterance.root = document.createElement(this.about.kind === "intents" ? "div" : "p");
      this.part(".transcript").append(utterance.root);
    }
    const log = this.part(".transcript");
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    const time = document.createElement("time");
    time.textContent = clock(utterance.session.startOf(utterance.number) / 1000);
    const parts = this.about.kind === "intents" ? Column.intents(utterance) : Column.words(utterance);
    utterance.root.replaceChildren(time, ...parts);
    if (this.about.kind === "intents") utterance.root.className = utterance.final ? "intents" : "intents partial";
    if (follow) log.scrollTop = log.scrollHeight;
  }

  static words(utterance) {
    const parts = utterance.words.flatMap((word) => {
      const span = document.createElement("span");
      span.className = word.final ? "word" : "word partial";
      span.textContent = word.text;
      return [span, " "];
    });
    if (utterance.cut) {
      const note = document.createElement("span");
      note.className = "note";
      note.textContent = "(longest utterance: goes on below)";
      parts.push(note);
    }
    return parts;
  }

  static intents(utterance) {
    return utterance.intents.flatMap(({ slot, value, probability }) => {
      const [name, bar, fill, percent] = ["div", "div", "div", "div"].map((tag) => document.createElement(tag));
      const label = document.createElement("small");
      name.className = "value";
      label.textContent = slot;
      name.append(label, value);
      bar.className = "bar";
      fill.style.width = `${100 * probability}%`;
      bar.append(fill);
      percent.className = "percent";
      percent.textContent = `${Math.round(100 * probability)} %`;
      return [name, bar, percent];
    });
  }

  measure() {
    const sum = (name) => this.utterances.reduce((total, utterance) => total + utterance[name], 0);
    const latencies = this.utterances.flatMap((utterance) => utterance.latencies);
    const show = (name, text) => (this.part(name).textContent = text);
    show(".p50", latencies.length ? `${Math.round(percentile(latencies, 0.5))} ms` : "–");
    show(".p90", latencies.length ? `${Math.round(percentile(latencies, 0.9))} ms` : "–");
    show(".rtf", sum("audioMs") ? (sum("computeMs") / sum("audioMs")).toFixed(3) : "–");
    show(".heard", sum("audioMs") ? `${(sum("audioMs") / 1000).toFixed(1)} s` : "–");
  }

  // Lines of the saved transcript.
  lines() {
    const shown = this.utterances.filter((utterance) => utterance.root);
    return shown.flatMap((utterance) => {
      const start = utterance.session.startOf(utterance.number) / 1000;
      const head = (text, end, latency) => [this.about.name, clock(start), text, end.toFixed(2), latency].join("\t");
      const words = utterance.words.map((word, i) =>
        head(word.text, start + word.end_ms / 1000, utterance.latencies[i] === undefined ? "" : Math.round(utterance.latencies[i])),
      );
      const intents = utterance.intents.map(({ slot, value, probability }) =>
        head(`${slot}=${value} (${probability})`, start + utterance.audioMs / 1000, Math.round(utterance.latencies[0] ?? NaN) || ""),
      );
      return [...words, ...intents];
    });
  }
}

// One recording or file: its connection, and when which part of it was sent.
class Session {
  // offsetMs: sound of earlier sessions; isPaced: whether sound is sent as it is spoken.
  constructor(rate, offsetMs, isPaced, onEnd) {
    this.rate = rate;
    this.isPaced = isPaced;
    this.onEnd = onEnd;
    this.starts = [offsetMs];
    this.log = [[]];
    this.voiced = [];
    this.numSamples = 0;
    this.isEnding = this.isOver = false;
    this.pauses = new Pauses();
    const address = new URL("listen", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.ready = new Promise((resolve, reject) => {
      this.socket.onopen = () => this.socket.send(JSON.stringify({ type: "hello", rate, format: "int16" }));
      this.socket.onmessage = (event) => this.receive(JSON.parse(event.data), resolve);
      this.socket.onclose = (event) => {
        const fault = this.fault ?? (this.isOver ? null : (CLOSE_REASONS[event.code] ?? event.reason ?? "The server hung up."));
        this.isOver = true;
        reject(new Error(fault ?? "closed"));
        onEnd(fault);
      };
    });
    this.ready.catch(() => {}); // onEnd has told
  }

  get sentMs() {
    return (this.numSamples * 1000) / this.rate;
  }

  get utterance() {
    return this.log.length - 1;
  }

  // Where an utterance begins in all that was heard, in ms.
  startOf(number) {
    return this.starts[Math.min(number, this.starts.length - 1)];
  }

  // Whether there was speech in an utterance, so far.
  isVoiced(number) {
    return this.voiced[number] ?? this.pauses.isVoiced;
  }

  // When the sound of an utterance up to a time was sent.
  sentAt(number, ms) {
    const log = this.log[number] ?? [];
    return (log.find((entry) => entry.ms >= ms) ?? log.at(-1))?.at ?? performance.now();
  }

  receive(message, resolve) {
    if (message.type === "ready") {
      this.maxSamples = Math.max(1, Math.trunc(message.max_seconds * this.rate));
      this.finals = message.systems.map(() => 0);
      resolve();
    } else if (message.type === "error" && message.system === undefined) {
      this.fault = message.message;
    } else if (message.type === "error") {
      complain(message.message);
      this.lost ??= new Set();
      this.lost.add(message.system);
    } else if (message.type === "behind") {
      columns[message.system].behind(this.isPaced ? message.queued_ms : 0);
    } else {
      columns[message.system].take(message, this);
      if (message.final) this.finals[message.system] = message.utterance + 1;
    }
    this.leaveWhenDone();
  }

  // Send samples (Float32Array).
  hear(samples, follow = true) {
    if (this.isOver || this.isEnding) return;
    const pcm = new Int16Array(samples.length);
    let energy = 0;
    samples.forEach((x, i) => {
      energy += x * x;
      pcm[i] = Math.max(-32768, Math.min(32767, Math.round(x * 32768)));
    });
    const db = samples.length ? 10 * Math.log10(energy / samples.length + 1e-10) : -100;
    if (follow) showLevel(db);
    if (this.socket.bufferedAmount > HOPELESS_UNSENT_BYTES) {
      this.fault = "The server is too slow for this: it has fallen far behind.";
      this.socket.close();
      return;
    }
    // The server cuts there too.
    for (let rest = pcm; rest.length; ) {
      if (this.inUtterance === this.maxSamples) this.begin();
      const part = rest.subarray(0, this.maxSamples - this.inUtterance);
      this.numSamples += part.length;
      this.log.at(-1).push({ ms: (this.inUtterance * 1000) / this.rate, at: performance.now() });
      rest = rest.subarray(part.length);
    }
    if (pcm.length) this.socket.send(pcm);
    this.sound ||= this.pauses.isVoiced;
    if (this.pauses.hear(db, (samples.length * 1000) / this.rate) && ui.pauses.checked) this.end();
  }

  get inUtterance() {
    return this.numSamples - (this.begun ?? 0);
  }

  // End the utterance; the next sound begins another.
  end() {
    this.socket.send(JSON.stringify({ type: "end" }));
    this.begin();
    this.pauses.reset();
  }

  begin() {
    this.voiced.push(this.pauses.isVoiced);
    this.begun = this.numSamples;
    this.starts.push(this.starts[0] + this.sentMs);
    this.log.push([]);
  }

  // No more comes; wait for what is still to be said.
  finish() {
    if (this.isOver || this.isEnding) return;
    if (this.socket.readyState === WebSocket.CONNECTING) {
      // To close it now would be a failure in the browser's eyes, and said in its console.
      this.isOver = true;
      this.socket.onopen = () => this.socket.close(1000);
      this.onEnd(null);
      return;
    }
    if (this.socket.readyState !== WebSocket.OPEN || !this.finals) {
      this.isOver = true;
      this.socket.close();
      return;
    }
    if (this.inUtterance > 0) this.end();
    this.isEnding = true;
    this.leaveWhenDone();
  }

  leaveWhenDone() {
    const wanted = this.utterance;
    if (this.isEnding && !this.isOver && this.finals.every((num, i) => num >= wanted || this.lost?.has(i))) {
      this.isOver = true;
      // Who stops at once knows that there was nothing.
      if (!this.sound && this.sentMs >= 2000) this.fault = "Nothing louder than the background was heard: is the microphone on, and loud enough?";
      this.socket.close(1000);
    }
  }
}

let columns = [];
let current = null; // {session, stop()} while something is heard
let heardBefore = 0;

let levelDb = -60;
function showLevel(db) {
  levelDb = Math.max(-60, Math.min(0, db));
}

function drawLevel() {
  if (!current) levelDb = -60;
  ui.level.firstElementChild.style.transform = `scaleX(${(levelDb + 60) / 60})`;
  ui.level.setAttribute("aria-valuenow", levelDb.toFixed(0));
  if (current) requestAnimationFrame(drawLevel);
}

function enable() {
  const busy = current !== null;
  ui.start.disabled = ui.choose.disabled = ui.clear.disabled = busy || !columns.length;
  ui.stop.disabled = !busy || current.isStopping;
  ui.save.disabled = !columns.some((column) => column.utterances.length);
}

// Listen to what `connect` attaches to a worklet that hands over pieces.
async function listen(what, connect) {
  complain("");
  const context = new AudioContext({ latencyHint: "interactive" });
  // Until sound comes, stopping needs no last piece.
  const run = { session: null, isStopping: false, stop: () => (run.session ? run.session.finish() : over(null)) };
  current = run;
  enable();
  const over = (fault) => {
    if (current !== run) return;
    run.release?.();
    context.close();
    heardBefore += run.session?.sentMs ?? 0;
    current = null;
    for (const column of columns) column.behind(0);
    if (fault) complain(fault);
    say("Ready.");
    enable();
    drawLevel();
  };
  try {
    await context.audioWorklet.addModule("microphone.js");
    if (current !== run) return;
    const session = new Session(context.sampleRate, heardBefore, true, over);
    run.session = session;
    await session.ready;
    const pieces = new AudioWorkletNode(context, "pieces");
    // It is silent, but some browsers run only what leads to the loudspeaker.
    pieces.connect(context.destination);
    pieces.port.onmessage = ({ data }) => {
      session.hear(data.samples);
      if (data.last) session.finish();
    };
    run.stop = () => {
      run.isStopping = true;
      run.release?.();
      pieces.port.postMessage("rest");
      say("Finishing …");
      enable();
    };
    run.release = await connect(context, pieces, run);
    if (current !== run) {
      run.release();
      return;
    }
    await context.resume();
    say(what);
    drawLevel();
  } catch (error) {
    run.session?.finish();
    over(explain(error));
  }
}

function explain(error) {
  if (error.name === "NotAllowedError") return "The browser gave no microphone: allow it for this page and start again.";
  if (error.name === "NotFoundError") return "No microphone was found: plug one in, or choose a file.";
  if (error.name === "EncodingError") return "The browser cannot decode this file: choose a sound file such as wav, flac, mp3 or ogg.";
  return error.message;
}

async function listenToMicrophone() {
  if (!navigator.mediaDevices) {
    complain("Browsers give a microphone only to https pages and to pages of this machine. Files work here.");
    return;
  }
  await listen("Listening: speak.", async (context, pieces) => {
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...plain } });
    const release = () => stream.getTracks().forEach((track) => track.stop());
    // Stopped before the microphone was there.
    if (context.state === "closed") return release;
    const source = context.createMediaStreamSource(stream);
    source.connect(pieces);
    return () => {
      source.disconnect();
      release();
    };
  });
}

async function listenToFile(file) {
  if (file.size > MAX_FILE_BYTES) {
    complain(`${file.name} is larger than ${MAX_FILE_BYTES / 1e6} MB: cut it into parts.`);
    return;
  }
  if (ui.pace.value === "once") {
    await sendFile(file);
    return;
  }
  await listen(`Listening to ${file.name}`, async (context, pieces, run) => {
    const source = context.createBufferSource();
    source.buffer = await context.decodeAudioData(await file.arrayBuffer());
    source.connect(pieces);
    if (ui.pace.value === "spoken") source.connect(context.destination);
    source.onended = () => run.isStopping || run.stop();
    source.start();
    return () => {
      source.onended = null;
      source.disconnect();
    };
  });
}

// A whole file, as quickly as the server takes it.
async function sendFile(file) {
  complain("");
  const run = { session: null, isStopping: false, stop: () => (run.isStopping = true) };
  current = run;
  enable();
  const over = (fault) => {
    if (current !== run) return;
    heardBefore += run.session?.sentMs ?? 0;
    current = null;
    if (fault) complain(fault);
    say("Ready.");
    enable();
  };
  try {
    const context = new AudioContext();
    const sound = await context.decodeAudioData(await file.arrayBuffer()).finally(() => context.close());
    const session = new Session(sound.sampleRate, heardBefore, false, over);
    run.session = session;
    await session.ready;
    say(`Sending ${file.name}`);
    const channels = Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i));
    const size = Math.round(sound.sampleRate * AT_ONCE_SECONDS);
    for (let start = 0; start < sound.length && !run.isStopping && !session.isOver; start += size) {
      const piece = new Float32Array(Math.min(size, sound.length - start));
      for (const channel of channels) {
        for (let i = 0; i < piece.length; i++) piece[i] += channel[start + i] / channels.length;
      }
      session.hear(piece, false);
      while (session.socket.bufferedAmount > MAX_UNSENT_BYTES && !session.isOver) await new Promise((next) => setTimeout(next, 10));
    }
    say("Finishing …");
    session.finish();
  } catch (error) {
    run.session?.finish();
    over(explain(error));
  }
}

function save() {
  const lines = ["model\tutterance\ttext\tend_s\tlatency_ms", ...columns.flatMap((column) => column.lines())];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/tab-separated-values" }));
  link.download = `transcript-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.tsv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function clear() {
  heardBefore = 0;
  for (const column of columns) column.clear();
  complain("");
  enable();
}

ui.start.onclick = listenToMicrophone;
ui.choose.onclick = () => ui.file.click();
ui.file.onchange = () => {
  const [file] = ui.file.files;
  ui.file.value = "";
  if (file) listenToFile(file);
};
ui.stop.onclick = () => current?.stop();
ui.save.onclick = save;
ui.clear.onclick = clear;

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("dropping", !current);
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file && !current) listenToFile(file);
});

try {
  const answer = await fetch("systems");
  if (!answer.ok) throw new Error(await answer.text());
  columns = (await answer.json()).systems.map((about) => new Column(about));
  say("Ready.");
} catch (error) {
  say("");
  complain(`The server does not answer: ${error.message}`);
}
enable();
