// The page. Whatever comes from the campaign is put in as text, never as HTML.
"use strict";

const PAGE_SIZE = 50;
const TABS = ["html", "text", "links", "headers", "source"];
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

let state = null; // what the server said last, see `Shown.state`
let chosen = null; // the person that is shown
let wanted = 0; // counts what was asked for, so that a late answer is dropped
let tab = "html";
let remote = false;
let list = emptyList(0, []);

// -- small things -------------------------------------------------------------------------------

async function ask(path) {
  const response = await fetch(path).catch(() => null);
  return response?.ok ? response.json() : null;
}

function made(tag, words, className) {
  const element = document.createElement(tag);
  if (words !== undefined) element.textContent = words;
  if (className) element.className = className;
  return element;
}

function say(words) {
  $("said").textContent = words;
}

function press(on, off) {
  on.setAttribute("aria-pressed", "true");
  off.setAttribute("aria-pressed", "false");
}

function octets(size) {
  if (size < 1000) return `${size} bytes`;
  if (size < 1e6) return `${(size / 1000).toPrecision(3)} KB`;
  return `${(size / 1e6).toPrecision(3)} MB`;
}

// -- the list -----------------------------------------------------------------------------------

function emptyList(after, before) {
  return { after, before, next: after, atEnd: false, people: [], filling: false };
}

function filtered() {
  return $("query").value.trim() !== "" || leftOutOnly();
}

function leftOutOnly() {
  return $("left-out").getAttribute("aria-pressed") === "true";
}

// Asks for portions until the page is full or everyone that was read so far was looked at.
async function fill() {
  const mine = list;
  if (mine.filling) return;
  mine.filling = true;
  try {
    do {
      const query = new URLSearchParams({ after: mine.next, limit: PAGE_SIZE - mine.people.length, q: $("query").value });
      if (leftOutOnly()) query.set("show", "left_out");
      const page = await ask(`people?${query}`);
      if (mine !== list || page === null) return;
      mine.people.push(...page.people);
      mine.next = page.next;
      mine.atEnd = page.at_end;
      showList();
    } while (mine.people.length < PAGE_SIZE && !mine.atEnd);
  } finally {
    mine.filling = false;
  }
}

async function openList(after, before) {
  list = emptyList(after, before);
  await fill();
  $("list").scrollTop = 0;
}

function showList() {
  const rows = list.people.map((person) => {
    const button = made("button");
    button.type = "button";
    button.dataset.number = person.number;
    button.append(made("span", person.name || person.address, "one"));
    button.append(person.left_out ? made("span", person.left_out, "tag") : made("span", number.format(person.number), "at"));
    button.append(made("span", person.left_out ? person.reason : person.name ? person.address : person.source, "two"));
    button.addEventListener("click", () => choose(person.number, true));
    const row = made("li");
    row.append(button);
    return row;
  });
  const focused = document.activeElement?.closest?.("#list") ? document.activeElement.dataset.number : null;
  $("list").replaceChildren(...rows);
  if (focused) $("list").querySelector(`[data-number="${focused}"]`)?.focus({ preventScroll: true });
  mark();
  showRange();
}

function mark() {
  for (const button of $("list").querySelectorAll("button")) {
    if (chosen && button.dataset.number === String(chosen.number)) {
      button.setAttribute("aria-current", "true");
      button.scrollIntoView({ block: "nearest" });
    } else button.removeAttribute("aria-current");
  }
}

function showRange() {
  const found = list.people.length;
  const more = !list.atEnd || (state !== null && list.next < state.read);
  const busy = more || (state !== null && state.reading);
  $("nobody").hidden = found > 0;
  $("nobody").textContent = busy ? "Looking …" : filtered() ? "Nobody found." : state?.remarks.join("; ") || "Nobody yet.";
  if (!found) $("range").textContent = "";
  else if (filtered()) {
    const first = list.before.length * PAGE_SIZE + 1;
    const last = number.format(first + found - 1) + (found === PAGE_SIZE && more ? "+" : "");
    $("range").textContent = `${number.format(first)}–${last} found`;
  } else {
    const [first, last] = [list.people[0].number, list.people[found - 1].number];
    $("range").textContent = `${number.format(first)}–${number.format(last)} of ${number.format(state ? state.read : last)}`;
  }
  $("page-back").disabled = filtered() ? !list.before.length : list.after === 0;
  $("page-on").disabled = found < PAGE_SIZE || !more;
}

function pageOn() {
  return openList(list.next, [...list.before, list.after]);
}

function pageBack() {
  if (!filtered()) return openList(Math.max(0, list.after - PAGE_SIZE), []);
  return openList(list.before.at(-1) ?? 0, list.before.slice(0, -1));
}

function search() {
  remote = false;
  return openList(0, []);
}

// -- stepping -----------------------------------------------------------------------------------

async function step(by) {
  const at = list.people.findIndex((person) => chosen && person.number === chosen.number);
  const target = list.people[at < 0 ? (by > 0 ? 0 : -1) : at + by];
  if (target) return choose(target.number, false);
  if (!filtered()) return chosen && choose(chosen.number + by, false);
  if (by > 0 && !$("page-on").disabled) {
    await pageOn();
    return list.people.length && choose(list.people[0].number, false);
  }
  if (by < 0 && !$("page-back").disabled) {
    await pageBack();
    return list.people.length && choose(list.people.at(-1).number, false);
  }
}

async function choose(which, byHand) {
  if (which < 1 || (state && which > state.read)) {
    if (chosen) $("number").value = chosen.number;
    return say(`There is no ${number.format(which)}`);
  }
  const mine = ++wanted;
  const person = await ask(`people/${which}`);
  if (mine !== wanted || person === null) return;
  if (!chosen || chosen.number !== person.number) remote = false;
  chosen = person;
  history.replaceState(null, "", `#${person.number}`);
  showPerson();
  mark();
  if (!filtered() && !list.people.some((other) => other.number === person.number)) {
    openList(Math.floor((person.number - 1) / PAGE_SIZE) * PAGE_SIZE, []);
  }
  if (byHand) {
    document.body.dataset.view = "message";
    if (matchMedia("(max-width: 760px)").matches) scrollTo(0, 0);
  }
}

// -- the message --------------------------------------------------------------------------------

function showPerson() {
  const mail = chosen.mail;
  $("number").value = chosen.number;
  $("previous").disabled = chosen.number === 1 && !filtered();
  $("next").disabled = chosen.number >= state.read && !filtered() && !state.reading;
  $("mail").hidden = mail === null;
  $("rail").hidden = false;
  for (const id of ["inbox", "findings-part"]) $(id).hidden = mail === null;
  $("attachments-part").hidden = mail === null || mail.attachments.length === 0;
  showInstead();
  showProblems();
  showData();
  if (mail !== null) showMail(mail);
}

function showInstead() {
  $("instead").hidden = !chosen.left_out;
  if (!chosen.left_out) return;
  $("instead-state").textContent = `Left out, ${chosen.left_out}`;
  $("instead-title").textContent = chosen.address || "(no address)";
  $("instead-why").textContent = chosen.reason;
  $("instead-who").textContent = chosen.source;
}

function showMail(mail) {
  const author = mail.from.name || mail.from.address;
  $("subject").textContent = mail.subject || "(no subject)";
  $("from").textContent = author;
  $("from-address").textContent = mail.from.name ? mail.from.address : "";
  $("face").textContent = [...author][0]?.toUpperCase() ?? "?";
  $("to").textContent = mail.to;
  const at = new Date(mail.date);
  $("date").textContent = isNaN(at) ? mail.date : at.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  $("inbox-from").textContent = author;
  $("inbox-subject").textContent = mail.subject;
  $("inbox-preheader").textContent = mail.preheader;
  $("text").textContent = mail.text ?? "There is no text part.";
  $("size").textContent = octets(mail.size);
  $("save-source").href = `mail/${chosen.number}/source`;
  $("headers").replaceChildren(...mail.headers.map(([name, value]) => {
    const row = made("tr");
    const head = made("th", name);
    head.scope = "row";
    row.append(head, made("td", value));
    return row;
  }));
  $("links").replaceChildren(...mail.links.map((link) => {
    const row = made("li", link.text || "(no words)");
    row.append(made("code", link.url));
    return row;
  }));
  showFindings(mail.findings);
  showFiles(mail.attachments);
  $("tab-html").hidden = !mail.html;
  $("tab-links").hidden = mail.links.length === 0;
  showTab();
}

function showFindings(findings) {
  $("fine").hidden = findings.length > 0;
  $("findings-title").textContent = findings.length ? `Findings (${findings.length})` : "Findings";
  $("findings").replaceChildren(...findings.map((finding) => {
    const card = made("li", undefined, finding.severity);
    card.append(made("b", finding.what), made("span", finding.mend), made("small", `${finding.severity} · ${finding.place} · ${finding.rule}`));
    return card;
  }));
}

function showFiles(files) {
  $("attachments").replaceChildren(...files.map((file, index) => {
    const link = made("a");
    link.href = `mail/${chosen.number}/attachments/${index}`;
    link.download = file.name;
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    icon.setAttribute("viewBox", "0 0 20 20");
    icon.setAttribute("aria-hidden", "true");
    path.setAttribute("d", "M10 3v9m0 0 3.5-3.5M10 12 6.5 8.5M4 16h12");
    icon.append(path);
    const words = made("span");
    words.append(made("b", file.name), made("small", file.type));
    link.append(icon, words, made("small", octets(file.size)));
    const row = made("li");
    row.append(link);
    return row;
  }));
}

function showData() {
  $("data-part").hidden = chosen.fields.length === 0 && !chosen.source;
  $("data").replaceChildren(...chosen.fields.map(([name, value]) => {
    const pair = made("div");
    pair.append(made("dt", name), made("dd", value || "(empty)", value ? "" : "quiet"));
    return pair;
  }));
  $("data-source").textContent = chosen.source;
}

function showProblems() {
  const problems = [...(state ? state.problems : []), ...(chosen?.problem ? [chosen.problem] : [])];
  $("problems").hidden = problems.length === 0;
  $("problems").replaceChildren(...problems.map((problem) => {
    const card = made("div", undefined, "problem");
    card.append(made("h3", problem.message));
    if (problem.place) card.append(made("p", problem.place));
    if (problem.lines.length) card.append(code(problem.lines));
    return card;
  }));
}

function code(lines) {
  const box = made("ol", undefined, "code");
  for (const line of lines) {
    const row = made("li", undefined, line.here ? "here" : "");
    row.append(made("span", line.number), made("code", line.text));
    box.append(row);
  }
  return box;
}

// -- tabs ---------------------------------------------------------------------------------------

function shownTab() {
  return $(`tab-${tab}`).hidden ? "text" : tab;
}

function showTab() {
  const now = shownTab();
  for (const name of TABS) {
    $(`tab-${name}`).setAttribute("aria-selected", String(name === now));
    $(`tab-${name}`).tabIndex = name === now ? 0 : -1;
    $(`panel-${name}`).hidden = name !== now;
  }
  $("looks").hidden = now !== "html";
  if (now === "html") showFrame();
  if (now === "source") showSource();
}

async function showSource() {
  const mine = wanted;
  const response = await fetch(`mail/${chosen.number}/source`).catch(() => null);
  const source = response?.ok ? await response.text() : "";
  if (mine === wanted) $("source").textContent = source;
}

// A new frame for each message: one that is led elsewhere would fill the browser's history. It takes
// the old one's place once it is there, so that nothing flickers.
function showFrame() {
  $("remote").hidden = !chosen.mail.remote || remote;
  const frame = made("iframe");
  frame.setAttribute("sandbox", "");
  frame.referrerPolicy = "no-referrer";
  frame.title = `The message to ${chosen.address}`;
  frame.src = `mail/${chosen.number}/html?edition=${state ? state.edition : 0}${remote ? "&images=remote" : ""}`;
  frame.addEventListener("load", () => {
    while (frame.previousSibling) frame.previousSibling.remove();
  });
  $("device").append(frame);
}

// -- what the server tells ----------------------------------------------------------------------

function listen() {
  const events = new EventSource("events");
  events.addEventListener("message", (event) => take(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    $("count").textContent = "The server has ended";
    $("count-out").textContent = "";
    $("pulse").hidden = true;
  });
}

async function take(now) {
  const before = state;
  state = now;
  showState(before);
  if (before === null) openList(0, []);
  else if (now.people !== before.people) openList(0, []);
  else if (list.people.length < PAGE_SIZE) fill();
  else showRange();
  if (chosen === null) begin();
  else if (missing || now.edition !== before.edition) again();
}

let missing = false; // the chosen one was not read anew yet

// The same person in the new edition, wherever they stand now.
async function again() {
  const query = new URLSearchParams({ address: chosen.address, number: chosen.number });
  const found = await ask(`find?${query}`);
  missing = found === null || found.number === null;
  if (!missing) {
    const keep = remote;
    await choose(found.number, false);
    remote = keep && remote;
    flash();
  } else if (!state.reading) {
    missing = state.read === 0; // they may come back
    if (missing) showNobody();
    else choose(1, false);
  }
  showProblems();
}

// Nobody is left: what was shown of somebody is no longer true.
function showNobody() {
  wanted++;
  chosen.problem = null;
  for (const id of ["mail", "instead", "rail"]) $(id).hidden = true;
  for (const id of ["previous", "next"]) $(id).disabled = true;
  $("number").value = "";
}

function flash() {
  $("updated").hidden = false;
  say(state.problems.length || chosen.problem ? "There is a mistake" : "The message was updated");
  clearTimeout(flash.timer);
  flash.timer = setTimeout(() => ($("updated").hidden = true), 1800);
}

function showState(before) {
  const { campaign, read, reading, left_out: leftOut } = state;
  document.title = `${campaign.name} · bulkmail preview`;
  $("name").textContent = campaign.name;
  $("about").textContent = campaign.about;
  const meant = read - leftOut;
  const people = `${number.format(meant)} ${meant === 1 ? "recipient" : "recipients"}`;
  const out = leftOut ? `, ${number.format(leftOut)} left out` : "";
  $("count").textContent = reading ? `Reading, ${number.format(read)} so far` : people;
  $("count-out").textContent = reading ? "" : out;
  $("pulse").hidden = !reading;
  $("who-is-listed").hidden = state.sandbox;
  $("data-title").textContent = state.sandbox ? "In the sandbox" : "Their data";
  $("of").textContent = `of ${number.format(read)}`;
  $("left-out-count").textContent = leftOut ? number.format(leftOut) : "";
  if (!reading && (before === null || before.reading || before.people !== state.people)) say(people + out);
  showProblems();
}

// The person that the address of the page names, once they are read; else the first one.
function begin() {
  const asked = Number(location.hash.slice(1));
  const named = Number.isInteger(asked) && asked > 0;
  if (named && asked > state.read && state.reading) return;
  choose(named && asked <= state.read ? asked : 1, false);
}

// -- hands --------------------------------------------------------------------------------------

function wire() {
  const click = (id, action) => $(id).addEventListener("click", action);
  click("previous", () => step(-1));
  click("next", () => step(1));
  click("page-on", pageOn);
  click("page-back", pageBack);
  click("to-list", () => {
    document.body.dataset.view = "list";
    $("list").querySelector("[aria-current]")?.focus();
  });
  click("load-remote", () => {
    remote = true;
    showFrame();
  });
  click("everyone", () => (press($("everyone"), $("left-out")), search()));
  click("left-out", () => (press($("left-out"), $("everyone")), search()));
  click("desktop", () => (press($("desktop"), $("phone")), $("stage").classList.remove("phone")));
  click("phone", () => (press($("phone"), $("desktop")), $("stage").classList.add("phone")));
  click("light", () => (press($("light"), $("dark")), $("device").classList.remove("dark")));
  click("dark", () => (press($("dark"), $("light")), $("device").classList.add("dark")));
  for (const name of TABS) click(`tab-${name}`, () => ((tab = name), showTab()));
  let timer;
  $("query").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 120);
  });
  $("number").addEventListener("change", () => choose(Number($("number").value.replace(/\D/g, "")), false));
  $("tabs").addEventListener("keydown", tabKeys);
  document.addEventListener("keydown", keys);
}

function tabKeys(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const names = TABS.filter((name) => !$(`tab-${name}`).hidden);
  tab = names[(names.indexOf(shownTab()) + by + names.length) % names.length];
  showTab();
  $(`tab-${tab}`).focus();
  event.preventDefault();
}

function keys(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input");
  if (event.key === "/" && !typing) {
    document.body.dataset.view = "list";
    $("query").focus();
    event.preventDefault();
  } else if (event.target === $("query") && event.key === "Escape") {
    $("query").value = "";
    search();
    $("query").blur();
  } else if (event.target === $("query") && ["Enter", "ArrowDown"].includes(event.key)) {
    if (list.people.length) choose(list.people[0].number, event.key === "Enter");
    $("query").blur();
    event.preventDefault();
  } else if (!typing) {
    const scrolls = event.target.closest("[role=tabpanel], .rail") && !event.key.match(/Left|Right/);
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!by || scrolls) return;
    step(by);
    event.preventDefault();
  }
}

wire();
listen();
