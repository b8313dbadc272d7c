// Keeps pages up to date, and shows times in the viewer's time zone, or in UTC on pages with charts, because charts use
// UTC. The pages work without it.
"use strict";
(() => {
  const charts = document.querySelector("figure.chart, svg.days");
  const zone = (charts ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone) || "UTC";
  const format = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", timeZone: zone });

  // Must return the same text as `relative` in words.rs.
  const relative = (ms) => {
    const s = Math.floor(Math.abs(ms) / 1000);
    const [n, unit] = s < 100 ? [s, "s"] : s < 6000 ? [Math.floor(s / 60), "min"]
      : s < 172800 ? [Math.floor(s / 3600), "h"] : [Math.floor(s / 86400), "d"];
    return ms >= 0 ? `in ${n} ${unit}` : `${n} ${unit} ago`;
  };
  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const showTimes = (root) => {
    for (const time of root.querySelectorAll("time")) {
      const at = new Date(time.dateTime);
      if (time.className === "ago") {
        time.title = `${format.format(at)} in ${zone}, ${time.dateTime.replace("T", " ").slice(0, 19)} UTC`;
        set(time, relative(at - Date.now()));
      } else {
        if (!time.title) time.title = time.textContent;
        set(time, format.format(at));
      }
    }
  };
  // On a phone, where table headers are hidden, each cell shows its column's name.
  const label = (root) => {
    for (const table of root.querySelectorAll("table:not(.rows)")) {
      const names = [...table.querySelectorAll("thead th")].map((th) => th.textContent);
      for (const row of table.querySelectorAll("tbody tr")) [...row.children].forEach((cell, i) => { cell.dataset.label = names[i] ?? ""; });
    }
  };
  const tick = () => {
    for (const time of document.querySelectorAll("time.ago")) set(time, relative(new Date(time.dateTime) - Date.now()));
  };

  // Updates `to` in place to match `from`, so that focus, typed text and open details are kept.
  // Children are matched by ID, or else by position, so that rows change without moving.
  const become = (to, from) => {
    if (to.id === "rows" && isBusy(to)) { keepPlaces(to, from); return; }
    for (const { name, value } of [...from.attributes]) if (to.getAttribute(name) !== value) to.setAttribute(name, value);
    for (const { name } of [...to.attributes]) if (!from.hasAttribute(name) && name !== "open") to.removeAttribute(name);
    const ids = new Map([...to.children].filter((child) => child.id).map((child) => [child.id, child]));
    const now = [...from.childNodes];
    now.forEach((node, i) => {
      const known = node.id && ids.get(node.id);
      let before = to.childNodes[i];
      if (known && known !== before) { to.insertBefore(known, before ?? null); before = known; }
      const another = before?.id && before.id !== node.id && ids.has(before.id);
      if (!before) to.append(node.cloneNode(true));
      else if (another) to.insertBefore(node.cloneNode(true), before);
      else if (before.nodeType !== node.nodeType || before.nodeName !== node.nodeName) before.replaceWith(node.cloneNode(true));
      else if (node.nodeType === Node.ELEMENT_NODE) become(before, node);
      else if (before.nodeValue !== node.nodeValue) before.nodeValue = node.nodeValue;
    });
    while (to.childNodes.length > now.length) to.lastChild.remove();
  };

  // While the user is about to click a link in the list, its rows keep their positions: only the
  // rows that remain are updated.
  let moved = 0;
  for (const name of ["pointermove", "pointerdown", "keydown", "scroll"]) addEventListener(name, () => { moved = Date.now(); }, { passive: true });
  const isBusy = (list) => Date.now() - moved < 10000 && (list.matches(":hover") || list.contains(document.activeElement));
  const keepPlaces = (to, from) => {
    const key = (row) => row.querySelector("a")?.getAttribute("href");
    const now = new Map([...from.children].map((row) => [key(row), row]));
    for (const row of to.children) if (now.has(key(row))) become(row, now.get(key(row)));
  };
  // Moves each error to its field.
  const place = () => {
    const list = document.getElementById("wrong");
    for (const error of list?.querySelectorAll("li") ?? []) {
      const name = error.dataset.field;
      const input = document.querySelector(`main [name="${CSS.escape(name)}"], main [name="${CSS.escape(name.replace(/_s$/, ""))}"]`);
      if (!input) continue;
      const text = document.createElement("small");
      [text.className, text.id, text.textContent] = ["error", `e-${name}`, error.textContent];
      input.after(text);
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-errormessage", text.id);
      error.remove();
    }
    if (list && !list.children.length) list.remove();
  };
  const ready = (page) => { showTimes(page); label(page); offerCopies(page); };
  const update = (page) => {
    ready(page);
    become(document.getElementById("main"), page.getElementById("main"));
    document.title = page.title;
    document.body.dataset.live = page.body.dataset.live;
  };
  const say = (text) => { const live = document.getElementById("live"); if (live) set(live, text); };

  // Reloads the page's data at most every two seconds, and less often if the server is slow.
  let looking = false, again = false, rest = 0;
  const look = async () => {
    if (document.hidden || !document.body.dataset.live) return;
    if (looking) { again = true; return; }
    looking = true;
    const begun = Date.now();
    try {
      const reply = await fetch(location.href.split("#")[0], { headers: { accept: "text/html" }, cache: "no-store" });
      if (reply.redirected || reply.status === 403) { location.reload(); return; }
      if (!reply.ok) throw new Error(String(reply.status));
      update(new DOMParser().parseFromString(await reply.text(), "text/html"));
      say("Live");
    } catch {
      say("Not up to date: the server does not respond. Retrying …");
    }
    rest = Math.max(2000, 5 * (Date.now() - begun));
    setTimeout(() => { looking = false; if (again) { again = false; look(); } }, rest);
  };
  const live = () => {
    const how = document.body.dataset.live;
    if (!how) return;
    say("Live");
    // Poll even with events: time makes monitors late, and regular heartbeats send no events.
    setInterval(look, how === "events" ? 5000 : how === "soon" ? 2000 : 15000);
    let events;
    const listen = () => {
      if (how !== "events") return;
      events?.close();
      events = new EventSource("/events");
      events.onmessage = look;
      events.onerror = () => say("Not up to date: connection lost. Retrying …");
      events.onopen = look;
    };
    // Browsers limit the connections per host, so hidden pages hold none.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) events?.close(); else { listen(); look(); }
    });
    addEventListener("pagehide", () => events?.close());
    listen();
  };

  const offerCopies = (root) => {
    if (navigator.clipboard) for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
  };
  const copy = () => document.addEventListener("click", async ({ target }) => {
    if (!target.dataset?.copy) return;
    await navigator.clipboard.writeText(document.getElementById(target.dataset.copy).textContent);
    set(target, "Copied");
    setTimeout(() => set(target, "Copy"), 2000);
  });
  // Previews the next deadlines while the user types a schedule.
  const preview = () => {
    const form = document.querySelector("form[data-preview]");
    if (!form) return;
    let timer;
    form.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const fields = new URLSearchParams(new FormData(form));
        fields.set("preview", "1");
        const reply = await fetch(form.action, { method: "POST", body: fields });
        const page = new DOMParser().parseFromString(await reply.text(), "text/html");
        showTimes(page);
        const [to, from] = [document.getElementById("preview"), page.getElementById("preview")];
        if (from) become(to, from);
      }, 400);
    });
    for (const name of ["period", "schedule"]) {
      form.elements[name].addEventListener("input", () => { form.elements.kind.value = name; });
    }
  };
  place();
  const where = document.getElementById("zone");
  if (where) set(where, zone);
  ready(document);
  setInterval(tick, 1000);
  copy();
  preview();
  live();
})();
