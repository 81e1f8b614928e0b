// What the server makes of a model's times: shares, stages, a verdict, and what would help.

const GROUPS = {communication: "#6ea8fe", waiting: "#f0b847", computation: "#5fc98a"};

async function refreshDiagnosis(card) {
  if (!card.asksForDiagnosis) return;
  try {
    const text = await ask(`${pathOf(card)}/diagnosis`);
    if (text !== card.diagnosed) showDiagnosis(card, JSON.parse(text));
    card.diagnosed = text;
  } catch (error) {
    if (!error.status || error.status === 401) throw error;
    card.asksForDiagnosis = error.status !== 404; // a server without it is not asked again and again
    card.diagnosed = null;
    card.diagnosis.replaceChildren(element("h3", {}, "Diagnosis"), element("p", {className: "quiet"}, error.message));
  }
}

function showDiagnosis(card, {requests, stages = [], shares = {}, verdict = "", evidence = "", advice = []}) {
  const open = card.diagnosis.querySelector("details")?.open;
  const stageTable = element("details", {open: open === true}, element("summary", {}, "Every stage"), tableOf(stages));
  card.diagnosis.replaceChildren(
    element("h3", {}, "Diagnosis ", element("span", {className: "pill verdict"}, verdict)),
    element("p", {}, evidence), shareBar(shares),
    element("ul", {}, ...advice.map(({sentence}) => element("li", {}, sentence))), stageTable,
    element("p", {className: "quiet"}, Number.isFinite(requests) ? `From ${some(requests, "request")}.` : ""));
}

const percent = share => Number.isFinite(share) ? `${(100 * share).toFixed(share < .1 ? 1 : 0)} %` : "–";

function shareBar(shares) {
  const parts = Object.entries(shares).filter(([, share]) => Number.isFinite(share) && share > 0);
  const bar = element("div", {className: "shares"});
  const legend = element("p", {className: "legend quiet"});
  for (const [name, share] of parts) {
    const part = element("span");
    part.style.flexGrow = share;
    part.style.background = GROUPS[name] || "#9aa5b1";
    bar.append(part);
    legend.append(chip(GROUPS[name] || "#9aa5b1", `${name} ${percent(share)}`));
  }
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", parts.map(([name, share]) => `${name} ${percent(share)}`).join(", "));
  return element("div", {}, bar, legend);
}

function chip(colour, text) {
  const dot = element("span", {className: "dot"});
  dot.style.background = colour;
  return element("span", {className: "chip"}, dot, text);
}

function tableOf(stages) {
  const rows = stages.map(line => element("tr", {},
    element("th", {scope: "row"}, chip(GROUPS[line.group] || "#9aa5b1", line.stage)),
    ...[percent(line.share), duration(line.mean_us), duration(line.p50_us), duration(line.p99_us),
      Number.isFinite(line.count) ? number(line.count) : "–"].map(text => element("td", {}, text))));
  return element("table", {className: "numbers"}, headOf(["Stage", "Share", "Mean", "p50", "p99", "Count"]),
    element("tbody", {}, ...rows));
}
