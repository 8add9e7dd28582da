// What a page owes those who do not see it as its makers do; each fault becomes a line of #audit on the last page.
"use strict";
window.addEventListener("load", () => {
  const faults = [];
  const name = (el) => el.tagName.toLowerCase() + (el.id ? "#" + el.id : "") +
    (typeof el.className === "string" && el.className ? "." + el.className.trim().split(/\s+/).join(".") : "");
  const said = (el) => (el.textContent || "").trim().slice(0, 30);

  // Colours, by WCAG 2.2: relative luminance and contrast ratio.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = (c) => {
    const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const behind = (el) => {
    const layers = [];
    for (let at = el; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), rgba(getComputedStyle(document.documentElement).backgroundColor));
  };
  const seen = (el) => el.getClientRects().length > 0 && getComputedStyle(el).visibility === "visible" &&
    !el.closest(".hidden, .skip, [hidden]");
  const opacity = (el) => { let o = 1; for (let at = el; at; at = at.parentElement) o *= +getComputedStyle(at).opacity; return o; };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let looked = 0;
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const el = node.parentElement;
    if (!node.data.trim() || !seen(el) || el.closest("script, style, title")) continue;
    const style = getComputedStyle(el), svg = el instanceof SVGElement;
    // A number on a bar stands on that bar.
    const bar = svg && el.parentElement.querySelector("rect.seg");
    const ground = bar ? rgba(getComputedStyle(bar).fill) : behind(svg ? el.closest("svg").parentElement : el);
    const ink = rgba(svg ? style.fill : style.color);
    ink[3] *= opacity(el);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const found = ratio(over(ink, ground), ground), owed = large ? 3 : 4.5;
    looked += 1;
    if (found < owed) faults.push(`contrast ${found.toFixed(2)} of ${owed}: ${name(el)} "${said(el)}"`);
  }
  if (looked < 5) faults.push("hardly any text was looked at");

  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const now = +h.tagName[1];
    if (now > level + 1) faults.push(`heading h${now} after h${level}: "${said(h)}"`);
    level = now;
  }
  for (const field of document.querySelectorAll("input:not([type=hidden], [hidden]), select, textarea"))
    if (!field.labels.length && !field.getAttribute("aria-label")) faults.push("no label: " + name(field));
  for (const el of document.querySelectorAll("a[href], button, summary"))
    if (!said(el) && !el.getAttribute("aria-label")) faults.push("no name: " + el.outerHTML.slice(0, 80));
  for (const svg of document.querySelectorAll("svg"))
    if (!svg.closest("[aria-hidden=true]") && svg.getAttribute("role") !== "presentation" && !svg.getAttribute("aria-label"))
      faults.push("a picture that says nothing: " + name(svg.parentElement) + " > " + svg.outerHTML.slice(0, 60));
  for (const el of document.querySelectorAll("summary a, summary button, button a, [role=img] a"))
    faults.push("a link within what is one thing to click or a picture: " + name(el.parentElement) + " > " + name(el));
  const ids = [...document.querySelectorAll("[id]")].map((el) => el.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) faults.push("two elements are #" + id);
  if (!document.documentElement.lang) faults.push("no language");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main part");
  // Nothing makes the page itself wider than the window.
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push(`the page is ${wide} px wider than the window`);
  // On to the next page of the list that stands before this script; the last one says it all.
  const here = location.pathname + location.search;
  const all = (sessionStorage.audit || "") + here + ": looked at\n" + faults.map((f) => here + ": " + f + "\n").join("");
  sessionStorage.audit = all;
  const next = PATHS[PATHS.indexOf(here) + 1];
  if (next) { location.replace(next); return; }
  const pre = document.createElement("pre");
  pre.id = "audit";
  pre.textContent = all;
  document.body.append(pre);
});
