// The timeline: tracks as rows, slices in the colour of their stage, on a canvas that zooms.

// STAGES has the colour of each stage; the server puts it before this.
const OTHER = "#d9d4c8";
const INK = "#10161d"; // on every one of these colours, light and dark
const LANE = 17;
const GAP = 7;
const AXIS = 20;
const COUNTER = 34;
const LEAST_SPAN_US = 5;
const MOST_ARROWS = 100;
const NEAR_PX = 4;
const PALEST = 0.35;

class Timeline {
  constructor(trace) {
    Object.assign(this, {trace, from: trace.from, to: trace.to, chosen: null, pointers: new Map(), moved: false});
    this.canvas = element("canvas", {tabIndex: 0});
    this.measure();
    this.canvas.setAttribute("role", "img");
    this.said = element("p", {className: "said", textContent: "Point at a slice, or tap it."});
    this.said.setAttribute("aria-live", "polite");
    const button = (text, label, act) => {
      const made = element("button", {type: "button", className: "small", onclick: act}, text);
      made.setAttribute("aria-label", label);
      return made;
    };
    const tools = element("div", {className: "bar"},
      button("+", "Zoom in", () => this.zoom(0.5)), button("−", "Zoom out", () => this.zoom(2)),
      button("Whole", "Show the whole recording", () => this.look(trace.from, trace.to)),
      element("span", {className: "quiet"}, "Wheel or pinch to zoom, drag to move; arrow keys, + and − do the same."));
    const left = trace.left ? [element("p", {className: "quiet"}, `${trace.left} more tracks are in the file.`)] : [];
    this.root = element("div", {className: "timeline"}, tools, this.said, this.canvas, ...left);
    this.lay();
    this.listen();
  }

  /** Asked once a picture: the browser lays the page out for it. */
  measure() {
    this.width = this.canvas.clientWidth;
    this.labels = this.width < 600 ? 78 : 130;
  }

  lay() {
    let y = AXIS;
    for (const counter of this.trace.counters) {
      counter.y = y;
      y += COUNTER + GAP;
    }
    for (const track of this.trace.tracks) {
      track.y = y;
      y += track.lanes.length * LANE + GAP;
    }
    this.height = y;
    this.canvas.style.height = `${y}px`;
  }

  listen() {
    const canvas = this.canvas;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => canvas.isConnected && this.draw());
    canvas.addEventListener("wheel", event => {
      // Zoomed out fully, the wheel scrolls the page on.
      if (event.deltaY > 0 && !event.deltaX && this.isWhole) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move(event.deltaX);
      else this.zoom(Math.exp(event.deltaY / 300), event.offsetX);
    }, {passive: false});
    canvas.addEventListener("pointerdown", event => {
      this.pointers.set(event.pointerId, event.offsetX);
      this.moved = this.pointers.size > 1;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", event => this.drag(event));
    canvas.addEventListener("pointerup", event => {
      if (!this.moved) this.choose(event);
      this.pointers.delete(event.pointerId);
    });
    canvas.addEventListener("pointercancel", event => this.pointers.delete(event.pointerId));
    canvas.addEventListener("keydown", event => {
      const act = {
        ArrowLeft: () => this.move(-80), ArrowRight: () => this.move(80), "+": () => this.zoom(0.5),
        "=": () => this.zoom(0.5), "-": () => this.zoom(2), 0: () => this.look(this.trace.from, this.trace.to),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    });
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) {
      this.choose(event);
      return;
    }
    // A tap trembles.
    if (!this.moved && Math.abs(event.offsetX - before) < NEAR_PX) return;
    this.moved = true;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId);
    this.pointers.set(event.pointerId, event.offsetX);
    if (!other) {
      this.move(before - event.offsetX);
      return;
    }
    const wide = x => Math.max(10, Math.abs(x - other[1]));
    this.zoom(wide(before) / wide(event.offsetX), other[1]);
  }

  get isWhole() {
    return this.from <= this.trace.from && this.to >= this.trace.to;
  }

  x(time) {
    return this.labels + (time - this.from) / (this.to - this.from) * (this.width - this.labels);
  }

  time(x) {
    return this.from + (x - this.labels) / (this.width - this.labels) * (this.to - this.from);
  }

  zoom(factor, x = (this.width + this.labels) / 2) {
    const around = this.time(Math.max(x, this.labels));
    this.look(around - (around - this.from) * factor, around + (this.to - around) * factor);
  }

  move(pixels) {
    const by = pixels / (this.width - this.labels) * (this.to - this.from);
    this.look(this.from + by, this.to + by);
  }

  /** From one time to another, but inside the recording, and not nearer than makes sense. */
  look(from, to) {
    const {trace} = this;
    const span = Math.min(Math.max(to - from, LEAST_SPAN_US), trace.to - trace.from);
    this.from = Math.min(Math.max((from + to - span) / 2, trace.from), trace.to - span);
    this.to = this.from + span;
    this.draw();
  }

  sliceAt(x, y) {
    const track = this.trace.tracks.find(one => y >= one.y && y < one.y + one.lanes.length * LANE);
    if (!track || x < this.labels) return null;
    const near = (this.to - this.from) / (this.width - this.labels) * NEAR_PX;
    const [lane, time] = [track.lanes[Math.floor((y - track.y) / LANE)], this.time(x)];
    const away = slice => Math.max(slice.from - time, time - slice.to, 0);
    const first = firstAfter(lane, time - near);
    return lane.slice(first, first + 20).filter(slice => away(slice) <= near)
      .sort((one, other) => away(one) - away(other))[0] || null;
  }

  choose(event) {
    const slice = this.sliceAt(event.offsetX, event.offsetY);
    if (!slice || slice === this.chosen) return;
    this.chosen = slice;
    const details = Object.entries(slice.args).filter(([, value]) => typeof value !== "object").slice(0, 6);
    this.said.replaceChildren(element("b", {}, slice.name), ` ${duration(slice.to - slice.from)} `,
      element("span", {className: "quiet"}, [`${slice.track.name}, at ${duration(slice.from - this.trace.from)}`,
        ...details.map(([name, value]) => `${name} ${value}`)].join(" · ")));
    this.draw();
  }

  /** Once a frame, however many events ask for it. */
  draw() {
    const {canvas, trace} = this;
    canvas.setAttribute("aria-label", `${trace.count} slices on ${trace.tracks.length} tracks, shown from `
      + `${duration(this.from - trace.from)} to ${duration(this.to - trace.from)}`);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.frame = null;
    this.measure();
    const {canvas, trace, width} = this;
    if (!width) return;
    const sharp = devicePixelRatio || 1;
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(this.height * sharp);
    const style = getComputedStyle(document.documentElement);
    const colour = name => style.getPropertyValue(`--${name}`);
    const pen = this.pen = canvas.getContext("2d");
    pen.scale(sharp, sharp);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.drawAxis(colour);
    for (const counter of trace.counters) this.drawCounter(counter, colour);
    for (const track of trace.tracks) {
      this.label(track.name, track.y + LANE / 2, colour);
      track.lanes.forEach((lane, n) => this.drawLane(lane, track.y + n * LANE));
    }
    this.drawArrows(colour);
    if (this.chosen && this.chosen.to >= this.from && this.chosen.from <= this.to) {
      const {from, to, track, lane} = this.chosen;
      const left = Math.max(this.x(from), this.labels);
      pen.strokeStyle = colour("text");
      pen.lineWidth = 2;
      pen.strokeRect(left, track.y + lane * LANE, Math.max(2, this.x(to) - left), LANE - 1);
    }
  }

  label(text, y, colour) {
    this.pen.fillStyle = colour("text");
    let shown = text;
    while (shown.length > 1 && this.pen.measureText(shown).width > this.labels - 8) shown = `${shown.slice(0, -2)}…`;
    this.pen.fillText(shown, 0, y);
  }

  drawAxis(colour) {
    const {pen, trace} = this;
    const rough = (this.to - this.from) / Math.max(2, (this.width - this.labels) / 90);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(times => times * power).find(size => size >= rough);
    pen.strokeStyle = colour("line");
    pen.fillStyle = colour("quiet");
    pen.lineWidth = 1;
    for (let at = Math.ceil((this.from - trace.from) / step) * step; at <= this.to - trace.from; at += step) {
      const x = this.x(at + trace.from);
      pen.beginPath();
      pen.moveTo(x, AXIS - 6);
      pen.lineTo(x, this.height);
      pen.stroke();
      const text = step >= 1000 ? `${+(at / 1000).toFixed(1)} ms` : `${+(at / 1000).toFixed(4)} ms`;
      if (x + pen.measureText(text).width < this.width) pen.fillText(text, x + 2, AXIS / 2 - 2);
    }
  }

  drawCounter(counter, colour) {
    const {pen} = this;
    const most = counter.values.reduce((highest, [, value]) => Math.max(highest, value), 1);
    this.label(counter.name, counter.y + 8, colour);
    pen.fillStyle = colour("quiet");
    pen.fillText(`up to ${number(most)}`, 0, counter.y + 22);
    pen.fillStyle = STAGES.queue;
    counter.values.forEach(([from, value], n) => {
      if (!value || from > this.to) return;
      const to = n + 1 < counter.values.length ? counter.values[n + 1][0] : this.trace.to;
      if (to < this.from) return;
      const [left, high] = [Math.max(this.x(from), this.labels), value / most * COUNTER];
      pen.fillRect(left, counter.y + COUNTER - high, Math.max(0.5, Math.min(this.x(to), this.width) - left), high);
    });
  }

  /** Each pixel in the colour of what most of its time is in, paler where a part of it is in nothing. */
  drawLane(lane, y) {
    const {pen} = this;
    const wide = this.width - this.labels;
    const columns = columnsOf(lane, this.from, this.to, Math.max(1, Math.round(wide * (devicePixelRatio || 1))));
    const pixel = wide / columns.length;
    for (let first = 0, next; first < columns.length; first = next) {
      const {name, share} = columns[first];
      for (next = first + 1; next < columns.length; next++) {
        if (columns[next].name !== name || columns[next].share !== share) break;
      }
      if (name === null) continue;
      pen.fillStyle = STAGES[name] || OTHER;
      pen.globalAlpha = Math.max(PALEST, share);
      pen.fillRect(this.labels + first * pixel, y, (next - first) * pixel, LANE - 1);
    }
    pen.globalAlpha = 1;
    for (let n = firstAfter(lane, this.from); n < lane.length && lane[n].from <= this.to; n++) {
      const {name, from, to} = lane[n];
      const left = Math.max(this.x(from), this.labels);
      const right = Math.min(this.x(to), this.width);
      if (right - left > 3) pen.clearRect(right - 0.5, y, 0.5, LANE - 1);
      if (right - left > 26) {
        pen.fillStyle = INK;
        const text = `${name} ${duration(to - from)}`;
        const room = right - left - 6;
        const shown = [text, name].find(one => pen.measureText(one).width <= room);
        if (shown) pen.fillText(shown, left + 3, y + LANE / 2);
      }
    }
  }

  /** Between slices of one request on two tracks; none where they would only blacken the picture. */
  drawArrows(colour) {
    const seen = this.trace.arrows.filter(({from, to}) =>
      from.track.lanes && to.track.lanes && from.track.y !== undefined && to.track.y !== undefined
      && from.at >= this.from && to.at <= this.to);
    if (seen.length > MOST_ARROWS) return;
    const pen = this.pen;
    pen.strokeStyle = colour("quiet");
    pen.lineWidth = 0.8;
    pen.globalAlpha = 0.6;
    for (const {from, to} of seen) {
      const [x, y, endX, endY] = [this.x(from.at), from.track.y + LANE / 2, this.x(to.at), to.track.y + LANE / 2];
      pen.beginPath();
      pen.moveTo(x, y);
      pen.bezierCurveTo(x + 15, y, endX - 15, endY, endX, endY);
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }
}

/** The index of the first slice that ends later; slices of a lane do not overlap. */
function firstAfter(lane, time) {
  let [low, high] = [0, lane.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lane[middle].to < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Of each of so many equal parts of a time: the name that most of it is in, null where there is none, and the
    share of it that slices cover, in eighths. */
function columnsOf(lane, from, to, count) {
  const wide = (to - from) / count;
  const times = Array(count).fill(null);
  for (let n = firstAfter(lane, from); n < lane.length && lane[n].from <= to; n++) {
    const [begin, end] = [(lane[n].from - from) / wide, (lane[n].to - from) / wide];
    const first = Math.max(0, Math.min(Math.floor(begin), count - 1));
    const last = Math.max(first, Math.min(Math.ceil(end), count) - 1);
    for (let column = first; column <= last; column++) {
      const inside = Math.min(end, column + 1) - Math.max(begin, column);
      const names = times[column] ||= Object.create(null); // a name may be any
      names[lane[n].name] = (names[lane[n].name] || 0) + Math.max(inside, 1e-6); // without length, it is seen alone
    }
  }
  return times.map(names => {
    if (!names) return {name: null, share: 0};
    const [most] = Object.entries(names).sort(([, one], [, other]) => other - one);
    const covered = Object.values(names).reduce((sum, time) => sum + time, 0);
    return {name: most[0], share: Math.min(1, Math.ceil(covered * 8 - 0.1) / 8)};
  });
}
