// Keeps pages up to date and shows times in the viewer's zone. The pages work without it.
"use strict";
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const format = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });

  // Says the same as the server does.
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
        time.title = `${format.format(at)} here, ${time.dateTime.replace("T", " ").slice(0, 19)} UTC`;
        set(time, relative(at - Date.now()));
      } else {
        if (!time.title) time.title = time.textContent;
        set(time, format.format(at));
      }
    }
  };
  // On a phone, where a table's head is out of sight, each cell says what it is.
  const label = (root) => {
    for (const table of root.querySelectorAll("table:not(.rows)")) {
      const names = [...table.querySelectorAll("thead th")].map((th) => th.textContent);
      for (const row of table.querySelectorAll("tbody tr")) [...row.children].forEach((cell, i) => { cell.dataset.label = names[i] ?? ""; });
    }
  };
  const tick = () => {
    for (const time of document.querySelectorAll("time.ago")) set(time, relative(new Date(time.dateTime) - Date.now()));
  };

  // Makes `to` like `from`, node by node and in place: nothing moves, and what is focused or open stays so.
  const become = (to, from) => {
    for (const { name, value } of [...from.attributes]) if (to.getAttribute(name) !== value) to.setAttribute(name, value);
    for (const { name } of [...to.attributes]) if (!from.hasAttribute(name) && name !== "open") to.removeAttribute(name);
    const [old, now] = [[...to.childNodes], [...from.childNodes]];
    now.forEach((node, i) => {
      const before = old[i];
      if (!before) to.append(node.cloneNode(true));
      else if (before.nodeType !== node.nodeType || before.nodeName !== node.nodeName) before.replaceWith(node.cloneNode(true));
      else if (node.nodeType === Node.ELEMENT_NODE) become(before, node);
      else if (before.nodeValue !== node.nodeValue) before.nodeValue = node.nodeValue;
    });
    old.slice(now.length).forEach((node) => node.remove());
  };

  // While somebody is about to follow a link in a list, its rows keep their places: only those that are still there change.
  const isBusy = (region) => region.matches(":hover") || region.contains(document.activeElement);
  const keepPlaces = (to, from) => {
    const key = (row) => row.querySelector("a")?.getAttribute("href");
    const now = new Map([...from.children].map((row) => [key(row), row]));
    for (const row of to.children) if (now.has(key(row))) become(row, now.get(key(row)));
  };
  const update = (page) => {
    showTimes(page);
    label(page);
    for (const id of ["headline", "chips", "rows", "next", "state", "sentence", "log", "flips", "alerts", "lines", "result"]) {
      const [to, from] = [document.getElementById(id), page.getElementById(id)];
      if (!to || !from) continue;
      if (id === "rows" && isBusy(to)) keepPlaces(to, from); else become(to, from);
    }
    document.title = page.title;
  };
  const say = (text) => { const live = document.getElementById("live"); if (live) set(live, text); };
  let looking = false, again = false;
  const look = async () => {
    if (looking) { again = true; return; }
    looking = true;
    try {
      const reply = await fetch(location.href.split("#")[0], { headers: { accept: "text/html" }, cache: "no-store" });
      if (reply.redirected || reply.status === 403) { location.reload(); return; }
      if (!reply.ok) throw new Error(String(reply.status));
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      const waits = document.getElementById("result") && document.getElementById("state")?.textContent === "queued";
      update(page);
      if (waits && page.getElementById("state")?.textContent !== "queued") document.body.dataset.live = "";
      say("Live");
    } catch {
      say("Not up to date: the server does not answer. Trying again …");
    } finally {
      looking = false;
      if (again) { again = false; setTimeout(look, 250); }
    }
  };
  const live = () => {
    const how = document.body.dataset.live;
    if (!how) return;
    say("Live");
    // Lateness comes by the clock, not by an event.
    const every = how === "events" ? 5000 : document.getElementById("result") ? 2000 : 15000;
    setInterval(() => { if (!document.hidden && document.body.dataset.live) look(); }, every);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
    if (how !== "events") return;
    const events = new EventSource("/events");
    events.onmessage = () => { if (!document.hidden) look(); };
    events.onerror = () => say("Not up to date: the connection is lost. Trying again …");
    events.onopen = () => look();
    addEventListener("pagehide", () => events.close());
  };

  const copy = () => {
    for (const button of document.querySelectorAll("[data-copy]")) {
      if (!navigator.clipboard) break;
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
        set(button, "Copied");
        setTimeout(() => set(button, "Copy"), 2000);
      });
    }
  };
  // The next deadlines, while a schedule is typed.
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
  // Only the fields of the kind of channel that is chosen.
  const kinds = () => {
    const kind = document.querySelector("select[data-shows]");
    if (!kind) return;
    const show = () => {
      for (const field of document.querySelectorAll("[data-for]")) field.hidden = !field.dataset.for.split(" ").includes(kind.value);
    };
    kind.addEventListener("change", show);
    show();
  };

  const where = document.getElementById("zone");
  if (where) set(where, zone);
  showTimes(document);
  label(document);
  setInterval(tick, 1000);
  copy();
  preview();
  kinds();
  live();
})();
