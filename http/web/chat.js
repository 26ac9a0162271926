// The chat page. What is kept in localStorage survives a closed page: the session's id and token, and a message that was
// sent and not answered yet, with its Idempotency-Key, so that it is repeated and never doubled.
"use strict";

const sessions = "/api/onboarding/sessions";
const store = "onboarding";
const byId = (id) => document.getElementById(id);
const conversation = byId("conversation"), notice = byId("notice"), message = byId("message"), send = byId("send");

let saved = load();
let labels = {}, known = {}, missing = [], sending = false;
let era = 0; // grows with every new conversation: answers of an older one are dropped

function load() {
  try { return JSON.parse(localStorage.getItem(store)) || {}; } catch { return {}; }
}
function save() {
  try { localStorage.setItem(store, JSON.stringify(saved)); } catch { /* private mode: the conversation lives as long as the page */ }
}
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// ---- the server

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || "The server said " + status + ".");
    this.status = status;
  }
}

// Repeats over lost connections, 408, 429 and every 5xx (a proxy before a server that died says 502), with back-off, for as long
// as it takes: the key makes repeating safe.
async function call(method, path, body, key) {
  const mine = era;
  for (let attempt = 0; ; ++attempt) {
    let wait = Math.min(8000, 400 * 2 ** attempt) * (0.75 + Math.random() / 2);
    let why = "The connection is lost. Trying again …";
    try {
      const headers = { Accept: "application/json" };
      if (saved.token && path !== sessions) headers.Authorization = "Bearer " + saved.token;
      if (body !== undefined) headers["Content-Type"] = "application/json";
      if (key) headers["Idempotency-Key"] = key;
      const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
      const answer = await response.json().catch(() => null);
      if (mine !== era) throw new Refused(0, {});
      if (response.ok && answer) { // one that is cut off is none
        say("");
        return { status: response.status, answer, retryAfter: Number(response.headers.get("Retry-After")) || 1 };
      }
      const passing = response.ok || response.status >= 500 || response.status === 429 || response.status === 408;
      if (!passing) throw new Refused(response.status, answer || {});
      wait = Math.max(wait, 1000 * (Number(response.headers.get("Retry-After")) || 0));
      why = response.status === 429 ? "A little too fast. Trying again in a moment …" : "The server is busy. Trying again in a moment …";
    } catch (error) {
      if (error instanceof Refused) throw error;
    }
    if (mine !== era) throw new Refused(0, {});
    if (attempt > 0) say(why);
    await pause(wait);
    if (mine !== era) throw new Refused(0, {});
  }
}

// ---- what is shown

function say(text) {
  notice.textContent = text;
  notice.hidden = text === "";
}
function add(role, text, turnId) {
  const item = document.createElement("li");
  item.className = role;
  if (turnId) item.dataset.turn = turnId;
  if (role === "user" || role === "assistant") {
    const who = document.createElement("span");
    who.className = "unseen";
    who.textContent = role === "user" ? "You: " : "Host: ";
    item.append(who);
  }
  item.append(text);
  conversation.append(item);
  conversation.scrollTop = conversation.scrollHeight;
  return item;
}
function addTyping() {
  const item = document.createElement("li");
  item.className = "assistant typing";
  item.setAttribute("aria-label", "The host is writing");
  item.append(document.createElement("i"), document.createElement("i"), document.createElement("i"));
  conversation.append(item);
  conversation.scrollTop = conversation.scrollHeight;
  return item;
}
const labelOf = (field) => labels[field] || field.replaceAll("_", " ");

function showProfile() {
  const names = Object.keys(labels).length ? Object.keys(labels) : [...Object.keys(known), ...missing];
  const shown = names.filter((name) => name in known || missing.includes(name));
  const filled = shown.filter((name) => name in known).length;
  byId("fields").replaceChildren(...shown.map((name) => {
    const row = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = labelOf(name);
    row.className = name in known ? "known" : "";
    value.textContent = name in known ? String(known[name] === true ? "yes" : known[name] === false ? "no" : known[name]) : "still open";
    row.append(term, value);
    return row;
  }));
  byId("filled").style.transform = "scaleX(" + (shown.length ? filled / shown.length : 0) + ")";
  const bar = document.querySelector(".bar");
  bar.setAttribute("aria-valuemax", String(Math.max(shown.length, 1)));
  bar.setAttribute("aria-valuenow", String(filled));
  byId("progress").textContent = !shown.length ? "" : missing.length ? filled + " of " + shown.length : "All done. Thank you!";
}
function showAnswer(answer) {
  // A message repeated after a reload gets an answer that may stand in the conversation already.
  const lines = [...conversation.querySelectorAll("li.assistant")];
  if (!lines.some((line) => line.dataset.turn === answer.turn_id)) {
    const understood = Object.keys(answer.extracted || {});
    if (understood.length) add("understood", "✓ " + understood.map((name) => labelOf(name) + ": " + answer.extracted[name]).join("  ·  "));
    for (const rejected of answer.rejected || []) add("rejected", labelOf(rejected.field) + ": " + rejected.reason);
    add("assistant", answer.response, answer.turn_id);
  }
  Object.assign(known, answer.extracted);
  missing = answer.missing || missing;
  showProfile();
}
function ready(canWrite) {
  message.disabled = !canWrite;
  send.disabled = !canWrite || message.value.trim() === "";
  if (canWrite) message.focus({ preventScroll: true });
}
function grow() {
  message.style.height = "auto";
  message.style.height = message.scrollHeight + 2 + "px";
  send.disabled = message.disabled || message.value.trim() === "";
}

// ---- the stream: the reply while it is written, and answers that come late

const late = new Map(); // turn → whoever waits for its answer

async function listen(mine) {
  for (let last = ""; mine === era && saved.id; await pause(1000 + Math.random() * 1000)) {
    try {
      const headers = { Authorization: "Bearer " + saved.token };
      if (last) headers["Last-Event-ID"] = last;
      const response = await fetch(sessions + "/" + saved.id + "/stream", { headers, cache: "no-store" });
      if (response.status === 401 || response.status === 404) return;
      if (!response.ok) {
        await pause(1000 * (Number(response.headers.get("Retry-After")) || 1));
        continue;
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { done, value } = await reader.read();
        if (mine !== era) return void reader.cancel();
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) last = hear(event) || last;
      }
    } catch { /* the connection is lost: again in a moment */ }
  }
}

function hear(text) {
  const event = Object.fromEntries(text.split("\n").map((line) => line.split(/: (.*)/s)).map(([name, value]) => [name, value]));
  if (!event.data) return "";
  const data = JSON.parse(event.data);
  if (event.event === "reply") write(data);
  if (event.event === "turn" && late.has(data.turn_id)) late.get(data.turn_id)(data);
  return event.id || "";
}

// The dots give way to the reply as it is written; the answer that counts takes its place.
function write({ text, restart }) {
  const item = conversation.querySelector("li.typing, li.writing");
  if (!item) return;
  if (item.classList.contains("typing")) {
    item.className = "assistant writing";
    item.replaceChildren();
  }
  item.textContent = restart ? text : item.textContent + text;
  conversation.scrollTop = conversation.scrollHeight;
}

// ---- the conversation

async function begin() {
  const mine = era;
  // Repeated word for word under its key, even if the browser's language is another one by then.
  if (!saved.startKey || !saved.locale) saved = { startKey: newKey(), locale: navigator.language || "en" };
  save();
  let answer;
  try {
    ({ answer } = await call("POST", sessions, { locale: saved.locale }, saved.startKey));
  } catch (error) {
    if (mine === era) {
      saved = {}; // what is refused stays so: the next time is a new start
      save();
    }
    throw error;
  }
  saved = { id: answer.session_id, token: answer.token };
  save();
  await reload();
}

async function reload() {
  const { answer: session } = await call("GET", sessions + "/" + saved.id);
  const lines = [];
  for (let next = sessions + "/" + saved.id + "/messages"; next; ) {
    const { answer } = await call("GET", next);
    lines.push(...answer.messages);
    next = answer.next;
  }
  labels = session.labels || {};
  known = session.fields;
  missing = session.missing;
  conversation.replaceChildren();
  for (const line of lines) add(line.role, line.text, line.turn_id);
  showProfile();
  const last = lines[lines.length - 1];
  // A turn that was under way when the page closed: wait for its answer, unless the message will be repeated anyway.
  if (!saved.unanswered && last && last.role === "user" && last.turn_id) await follow(last.turn_id);
}

async function follow(turnId) {
  ready(false);
  const typing = addTyping();
  const told = new Promise((tell) => late.set(turnId, tell));
  try {
    for (;;) {
      const { status, answer, retryAfter } = await call("GET", sessions + "/" + saved.id + "/turns/" + turnId);
      if (status === 200) {
        typing.remove();
        return showAnswer(answer);
      }
      say(answer.message + (answer.position_in_queue ? " You are number " + answer.position_in_queue + "." : ""));
      // The stream brings the answer; asking again is for when it is cut.
      const answered = await Promise.race([told, pause(Math.min(Math.max(retryAfter, 2), 10) * 1000)]);
      if (answered) {
        say("");
        return showAnswer(answered);
      }
    }
  } finally {
    late.delete(turnId);
    typing.remove();
  }
}

async function deliver() {
  const mine = era;
  sending = true;
  ready(false);
  const { text, key } = saved.unanswered;
  // After a reload the server may have the message already; then it stands in the conversation.
  const lastUser = [...conversation.querySelectorAll("li.user")].pop();
  const bubble = saved.unanswered.shown && lastUser && lastUser.textContent === "You: " + text ? lastUser : add("user", text);
  bubble.classList.add("waiting");
  saved.unanswered.shown = true;
  save();
  const typing = addTyping();
  try {
    const { status, answer } = await call("POST", sessions + "/" + saved.id + "/messages", { message: text }, key);
    typing.remove();
    bubble.classList.remove("waiting");
    if (status === 202) await follow(answer.turn_id);
    else showAnswer(answer);
    delete saved.unanswered;
    save();
  } catch (error) {
    typing.remove();
    if (mine !== era) return;
    saved.refused = saved.unanswered; // sent again as it stands, it goes under the same key
    delete saved.unanswered;
    save();
    bubble.classList.remove("waiting");
    if (error.status === 409) {
      say("This conversation is finished: " + error.message + ". You can begin a new one.");
      sending = false;
      return;
    }
    if (error.status === 401 || error.status === 404) return lost();
    bubble.remove();
    message.value = text;
    grow();
    say(error.message);
  } finally {
    typing.remove();
    sending = false;
  }
  if (mine === era) ready(true);
}

async function lost() {
  saved = {};
  save();
  conversation.replaceChildren();
  await run(begin);
  say("Your earlier conversation is not there any more, so this is a new one.");
}

async function run(step) {
  const mine = ++era;
  ready(false);
  try {
    await step();
    if (mine !== era) return;
    listen(mine);
    if (saved.unanswered) return await deliver();
    ready(true);
  } catch (error) {
    if (mine !== era) return;
    if ((error.status === 401 || error.status === 404) && saved.id) return lost();
    say(error.message + " Reload the page to try again.");
  }
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = message.value.trim();
  if (!text || sending || message.disabled) return;
  saved.unanswered = { text, key: saved.refused && saved.refused.text === text ? saved.refused.key : newKey() };
  delete saved.refused;
  save();
  message.value = "";
  grow();
  deliver();
});
message.addEventListener("input", grow);
message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("composer").requestSubmit();
  }
});
addEventListener("resize", () => { conversation.scrollTop = conversation.scrollHeight; });
byId("restart").addEventListener("click", () => {
  saved = {};
  save();
  conversation.replaceChildren();
  known = {};
  missing = [];
  showProfile();
  say("");
  message.value = "";
  grow();
  run(begin);
});

run(saved.id && saved.token ? reload : begin);
