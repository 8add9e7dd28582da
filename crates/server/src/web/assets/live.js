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
  };

  // The arrow keys go through what a search found, from the box down and back.
  document.addEventListener("keydown", (event) => {
    const down = event.key === "ArrowDown", up = event.key === "ArrowUp";
    if ((!down && !up) || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = document.activeElement, found = [...document.querySelectorAll(".found a")];
    if (!found.length || !at || (at.id !== "q" && !at.matches(".found a"))) return;
    const next = found.indexOf(at) + (down ? 1 : -1);
    if (next < -1 || next >= found.length) return;
    event.preventDefault();
    (next < 0 ? $("#q") : found[next]).focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    const search = $("#q");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
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
  // What ends by time alone is told by nobody.
  const pass = () => {
    const passed = [...document.querySelectorAll("[data-due]")].some((e) => Date.parse(e.dataset.due) < Date.now());
    if (passed) later();
  };
  setInterval(() => { tick(); pass(); }, SLOWEST_MS);
})();
