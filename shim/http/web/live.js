// A model's numbers: what it does now, from differences between what the server counted.

const NOW_S = 5; // what a rate is taken over
const RECENT_S = 10; // what percentiles are of, if anything ended in it
const SPARK_S = 60;
const EACH_SIZE = 32; // rows; beyond, the bars are of powers of two
const WIDTH = 240;

function showLive(card, seconds, counted) {
  const last = card.samples.at(-1);
  if (last && seconds <= last.seconds) return; // two looks that overtook each other
  if (last && counted.executions < last.executions) card.samples = []; // loaded anew: it counts from 0 again
  card.samples.push({...counted, seconds, requests: counted.results + counted.failed});
  // One from before the minute stays, to take the difference to.
  while (card.samples.length > 2 && card.samples[1].seconds < seconds - SPARK_S) card.samples.shift();
  const now = card.samples.at(-1);
  const runs = now.executions;
  card.live.replaceChildren(
    element("div", {className: "figures"}, throughput(card), latency(card), batches(card), waiting(card)),
    element("dl", {className: "counters"}, ...[
      ["Requests", number(now.requests), ""],
      ["Failed or refused", number(now.failed), ""],
      ["Runs", number(runs), runs ? `of ${(now.rows / runs).toFixed(1)} rows` : ""],
      ["Instances at work", number(now.instances_busy), `of ${number(now.instances)}`],
      ["Wait, mean", mean(now.queue_ns, now.started), ""],
      ["Run, mean", mean(now.run_ns, runs), ""],
    ].map(([title, value, more]) => element("div", {}, element("dt", {}, title),
      element("dd", {}, value, " ", element("small", {}, more))))));
}

const mean = (ns, count) => count ? duration(ns / count / 1000) : "–";

/** The newest sample that is as old, or else the oldest. */
function before(card, seconds) {
  const now = card.samples.at(-1);
  return card.samples.findLast(sample => sample.seconds <= now.seconds - seconds) || card.samples[0];
}

function rate(card, name) {
  const now = card.samples.at(-1);
  const then = before(card, NOW_S);
  return now === then ? 0 : Math.max(0, now[name] - then[name]) / (now.seconds - then.seconds);
}

/** What was counted lately, and when: in ten seconds, else in the minute, else since the server began. */
function lately(card, countsOf) {
  const now = countsOf(card.samples.at(-1));
  for (const seconds of [RECENT_S, SPARK_S]) {
    const then = countsOf(before(card, seconds));
    const counts = new Map();
    for (const [name, count] of now) if (count > (then.get(name) || 0)) counts.set(name, count - (then.get(name) || 0));
    if (counts.size) return {counts, when: `last ${seconds} s`};
  }
  return {counts: now, when: "since the start"};
}

const perSecond = value => value < 100 ? value.toFixed(1) : number(Math.round(value));
const sum = counts => [...counts.values()].reduce((total, count) => total + count, 0);

function figure(title, value, more, ...children) {
  return element("figure", {}, element("figcaption", {}, title),
    element("p", {className: "big"}, value, " ", element("small", {}, more)), ...children);
}

function throughput(card) {
  const points = card.samples.slice(1).map((sample, n) => {
    const then = card.samples[n];
    return [sample.seconds, Math.max(0, sample.requests - then.requests) / (sample.seconds - then.seconds)];
  });
  return figure("Throughput", perSecond(rate(card, "requests")), `requests/s, ${perSecond(rate(card, "rows"))} rows/s`,
    sparkline(card, points, "Requests per second"));
}

function waiting(card) {
  const now = card.samples.at(-1);
  const points = card.samples.map(sample => [sample.seconds, sample.queued_requests]);
  return figure("Waiting now", number(now.queued_requests),
    `request${now.queued_requests === 1 ? "" : "s"}, ${some(now.queued_rows, "row")}`,
    sparkline(card, points, "Requests that wait"));
}

function sparkline(card, points, what) {
  const peak = Math.max(0, ...points.map(([, value]) => value));
  const [height, top] = [48, Math.max(1, peak)];
  const end = card.samples.at(-1).seconds;
  const at = ([seconds, value]) =>
    `${(WIDTH * Math.max(0, 1 - (end - seconds) / SPARK_S)).toFixed(1)},${(height - 1 - value / top * (height - 4)).toFixed(1)}`;
  const line = points.map(at).join(" ");
  const label = `${what} in the last minute: ${perSecond(points.at(-1)?.[1] || 0)} now, ${perSecond(peak)} at most`;
  const picture = drawn("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", class: "spark", role: "img", "aria-label": label,
  });
  picture.append(drawn("line", {x1: 0, x2: WIDTH, y1: height - 1, y2: height - 1, class: "axis"}));
  if (points.length > 1) {
    const [first, last] = [line.split(",", 1)[0], WIDTH];
    picture.append(drawn("polygon", {points: `${first},${height - 1} ${line} ${last},${height - 1}`, class: "under"}),
      drawn("polyline", {points: line, class: "line"}));
  }
  return element("div", {}, picture, element("p", {className: "quiet ends"}, element("span", {}, "1 min ago"),
    element("span", {}, `peak ${number(Math.round(peak))}`), element("span", {}, "now")));
}

function latency(card) {
  const bounds = new Map();
  const {counts, when} = lately(card, sample => new Map(sample.latency.buckets.map(([from, to, count]) => {
    bounds.set(from, to);
    return [from, count];
  })));
  const total = sum(counts);
  const list = element("dl", {className: "percentiles"});
  const values = [50, 90, 99].map(percent => [`p${percent}`, percentile(counts, bounds, total * percent / 100)]);
  const longest = Math.max(...values.map(([, us]) => us));
  for (const [name, us] of values) {
    const bar = element("span", {className: "meter"});
    bar.style.width = total ? `${100 * us / longest}%` : 0;
    list.append(element("dt", {}, name), element("dd", {}, element("span", {className: "track"}, bar)),
      element("dd", {className: "value"}, total ? duration(us) : "–"));
  }
  return element("figure", {}, element("figcaption", {}, "Latency"), list,
    element("p", {className: "quiet"}, total ? `${some(total, "HTTP request")}, ${when}` : "no HTTP request yet"));
}

function percentile(counts, bounds, wanted) {
  let passed = 0;
  for (const [from, count] of [...counts].sort(([one], [other]) => one - other)) {
    passed += count;
    if (passed >= wanted) return bounds.get(from) - (bounds.get(from) - from) * (passed - wanted) / count;
  }
  return 0;
}

function batches(card) {
  const {counts, when} = lately(card, sample => new Map(Object.entries(sample.batch_rows).map(
    ([rows, count]) => [Number(rows), count])));
  const total = sum(counts);
  const rows = [...counts].reduce((all, [size, count]) => all + size * count, 0);
  const bars = barsOf(counts);
  const [height, most] = [56, Math.max(1, ...bars.map(bar => bar.count))];
  const step = WIDTH / Math.max(bars.length, 8);
  const label = bars.filter(bar => bar.count).map(bar => `${bar.count} of ${bar.title} rows`).join(", ");
  const picture = drawn("svg", {
    viewBox: `0 0 ${WIDTH} ${height + 12}`, class: "bars", role: "img", "aria-label": `Runs by their rows, ${when}: ${label}`,
  });
  picture.append(drawn("line", {x1: 0, x2: WIDTH, y1: height, y2: height, class: "axis"}));
  bars.forEach((bar, n) => {
    const size = bar.count ? Math.max(1.5, bar.count / most * (height - 4)) : 0;
    const place = {x: n * step + step * .1, width: step * .8, y: height - size, height: size};
    picture.append(drawn("rect", place, drawn("title", {}, `${some(bar.count, "run")} of ${bar.title} rows`)));
    const labelled = step > 24 || n === 0 || n === bars.length - 1 || (n + 1) % Math.ceil(24 / step) === 0
      && bars.length - n > 24 / step;
    if (labelled) picture.append(drawn("text", {x: (n + .5) * step, y: height + 10}, bar.title));
  });
  return figure("Rows per run", total ? (rows / total).toFixed(1) : "–", total ? `in ${some(total, "run")}, ${when}` : "no run yet",
    ...(bars.length ? [picture] : []));
}

function barsOf(counts) {
  const largest = Math.max(0, ...counts.keys());
  if (largest <= EACH_SIZE) {
    return Array.from({length: largest}, (_, n) => ({title: `${n + 1}`, count: counts.get(n + 1) || 0}));
  }
  const bars = [];
  for (let [from, to] = [1, 1]; from <= largest; [from, to] = [to + 1, to * 2]) {
    const inside = [...counts].filter(([rows]) => rows >= from && rows <= to);
    bars.push({title: from === to ? `${to}` : `≤${to}`, count: sum(new Map(inside))});
  }
  return bars;
}
