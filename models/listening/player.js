"use strict";
// Plays all versions of one clip in step, one of them audible, and draws spectrograms. Knows nothing of the page.

const FADE_SECONDS = 0.008;
const DB_LOW = -100, DB_HIGH = -30;
const COLOURS = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

function bytesOf(id) {
  const text = atob(document.getElementById(id).textContent);
  return Uint8Array.from(text, (c) => c.charCodeAt(0)).buffer;
}

class Player {
  constructor(onChange) {
    this.onChange = onChange;
    this.audio = null;
    this.clip = null;
    this.buffers = [];
    this.voices = [];
    this.chosen = 0;
    this.matched = false;
    this.loop = true;
    this.offset = 0;
    this.startedAt = 0;
    this.turn = 0;
  }

  get playing() { return this.voices.length > 0; }
  get duration() { return this.buffers.length ? this.buffers[0].duration : 0; }

  get position() {
    if (!this.playing) return this.offset;
    const run = this.offset + this.audio.currentTime - this.startedAt;
    return this.loop && this.duration ? Math.max(0, run) % this.duration : Math.min(Math.max(0, run), this.duration);
  }

  /** Makes `clip` the one to play. The context is made late, since browsers want a click first. */
  async load(clip) {
    this.audio ??= new AudioContext();
    if (this.clip === clip) return true;
    this.stop();
    const turn = ++this.turn;
    const buffers = await Promise.all(clip.sounds.map((s) => this.audio.decodeAudioData(bytesOf(s.id))));
    if (turn !== this.turn) return false;  // another clip was chosen meanwhile
    [this.clip, this.buffers, this.offset] = [clip, buffers, 0];
    return true;
  }

  play(at = this.position) {
    if (!this.clip) return;
    this.silence();
    this.audio.resume();
    this.offset = at >= this.duration - 0.01 ? 0 : at;
    this.startedAt = this.audio.currentTime + 0.02;
    this.voices = this.buffers.map((buffer, i) => this.voice(buffer, i));
    this.voices[0].source.onended = () => { if (this.playing && !this.loop) this.stop(); };
    this.onChange();
  }

  voice(buffer, i) {
    const source = this.audio.createBufferSource(), gain = this.audio.createGain();
    source.buffer = buffer;
    source.loop = this.loop;
    gain.gain.value = this.level(i);
    source.connect(gain).connect(this.audio.destination);
    source.start(this.startedAt, this.offset);
    return { source, gain };
  }

  level(i) {
    return i === this.chosen ? (this.matched ? this.clip.sounds[i].gain : 1) : 0;
  }

  /** Switches what is heard, under a short cross-fade. */
  choose(i) {
    this.chosen = i;
    this.mix();
  }

  match(matched) {
    this.matched = matched;
    this.mix();
  }

  mix() {
    this.voices.forEach(({ gain }, i) => {
      const now = this.audio.currentTime;
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(this.level(i), now + FADE_SECONDS);
    });
    this.onChange();
  }

  repeat(loop) {
    const at = this.position;
    this.loop = loop;
    if (this.playing) this.play(at);
  }

  silence() {
    for (const { source } of this.voices) {
      source.onended = null;
      source.stop();
    }
    this.voices = [];
  }

  pause() {
    this.offset = this.position;
    this.silence();
    this.onChange();
  }

  stop() {
    this.silence();
    this.offset = 0;
    this.onChange();
  }

  seek(at) {
    this.offset = at;
    if (this.playing) this.play(at);
    else this.onChange();
  }
}

/** Power spectrum of real samples by a recursive radix-2 transform; re, im: Float64Array of a power of two. */
function transform(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let size = 2; size <= n; size <<= 1) {
    const half = size >> 1, step = (-2 * Math.PI) / size;
    for (let k = 0; k < half; k++) {
      const c = Math.cos(step * k), s = Math.sin(step * k);
      for (let i = k; i < n; i += size) {
        const x = re[i + half] * c - im[i + half] * s, y = re[i + half] * s + im[i + half] * c;
        re[i + half] = re[i] - x; im[i + half] = im[i] - y;
        re[i] += x; im[i] += y;
      }
    }
  }
}

function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1), low = Math.min(Math.floor(at), COLOURS.length - 2);
  return COLOURS[low].map((c, i) => c + (COLOURS[low + 1][i] - c) * (at - low));
}

/** Draws samples at `rate` into the canvas: 32 ms Hann windows, one a column, DB_LOW to DB_HIGH relative to full scale. */
function drawSpectrogram(canvas, samples, rate) {
  const size = rate === 8000 ? 256 : 512, bins = size / 2, columns = canvas.width, rows = canvas.height;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  const window = Float64Array.from({ length: size }, (_, i) => (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size)) * (4 / size));
  for (let x = 0; x < columns; x++) {
    const start = Math.floor((x / columns) * Math.max(0, samples.length - size));
    const re = window.map((w, i) => w * (samples[start + i] ?? 0)), im = new Float64Array(size);
    transform(re, im);
    for (let y = 0; y < rows; y++) {
      const low = Math.floor(((rows - 1 - y) / rows) * bins), high = Math.max(low + 1, Math.floor(((rows - y) / rows) * bins));
      let power = 1e-12;
      for (let k = low; k < high; k++) power = Math.max(power, re[k] * re[k] + im[k] * im[k]);
      const [r, g, b] = colour((10 * Math.log10(power) - DB_LOW) / (DB_HIGH - DB_LOW));
      image.data.set([r, g, b, 255], 4 * (y * columns + x));
    }
  }
  context.putImageData(image, 0, 0);
}

/** The samples of a sound at its own rate, for drawing. */
async function samplesOf(sound, rate) {
  const offline = new OfflineAudioContext(1, 1, rate);
  return (await offline.decodeAudioData(bytesOf(sound.id))).getChannelData(0);
}
