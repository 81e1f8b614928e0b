// What the server says: the basis of the page, its cards, and when they are refreshed. It comes last.

const LIVE_MS = 1000;
const ALL_EVERY = 3; // looks; in between only the numbers are asked for
const cards = new Map();
let key = null;
let looks = 0;

// Text becomes text here, never HTML: names and reasons come from outside.
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

const byId = id => document.getElementById(id);
const number = value => value.toLocaleString("en");
const some = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
const failure = text => element("p", {className: "note bad"}, text);
const keyOf = line => `${line.name}/${line.version}`;
const titleOf = line => line.version === "1" ? line.name : `${line.name}, version ${line.version}`;
const pathOf = ({name, version}) => `v2/models/${encodeURIComponent(name)}/versions/${version}`;

function show(target, text) {
  target.textContent = text;
  target.hidden = !text;
}

function duration(us) {
  if (!Number.isFinite(us)) return "–";
  if (us < 1000) return `${us < 10 ? us.toFixed(1) : us.toFixed(0)} µs`;
  if (us < 1e6) return `${(us / 1000).toPrecision(us < 1e5 ? 3 : 4)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

function request(path, options = {}) {
  const headers = key === null ? {} : {Authorization: `Bearer ${key}`};
  return fetch(path, {cache: "no-store", ...options, headers});
}

async function ask(path, options) {
  const response = await request(path, options);
  const text = await response.text();
  if (!response.ok) throw Object.assign(new Error(sentence(text, response)), {status: response.status});
  return text;
}

const askJson = async (path, options) => JSON.parse(await ask(path, options));

function sentence(text, response) {
  try {
    return JSON.parse(text).error || text;
  } catch {
    return text || `${response.status} ${response.statusText}`;
  }
}

async function refresh() {
  await guarded(async () => {
    const [server, index, health] = await Promise.all([
      askJson("v2"), askJson("v2/repository/index", {method: "POST", body: "{}"}),
      request("v2/health/ready").then(response => response.json()),
    ]);
    byId("key-form").hidden = true;
    byId("links").hidden = key !== null; // a link does not bring the key
    byId("trace").hidden = false;
    show(byId("name"), server.name);
    show(byId("version"), server.version);
    document.title = server.name;
    mark(byId("health"), health.ready ? "ready" : health.error, health.ready ? "good" : "wait");
    for (const [key, card] of cards) {
      if (!index.some(line => keyOf(line) === key)) {
        card.root.remove();
        cards.delete(key);
      }
    }
    for (const line of index) showState(line);
    await refreshLive();
    await Promise.all([...cards.values()].filter(card => card.ready).map(refreshCard));
    show(byId("trouble"), "");
  });
}

async function refreshLive() {
  const live = await askJson("v2/live");
  for (const counted of live.models) {
    const card = cards.get(keyOf(counted));
    if (card) showLive(card, live.seconds, counted);
  }
}

async function guarded(looking) {
  try {
    await looking();
  } catch (error) {
    if (error.status === 401) {
      byId("key-refused").hidden = key === null;
      byId("key-form").hidden = false;
    } else {
      show(byId("trouble"), error.status ? error.message : `The server does not answer (${error.message}).`);
      byId("health").hidden = true;
    }
  }
}

function mark(pill, text, kind) {
  show(pill, text);
  pill.className = `pill ${kind}`;
}

function showState(line) {
  if (!cards.has(keyOf(line))) cards.set(keyOf(line), newCard(line));
  const card = cards.get(keyOf(line));
  const kind = {READY: "good", LOADING: "wait", UNLOADING: "wait"}[line.state] || "bad";
  mark(card.state, line.state, kind);
  show(card.reason, line.reason);
  card.reason.className = `note ${kind}`;
  card.ready = line.state === "READY";
  card.body.hidden = card.live.hidden = card.diagnosis.hidden = !card.ready;
}

async function refreshCard(card) {
  try {
    const path = pathOf(card);
    const [metadata, config] = await Promise.all([askJson(path), askJson(`${path}/config`)]);
    describe(card, metadata, config);
    await refreshDiagnosis(card);
  } catch (error) {
    if (error.status !== 503) throw error; // unloaded in between; the next look shows it
  }
}

function newCard(line) {
  const {name, version} = line;
  const card = {
    name, version, ready: false, seen: null, samples: [], asksForDiagnosis: true,
    state: element("span"), reason: element("p"), live: element("div"), diagnosis: element("section"),
    facts: element("div"), settings: element("tbody"), form: element("form"),
  };
  card.body = element("div", {className: "columns"}, card.facts, card.form);
  card.root = element("section", {className: "card"},
    element("header", {className: "bar"}, element("h2", {}, titleOf(line)), card.state),
    card.reason, card.live, card.diagnosis, card.body);
  card.diagnosis.setAttribute("aria-label", `Where the time of ${titleOf(line)} goes`);
  byId("models").append(card.root);
  return card;
}

const shapeText = shape => `[${shape.join(", ")}]`;

function describe(card, metadata, config) {
  const rows = Object.entries(config.parameters).map(([name, {string_value}]) => row([name, string_value]));
  card.settings.replaceChildren(...rows);
  const text = JSON.stringify(metadata);
  if (text === card.seen) return; // what was typed into the form stays
  card.seen = text;
  card.facts.replaceChildren(
    tensors("Input", metadata.inputs), tensors("Output", metadata.outputs),
    element("p", {className: "quiet"}, `-1 in a shape: any size. Platform: ${metadata.platform}.`),
    element("details", {}, element("summary", {}, "Configuration in force"),
      element("table", {}, card.settings)));
  fillForm(card, metadata.inputs);
}

const row = cells => element("tr", {}, ...cells.map(cell => element("td", {}, element("code", {}, cell))));

function headOf(titles) {
  return element("thead", {}, element("tr", {}, ...titles.map(title => element("th", {scope: "col"}, title))));
}

function tensors(title, list) {
  const rows = list.map(tensor => row([tensor.name, tensor.datatype, shapeText(tensor.shape)]));
  return element("table", {}, headOf([title, "Datatype", "Shape"]), element("tbody", {}, ...rows));
}

byId("key-form").onsubmit = event => {
  event.preventDefault();
  key = byId("key").value;
  refresh();
};

byId("record").onclick = record;

const look = () => looks++ % ALL_EVERY ? guarded(refreshLive) : refresh();

async function keepFresh() {
  if (!document.hidden && byId("key-form").hidden) await look();
  setTimeout(keepFresh, LIVE_MS);
}

document.addEventListener("visibilitychange", () => document.hidden || byId("key-form").hidden && refresh());
keepFresh();
