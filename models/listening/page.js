"use strict";
// The page itself: tiles, tabs, keys, votes. Sounds come from `Player`, rules from `Blind`.

const INDEX = JSON.parse(document.getElementById("index").textContent);
const STORE = `listening-votes-${INDEX.digest}`;
const $ = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function stored() {
  try { return JSON.parse(localStorage.getItem(STORE)) ?? []; } catch { return []; }
}

const state = {
  view: "compare",
  rate: INDEX.clips[0].rate,
  votes: stored(),
  out: new Set(),  // systems that take no part in the blind test, until the listener lets them
  trial: null,
  heard: new Set(),  // sides of this trial that were listened to
  side: "a",
  last: "",
};
const player = new Player(() => refresh());
const sections = new Map();  // clip -> its element and tiles

const clipsHere = () => INDEX.clips.filter((clip) => clip.rate === state.rate);
const systemsHere = () => [...new Set(clipsHere().flatMap((clip) => clip.sounds.map((s) => s.system)))];
const place = (clip, system) => clip.sounds.findIndex((s) => s.system === system);

function title(clip) {
  const noise = clip.noise ? clip.noise[0].toUpperCase() + clip.noise.slice(1) : "Clean speech";
  const ratio = clip.noise && clip.snr != null ? `${clip.snr} dB` : "";
  return [noise, ratio, clip.condition].filter(Boolean).join(", ");
}

function details(clip) {
  const voice = clip.voice ? `voice: ${clip.voice}` : "";
  return [voice, clip.line, `${clip.rate / 1000} kHz`].filter(Boolean).join(" · ");
}

function scores(sound) {
  if (sound.system === "clean") return "the speech alone, before noise and line";
  const names = { pesq: "PESQ", ovrl: "DNSMOS" };
  return Object.entries(names)
    .filter(([key]) => typeof sound.scores[key] === "number")
    .map(([key, name]) => `${name} ${sound.scores[key].toFixed(2)}`).join(" · ");
}

// Compare

function tile(clip, sound, i) {
  const canvas = element("canvas", { width: 260, height: 96 }), head = element("span", { class: "head" });
  const name = element("span", { class: "name" }, sound.system);
  if (i < 9) name.append(element("kbd", {}, String(i + 1)));
  const view = element("span", { class: "view", "aria-hidden": "true" }, canvas, head);
  const about = element("span", { class: "scores" }, scores(sound));
  const button = element("button", { class: `tile ${sound.owner}`, "aria-pressed": "false" }, name, about, view);
  button.addEventListener("click", (event) => listen(clip, i, event.target.closest(".view") ? placeIn(view, event) : null));
  return { button, canvas, head };
}

function placeIn(view, event) {
  const box = view.getBoundingClientRect();
  return (event.clientX - box.left) / box.width;
}

/** Plays a clip from a share of its length, or goes on where it is, with one system audible. */
async function listen(clip, i, share) {
  if (!(await player.load(clip))) return;
  player.choose(i);
  if (share !== null) player.play(share * player.duration);
  else if (!player.playing) player.play();
}

function section(clip) {
  const tiles = clip.sounds.map((sound, i) => tile(clip, sound, i));
  const made = element("article", { class: "clip", id: `clip-${clip.rate}-${clip.id}` },
    element("h2", {}, title(clip)), element("p", { class: "details" }, details(clip)),
    element("div", { class: "tiles" }, ...tiles.map((t) => t.button)));
  sections.set(clip, { made, tiles });
  watcher.observe(made);
  return made;
}

/** Spectrograms are drawn when their clip first comes into sight. */
const watcher = new IntersectionObserver((seen) => {
  for (const entry of seen.filter((e) => e.isIntersecting)) {
    watcher.unobserve(entry.target);
    for (const [clip, { made, tiles }] of sections) if (made === entry.target) draw(clip, tiles);
  }
}, { rootMargin: "400px" });

async function draw(clip, tiles) {
  for (const [i, sound] of clip.sounds.entries()) drawSpectrogram(tiles[i].canvas, await samplesOf(sound, clip.rate), clip.rate);
}

// Blind test

function entrants() {
  return systemsHere().filter((name) => !state.out.has(name));
}

async function nextTrial() {
  state.trial = Blind.draw(clipsHere(), entrants(), state.votes.filter((v) => v.rate === state.rate));
  state.side = "a";
  state.heard.clear();
  refresh();
}

async function hear(side) {
  const trial = state.trial;
  if (!trial) return;
  state.side = side;
  if (!(await player.load(trial.clip)) || trial !== state.trial) return;
  player.match(true);
  player.choose(place(trial.clip, trial[side]));
  if (!player.playing) player.play();
  state.heard.add(side);
  refresh();
}

function vote(side) {
  const { trial } = state;
  if (!trial || state.heard.size < 2) return;
  const winner = side === "none" ? "" : trial[side];
  const { clip, a, b } = trial;
  state.votes.push({ rate: clip.rate, clip: clip.id, a, b, winner, at: new Date().toISOString() });
  state.last = `That was A: ${a}, B: ${b}. ` + (winner ? `You preferred ${winner}.` : "You heard no difference.");
  keep();
  player.stop();
  nextTrial();
}

function keep() {
  try { localStorage.setItem(STORE, JSON.stringify(state.votes)); } catch { state.last += " This browser does not keep votes; save them."; }
  results();
}

function results() {
  const own = state.votes.filter((v) => v.rate === state.rate);
  $("counted").textContent = own.length === 0 ? "No votes yet." : `${own.length} vote${own.length === 1 ? "" : "s"} at ${state.rate / 1000} kHz.`;
  fill($("results"), Blind.standings(own));
  fill($("duels"), Blind.duels(own));
}

function fill(table, rows) {
  const percent = (share) => `${Math.round(share * 100)} %`;
  table.querySelector("tbody").replaceChildren(...rows.map((row) => {
    const [low, high] = row.interval, meter = element("span", { class: "meter", "aria-hidden": "true" });
    if (row.share !== null) {
      const range = element("i"), mark = element("b");
      Object.assign(range.style, { left: `${low * 100}%`, right: `${(1 - high) * 100}%` });
      mark.style.left = `calc(${row.share * 100}% - 1.5px)`;
      meter.append(range, mark);
    }
    const interval = row.share === null ? "" : `${percent(low)} to ${percent(high)}`;
    const cells = [row.better, row.worse, row.same, row.share === null ? "" : percent(row.share)];
    return element("tr", {}, element("th", { scope: "row" }, row.name), ...cells.map((c) => element("td", {}, String(c))),
      element("td", {}, interval, meter));
  }));
}

function chooseEntrants() {
  $("entrants").replaceChildren($("entrants").querySelector("legend"), ...systemsHere().map((name) => {
    const box = element("input", { type: "checkbox", onchange: (e) => {
      state.out[e.target.checked ? "delete" : "add"](name);
      player.stop();
      nextTrial();
    } });
    box.checked = !state.out.has(name);
    return element("label", {}, box, ` ${name}`);
  }));
}

function save(name, type, text) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

// The whole

function show(view) {
  player.stop();
  state.view = view;
  for (const name of ["compare", "blind"]) {
    $(name).hidden = name !== view;
    $(`tab-${name}`).setAttribute("aria-selected", String(name === view));
    $(`tab-${name}`).tabIndex = name === view ? 0 : -1;
  }
  player.match(view === "blind" || $("match").checked);
  if (view === "blind") nextTrial();
  refresh();
}

function setRate(rate) {
  player.stop();
  state.rate = rate;
  state.last = "";
  for (const button of $("rates").children) {
    const chosen = Number(button.dataset.rate) === rate;
    button.setAttribute("aria-checked", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
  }
  sections.clear();
  watcher.disconnect();
  $("clips").replaceChildren(...clipsHere().map(section));
  chooseEntrants();
  results();
  nextTrial();
}

/** What is on screen follows what the player does. */
function refresh() {
  const { clip } = player, blind = state.view === "blind";
  for (const [other, { made, tiles }] of sections) {
    const here = other === clip && !blind;
    made.classList.toggle("playing", here);
    tiles.forEach(({ button }, i) => button.setAttribute("aria-pressed", String(here && i === player.chosen)));
  }
  for (const side of ["a", "b"]) {
    $(`hear-${side}`).setAttribute("aria-pressed", String(state.side === side && state.heard.has(side)));
    $(`hear-${side}`).disabled = !state.trial;
  }
  for (const side of ["a", "b", "none"]) $(`vote-${side}`).disabled = state.heard.size < 2;
  const count = state.votes.filter((v) => v.rate === state.rate).length + 1;
  $("round").textContent = state.trial ? `Trial ${count}: ${title(state.trial.clip)}. Hear both, then vote.` : "Let at least two systems take part.";
  $("revealed").textContent = state.last;
  $("matching").hidden = blind;
  $("play").textContent = player.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  if (blind) {
    $("now-system").textContent = state.trial ? state.side.toUpperCase() : "";
    $("now-clip").textContent = state.trial ? title(state.trial.clip) : "";
  } else if (clip) {
    $("now-system").textContent = clip.sounds[player.chosen].system;
    $("now-clip").textContent = `${title(clip)} · ${details(clip)}`;
  }
  follow();
}

function follow() {
  const { position, duration } = player, share = duration ? position / duration : 0;
  $("time").textContent = `${position.toFixed(1)} of ${duration.toFixed(1)} s`;
  if (document.activeElement !== $("seek")) $("seek").value = String(share);
  const here = sections.get(player.clip);
  if (here) for (const { head } of here.tiles) head.style.left = `${share * 100}%`;
}

function tick() {
  if (player.playing) follow();
  requestAnimationFrame(tick);
}

function toggle() {
  if (player.playing) player.pause();
  else if (state.view === "blind") hear(state.side);
  else if (player.clip) player.play();
  else listen(clipsHere()[0], 0, null);
}

/** Keys on their own; those of form controls stay theirs. */
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, summary") || event.target.closest("[role=tablist], [role=radiogroup]")) return;
  const blind = { a: () => hear("a"), b: () => hear("b"), ArrowLeft: () => vote("a"), ArrowRight: () => vote("b"), ArrowDown: () => vote("none") };
  const step = (by) => () => player.clip && player.choose((player.chosen + by + player.clip.sounds.length) % player.clip.sounds.length);
  const compare = { ArrowLeft: step(-1), ArrowRight: step(1) };
  const number = Number(event.key) - 1;
  const own = event.target.closest("button");  // the space bar plays, unless it presses a button that does something else
  if (event.key === " " && own && !own.matches(".tile, #hear-a, #hear-b")) return;
  let act = event.key === " " ? toggle : (state.view === "blind" ? blind : compare)[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act && state.view === "compare" && number >= 0) {
    const clip = player.clip ?? clipsHere()[0];
    act = () => number < clip.sounds.length && listen(clip, number, null);
  }
  if (!act) return;
  event.preventDefault();
  act();
}

/** Arrow keys within a group of tabs or radio buttons. */
function roving(group, choose) {
  group.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], all = [...group.children];
    if (!by) return;
    const next = all[(all.indexOf(document.activeElement) + by + all.length) % all.length];
    next.focus();
    choose(next);
  });
}

/** At first one of ours meets the rivals: every pair of all systems would take hundreds of votes. */
function chooseFirstEntrants() {
  const sounds = INDEX.clips.flatMap((clip) => clip.sounds), best = sounds.find((s) => s.owner === "ours")?.system;
  for (const { system, owner } of sounds) if (owner === "reference" || (owner === "ours" && system !== best)) state.out.add(system);
}

function start() {
  for (const name of ["compare", "blind"]) $(`tab-${name}`).addEventListener("click", () => show(name));
  roving(document.querySelector("[role=tablist]"), (tab) => show(tab.id.replace("tab-", "")));
  const rates = [...new Set(INDEX.clips.map((clip) => clip.rate))];
  $("rates").append(...rates.map((rate) => element("button",
    { role: "radio", "data-rate": rate, onclick: () => setRate(rate) }, `${rate / 1000} kHz`)));
  roving($("rates"), (button) => setRate(Number(button.dataset.rate)));
  for (const side of ["a", "b"]) $(`hear-${side}`).addEventListener("click", () => hear(side));
  for (const side of ["a", "b", "none"]) $(`vote-${side}`).addEventListener("click", (event) => {
    if (event.detail > 0) event.currentTarget.blur();  // after a click of the mouse, the space bar must not vote again
    vote(side);
  });
  $("play").addEventListener("click", toggle);
  $("seek").addEventListener("input", (e) => player.seek(Number(e.target.value) * player.duration));
  $("seek").addEventListener("change", (e) => e.target.blur());
  $("loop").addEventListener("change", (e) => player.repeat(e.target.checked));
  $("match").addEventListener("change", (e) => player.match(e.target.checked));
  $("export-csv").addEventListener("click", () => save("votes.csv", "text/csv", Blind.csv(state.votes)));
  $("export-json").addEventListener("click", () => save("votes.json", "application/json", JSON.stringify(state.votes, null, 1)));
  $("forget").addEventListener("click", () => {
    if (!confirm("Forget all votes of this page?")) return;
    [state.votes, state.last] = [[], ""];
    keep();
    nextTrial();
  });
  document.addEventListener("keydown", key);
  chooseFirstEntrants();
  drawScale();
  setRate(state.rate);
  tick();
}

function drawScale() {
  const canvas = $("scale"), context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    context.fillStyle = `rgb(${colour(x / (canvas.width - 1)).map(Math.round).join(" ")})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
  $("scale-low").textContent = `${DB_LOW} dBFS`;
  $("scale-high").textContent = `${DB_HIGH} dBFS`;
}

start();
