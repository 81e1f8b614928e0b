// One second of requests, as the server records it (Chrome's trace events), read for the timeline.

const MOST_LANES = 150; // beyond, the picture would be too tall to be of use; the file has everything

async function record() {
  const [button, place] = [byId("record"), byId("recorded")];
  button.disabled = true;
  button.textContent = "Recording…";
  try {
    const text = await ask("v2/trace?seconds=1");
    showTrace(place, text, readTrace(JSON.parse(text)));
  } catch (error) {
    const text = error.status ? error.message : `There is no recording (${error.message}).`;
    place.replaceChildren(element("p", {className: "note wait", role: "status"}, text));
  }
  button.disabled = false;
  button.textContent = "Record one second";
}

function showTrace(place, text, trace) {
  URL.revokeObjectURL(place.file);
  place.file = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  const link = element("a", {href: place.file, download: "paddleinfer-trace.json"}, "Download");
  const download = element("p", {className: "quiet"}, link,
    ` the recording (${number(Math.ceil(text.length / 1024))} KiB) and open it in ui.perfetto.dev or chrome://tracing.`);
  if (!trace.count) {
    place.replaceChildren(element("p", {className: "note wait", role: "status"}, "No request was under way in that second."), download);
    return;
  }
  const legend = element("p", {className: "legend quiet"}, ...trace.stages.map(stage => chip(stage.colour, stage.name)));
  const timeline = new Timeline(trace);
  place.replaceChildren(legend, timeline.root, download, stageSummary(trace.stages));
  timeline.draw();
}

function stageSummary(stages) {
  const rows = stages.map(stage => element("tr", {},
    element("th", {scope: "row"}, chip(stage.colour, stage.name)),
    ...[number(stage.count), duration(stage.total / stage.count), duration(stage.longest), duration(stage.total)]
      .map(text => element("td", {}, text))));
  return element("details", {}, element("summary", {}, "The same as a table"),
    element("table", {className: "numbers"}, headOf(["Slices", "Count", "Mean", "Longest", "Together"]),
      element("tbody", {}, ...rows)));
}

/** Tracks with their lanes of slices, counters, and arrows between slices; times in microseconds. */
function readTrace(document) {
  const events = Array.isArray(document) ? document : document.traceEvents || [];
  const [tracks, processes, counters, arrows] = [new Map(), new Map(), new Map(), []];
  const open = new Map();
  const trackOf = ({pid, tid}) => {
    const id = `${pid}/${tid}`;
    if (!tracks.has(id)) tracks.set(id, {id, pid, name: `thread ${tid}`, order: tracks.size, slices: []});
    return tracks.get(id);
  };
  for (const event of events) {
    if (event.ph === "M") {
      if (event.name === "thread_name") trackOf(event).name = String(event.args?.name);
      if (event.name === "thread_sort_index") trackOf(event).order = Number(event.args?.sort_index);
      if (event.name === "process_name") processes.set(event.pid, String(event.args?.name));
    } else if (event.ph === "X") {
      const slice = {name: String(event.name), from: event.ts, to: event.ts + (event.dur || 0), args: event.args || {}};
      slice.track = trackOf(event);
      slice.track.slices.push(slice);
    } else if (event.ph === "C") {
      const id = `${event.pid}/${event.name}`;
      if (!counters.has(id)) counters.set(id, {pid: event.pid, name: String(event.name), values: []});
      counters.get(id).values.push([event.ts, Number(Object.values(event.args || {})[0]) || 0]);
    } else if (event.ph === "s") {
      open.set(`${event.name}/${event.id}`, {at: event.ts, track: trackOf(event)});
    } else if (event.ph === "f") {
      const from = open.get(`${event.name}/${event.id}`);
      if (from) arrows.push({from, to: {at: event.ts, track: trackOf(event)}});
    }
  }
  const used = [...tracks.values()].filter(track => track.slices.length);
  used.sort((one, other) => one.pid === other.pid ? one.order - other.order : 0);
  if (processes.size > 1) {
    for (const line of [...used, ...counters.values()]) line.name = `${processes.get(line.pid) || line.pid}: ${line.name}`;
  }
  used.forEach(intoLanes);
  for (const counter of counters.values()) counter.values.sort(([one], [other]) => one - other);
  return withSpan({tracks: used, counters: [...counters.values()], arrows, stages: stagesOf(used)});
}

/** A slice inside another, or beside it, goes a lane lower. */
function intoLanes(track) {
  track.slices.sort((one, other) => one.from - other.from || other.to - one.to);
  track.lanes = [];
  for (const slice of track.slices) {
    // Written times are rounded: what ends where the next begins may seem to overlap it.
    let lane = track.lanes.findIndex(slices => slices.at(-1).to <= slice.from + 0.002);
    if (lane < 0) lane = track.lanes.push([]) - 1;
    track.lanes[lane].push(slice);
    slice.lane = lane;
  }
}

function stagesOf(tracks) {
  const stages = new Map(Object.keys(STAGES).map(name => [name, null]));
  for (const {slices} of tracks) {
    for (const {name, from, to} of slices) {
      const stage = stages.get(name) || {name, colour: STAGES[name] || OTHER, count: 0, total: 0, longest: 0};
      stages.set(name, stage);
      stage.count += 1;
      stage.total += to - from;
      stage.longest = Math.max(stage.longest, to - from);
    }
  }
  return [...stages.values()].filter(Boolean);
}

function withSpan(trace) {
  let [from, to, lanes, count] = [Infinity, -Infinity, 0, 0];
  const shown = [];
  for (const track of trace.tracks) {
    for (const slice of track.slices) [from, to] = [Math.min(from, slice.from), Math.max(to, slice.to)];
    count += track.slices.length;
    lanes += track.lanes.length;
    if (lanes <= MOST_LANES) shown.push(track);
  }
  return {...trace, tracks: shown, left: trace.tracks.length - shown.length, from, to: Math.max(to, from + 1), count};
}
