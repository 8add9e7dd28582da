// Keeps an open page true: when the server says that something changed, the page is fetched again and its
// <main> swapped. Nothing depends on this script; without it a page is as old as it says.
"use strict";
(() => {
  const QUIET_MS = 400; // several changes at once are one
  const SLOWEST_MS = 5000; // relative times move even when nothing happens
  const RETRY_MS = 2000; // what failed is tried again
  const $ = (selector, root = document) => root.querySelector(selector);
  let events = null, timer = 0, fetching = false, again = false;

  const typing = () => {
    const at = document.activeElement;
    return at && at.closest("main") && at.matches("input, textarea, select") ? at : null;
  };

  const tell = (state, text) => {
    const light = $("#live");
    if (!light) return;
    light.hidden = false;
    light.dataset.state = state;
    light.textContent = text;
  };

  const connected = (answered) =>
    answered && events && events.readyState === EventSource.OPEN ? tell("on", "live") : tell("off", "not connected");

  const swap = (next) => {
    const main = $("main"), focus = document.activeElement && document.activeElement.id;
    // What a person has opened or closed stays so.
    for (const old of main.querySelectorAll("details[id]")) {
      const fresh = next.querySelector("details[id=" + CSS.escape(old.id) + "]");
      if (fresh) fresh.open = old.open;
    }
    main.replaceWith(next);
    tick();
    if (focus) { const back = document.getElementById(focus); if (back) back.focus({ preventScroll: true }); }
  };

  const refresh = async () => {
    if (fetching) { again = true; return; }
    if (typing() || document.hidden) { again = true; return; }
    fetching = true;
    again = false;
    let failed = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.redirected && new URL(answer.url).pathname === "/login") { location.reload(); return; }
      failed = answer.status >= 500;
      if (answer.ok) {
        const next = $("main", new DOMParser().parseFromString(await answer.text(), "text/html"));
        if (typing()) again = true;
        else if (next) swap(document.adoptNode(next));
      }
    } catch { failed = true; }
    fetching = false;
    connected(!failed);
    if (failed) later(RETRY_MS); else if (again) later();
  };

  const later = (ms = QUIET_MS) => { clearTimeout(timer); timer = setTimeout(refresh, ms); };

  const spoken = (away) =>
    away < 60 ? away + " s" : away < 3600 ? Math.floor(away / 60) + " min" :
    away < 172800 ? Math.floor(away / 3600) + " h" : Math.floor(away / 86400) + " d";
  const tick = () => {
    for (const time of document.querySelectorAll("time[data-relative]")) {
      const away = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000), far = Math.abs(away);
      time.textContent = far < 5 ? "just now" : away > 0 ? spoken(far) + " ago" : "in " + spoken(far);
    }
    localise();
  };

  // Where the reader's clock is not UTC, every time says on demand what it is by that clock; the foot of the page says so openly.
  const here = (at) => at.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const localise = () => {
    for (const time of document.querySelectorAll("time[datetime*=T]:not([data-here])")) {
      const at = new Date(time.dateTime);
      time.dataset.here = "";
      if (isNaN(at) || !at.getTimezoneOffset()) continue;
      time.title = (time.title || time.textContent) + " \u00b7 " + here(at) + " (" + zone + ")";
      if (time.closest(".made")) time.after(" (" + here(at) + " in " + zone + ")");
    }
  };

  // What is called like what stands in the box, below it while one types. Without this the box asks when it is sent.
  const FEW = 2, PAUSE_MS = 120, MOST = 12;
  let asking = null, asked = 0;
  const close = () => { const old = $("#hits"); if (old) old.remove(); clearTimeout(asked); if (asking) asking.abort(); };
  const element = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);
  const offer = (found) => {
    const old = $("#hits"), box = element("div", "", { id: "hits" });
    const total = Object.values(found.totals).reduce((sum, n) => sum + n, 0);
    const list = element("ul", "", { className: "found" });
    for (const hit of found.hits.slice(0, MOST)) {
      const row = element("li", "");
      row.append(element("span", hit.kind, { className: "tag" }), element("a", hit.name, { href: hit.path }), element("span", hit.about, { className: "quiet" }));
      list.append(row);
    }
    const all = "/search?q=" + encodeURIComponent(found.q);
    const foot = element("p", total ? "" : "Nothing is called so.", { role: "status" });
    if (total) foot.append(element("a", total === 1 ? "1 match" : "All " + total + " matches", { href: all }));
    if (total) box.append(list);
    box.append(foot);
    if (old) old.replaceWith(box); else $(".search").append(box);
  };
  const ask = async (q) => {
    if (asking) asking.abort();
    asking = new AbortController();
    try {
      const answer = await fetch("/api/v1/search?q=" + encodeURIComponent(q), { signal: asking.signal, credentials: "same-origin" });
      if (!answer.ok) return close();
      const found = await answer.json(), box = $("#q");
      // Somebody typed on, or left, while it was asked.
      if (box.value.trim() === q && box.closest(".search").contains(document.activeElement)) offer(found);
    } catch { /* the next letter asks again, and Enter asks in any case */ }
  };
  document.addEventListener("input", (event) => {
    if (event.target.id !== "q") return;
    const q = event.target.value.trim();
    clearTimeout(asked);
    if (q.length < FEW) close(); else asked = setTimeout(() => ask(q), PAUSE_MS);
  });
  document.addEventListener("focusin", (event) => { if (!event.target.closest(".search")) close(); });
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".search")) close(); });

  // Keys. None where somebody writes, apart from those of the box: what it offers, and what a search found.
  let leader = 0;
  const places = () => [...document.querySelectorAll(".bar [data-key]")];
  const step = (list, by) => {
    const at = list.indexOf(document.activeElement), next = at < 0 ? (by > 0 ? 0 : -1) : at + by;
    if (!list[next]) return false;
    list[next].focus();
    return true;
  };
  const rows = () => [...document.querySelectorAll("main tbody tr")].map((row) => $("a", row)).filter((link) => link && link.checkVisibility());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target, key = event.key;
    // The first shuts what is offered and leaves what was typed.
    if (key === "Escape" && $("#hits") && at.closest(".search")) { event.preventDefault(); close(); return $("#q").focus(); }
    if (key === "ArrowDown" || key === "ArrowUp") {
      const found = [...document.querySelectorAll($("#hits") ? "#hits a" : ".found a")];
      if (!found.length || (at.id !== "q" && !found.includes(at))) return;
      const next = found.indexOf(at) + (key === "ArrowDown" ? 1 : -1);
      if (next < -1 || next >= found.length) return;
      event.preventDefault();
      return (next < 0 ? $("#q") : found[next]).focus();
    }
    if (at.matches("input, textarea, select")) return;
    const led = performance.now() - leader < 1500;
    leader = 0;
    const place = led && places().find((link) => link.dataset.key === key);
    if (place) { event.preventDefault(); place.click(); }
    else if (key === "/" && $("#q")) { event.preventDefault(); $("#q").focus(); $("#q").select(); }
    else if (key === "g") leader = performance.now();
    else if (key === "?" && places().length) location.assign("/settings#keys");
    else if ((key === "j" && step(rows(), 1)) || (key === "k" && step(rows(), -1))) event.preventDefault();
    else if (key === "n" && $(".pages [rel=next]")) $(".pages [rel=next]").click();
    else if (key === "p" && $(".pages [rel=prev]")) $(".pages [rel=prev]").click();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && again) later(); });
  document.addEventListener("focusout", () => { if (again) later(); });

  // From the news on that the page was made after: what comes between the two is not missed, nor what comes while there is
  // no connection. The browser opens it again by itself, but not where the answer was a refusal.
  const listen = () => {
    const since = $("main").dataset.news;
    if (events || !since || !("EventSource" in window)) return;
    events = new EventSource("/events?since=" + since);
    events.onopen = () => connected(true);
    events.onerror = () => {
      connected(false);
      if (events && events.readyState === EventSource.CLOSED) { events = null; setTimeout(listen, RETRY_MS); }
    };
    for (const kind of ["reset", "host", "rollout", "policy", "plan", "feed", "cycle", "emergency", "operator", "recall", "report", "delivery"]) events.addEventListener(kind, () => later());
  };
  // A page that was left is kept for the way back, with its connection: six of them, and the browser opens no other.
  window.addEventListener("pagehide", () => { if (events) events.close(); events = null; });
  window.addEventListener("pageshow", (event) => { listen(); if (event.persisted) later(); });
  listen();
  localise();
  // What ends by time alone is told by nobody.
  const pass = () => {
    const passed = [...document.querySelectorAll("[data-due]")].some((e) => Date.parse(e.dataset.due) < Date.now());
    if (passed) later();
  };
  setInterval(() => { tick(); pass(); }, SLOWEST_MS);
})();
