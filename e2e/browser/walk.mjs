// Walks through the dashboard in a real browser, on a real server: node walk.mjs <thrum>
import assert from "node:assert/strict";
import { Faults } from "./checks.mjs";
import { READ_KEY, Thrum, WRITE_KEY, browser, furnish, receiver, signIn, sleep, until } from "./stage.mjs";

const [binary = "../../target/debug/thrum"] = process.argv.slice(2);
const faults = new Faults();
const text = (page, selector) => page.locator(selector).innerText();
const state = (page, name) => page.locator("#rows tr", { hasText: name }).locator(".state").innerText();

/** Records unexpected layout shifts, those not caused by input. */
async function countShifts(page) {
  await page.evaluate(() => {
    globalThis.shifts = [];
    new PerformanceObserver((list) => {
      for (const shift of list.getEntries()) {
        if (!shift.hadRecentInput) globalThis.shifts.push(`${shift.value} ${shift.sources.map((s) => s.node?.parentElement?.outerHTML?.slice(0, 120))}`);
      }
    }).observe({ type: "layout-shift" });
  });
}

const steps = {
  async "a visitor must sign in, and then gets the requested page"({ chrome, thrum }) {
    const page = faults.watch(await chrome.newPage());
    await page.goto(`${thrum.root}/alerts?state=dead`);
    assert.match(page.url(), /sign-in\?next=/);
    await faults.check(page, "sign-in");
    await page.fill("input[name=key]", "hcw_wrongwrongwrongwrongwrongwro");
    await page.click("button.primary");
    assert.match(await text(page, "[role=alert]"), /unknown API key/);
    await page.fill("input[name=key]", WRITE_KEY);
    await page.click("button.primary");
    await page.waitForURL(/\/alerts\?state=dead/);
    const [cookie] = await page.context().cookies();
    assert.ok(cookie.httpOnly && cookie.sameSite === "Lax" && cookie.expires > Date.now() / 1000);
    assert.ok(!cookie.value.includes(WRITE_KEY));
    await page.click("text=Sign out");
    await page.waitForURL(/sign-in/);
    await page.goto(`${thrum.root}/`);
    assert.match(page.url(), /sign-in/);
    await page.close();
  },

  async "a monitor is created and pinged, and goes down and up live"({ page, thrum, hook }) {
    await page.goto(`${thrum.root}/`);
    assert.equal(await text(page, "h1"), "No monitors yet");
    await faults.check(page, "empty overview");
    // Its alerts need a channel first.
    await page.click("nav >> text=Channels");
    await faults.check(page, "no channels");
    await page.click("a.button:text-is('Webhook')");
    await faults.check(page, "form for a webhook");
    await page.fill("input[name='setting.url']", hook.url);
    await page.fill("input[name=name]", "on call");
    await page.click("button:text('Add channel')");
    await page.waitForSelector("text=Thrum shows it only once");
    assert.match(await text(page, "#s-secret"), /^whsec_/);
    await faults.check(page, "channel created");
    await page.click("button:text('Test')");
    await page.waitForSelector("text=A test alert is on its way");
    await until("test alert", () => hook.got.some((alert) => JSON.stringify(alert).includes("channel.test")));

    await page.click("nav >> text=Monitors");
    await page.click("text=Create monitor");
    await faults.check(page, "new monitor");
    await page.fill("input[name=name]", "web 01");
    await page.fill("input[name=slug]", "web-01");
    await page.fill("input[name=period]", "2 parsecs");
    await page.waitForSelector("#preview >> text=must be a duration like");
    await page.click("button.primary");
    assert.match(await text(page, "#e-period"), /^Period must be a duration like/);
    assert.equal(await page.inputValue("input[name=name]"), "web 01", "the form keeps its values");
    await page.fill("input[name=period]", "2 s");
    await page.fill("input[name=grace]", "1 s");
    await page.waitForSelector("#preview td");
    await page.click("button.primary");
    await page.waitForSelector("text=Created.");
    assert.match(await text(page, "#sentence"), /Waiting for a ping/);
    const url = (await text(page, "#s-curl")).match(/http\S+$/)[0];
    await faults.check(page, "new monitor's page");
    await fetch(url, { method: "POST", body: "hello" });
    await until("up, live", async () => (await text(page, "#state")) === "up", 5000);

    await page.goto(`${thrum.root}/`);
    await countShifts(page);
    await until("down, live", async () => (await state(page, "web 01")) === "down", 15000);
    assert.match(await page.title(), /1 down/);
    await fetch(url, { method: "POST" });
    await until("up again, live", async () => (await state(page, "web 01")) === "up", 5000);
    await until("alerts", () => hook.got.length >= 3);
    assert.deepEqual(await page.evaluate(() => globalThis.shifts), [], "no layout shift");
  },

  async "alerts show their deliveries, and a monitor can be snoozed, paused, edited and deleted"({ page, thrum }) {
    await page.click("nav >> text=Alerts");
    await page.waitForSelector("text=web 01 is down");
    assert.match(await page.locator("tr", { hasText: "web 01 is down" }).first().innerText(), /sent\s+on call/);
    await faults.check(page, "alerts");
    await page.click("nav >> text=Monitors");
    await page.click("text=web 01");
    await page.click("button:text('Snooze')");
    await page.waitForSelector("#sentence >> text=Its alerts are silenced");
    await page.click("text=End snooze");
    await page.waitForSelector("text=Snooze ended");
    await page.click("text=Send test alert");
    await page.waitForSelector("text=A test alert is on its way");
    await page.click("button:text('Pause')");
    await page.waitForSelector("#sentence >> text=It is paused");
    await page.click("button:text('Resume')");
    await page.waitForSelector("text=Resumed:");
    await page.click("a:text-is('Edit')");
    await page.check("input[value=schedule]");
    await page.fill("[name=schedule]", "*/5 * * * *");
    await page.waitForSelector("#preview td");
    await page.fill("input[name=tags]", "prod web");
    await faults.check(page, "edit monitor");
    await page.click("button.primary");
    await page.waitForSelector("text=Saved.");
    assert.match(await page.innerText("main"), /\*\/5 \* \* \* \* \(UTC\)/);
    await faults.check(page, "monitor");
    await page.click("text=Delete …");
    await faults.check(page, "delete");
    await page.click("text=Cancel");
    await page.click("text=Delete …");
    await page.click("button:text('Delete monitor')");
    await page.waitForSelector("text=Deleted.");
  },

  async "bars lead to a signal, an explanation and a backtest"({ page, thrum }) {
    await page.goto(`${thrum.root}/signals`);
    await faults.check(page, "no signals");
    await thrum.signals("walk");
    await page.reload();
    await page.click("td >> text=walk");
    await page.waitForSelector("#explanation");
    assert.ok(await page.locator(".chart svg").count() >= 2, "a price chart and an indicator pane");
    assert.ok(await page.locator("#explanation tbody tr").count() >= 2);
    assert.match(await page.innerText("main"), /What would flip it/);
    await faults.check(page, "series");
    const rows = page.locator("section:last-of-type tbody tr a");
    await rows.nth(5).click();
    await page.waitForURL(/bar=/);
    await page.waitForSelector("tr.chosen");
    await page.click("text=Backtest >> nth=-1");
    await faults.check(page, "backtest form");
    await page.click("button.primary");
    await page.waitForURL(/backtests\/./);
    await until("result", async () => (await text(page, "#state")) === "done");
    await page.waitForSelector(".chart svg");
    assert.ok(await page.locator("#result tbody tr").count() > 10);
    await faults.check(page, "backtest");
    await page.goto(`${thrum.root}/signals`);
    await page.fill("input[name=name]", "walk turns");
    await page.click("button:text('Create watch')");
    await page.waitForSelector("text=Watch created");
    await faults.check(page, "watches");
  },

  async "parameters are searched, and a detector is tried on the history and watched"({ page, thrum }) {
    await thrum.signals("searched");
    await page.goto(`${thrum.root}/backtests?of=searched+1h&strategy=sma-cross`);
    await page.click("summary");
    await page.fill("input[name=grid]", "fast = 3 5 8; slow = 20 30");
    await page.check("input[name=monte_carlo]");
    await page.click("button.primary");
    await page.waitForURL(/backtests\/./);
    await until("result", async () => (await text(page, "#state")) === "done");
    assert.equal(await page.locator(".heat tbody tr").count(), 3);
    await page.waitForSelector("#chances");
    await faults.check(page, "search");
    const [saved] = await Promise.all([page.waitForEvent("download"), page.click("text=Download HTML report")]);
    assert.equal(saved.suggestedFilename(), "backtest-report.html");
    const hour = 3600000, first = Math.floor(Date.now() / hour) * hour - 600 * hour;
    const values = Array.from({ length: 500 }, (_, i) => ({
      time: new Date(first + i * hour).toISOString(), value: i === 450 ? 5 : 100 + (i % 24) + (i * 7 % 5),
    }));
    await thrum.call("POST", "/v1/series/load/values", { timeframe: "tick", values });
    await page.goto(`${thrum.root}/signals/load?timeframe=tick`);
    await page.click("summary >> text=Find anomalies");
    await page.selectOption("details select[name=strategy]", "auto");
    await page.click("button:text('Preview')");
    await page.waitForURL(/backtests\/./);
    await until("result", async () => (await text(page, "#state")) === "done");
    assert.match(await page.innerText("main"), /It would have sent 1 alert in 21 days/);
    await faults.check(page, "preview");
    await page.click("button:text('Create watch')");
    await page.waitForSelector("text=Watch created");
  },

  async "a key is created, rotated and revoked"({ page, thrum }) {
    await page.click("nav >> text=Keys");
    await page.fill("input[name=name]", "laptop");
    await page.click("button:text('Create key')");
    const secret = await text(page, "#s-secret");
    assert.equal(secret.length, 32);
    await faults.check(page, "key created");
    await thrum.call("GET", "/v1/monitors", undefined, secret);
    const row = page.locator("tr", { hasText: "laptop" });
    await row.locator("select").selectOption("0");
    await row.locator("text=Rotate").click();
    await page.waitForSelector("text=Key rotated");
    const successor = await text(page, "#s-secret");
    assert.notEqual(successor, secret);
    await thrum.call("GET", "/v1/monitors", undefined, successor);
    await assert.rejects(thrum.call("GET", "/v1/monitors", undefined, secret), /401/);
    await page.reload().catch(() => {});
    await page.goto(`${thrum.root}/keys`);
    assert.ok(!(await page.content()).includes(successor), "shown once");
    await page.locator("tr", { hasText: "laptop" }).last().locator("summary", { hasText: "Revoke" }).click();
    await page.click("button:text('Revoke') >> visible=true");
    await page.waitForSelector("text=Key revoked");
    await assert.rejects(thrum.call("GET", "/v1/monitors", undefined, successor), /401/);
  },

  async "every page passes the checks: light, dark, at phone width and by keyboard"({ chrome, thrum, hook }) {
    await furnish(thrum, hook.url);
    const hostile = `"><script>alert(1)</script><img src=x onerror=alert(1)>`;
    await thrum.call("POST", "/v1/monitors", { name: hostile, tags: [`<b>'"&`], desc: hostile, slug: "hostile", period_s: 60, grace_s: 60 });
    await thrum.call("POST", "/v1/channels", { kind: "webhook", url: "https://example.org/?<script>alert(1)</script>", name: hostile });
    await thrum.call("PATCH", "/v1/project", { name: hostile, status_page: { title: hostile, tag: "" } });
    await fetch(`${thrum.root}/ping/0123456789abcdefghijkl/hostile`, { method: "POST", body: hostile, headers: { "user-agent": hostile } });
    const unique = async (slug) => (await thrum.call("GET", `/v1/monitors/${slug}`)).unique_key;
    const { status_page: status } = await thrum.call("GET", "/v1/project");
    const paths = ["/", "/?status=down", "/?q=nothing+like+it", `/monitors/${await unique("backup")}`, `/monitors/${await unique("hostile")}`,
      `/monitors/${await unique("hostile")}/edit`, `/monitors/${await unique("edge-7")}`, "/signals", "/signals/demo?timeframe=1h",
      "/signals/demo?timeframe=1h&strategy=absent-change", "/backtests", "/alerts", "/channels", "/channels/new?kind=slack", "/channels/new?kind=webhook", "/usage", "/keys", "/settings", "/system", status.path, "/monitors/nothing", "/nowhere-to-go"];
    const looks = [
      { colorScheme: "light", viewport: { width: 1280, height: 900 } },
      { colorScheme: "dark", viewport: { width: 1280, height: 900 } },
      { colorScheme: "light", viewport: { width: 390, height: 844 } },
    ];
    for (const look of looks) {
      const context = await chrome.newContext({ ...look, timezoneId: "Asia/Kolkata", reducedMotion: "reduce" });
      const page = faults.watch(await context.newPage());
      await signIn(page, thrum.root);
      for (const path of paths) {
        const reply = await page.goto(thrum.root + path);
        if (path === "/nowhere-to-go") assert.equal(reply.status(), 404);
        await faults.check(page, `${path} ${look.colorScheme} ${look.viewport.width}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (wide > 0) faults.all.push(`${path} at ${look.viewport.width}: ${wide} pixels too wide`);
      }
      await context.close();
    }
    const context = await chrome.newContext({ timezoneId: "Asia/Kolkata" });
    const page = faults.watch(await context.newPage());
    await signIn(page, thrum.root);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    await page.goto(`${thrum.root}/monitors/${await unique("backup")}`);
    const shows = async (selector, offset, what) => {
      const time = page.locator(selector).first();
      const [at, shown, title] = [await time.getAttribute("datetime"), await time.innerText(), await time.getAttribute("title")];
      assert.equal(new Date(shown.replace(" ", "T") + offset).getTime(), Math.floor(new Date(at) / 1000) * 1000, what);
      assert.match(title, /UTC/);
    };
    await shows("#log time", "Z", "times beside charts are in UTC, as the charts");
    assert.equal(await text(page, "#zone"), "UTC");
    await page.goto(`${thrum.root}/keys`);
    await shows("table.keys time:not(.ago)", "+05:30", "times are in the viewer's time zone");
    await context.close();
  },

  async "with a read-only key, the dashboard changes nothing"({ chrome, thrum }) {
    const context = await chrome.newContext();
    const page = faults.watch(await context.newPage());
    await signIn(page, thrum.root, READ_KEY);
    const backup = `/monitors/${(await thrum.call("GET", "/v1/monitors/backup")).unique_key}`;
    for (const path of ["/", backup, "/signals", "/signals/demo?timeframe=1h", "/alerts", "/channels", "/settings", "/usage", "/system"]) {
      await page.goto(thrum.root + path);
      const forms = await page.locator("form[method=post]:not([action='/sign-out'])").count();
      assert.equal(forms, 0, `${path} has forms`);
      await faults.check(page, `${path} read-only`);
    }
    const uuid = (await thrum.call("GET", "/v1/monitors/backup")).uuid;
    await page.goto(thrum.root + backup);
    assert.ok(!(await page.content()).includes(uuid), "the ping URL is a secret");
    await context.close();
  },

  async "without JavaScript, every page shows its data and every form works"({ chrome, thrum }) {
    const context = await chrome.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await signIn(page, thrum.root);
    assert.match(await text(page, "h1"), /down/);
    await page.fill("input[name=q]", "backup");
    await page.click("button:text('Show')");
    assert.equal(await page.locator("#rows tr").count(), 1);
    await page.click("#rows a");
    assert.match(await text(page, "#sentence"), /Last ping/);
    assert.match(await page.locator("#log time").first().innerText(), /UTC/);
    assert.ok(await page.locator(".chart svg").count() >= 1);
    await page.click("a:text-is('Edit')");
    await page.fill("[name=schedule]", "30 4 * * *");
    await page.click("button:text('Preview')");
    assert.match(await text(page, "#preview"), /02:30:00 UTC|03:30:00 UTC/);
    await page.click("button.primary");
    assert.match(await page.innerText("main"), /30 4 \* \* \*/);
    for (const [button, said] of [["Snooze", "Snoozed"], ["End snooze", "Snooze ended"], ["Pause", "Paused"], ["Resume", "Resumed"], ["Send test alert", "A test alert"]]) {
      await page.click(`button:text('${button}')`);
      assert.match(await text(page, ".notice[role=status]"), new RegExp(said), button);
    }
    await page.click("nav >> text=Signals");
    await page.click("td >> text=demo >> nth=0");
    assert.match(await page.innerText("main"), /What would flip it/);
    await page.click("text=Request again");
    await page.click("text=Backtest >> nth=-1");
    await page.click("button.primary");
    await page.waitForURL(/\/backtests\/.+/);
    const backtest = page.url();
    await until("result", async () => { await page.goto(backtest); return (await text(page, "#state")) === "done"; });
    await page.goto(`${thrum.root}/channels`);
    await page.click("a.button:text-is('E-mail')");
    await page.fill("input[name='setting.to']", "ops@example.org");
    await page.fill("input[name=name]", "mail");
    await page.click("button:text('Add channel')");
    assert.match(await page.innerText("main"), /ops@example\.org/);
    await page.locator("tr", { hasText: "ops@example.org" }).locator("a:text-is('Edit')").click();
    await page.fill("input[name=name]", "mail of ops");
    await page.click("button:text('Save')");
    assert.match(await page.innerText("main"), /mail of ops/);
    await page.locator("tr", { hasText: "mail of ops" }).locator("summary").click();
    await page.locator("tr", { hasText: "mail of ops" }).locator("button:text('Delete')").click();
    assert.doesNotMatch(await page.innerText("main"), /mail of ops/);
    await page.goto(`${thrum.root}/settings`);
    await page.fill("input[name=name]", "Quiet & calm");
    await page.click("button:text('Save') >> nth=0");
    assert.match(await page.inputValue("input[name=name]"), /Quiet & calm/);
    await page.fill("input[name=message-title]", "{{ name|upper }} is {{ event }}");
    await page.click("button:text('Save') >> nth=1");
    assert.match(await page.innerText("main"), /NIGHTLY BACKUP is down/);
    await page.fill("input[name=message-title]", "");
    await page.click("button:text('Save') >> nth=1");
    await page.uncheck("input[name=public]");
    await page.click("button:text('Save') >> nth=2");
    assert.match(await text(page, ".notice[role=status]"), /no longer public/);
    await page.click("button:text('Snooze')");
    await page.goto(`${thrum.root}/`);
    assert.match(await page.innerText("main"), /All alerts of this project are silenced/);
    await page.goto(`${thrum.root}/settings`);
    await page.click("text=End snooze");
    await page.goto(`${thrum.root}/alerts`);
    assert.match(await page.innerText("main"), /edge-7 is down/);
    await page.goto(`${thrum.root}/usage`);
    assert.ok(await page.locator("tbody tr").count() >= 30);
    await page.goto(`${thrum.root}/system`);
    assert.match(await text(page, "h1"), /healthy/);
    await context.close();
  },
};

const hook = await receiver();
const thrum = await Thrum.start(binary);
const chrome = await browser();
try {
  const context = await chrome.newContext();
  const page = faults.watch(await context.newPage());
  await signIn(page, thrum.root);
  for (const [name, step] of Object.entries(steps)) {
    const begun = Date.now();
    await step({ chrome, page, thrum, hook });
    console.log(`ok   ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
  }
  await sleep(200);
  assert.deepEqual(faults.all, [], "faults");
} finally {
  await chrome.close();
  const begun = Date.now();
  await thrum.stop();
  assert.ok(Date.now() - begun < 5000, "open pages must not delay the shutdown");
  hook.close();
}
