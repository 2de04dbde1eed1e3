/* The page of a labelling campaign, and its widget in notebooks: one module, nothing beside it.
 *
 * Parts: elements - transports (HTTP, or messages of a widget) - the outbox, in which answers wait
 * until they are stored - the viewer of pictures - panels - the annotator's session.
 * What comes from the server is only ever put into text nodes and properties, never parsed as HTML.
 */

// ---- elements ---------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: attributes, listeners (on...), and children, of which strings become text. */
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (["value", "checked", "disabled", "hidden"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A key, as it is written on keyboards. */
const key = (name) => h("kbd", {}, name);

const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;

/** Okabe and Ito's colours, which people of any colour vision can tell apart. */
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999"];
const colour = (index) => COLOURS[index % COLOURS.length];
const ink = (index) => (colour(index) === "#0072b2" ? "#ffffff" : "#101317");

/** A new id; pages over plain HTTP from other machines have no randomUUID. */
function makeUid() {
  if (globalThis.crypto.randomUUID) return globalThis.crypto.randomUUID();
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// ---- transports -------------------------------------------------------------------------------

/** The server said no, and will say it again: status and reason. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The server did not answer, or cannot now; later it may. */
class Unreachable extends Error {}

const isPassing = (status) => status >= 500 || status === 408 || status === 429;

/** Asks a server. */
function overHttp(base = "api/", patience = 15000) {
  async function ask(path, options = {}) {
    let reply;
    try {
      reply = await fetch(base + path, {
        ...options,
        credentials: "same-origin",
        redirect: "error",
        signal: AbortSignal.timeout(patience),
      });
    } catch (error) {
      throw new Unreachable(String(error && error.message));
    }
    if (reply.ok) return reply;
    const told = await reply.json().catch(() => ({}));
    const reason = typeof told.error === "string" ? told.error : `the server says ${reply.status}`;
    throw isPassing(reply.status) ? new Unreachable(reason) : new Refused(reply.status, reason);
  }
  const parse = (reply) =>
    reply.json().catch((error) => {
      throw new Unreachable(String(error));
    });
  return {
    isPage: true,
    async get(name, values = {}) {
      return parse(await ask(`${name}?${new URLSearchParams(values)}`));
    },
    async post(name, values) {
      const headers = { "content-type": "application/json" };
      return parse(await ask(name, { method: "POST", headers, body: JSON.stringify(values) }));
    },
    async picture(name, candidate) {
      const reply = await ask(`${name}?${new URLSearchParams({ candidate })}`);
      if (reply.status === 204) return null;
      const box = reply.headers.get("x-box");
      try {
        return { blob: await reply.blob(), box: box ? JSON.parse(box) : null };
      } catch (error) {
        throw new Unreachable(String(error));
      }
    },
  };
}

/** Asks the kernel of a notebook, by messages of the widget; it may be busy for long. */
function overMessages(model, patience = 120000) {
  const waiting = new Map();
  const hear = (message, buffers) => {
    const call = message && waiting.get(message.id);
    if (!call) return;
    waiting.delete(message.id);
    clearTimeout(call.timer);
    if (message.status === 200) call.done({ reply: message.reply, buffers });
    else if (isPassing(message.status)) call.fail(new Unreachable(message.error));
    else call.fail(new Refused(message.status, message.error));
  };
  model.on("msg:custom", hear);
  const ask = (name, values) =>
    new Promise((done, fail) => {
      const id = makeUid();
      const timer = setTimeout(() => {
        waiting.delete(id);
        fail(new Unreachable("the kernel does not answer"));
      }, patience);
      waiting.set(id, { done, fail, timer });
      model.send({ id, name, values });
    });
  return {
    isPage: false,
    get: async (name, values = {}) => (await ask(name, values)).reply,
    post: async (name, values) => (await ask(name, values)).reply,
    async picture(name, candidate) {
      const { reply, buffers } = await ask(name, { candidate });
      if (!reply.found) return null;
      return { blob: new Blob([buffers[0]], { type: "image/png" }), box: reply.box };
    },
    close: () => model.off("msg:custom", hear),
  };
}

// ---- what is kept in the browser ----------------------------------------------------------------

/** localStorage; or memory, where the browser refuses that. */
function openStorage() {
  try {
    const storage = globalThis.localStorage;
    storage.setItem("aift:try", "1");
    storage.removeItem("aift:try");
    return { lasts: true, storage };
  } catch {
    const held = new Map();
    const storage = {
      getItem: (name) => held.get(name) ?? null,
      setItem: (name, value) => held.set(name, String(value)),
      removeItem: (name) => held.delete(name),
      key: (index) => [...held.keys()][index] ?? null,
      get length() {
        return held.size;
      },
    };
    return { lasts: false, storage };
  }
}

/** Answers wait here, each under a key of its own, until the server has stored them.
 *
 * They are sent one after the other, in the order in which they were given, again and again. One
 * that is refused for good is put aside and shown: it is never dropped in silence.
 */
class Outbox {
  constructor(storage, campaign, send, changed) {
    this.storage = storage;
    this.prefix = `aift:${campaign}:out:`;
    this.aside = `aift:${campaign}:refused:`;
    this.send = send;
    this.changed = changed;
    this.trouble = "";
    this.running = false;
    this.counter = 0;
    this.wake = () => {};
  }

  list(prefix) {
    const found = [];
    for (let index = 0; index < this.storage.length; index++) {
      const name = this.storage.key(index);
      if (!name || !name.startsWith(prefix)) continue;
      try {
        found.push(JSON.parse(this.storage.getItem(name)));
      } catch {
        // Something else's.
      }
    }
    return found.filter(Boolean).sort((a, b) => a.time - b.time || a.order - b.order);
  }

  waiting() {
    return this.list(this.prefix);
  }

  refused() {
    return this.list(this.aside);
  }

  candidates() {
    return new Set(this.waiting().map((item) => item.body.candidate));
  }

  add(name, body) {
    const item = { name, body, time: Date.now(), order: this.counter++ };
    this.storage.setItem(this.prefix + body.uid, JSON.stringify(item));
    this.changed();
    this.run();
  }

  /** Send what waits; does nothing while that is under way. */
  async run() {
    this.wake();
    if (this.running) return;
    this.running = true;
    let delay = 500;
    try {
      for (let item; (item = this.waiting()[0]); ) {
        try {
          const reply = await this.send(item);
          this.storage.removeItem(this.prefix + item.body.uid);
          this.trouble = "";
          delay = 500;
          this.changed(item, reply);
        } catch (error) {
          if (error instanceof Refused && error.status !== 401) this.putAside(item, error);
          else if (error instanceof Refused || error instanceof Unreachable) {
            this.trouble = error.message || "the server does not answer";
            this.locked = error instanceof Refused;
            this.changed();
            await Promise.race([
              pause(delay * (0.8 + 0.4 * Math.random())),
              new Promise((done) => (this.wake = done)),
            ]);
            delay = Math.min(2 * delay, 4000);
          } else throw error;
        }
      }
    } finally {
      this.running = false;
    }
  }

  putAside(item, error) {
    this.storage.setItem(this.aside + item.body.uid, JSON.stringify({ ...item, error: error.message }));
    this.storage.removeItem(this.prefix + item.body.uid);
    this.trouble = "";
    this.changed(item, null, error);
  }

  forget(item) {
    this.storage.removeItem(this.aside + item.body.uid);
    this.changed();
  }
}

// ---- pictures -----------------------------------------------------------------------------------

const IDENTITY = { low: 0, high: 1, inverted: false };

/** Shares of black and white between which a picture's greys lie, but for a hundredth each. */
function usualRange(pixels) {
  const counts = new Uint32Array(256);
  for (let index = 0; index < pixels.length; index += 4) {
    counts[(pixels[index] * 54 + pixels[index + 1] * 183 + pixels[index + 2] * 19) >> 8]++;
  }
  const total = pixels.length / 4;
  const edge = (values) => {
    let sum = 0;
    return values.find((value) => (sum += counts[value]) > 0.01 * total) ?? values.at(-1);
  };
  const values = Array.from(counts.keys());
  const low = edge(values);
  const high = edge(values.reverse());
  return { low: low / 255, high: Math.max(high, low + 1) / 255, inverted: false };
}

/** Presets of the window: greys between low and high are spread from black to white. */
const PRESETS = [
  { name: "Full", title: "all greys", tone: () => IDENTITY },
  { name: "Auto", title: "the greys of this picture, but for 1 % at either end", tone: usualRange },
  { name: "Dark", title: "the darker half", tone: () => ({ low: 0, high: 0.5, inverted: false }) },
  { name: "Bright", title: "the brighter half", tone: () => ({ low: 0.5, high: 1, inverted: false }) },
  { name: "Inverted", title: "black for white", tone: () => ({ ...IDENTITY, inverted: true }) },
];

/** A picture that is decoded, with its pixels. */
async function decode(found) {
  if (!found) return null;
  const image = await createImageBitmap(found.blob, { colorSpaceConversion: "none" });
  const canvas = h("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  image.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  return { canvas, pixels, box: found.box };
}

/** Draws a picture: zoomed, moved, in a window of greys, with a box where the candidate lies. */
class Viewer {
  constructor(label, look) {
    this.look = look;
    this.picture = null;
    this.canvas = h("canvas", { role: "img", "aria-label": label, tabindex: 0 });
    this.scale = h("span", { class: "aift-scale", "aria-hidden": "true" });
    this.element = h("div", { class: "aift-viewer" }, this.canvas, this.scale);
    this.toned = h("canvas");
    this.fingers = new Map();
    this.reset();
    new ResizeObserver(() => this.draw()).observe(this.element);
    this.listen();
  }

  reset() {
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
    this.draw();
  }

  show(picture) {
    this.picture = picture;
    this.tone();
    this.reset();
  }

  /** Spread the greys of the window from black to white. */
  tone() {
    if (!this.picture) return this.draw();
    const { low, high, inverted } = this.look.tone;
    const { canvas, pixels } = this.picture;
    this.toned.width = canvas.width;
    this.toned.height = canvas.height;
    const context = this.toned.getContext("2d");
    if (low === 0 && high === 1 && !inverted) context.drawImage(canvas, 0, 0);
    else {
      const table = Uint8ClampedArray.from({ length: 256 }, (_, grey) => {
        const share = Math.min(1, Math.max(0, (grey / 255 - low) / (high - low)));
        return Math.round(255 * (inverted ? 1 - share : share));
      });
      const changed = new ImageData(pixels.width, pixels.height);
      for (let index = 0; index < pixels.data.length; index += 4) {
        for (let channel = 0; channel < 3; channel++) {
          changed.data[index + channel] = table[pixels.data[index + channel]];
        }
        changed.data[index + 3] = pixels.data[index + 3];
      }
      context.putImageData(changed, 0, 0);
    }
    this.draw();
  }

  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.paint();
    });
  }

  /** Screen pixels of a picture's pixel at zoom 1: it fits. */
  fit() {
    const { width, height } = this.toned;
    return Math.min(this.element.clientWidth / width, this.element.clientHeight / height);
  }

  paint() {
    const density = globalThis.devicePixelRatio || 1;
    const width = this.element.clientWidth;
    const height = this.element.clientHeight;
    this.canvas.width = Math.round(width * density);
    this.canvas.height = Math.round(height * density);
    const context = this.canvas.getContext("2d");
    this.scale.textContent = "";
    if (!this.picture || !width || !height) return;
    context.scale(density, density);
    const scale = this.fit() * this.zoom;
    const w = this.toned.width * scale;
    const tall = this.toned.height * scale;
    const left = (width - w) / 2 + this.x;
    const top = (height - tall) / 2 + this.y;
    context.imageSmoothingEnabled = !this.look.pixelated;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.toned, left, top, w, tall);
    if (this.picture.box) this.drawBox(context, left, top, w, tall);
    this.scale.textContent = `${scale >= 10 ? scale.toFixed(0) : scale.toFixed(1)}×`;
  }

  drawBox(context, left, top, width, height) {
    const [x0, y0, x1, y1] = this.picture.box;
    const place = [left + x0 * width, top + y0 * height, (x1 - x0) * width, (y1 - y0) * height];
    for (const [line, style] of [[4, "rgba(0, 0, 0, 0.75)"], [2, "#f0e442"]]) {
      context.lineWidth = line;
      context.strokeStyle = style;
      context.strokeRect(...place);
    }
  }

  /** Zoom about a point of the screen, by default the middle. */
  zoomBy(factor, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2) {
    const zoom = Math.min(40, Math.max(0.25, this.zoom * factor));
    const share = zoom / this.zoom;
    const fromX = x - this.element.clientWidth / 2 - this.x;
    const fromY = y - this.element.clientHeight / 2 - this.y;
    this.x -= fromX * (share - 1);
    this.y -= fromY * (share - 1);
    this.zoom = zoom;
    this.draw();
  }

  moveBy(x, y) {
    this.x += x;
    this.y += y;
    this.draw();
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!this.look.wheelZooms(canvas)) return;
        event.preventDefault();
        const steps = event.deltaMode === 1 ? event.deltaY * 20 : event.deltaY;
        this.zoomBy(Math.exp(-Math.max(-200, Math.min(200, steps)) / 400), event.offsetX, event.offsetY);
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY, button: event.button });
      this.gesture = "";
    });
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.fingers.delete(event.pointerId));
    }
  }

  /** One finger moves; two zoom, or change the window; so does the right button. */
  drag(event) {
    const finger = this.fingers.get(event.pointerId);
    if (!finger) return;
    const before = this.spread();
    const moved = [event.clientX - finger.x, event.clientY - finger.y];
    finger.x = event.clientX;
    finger.y = event.clientY;
    if (this.fingers.size === 2) this.pinch(before, this.spread(), moved);
    else if (finger.button === 2) this.look.changeWindow(moved[0] / 300, moved[1] / 300);
    else this.moveBy(...moved);
  }

  spread() {
    const [a, b] = [...this.fingers.values()];
    return b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  }

  pinch(before, after, moved) {
    const apart = Math.abs(after - before);
    if (!this.gesture && Math.max(apart, ...moved.map(Math.abs)) > 2) {
      this.gesture = apart > 0.6 * Math.hypot(...moved) ? "zoom" : "window";
    }
    if (this.gesture === "zoom" && before > 0) this.zoomBy(after / before);
    if (this.gesture === "window") this.look.changeWindow(moved[0] / 600, moved[1] / 600);
  }
}

// ---- panels -------------------------------------------------------------------------------------

const card = (title, ...children) =>
  h("section", { class: "aift-card", "aria-label": title }, h("h2", {}, title), ...children);

/** What was answered, in words. */
function said(answer) {
  if (answer.kind === "label") return answer.label;
  return answer.kind === "unsure" ? "Unsure" : "Skipped";
}

/** A class with its colour. */
function chip(classes, answer) {
  const index = answer.kind === "label" ? classes.indexOf(answer.label) : -1;
  const dot = h("i", { class: "aift-dot", hidden: index < 0 });
  if (index >= 0) dot.style.background = colour(index);
  return h("span", { class: "aift-chip" }, dot, said(answer));
}

/** Classes and a patch's probabilities as one bar. */
function stackedBar(probabilities) {
  const bar = h("div", { class: "aift-stack", "aria-hidden": "true" });
  probabilities.forEach((share, index) => {
    const part = h("i");
    part.style.width = `${100 * share}%`;
    part.style.background = colour(index);
    bar.append(part);
  });
  return bar;
}

const leadingOf = (proba) => {
  const means = proba[0].map((_, k) => proba.reduce((sum, row) => sum + row[k], 0) / proba.length);
  return { means, leading: means.indexOf(Math.max(...means)) };
};

/** How many patches give the leading class which probability. */
function histogram(values, index, name) {
  const counts = new Array(10).fill(0);
  for (const value of values) counts[Math.min(9, Math.floor(value * 10))]++;
  const most = Math.max(...counts);
  const picture = s("svg", { viewBox: "0 0 320 78", class: "aift-plot", role: "img" });
  const told = counts.map((n, bin) => (n ? `${n} from ${bin / 10} to ${(bin + 1) / 10}` : "")).filter(Boolean);
  picture.append(s("title", {}, `Patches by the probability of ${name}: ${told.join(", ")}`));
  counts.forEach((n, bin) => {
    const tall = n ? 4 + (40 * n) / most : 0;
    const bar = s("rect", { x: 6 + bin * 31, y: 60 - tall, width: 29, height: tall, rx: 2 });
    bar.style.fill = colour(index);
    picture.append(bar);
    if (n) picture.append(s("text", { x: 20.5 + bin * 31, y: 57 - tall, class: "aift-mid" }, String(n)));
  });
  picture.append(s("line", { x1: 5, x2: 316, y1: 60.5, y2: 60.5, class: "aift-axis" }));
  for (const [x, text, side] of [[5, "0", "aift-start"], [160, "0.5", "aift-mid"], [316, "1", "aift-end"]]) {
    picture.append(s("text", { x, y: 74, class: side }, text));
  }
  return picture;
}

/** What the model thinks of a candidate. */
function whyPanel(why, classes) {
  const parts = [];
  if (why.reason) parts.push(h("p", {}, why.reason));
  if (why.score !== null || why.pattern) {
    const line = h("p", { class: "aift-score" });
    if (why.score !== null) line.append("score ", h("b", {}, why.score.toFixed(3)));
    if (why.pattern) line.append(h("span", { class: "aift-letter" }, why.pattern), why.meaning);
    parts.push(line);
  }
  if (!why.proba) return parts;
  const { means, leading } = leadingOf(why.proba);
  parts.push(meanBars(means, classes), patchGrid(why, classes, leading));
  parts.push(
    h("h3", {}, `Probability of ${classes[leading]}, ${why.proba.length} patches`),
    histogram(why.proba.map((row) => row[leading]), leading, classes[leading]),
  );
  return parts;
}

function meanBars(means, classes) {
  const order = means.map((share, index) => [share, index]).sort((a, b) => b[0] - a[0]).slice(0, 5);
  return h(
    "dl",
    { class: "aift-means" },
    order.map(([share, index]) => {
      const bar = h("i");
      bar.style.width = `${100 * share}%`;
      bar.style.background = colour(index);
      return [h("dt", {}, classes[index]), h("dd", {}, h("span", { class: "aift-bar" }, bar), percent(share))];
    }),
  );
}

function patchGrid(why, classes, leading) {
  return h(
    "ul",
    { class: "aift-patches", "aria-label": "Patches" },
    why.proba.map((row, index) => {
      const told = row.map((share, k) => `${classes[k]} ${percent(share)}`).join(", ");
      const png = why.patches[index];
      const picture = png ? h("img", { src: `data:image/png;base64,${png}`, alt: "" }) : null;
      return h("li", { title: told }, picture, stackedBar(row), h("span", { "aria-label": told }, percent(row[leading])));
    }),
  );
}

/** Accuracy by labels, with its interval. */
function learningCurve(rounds) {
  const known = rounds.filter((round) => Number.isFinite(round.balanced));
  if (!known.length) return null;
  const low = (round) => round.low ?? round.balanced;
  const high = (round) => round.high ?? round.balanced;
  const floor = Math.max(0, Math.floor(10 * Math.min(...known.map(low)) - 0.5) / 10);
  const most = Math.max(...known.map((round) => round.n_labels), 1);
  const x = (round) => 40 + (264 * round.n_labels) / most;
  const y = (share) => 104 - (92 * (share - floor)) / (1 - floor);
  const picture = s("svg", { viewBox: "0 0 316 126", class: "aift-plot", role: "img" });
  const last = known.at(-1);
  picture.append(s("title", {}, `Balanced accuracy by labels, ${known.length} rounds; last ${percent(last.balanced)}`));
  for (const share of [floor, (1 + floor) / 2, 1]) {
    picture.append(s("line", { x1: 40, x2: 310, y1: y(share), y2: y(share), class: "aift-grid" }));
    picture.append(s("text", { x: 35, y: y(share) + 3.5, class: "aift-end" }, percent(share)));
  }
  const band = [...known.map((r) => [x(r), y(high(r))]), ...known.map((r) => [x(r), y(low(r))]).reverse()];
  picture.append(s("polygon", { points: band.join(" "), class: "aift-band" }));
  picture.append(s("polyline", { points: known.map((r) => [x(r), y(r.balanced)]).join(" "), class: "aift-line" }));
  for (const r of known) {
    picture.append(s("line", { x1: x(r), x2: x(r), y1: y(high(r)), y2: y(low(r)), class: "aift-whisker" }));
    picture.append(s("circle", { cx: x(r), cy: y(r.balanced), r: 3, class: "aift-point" }));
  }
  picture.append(s("text", { x: 40, y: 121, class: "aift-mid" }, "0"));
  picture.append(s("text", { x: 304, y: 121, class: "aift-end" }, `${most} labels`));
  return picture;
}

/** How far the campaign is: the curve, what training does, whether to stop. */
function learningPanel(status) {
  const parts = [];
  const training = status.training || {};
  const words = { idle: "The model waits for answers.", learning: "The model is learning.", failed: "The model could not learn." };
  const state = words[training.state] ? training.state : "idle";
  parts.push(
    h("p", { class: `aift-training aift-${state}` }, h("i", { class: "aift-dot" }), training.text || words[state]),
  );
  const curve = learningCurve(status.rounds || []);
  if (curve) {
    const last = status.rounds.filter((round) => Number.isFinite(round.balanced)).at(-1);
    const range = last.low === undefined || last.low === null ? "" : ` (${percent(last.low)} to ${percent(last.high)})`;
    parts.push(curve, h("p", {}, `Balanced accuracy ${percent(last.balanced)}${range} after ${last.n_labels} labels, on ${last.n_yardstick} images drawn at random.`));
  } else parts.push(h("p", { class: "aift-quiet" }, "The learning curve begins when the model has learnt once."));
  if (status.stopping && status.stopping.length) {
    parts.push(h("h3", {}, "When to stop"));
    parts.push(
      h(
        "ul",
        { class: "aift-stopping" },
        status.stopping.map((one) =>
          h("li", { class: one.met ? "aift-met" : "" }, h("span", { "aria-label": one.met ? "met:" : "not met:" }, one.met ? "✓" : "○"), one.text ? `${one.name}: ${one.text}` : one.name),
        ),
      ),
    );
  }
  return parts;
}

const KEYS = [
  ["1 – 9", "answer with a class, as on its button"],
  ["U", "unsure: asked, looked at, not decided"],
  ["X", "skip: somebody else may answer"],
  ["Ctrl Z", "take your latest answer back"],
  ["W", "why it is asked: what the model thinks"],
  ["H", "your answers, to look at and correct"],
  ["S", "surroundings, on or off"],
  ["P", "single pixels, or smooth"],
  ["+  −  0", "zoom in, out, to fit; also the wheel; drag to move"],
  ["← ↑ → ↓", "move the picture when it is zoomed"],
  ["Shift 1 – 5", "presets of the window, or of brightness and contrast"],
  ["right drag", "window and level: across and down; also two fingers"],
  ["G", "what you are asked to do"],
  ["?", "this help"],
  ["Esc", "close; leave a correction as it was"],
];

// ---- the annotator's session ----------------------------------------------------------------------

// Milliseconds after a question appears in which a click or key belongs to the one before.
const TOO_SOON = { click: 400, key: 200 };
// Without a touch for so long somebody has left; what they hold goes to others.
const AWAY = 5 * 60 * 1000;
const POLL = { questions: 3000, status: 15000 };
const KEPT = 16;

class Session {
  constructor(root, transport, annotator) {
    this.root = root;
    this.ask = transport;
    this.isPage = transport.isPage;
    ({ storage: this.storage, lasts: this.lasts } = openStorage());
    this.annotator = annotator || "";
    this.queue = [];
    this.present = null;
    this.answered = [];
    this.times = [];
    this.pictures = new Map();
    this.epoch = 0;
    this.active = performance.now();
    this.previous = null;
    this.ended = new AbortController();
    this.state = { loaded: false, message: "" };
    this.look = {
      tone: IDENTITY,
      preset: 0,
      pixelated: this.storage.getItem("aift:pixelated") === "1",
      around: this.storage.getItem("aift:around") !== "0",
      why: this.storage.getItem("aift:why") !== "0",
      wheelZooms: (canvas) => this.isPage || document.activeElement === canvas,
      changeWindow: (across, down) => this.changeWindow(across, down),
    };
  }

  /** Load the campaign, then begin; tries until the server answers. */
  async start() {
    this.root.replaceChildren(h("p", { class: "aift-plain", role: "status" }, "Loading …"));
    for (let delay = 500; !this.campaign; delay = Math.min(2 * delay, 8000)) {
      try {
        this.campaign = await this.ask.get("campaign");
      } catch (error) {
        if (this.ended.signal.aborted) return;
        this.root.replaceChildren(h("p", { class: "aift-plain", role: "alert" }, this.explain(error)));
        if (error instanceof Refused) return;
        await pause(delay);
      }
    }
    this.outbox = new Outbox(
      this.storage,
      this.campaign.id,
      (item) => this.ask.post(item.name, item.body),
      (item, reply, error) => this.sent(item, reply, error),
    );
    this.build();
    if (this.isPage) document.title = `${this.campaign.name} – labelling`;
    this.annotator = this.annotator || this.storage.getItem("aift:annotator") || "";
    this.outbox.run();
    if (this.annotator) this.begin();
    else this.askName();
  }

  stop() {
    this.ended.abort();
    clearInterval(this.ticking);
  }

  explain(error) {
    if (error instanceof Refused && error.status === 401) {
      return "The token is missing or has changed: open the address that the server printed. What you answered waits in this browser and is sent then.";
    }
    if (error instanceof Unreachable) return "The server does not answer. This goes on by itself when it does.";
    return error.message;
  }

  begin() {
    this.who.textContent = this.annotator;
    this.tick();
    this.fetchQuestions();
    this.fetchStatus();
  }

  // -- questions

  /** Ask for questions; those that are held come first. */
  async fetchQuestions() {
    if (this.fetching || !this.annotator) return;
    this.fetching = true;
    const epoch = this.epoch;
    try {
      const reply = await this.ask.post("questions", { annotator: this.annotator, n: 2 });
      this.trouble = "";
      // Answers that were given meanwhile bring newer questions along.
      if (epoch === this.epoch) this.take(reply, true);
    } catch (error) {
      this.trouble = this.explain(error);
      this.refresh();
    } finally {
      this.fetching = false;
      this.asked = performance.now();
    }
  }

  /** Take questions from a reply; a reply to a question, unlike one to an answer, may end a lease. */
  take(reply, mayReplace = false) {
    const waiting = this.outbox.candidates();
    const now = performance.now();
    const come = reply.questions
      .filter((question) => !waiting.has(question.candidate))
      .map((question) => ({ candidate: question.candidate, until: now + 1000 * question.seconds, lease: 1000 * question.seconds }));
    this.state = { loaded: true, message: reply.message };
    // While an answer is corrected the question that was on the screen waits for its return.
    const correcting = this.present && this.present.correcting;
    const open = correcting ? this.present.back : this.present;
    const held = open && come.find((question) => question.candidate === open.candidate);
    if (held) Object.assign(open, { until: held.until, lease: held.lease });
    else if (open && !correcting && mayReplace && !open.again) {
      this.present = null;
      this.announce("That question went to somebody else while you were away. Here is another.");
    }
    const known = new Map(this.queue.map((question) => [question.candidate, question]));
    this.queue = come
      .filter((question) => question !== held)
      .map((question) => ({ ...known.get(question.candidate), ...question }));
    if (!this.present) this.next();
    else this.refresh();
    for (const question of this.queue) this.load(question.candidate);
  }

  next() {
    const question = this.queue.shift() || null;
    if (question) this.put(question);
    else {
      this.present = null;
      this.showPictures(null);
      this.refresh();
    }
  }

  /** Put a question on the screen. */
  put(question) {
    this.pauseClock();
    const present = { seconds: 0, seen: new Set(), why: null, ...question };
    Object.assign(present, { shown: 0, since: 0, broken: "", pictures: null });
    this.present = present;
    const ready = this.load(present.candidate);
    this.showPictures(null);
    this.refresh();
    ready.then(
      (pictures) => {
        if (this.present !== present) return;
        this.showPictures(pictures);
        present.shown = performance.now();
        present.since = document.hidden ? 0 : present.shown;
        present.pictures = pictures;
        this.refresh();
        if (this.campaign.show === "always") this.showWhy();
      },
      (error) => {
        if (this.present !== present) return;
        present.broken = this.explain(error);
        present.shown = performance.now();
        this.refresh();
        if (error instanceof Unreachable) setTimeout(() => this.present === present && this.put(present), 3000);
      },
    );
  }

  /** Pictures of a candidate, once; the last few are kept. */
  load(candidate) {
    const kept = this.pictures.get(candidate);
    this.pictures.delete(candidate);
    const both = kept || Promise.all([this.ask.picture("picture", candidate), this.ask.picture("surroundings", candidate)]).then(
      async ([one, around]) => ({ one: await decode(one), around: await decode(around) }),
    );
    this.pictures.set(candidate, both);
    if (!kept) both.catch(() => this.pictures.get(candidate) === both && this.pictures.delete(candidate));
    if (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
    return both;
  }

  /** Renew what is held before its time is over, as long as somebody is here. */
  tick() {
    clearInterval(this.ticking);
    this.ticking = setInterval(() => {
      const now = performance.now();
      if (document.hidden) return;
      const away = now - this.active > AWAY;
      if (!this.present) {
        if (now - (this.asked || 0) > POLL.questions) this.fetchQuestions();
      } else if (!away && now > this.present.until - this.present.lease / 2) this.renew();
      if (now - (this.told || 0) > (this.present ? POLL.status : POLL.questions)) this.fetchStatus();
    }, 1000);
  }

  /** Somebody is here; a question that they no longer hold is asked for again. */
  touch() {
    this.active = performance.now();
    if (this.present && this.present.until < this.active && !this.present.correcting) this.renew();
  }

  renew() {
    if (performance.now() - (this.asked || 0) > POLL.questions) this.fetchQuestions();
  }

  // -- answers

  /** Whether an answer is meant for the question that is on the screen. */
  ready(by) {
    const present = this.present;
    if (!present || !present.shown || !this.annotator) return false;
    return performance.now() - present.shown >= (TOO_SOON[by] || 0);
  }

  async answer(kind, label = "", by = "key") {
    if (!this.ready(by)) return;
    const present = this.present;
    if (present.broken && kind !== "skip") {
      this.announce("The picture cannot be seen; only skip is possible.");
      return;
    }
    if (present.until < performance.now() && !present.correcting) {
      await this.fetchQuestions();
      if (this.present !== present) return;
    }
    this.pauseClock();
    const body = {
      uid: makeUid(),
      candidate: present.candidate,
      annotator: this.annotator,
      kind,
      label,
      seconds: Math.round(present.seconds) / 1000,
      visible: [...present.seen],
    };
    this.epoch++;
    this.answered.push({ candidate: present.candidate, kind, label });
    this.times.push(Date.now());
    this.outbox.add("answers", body);
    this.setPrevious({ candidate: present.candidate, kind, label, pictures: present.pictures });
    if (present.correcting && present.back) this.put(present.back);
    else this.next();
    this.flash(kind === "label" ? label : kind);
  }

  /** The latest answer is taken back, and its question stands here again. */
  undo() {
    if (!this.annotator) return;
    if (this.present && this.present.correcting) return this.leaveCorrection();
    const last = this.answered.pop();
    this.epoch++;
    this.outbox.add("undo", { uid: makeUid(), annotator: this.annotator });
    this.times.pop();
    if (last) this.putAgain(last.candidate);
    this.announce("Taken back.");
  }

  putAgain(candidate) {
    this.pauseClock();
    if (this.present && this.present.candidate !== candidate) this.queue.unshift(this.present);
    this.setPrevious(null);
    this.put({ candidate, until: performance.now() + 600000, lease: 600000, again: true });
  }

  /** Something was stored, refused, or waits. */
  sent(item, reply, error) {
    if (reply && item.body.annotator === this.annotator) {
      if (item.name === "undo") this.undone(reply);
      this.take(reply);
      if (reply.progress && this.status) this.status.counts = reply.progress;
      if (item.name === "answers" && this.campaign.show !== "always") this.loadWhy(item.body.candidate);
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.fetchStatus(), 500);
      if (!this.drawer.hidden) this.fetchHistory();
    }
    if (error) this.announce(`An answer was refused: ${error.message}`);
    this.refresh();
  }

  undone(reply) {
    const back = reply.undone;
    if (!back) {
      this.announce("There is nothing to take back.");
      if (this.present && this.present.again) this.present = null;
    } else if (!this.present || this.present.candidate !== back.candidate) {
      if (!this.outbox.candidates().has(back.candidate)) this.putAgain(back.candidate);
    }
    if (this.present) this.present.again = false;
  }

  /** Look at one's own answer again, to change it. */
  correct(answer) {
    const back = this.present && this.present.correcting ? this.present.back : this.present;
    this.closeDrawer();
    this.put({ candidate: answer.candidate, until: Infinity, lease: Infinity, correcting: answer, back });
  }

  leaveCorrection() {
    const { back } = this.present;
    if (back) this.put(back);
    else this.next();
  }

  pauseClock() {
    const present = this.present;
    if (!present || !present.since) return;
    present.seconds += performance.now() - present.since;
    present.since = 0;
  }

  // -- what the model thinks

  setPrevious(previous) {
    this.previous = previous;
    this.refreshWhy();
  }

  /** Fetch the explanation of the candidate that was answered last. */
  async loadWhy(candidate) {
    const previous = this.previous;
    if (!previous || previous.candidate !== candidate || !this.look.why) return;
    if (previous.kind === "skip" && this.campaign.show === "after") {
      // It may be asked again, and is still to be seen blind.
      previous.trouble = "What the model thinks is shown after an answer, and not after a skip.";
      return this.refreshWhy();
    }
    try {
      previous.why = await this.ask.get("why", { candidate, annotator: this.annotator });
    } catch (error) {
      previous.trouble = this.explain(error);
    }
    if (this.previous === previous) this.refreshWhy();
  }

  /** Why the present question is asked, where that may be seen before the answer. */
  async showWhy() {
    const present = this.present;
    if (!present || present.why || this.campaign.show === "after") return;
    try {
      present.why = await this.ask.get("why", { candidate: present.candidate, annotator: this.annotator });
    } catch (error) {
      return this.announce(this.explain(error));
    }
    const { score, pattern, proba, patches, reason } = present.why;
    const parts = { score: score !== null, pattern, probabilities: proba, patches: patches.length, reason };
    for (const [name, there] of Object.entries(parts)) if (there) present.seen.add(name);
    this.refreshWhy();
  }

  toggleWhy() {
    if (this.campaign.show === "request" && this.present && !this.present.why) return this.showWhy();
    this.look.why = !this.look.why;
    this.storage.setItem("aift:why", this.look.why ? "1" : "0");
    if (this.look.why && this.previous && !this.previous.why) this.loadWhy(this.previous.candidate);
    this.refreshWhy();
  }

  refreshWhy() {
    const { present, previous } = this;
    const before = present && present.why;
    const subject = before ? present : previous;
    const hidden = !before && !this.look.why;
    const asks = this.campaign.show === "request" && present && !before;
    const title = before ? "This candidate" : subject ? "Previous candidate" : "What the model thinks";
    const shape = JSON.stringify([title, hidden, asks, subject && [subject.candidate, subject.kind, subject.label, subject.trouble]]);
    if (this.whyShape === shape && this.whyShown === (subject && subject.why)) return;
    this.whyShape = shape;
    this.whyShown = subject && subject.why;
    this.whyTitle.textContent = title;
    this.whyCard.setAttribute("aria-label", title);
    this.whyButton.firstChild.data = asks || hidden ? "Show" : "Hide";
    this.whyButton.hidden = Boolean(before);
    this.whyBody.replaceChildren(...this.whyParts(subject, before, hidden));
  }

  whyParts(subject, before, hidden) {
    const quiet = (text) => [h("p", { class: "aift-quiet" }, text)];
    if (hidden) return [];
    if (!subject && this.campaign.show === "request") return quiet("Show it if you need it. That it was seen is recorded with your answer.");
    if (!subject) return quiet("It appears here once you have answered.");
    const parts = before ? [] : [this.reminder(subject)];
    if (subject.why) parts.push(...whyPanel(subject.why, this.campaign.classes));
    else parts.push(...quiet(subject.trouble || "…"));
    return parts;
  }

  /** The previous candidate in small, and what was said of it. */
  reminder(subject) {
    const line = h("div", { class: "aift-reminder" });
    if (subject.pictures && subject.pictures.one) {
      const source = subject.pictures.one.canvas;
      const small = h("canvas", { role: "img", "aria-label": "The previous candidate" });
      small.width = source.width;
      small.height = source.height;
      small.getContext("2d").drawImage(source, 0, 0);
      line.append(small);
    }
    line.append(
      h("div", {}, h("p", {}, "You said ", chip(this.campaign.classes, subject)), h("p", { class: "aift-id", title: subject.candidate }, subject.candidate)),
    );
    return line;
  }

  // -- status and history

  async fetchStatus() {
    if (this.asking) return;
    this.asking = true;
    this.told = performance.now();
    try {
      const values = this.annotator ? { annotator: this.annotator } : {};
      this.status = await this.ask.get("status", values);
      this.refreshStatus();
    } catch {
      // The state of the outbox and the questions tell of it.
    } finally {
      this.asking = false;
    }
  }

  async fetchHistory() {
    try {
      const reply = await this.ask.get("history", { annotator: this.annotator, n: 50 });
      this.listHistory(reply.answers);
    } catch (error) {
      this.historyList.replaceChildren(h("li", { class: "aift-quiet" }, this.explain(error)));
    }
  }

  listHistory(answers) {
    const items = answers.map((answer) => {
      const time = answer.time ? new Date(answer.time) : null;
      const when = time ? time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "";
      const small = h("img", { alt: "", "data-candidate": answer.candidate });
      const told = [small, chip(this.campaign.classes, answer), h("span", { class: "aift-when" }, when), h("span", { class: "aift-id" }, answer.candidate)];
      if (!answer.current) return h("li", { class: "aift-gone" }, ...told, h("small", {}, "changed"));
      const label = `${said(answer)}, ${answer.candidate}: correct it`;
      return h("li", {}, h("button", { type: "button", "aria-label": label, onclick: () => this.correct(answer) }, ...told));
    });
    this.historyList.replaceChildren(...(items.length ? items : [h("li", { class: "aift-quiet" }, "No answers yet.")]));
    this.fillThumbnails([...this.historyList.querySelectorAll("img")]);
  }

  /** One after the other, as long as the drawer is open. */
  async fillThumbnails(images) {
    for (const image of images) {
      if (this.drawer.hidden || !image.isConnected) return;
      try {
        const { blob } = await this.ask.picture("picture", image.dataset.candidate);
        image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
        image.src = URL.createObjectURL(blob);
      } catch {
        image.classList.add("aift-broken");
      }
    }
  }

  toggleDrawer() {
    if (!this.drawer.hidden) return this.closeDrawer();
    this.drawer.hidden = false;
    this.historyButton.setAttribute("aria-expanded", "true");
    this.fetchHistory();
    this.drawer.querySelector("button").focus();
  }

  closeDrawer() {
    if (this.drawer.hidden) return;
    this.drawer.hidden = true;
    this.historyButton.setAttribute("aria-expanded", "false");
    this.historyButton.focus();
  }

  // -- looks

  setTone(tone, preset = -1) {
    this.look.tone = tone;
    this.look.preset = preset;
    for (const viewer of [this.viewer, this.around]) viewer.tone();
    this.refreshTone();
  }

  usePreset(index) {
    const pixels = this.viewer.picture ? this.viewer.picture.pixels.data : [];
    this.setTone(PRESETS[index].tone(pixels), index);
  }

  /** Across makes the window wider, down its middle higher: as radiologists are used to. */
  changeWindow(across, down) {
    const { low, high, inverted } = this.look.tone;
    const width = Math.min(2, Math.max(0.02, (high - low) * Math.exp(across)));
    const middle = Math.min(1.5, Math.max(-0.5, (low + high) / 2 + 0.5 * down));
    this.setTone({ low: middle - width / 2, high: middle + width / 2, inverted });
  }

  refreshTone() {
    const { low, high } = this.look.tone;
    const [width, middle] = [high - low, (low + high) / 2];
    this.presets.forEach((button, index) => button.setAttribute("aria-pressed", String(index === this.look.preset)));
    this.sliders.first.value = String(Math.round(this.campaign.grey ? 255 * middle : 100 * (0.5 - middle)));
    this.sliders.second.value = String(Math.round(this.campaign.grey ? 255 * width : -50 * Math.log2(width)));
  }

  slide() {
    const first = Number(this.sliders.first.value);
    const second = Number(this.sliders.second.value);
    const middle = this.campaign.grey ? first / 255 : 0.5 - first / 100;
    const width = this.campaign.grey ? Math.max(second, 1) / 255 : 2 ** (-second / 50);
    this.setTone({ low: middle - width / 2, high: middle + width / 2, inverted: this.look.tone.inverted });
  }

  showPictures(pictures) {
    this.viewer.show(pictures && pictures.one);
    this.around.show(pictures && pictures.around);
    if (pictures && this.look.preset === 1) this.usePreset(1);
    if (pictures) this.hasAround = Boolean(pictures.around);
    this.refreshLook();
  }

  refreshLook() {
    this.around.element.hidden = !(this.look.around && this.hasAround);
    this.stage.classList.toggle("aift-alone", this.around.element.hidden);
    this.aroundButton.setAttribute("aria-pressed", String(this.look.around));
    this.aroundButton.hidden = !this.hasAround;
    this.pixelButton.setAttribute("aria-pressed", String(this.look.pixelated));
  }

  toggle(name, stored) {
    this.look[name] = !this.look[name];
    this.storage.setItem(stored, this.look[name] ? "1" : "0");
    this.refreshLook();
    for (const viewer of [this.viewer, this.around]) viewer.draw();
  }

  zoom(factor) {
    for (const viewer of [this.viewer, this.around]) {
      if (factor) viewer.zoomBy(factor);
      else viewer.reset();
    }
  }

  // -- the screen

  announce(text) {
    this.live.textContent = "";
    this.live.textContent = text;
    this.toast.textContent = text;
    this.toast.hidden = false;
    clearTimeout(this.toasting);
    this.toasting = setTimeout(() => (this.toast.hidden = true), 5000);
  }

  flash(name) {
    const button = this.buttons.find((one) => one.dataset.answer === name);
    if (!button) return;
    button.classList.add("aift-hit");
    setTimeout(() => button.classList.remove("aift-hit"), 180);
  }

  refresh() {
    const present = this.present;
    this.refreshSaved();
    for (const button of this.buttons) button.disabled = !present;
    if (present && present.pictures) this.stage.dataset.candidate = present.candidate;
    else delete this.stage.dataset.candidate;
    this.undoButton.disabled = !this.annotator;
    const note = this.note;
    note.replaceChildren();
    note.hidden = true;
    if (present && present.correcting) {
      note.append("You said ", chip(this.campaign.classes, present.correcting), ". Choose anew, or ");
      note.append(h("button", { type: "button", onclick: () => this.leaveCorrection() }, "leave it", key("Esc")));
      note.hidden = false;
    }
    this.cover.replaceChildren(...this.coverText());
    this.cover.hidden = !this.cover.hasChildNodes();
    this.refreshWhy();
    this.refreshStatus();
  }

  /** What stands in the place of a picture. */
  coverText() {
    const present = this.present;
    if (present && present.broken) return [h("p", {}, present.broken)];
    if (present) return present.shown ? [] : [h("p", { class: "aift-later" }, "Loading the picture …")];
    if (!this.annotator) return [];
    if (this.outbox.trouble) {
      const why = this.outbox.locked ? this.outbox.trouble : "The server does not answer.";
      return [h("p", {}, `${why} Your answers wait in this browser; it goes on by itself.`)];
    }
    if (this.trouble) return [h("p", {}, this.trouble)];
    if (!this.state.loaded || !this.state.message) return [h("p", { class: "aift-later" }, "Asking for questions …")];
    const training = (this.status && this.status.training) || {};
    const sign = training.state === "learning"
      ? h("div", { class: "aift-waits aift-learning", "aria-hidden": "true" }, h("i", { class: "aift-dot" }))
      : h("div", { class: "aift-done", "aria-hidden": "true" }, "✓");
    return [sign, h("p", {}, this.state.message)];
  }

  refreshSaved() {
    const waiting = this.outbox.waiting().length;
    const refused = this.outbox.refused();
    const trouble = this.outbox.trouble;
    let text = this.answered.length || this.savedBefore ? "Saved" : "Ready";
    let state = "good";
    if (waiting && trouble) {
      const why = this.outbox.locked ? "the token is missing or has changed" : "the server does not answer";
      text = `${waiting} waiting to be saved – ${why}`;
      state = "bad";
    } else if (waiting) {
      text = "Saving …";
      state = "busy";
    }
    if (waiting && !this.lasts) text += "; do not close this page";
    if (state !== "busy" && this.saved.dataset.state !== state) this.live.textContent = text;
    this.savedBefore = this.savedBefore || waiting > 0;
    this.saved.dataset.state = state;
    this.saved.title = trouble || "Answers are on the server's disk.";
    this.saved.replaceChildren(h("i", { class: "aift-dot" }), text);
    this.listRefused(refused);
  }

  listRefused(refused) {
    this.banner.hidden = !refused.length;
    if (this.banner.dataset.n === String(refused.length)) return;
    this.banner.dataset.n = String(refused.length);
    this.banner.replaceChildren(
      ...refused.map((item) =>
        h(
          "p",
          {},
          h("b", {}, `Not taken: ${item.name === "undo" ? "an undo" : said(item.body)}. `),
          `${item.error} (${item.body.candidate || ""}) `,
          h("button", { type: "button", onclick: () => this.outbox.forget(item) }, "I have read it"),
        ),
      ),
    );
  }

  refreshStatus() {
    const status = this.status;
    if (!status) return;
    const { n_asked: asked, n_open: open } = status.counts;
    const done = Math.max(0, asked - open);
    this.progress.max = Math.max(1, asked);
    this.progress.value = done;
    this.progress.textContent = `${done} of ${asked}`;
    const words = [`${done} of ${asked}`];
    if (status.yours !== null) words.push(`${status.yours} by you`);
    const rate = this.rate();
    if (rate) words.push(`${rate} per minute`);
    this.progressText.textContent = words.join(" · ");
    const shape = JSON.stringify([status.rounds, status.training, status.stopping]);
    if (shape === this.learningShape) return;
    this.learningShape = shape;
    this.learningCard.replaceChildren(h("h2", {}, "Learning"), ...learningPanel(status));
  }

  /** One's own labels per minute, over the last twenty. */
  rate() {
    const last = this.times.slice(-20).filter((time) => Date.now() - time < 5 * 60 * 1000);
    if (last.length < 3) return "";
    return ((60000 * (last.length - 1)) / Math.max(1, last.at(-1) - last[0])).toFixed(0);
  }

  // -- what it is built of

  build() {
    this.viewer = new Viewer("The candidate", this.look);
    this.around = new Viewer("Its surroundings; the box is the candidate", this.look);
    this.live = h("div", { class: "aift-hidden", role: "status", "aria-live": "polite" });
    this.toast = h("div", { class: "aift-toast", hidden: true, "aria-hidden": "true" });
    this.cover = h("div", { class: "aift-cover", role: "status" });
    this.note = h("div", { class: "aift-note", hidden: true, role: "status" });
    this.banner = h("div", { class: "aift-banner", hidden: true, role: "alert" });
    this.stage = h("div", { class: "aift-stage" }, this.viewer.element, this.around.element, this.cover, this.note);
    this.whyTitle = h("h2");
    this.whyButton = this.button("Hide", "W", () => this.toggleWhy());
    this.whyBody = h("div", { class: "aift-why" });
    this.whyCard = h("section", { class: "aift-card" }, h("header", {}, this.whyTitle, this.whyButton), this.whyBody);
    this.learningCard = card("Learning");
    this.root.replaceChildren(
      h(
        "div",
        { class: "aift-app", tabindex: this.isPage ? null : -1 },
        this.buildHeader(),
        this.banner,
        h("main", { class: "aift-main" }, this.buildTools(), this.stage, this.buildAnswers()),
        h("aside", { class: "aift-side" }, this.whyCard, this.learningCard),
        this.buildDrawer(),
        this.buildHelp(),
        this.buildGuidance(),
        this.buildName(),
        this.toast,
        this.live,
      ),
    );
    this.hasAround = false;
    this.listen();
    this.refreshTone();
    this.refreshLook();
    this.refresh();
  }

  button(text, keys, press, options = {}) {
    return h(
      "button",
      { type: "button", onclick: press, "aria-keyshortcuts": keys || null, ...options },
      text,
      keys ? key(options.shown || keys) : null,
    );
  }

  buildHeader() {
    this.progress = h("progress", { max: 1, value: 0, "aria-label": "Answered questions" });
    this.progressText = h("span", { class: "aift-count" });
    this.saved = h("span", { class: "aift-saved", "data-state": "good" });
    this.who = h("button", { type: "button", class: "aift-who", title: "Another name", onclick: () => this.askName() });
    if (!this.isPage) this.who.disabled = true;
    this.historyButton = this.button("Answers", "H", () => this.toggleDrawer(), { "aria-expanded": "false" });
    return h(
      "header",
      { class: "aift-header" },
      h("h1", {}, this.campaign.name),
      h("div", { class: "aift-progress" }, this.progress, this.progressText),
      this.saved,
      h(
        "nav",
        { "aria-label": "Campaign" },
        this.campaign.guidance ? this.button("Guide", "G", () => this.guide.showModal()) : null,
        this.historyButton,
        this.button("Help", "?", () => this.help.showModal()),
        this.who,
      ),
    );
  }

  buildTools() {
    this.pixelButton = this.button("Pixels", "P", () => this.toggle("pixelated", "aift:pixelated"));
    this.aroundButton = this.button("Surroundings", "S", () => this.toggle("around", "aift:around"));
    const grey = this.campaign.grey;
    this.presets = (grey ? PRESETS : PRESETS.slice(0, 1)).map((preset, index) =>
      this.button(grey ? preset.name : "Reset", `Shift+${index + 1}`, () => this.usePreset(index), { title: grey ? preset.title : "as the picture is", shown: `⇧${index + 1}` }),
    );
    const slider = (name, min, max) => {
      const input = h("input", { type: "range", min, max, step: 1, oninput: () => this.slide() });
      return [input, h("label", {}, name, input)];
    };
    const [first, firstLabel] = grey ? slider("Level", 0, 255) : slider("Brightness", -50, 50);
    const [second, secondLabel] = grey ? slider("Window", 1, 255) : slider("Contrast", -100, 100);
    this.sliders = { first, second };
    return h(
      "div",
      { class: "aift-tools", role: "toolbar", "aria-label": "Picture" },
      h(
        "span",
        { class: "aift-group" },
        this.button("−", null, () => this.zoom(1 / 1.25), { "aria-label": "Zoom out", "aria-keyshortcuts": "-" }),
        this.button("Fit", "0", () => this.zoom(0)),
        this.button("+", null, () => this.zoom(1.25), { "aria-label": "Zoom in", "aria-keyshortcuts": "+" }),
      ),
      h("span", { class: "aift-group" }, this.pixelButton, this.aroundButton),
      h("span", { class: "aift-group", role: "group", "aria-label": grey ? "Window" : "Brightness and contrast" }, ...this.presets),
      h("span", { class: "aift-group aift-sliders" }, firstLabel, secondLabel),
    );
  }

  buildAnswers() {
    const { classes, hotkeys } = this.campaign;
    const press = (kind, label) => (event) => {
      // Enter and Space on a button are keys too.
      this.answer(kind, label, event.detail === 0 ? "key" : "click");
    };
    const ofClass = classes.map((name, index) => {
      const mark = h("kbd", {}, (hotkeys[index] || "").toUpperCase());
      mark.style.background = colour(index);
      mark.style.color = ink(index);
      const button = h(
        "button",
        { type: "button", class: "aift-class", "data-answer": name, "aria-keyshortcuts": hotkeys[index] || null, onclick: press("label", name) },
        mark,
        h("span", {}, name),
      );
      button.style.setProperty("--accent", colour(index));
      return button;
    });
    const unsure = this.button("Unsure", "U", press("unsure"), { "data-answer": "unsure" });
    const skip = this.button("Skip", "X", press("skip"), { "data-answer": "skip" });
    this.undoButton = this.button("Undo", "Control+Z", () => this.undo(), { shown: "Ctrl Z" });
    this.buttons = [...ofClass, unsure, skip];
    return h(
      "div",
      { class: "aift-answers" },
      h("div", { class: `aift-classes${classes.length > 9 ? " aift-many" : ""}`, role: "group", "aria-label": "Classes" }, ofClass),
      h("div", { class: "aift-others", role: "group", "aria-label": "Other answers" }, unsure, skip, this.undoButton),
    );
  }

  buildDrawer() {
    this.historyList = h("ol", { class: "aift-history" });
    this.drawer = h(
      "section",
      { class: "aift-drawer", hidden: true, "aria-label": "Your answers" },
      h("header", {}, h("h2", {}, "Your answers"), this.button("Close", "Escape", () => this.closeDrawer(), { shown: "Esc" })),
      h("p", { class: "aift-quiet" }, "Choose one to see it again and to correct it."),
      this.historyList,
    );
    return this.drawer;
  }

  dialog(title, ...children) {
    const close = this.button("Close", "Escape", () => element.close(), { shown: "Esc" });
    const element = h("dialog", { class: "aift-dialog", "aria-label": title }, h("header", {}, h("h2", {}, title), close), ...children);
    return element;
  }

  buildHelp() {
    const rows = KEYS.map(([name, text]) => h("tr", {}, h("th", { scope: "row" }, key(name)), h("td", {}, text)));
    this.help = this.dialog("Keys", h("table", { class: "aift-keys" }, h("tbody", {}, rows)));
    return this.help;
  }

  buildGuidance() {
    this.guide = this.dialog("What you are asked to do", h("p", { class: "aift-guidance" }, this.campaign.guidance));
    return this.guide;
  }

  buildName() {
    this.nameField = h("input", { type: "text", required: true, maxlength: 100, autocomplete: "nickname", spellcheck: "false" });
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", {}, this.campaign.name),
      this.campaign.guidance ? h("p", { class: "aift-guidance" }, this.campaign.guidance) : null,
      h("label", {}, "Your name, as it stands beside your answers", this.nameField),
      h("button", { class: "aift-primary" }, "Begin"),
    );
    this.nameDialog = h("dialog", { class: "aift-dialog aift-name", "aria-label": "Your name" }, form);
    // There is no answering without a name.
    this.nameDialog.addEventListener("close", () => this.annotator || this.askName());
    form.addEventListener("submit", (event) => this.takeName(event));
    return this.nameDialog;
  }

  askName() {
    this.nameField.value = this.annotator;
    this.nameField.setCustomValidity("");
    this.nameDialog.showModal();
    this.nameField.select();
  }

  takeName(event) {
    const name = this.nameField.value.trim().replace(/\s+/g, " ");
    if (!name) {
      event.preventDefault();
      return;
    }
    if (name === this.annotator) return;
    if (this.annotator) this.ask.post("release", { annotator: this.annotator }).catch(() => {});
    this.storage.setItem("aift:annotator", name);
    Object.assign(this, { annotator: name, queue: [], present: null, answered: [], times: [], previous: null });
    this.state = { loaded: false, message: "" };
    this.epoch++;
    this.next();
    this.begin();
  }

  // -- keys

  listen() {
    const { signal } = this.ended;
    const where = this.isPage ? document : this.root;
    where.addEventListener("keydown", (event) => this.press(event), { signal });
    for (const name of ["pointerdown", "keydown", "pointermove"]) {
      where.addEventListener(name, () => this.touch(), { signal, passive: true });
    }
    document.addEventListener(
      "visibilitychange",
      () => {
        if (document.hidden) this.pauseClock();
        else {
          if (this.present && this.present.shown) this.present.since = performance.now();
          this.touch();
          this.outbox.run();
        }
      },
      { signal },
    );
    globalThis.addEventListener("online", () => this.outbox.run(), { signal });
    // The same annotator answers in another window: this question is no longer open here.
    globalThis.addEventListener("storage", (event) => this.elsewhere(event), { signal });
    globalThis.addEventListener(
      "beforeunload",
      (event) => {
        if (!this.lasts && this.outbox.waiting().length) event.preventDefault();
      },
      { signal },
    );
  }

  elsewhere(event) {
    if (!event.key || !event.newValue || !event.key.startsWith(this.outbox.prefix)) return;
    const { name, body } = JSON.parse(event.newValue);
    if (name !== "answers" || body.annotator !== this.annotator) return;
    this.queue = this.queue.filter((question) => question.candidate !== body.candidate);
    if (this.present && this.present.candidate === body.candidate && !this.present.correcting) this.next();
  }

  press(event) {
    const target = event.target;
    if (event.isComposing || event.defaultPrevented) return;
    if (target instanceof HTMLElement && target.matches("input:not([type=range]), textarea, select")) return;
    if (this.root.querySelector("dialog[open]")) return;
    const slides = target instanceof HTMLInputElement && event.key.startsWith("Arrow");
    const done = slides ? false : this.act(event);
    // A key that is held down presses a focused button again and again.
    const held = event.repeat && (event.key === "Enter" || event.key === " ");
    if (done || held) event.preventDefault();
    if (done && !this.isPage) event.stopPropagation();
  }

  /** Do what a key means; true where it means something. */
  act(event) {
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (name !== "z" || event.shiftKey || event.altKey) return false;
      if (!event.repeat) this.undo();
      return true;
    }
    if (event.altKey) return false;
    // By their place on the keyboard: on some, digits need Shift.
    const digit = /^Digit([0-9])$/.exec(event.code || "");
    if (event.shiftKey && digit && this.presets[digit[1] - 1]) {
      this.usePreset(digit[1] - 1);
      return true;
    }
    return this.actByName(digit && !event.shiftKey ? digit[1] : name, event);
  }

  actByName(name, event) {
    if (this.actOnPicture(name)) return true;
    const index = this.campaign.hotkeys.indexOf(name);
    const once = () => !event.repeat;
    if (index >= 0) {
      if (once()) this.answer("label", this.campaign.classes[index]);
      return true;
    }
    const meanings = {
      u: () => this.answer("unsure"),
      x: () => this.answer("skip"),
      w: () => this.toggleWhy(),
      h: () => this.toggleDrawer(),
      s: () => this.toggle("around", "aift:around"),
      p: () => this.toggle("pixelated", "aift:pixelated"),
      g: () => this.campaign.guidance && this.guide.showModal(),
      "?": () => this.help.showModal(),
      Escape: () => this.escape(),
    };
    if (!meanings[name]) return false;
    if (once()) meanings[name]();
    return true;
  }

  /** Zoom and movement; these may be held down. */
  actOnPicture(name) {
    const step = 40;
    const meanings = {
      "+": () => this.zoom(1.25),
      "=": () => this.zoom(1.25),
      "-": () => this.zoom(1 / 1.25),
      0: () => this.zoom(0),
      ArrowLeft: () => this.viewer.moveBy(step, 0),
      ArrowRight: () => this.viewer.moveBy(-step, 0),
      ArrowUp: () => this.viewer.moveBy(0, step),
      ArrowDown: () => this.viewer.moveBy(0, -step),
    };
    if (!meanings[name] || (name.startsWith("Arrow") && this.viewer.zoom <= 1)) return false;
    meanings[name]();
    return true;
  }

  escape() {
    if (!this.drawer.hidden) this.closeDrawer();
    else if (this.present && this.present.correcting) this.leaveCorrection();
  }
}

// ---- ways in ----------------------------------------------------------------------------------

function mount(element, transport, annotator) {
  const root = h("div", { class: "aift" });
  if (!transport.isPage) {
    // JupyterLab takes keys for its own, such as X to cut a cell, and the right button for its menu.
    root.setAttribute("data-lm-suppress-shortcuts", "true");
    root.setAttribute("data-jp-suppress-context-menu", "");
  }
  element.replaceChildren(root);
  const session = new Session(root, transport, annotator);
  session.start();
  return session;
}

/** What notebooks call: https://anywidget.dev. */
function render({ model, el }) {
  const transport = overMessages(model);
  const session = mount(el, transport, model.get("annotator"));
  return () => {
    session.stop();
    transport.close();
  };
}

const page = document.getElementById("aift-annotate");
if (page) mount(page, overHttp());

export default { render };
