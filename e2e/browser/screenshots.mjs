// Takes screenshots of every page, light, dark, and at phone width: node screenshots.mjs <thrum>
// <folder>
import { mkdir } from "node:fs/promises";
import { Thrum, browser, furnish, receiver, signIn } from "./stage.mjs";

const [binary = "../../target/debug/thrum", folder = "screenshots"] = process.argv.slice(2);
await mkdir(folder, { recursive: true });
const hook = await receiver();
const thrum = await Thrum.start(binary);
const chrome = await browser();
try {
  await furnish(thrum, hook.url);
  const key = async (slug) => (await thrum.call("GET", `/v1/monitors/${slug}`)).unique_key;
  const backtest = await thrum.call("POST", "/v1/backtests", { series: "demo", timeframe: "1h", strategy: "trend-rsi" });
  const search = await thrum.call("POST", "/v1/backtests", {
    series: "demo", timeframe: "1h", strategy: "sma-cross", monte_carlo: {}, search: { fast: [3, 5, 8, 12], slow: [15, 20, 30, 40, 60] },
  });
  const walk = await thrum.call("POST", "/v1/backtests", {
    series: "demo", timeframe: "1h", strategy: "turtle", walk_forward: { train_bars: 100, test_bars: 50, grid: { enter: [10, 20] } },
  });
  const { status_page: status } = await thrum.call("GET", "/v1/project");
  const backup = `/monitors/${await key("backup")}`;
  const pages = {
    monitors: "/", monitor: backup, down: `/monitors/${await key("edge-7")}`, edit: `${backup}/edit`, delete: `${backup}/delete`,
    signals: "/signals", series: "/signals/demo?timeframe=1h", backtest: `/backtests/${backtest.id}`, "backtest-form": "/backtests",
    search: `/backtests/${search.id}`, walk: `/backtests/${walk.id}`,
    alerts: "/alerts", channels: "/channels", "channel-new": "/channels/new?kind=pagerduty", "channel-webhook": "/channels/new?kind=webhook",
    usage: "/usage", keys: "/keys", settings: "/settings", system: "/system",
    status: status.path, missing: "/monitors/nothing",
  };
  const looks = {
    light: { colorScheme: "light", viewport: { width: 1280, height: 800 } },
    dark: { colorScheme: "dark", viewport: { width: 1280, height: 800 } },
    phone: { colorScheme: "light", viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true },
  };
  for (const [look, options] of Object.entries(looks)) {
    const context = await chrome.newContext({ ...options, timezoneId: "Europe/Berlin" });
    const page = await context.newPage();
    await page.goto(`${thrum.root}/sign-in`);
    await page.screenshot({ path: `${folder}/${look}-sign-in.png` });
    await signIn(page, thrum.root);
    for (const [name, path] of Object.entries(pages)) {
      await page.goto(thrum.root + path);
      await page.waitForTimeout(300);
      await page.screenshot({ path: `${folder}/${look}-${name}.png`, fullPage: name !== "monitors" });
    }
    await context.close();
  }
  console.log(`screenshots are in ${folder}`);
} finally {
  await chrome.close();
  await thrum.stop();
  hook.close();
}
