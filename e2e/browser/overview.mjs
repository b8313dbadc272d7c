// Measures the overview page with many monitors: node overview.mjs <thrum> [number]. Use a release
// build: a debug build is much slower.
import { gzipSync } from "node:zlib";
import { Thrum, browser, signIn, sleep } from "./stage.mjs";

const [binary = "../../target/release/thrum", many = "10000"] = process.argv.slice(2);
const thrum = await Thrum.start(binary);
const chrome = await browser();
const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const batch = (from, more) => ({
  heartbeats: Array.from({ length: 100 }, (_, i) => ({ monitor: `host-${String(from + i).padStart(5, "0")}`, period_s: 60 + ((from + i) % 50) * 30, grace_s: 60, ...more })),
});
try {
  for (let from = 0; from < Number(many); from += 100) {
    await thrum.call("POST", "/v1/heartbeats", batch(from));
    if (from % 1000 === 0) process.stderr.write(`\r${from} monitors …`);
  }
  process.stderr.write(`\r${many} monitors created\n`);
  const context = await chrome.newContext();
  const page = await context.newPage();
  await signIn(page, thrum.root);
  const [{ name, value }] = await context.cookies();
  const time = async (path) => {
    const begun = performance.now();
    const reply = await fetch(thrum.root + path, { headers: { cookie: `${name}=${value}` } });
    const first = performance.now() - begun;
    const body = Buffer.from(await reply.arrayBuffer());
    return { first, body };
  };
  const figures = (what, runs) => {
    const bytes = runs[0].body.length;
    console.log(`${what}: first byte ${median(runs.map((run) => run.first)).toFixed(0)} ms (worst ${Math.max(...runs.map((run) => run.first)).toFixed(0)} ms of ${runs.length}), ${(bytes / 1000).toFixed(0)} kB, ${(gzipSync(runs[0].body).length / 1000).toFixed(0)} kB compressed`);
  };
  const calm = [];
  for (let i = 0; i < 20; i++) calm.push(await time("/"));
  figures("overview, idle", calm);
  // Send heartbeats in the background.
  let beating = true;
  const beats = (async () => {
    for (let from = 0; beating; from = (from + 100) % Number(many)) {
      await thrum.call("POST", "/v1/heartbeats", batch(from));
      await sleep(200);
    }
  })();
  const busy = [];
  for (let i = 0; i < 20; i++) { busy.push(await time("/")); await sleep(250); }
  figures("overview, 500 heartbeats a second", busy);
  for (const path of ["/?q=host-00042", "/?status=up&sort=deadline&page=50", "/?sort=seen"]) {
    const runs = [];
    for (let i = 0; i < 5; i++) runs.push(await time(path));
    figures(path, runs);
  }
  await page.goto(`${thrum.root}/`);
  await page.evaluate(() => {
    globalThis.shifted = 0; globalThis.updates = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((shift) => { globalThis.shifted += shift.value; })).observe({ type: "layout-shift" });
    new MutationObserver(() => { globalThis.updates++; }).observe(document.getElementById("rows"), { subtree: true, childList: true, characterData: true, attributes: true });
  });
  await sleep(15000);
  const [shifted, updates] = await page.evaluate(() => [globalThis.shifted, globalThis.updates]);
  console.log(`15 s of updates: ${updates} changes in place, layout shift ${shifted}`);
  beating = false;
  await beats;
} finally {
  await chrome.close();
  await thrum.stop();
}
