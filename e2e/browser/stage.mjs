// Starts `thrum serve` with sample data, and a browser.
import { spawn, execFile } from "node:child_process";
import { createServer } from "node:http";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

export const WRITE_KEY = "hcw_0123456789abcdefghijklmnopqr";
export const READ_KEY = "hcr_0123456789abcdefghijklmnopqr";
export const PING_KEY = "0123456789abcdefghijkl";
const ADMIN_KEY = "admin-0123456789abcdefghijklmn";
const run = promisify(execFile);

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Polls `probe` until it returns a truthy value, and returns that; fails after `within` milliseconds. */
export async function until(what, probe, within = 20000) {
  const end = Date.now() + within;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`timed out after ${within} ms: ${what}`);
    await sleep(100);
  }
}

/** A webhook receiver that accepts everything. */
export async function receiver() {
  const got = [];
  const server = createServer((request, reply) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => { got.push(JSON.parse(body)); reply.end("ok"); });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}/hook`, got, close: () => server.close() };
}

/** The server under test. */
export class Thrum {
  static async start(binary) {
    const thrum = new Thrum();
    thrum.binary = binary;
    const environment = {
      ...process.env,
      THRUM_API_KEY: WRITE_KEY, THRUM_READ_KEY: READ_KEY, THRUM_PING_KEY: PING_KEY, THRUM_ADMIN_KEY: ADMIN_KEY,
    };
    thrum.process = spawn(binary, ["serve", "--memory", "--listen", "127.0.0.1:0", "--allow-networks", "all"], { env: environment });
    let output = "";
    thrum.process.stderr.on("data", (chunk) => (output += chunk));
    thrum.process.stdout.on("data", (chunk) => (output += chunk));
    thrum.root = await until("address", () => {
      if (thrum.process.exitCode !== null) throw new Error(`thrum exited: ${output}`);
      return output.match(/listens on (http:\/\/\S+)/)?.[1];
    });
    return thrum;
  }

  async call(method, path, body, key = WRITE_KEY) {
    const headers = { "x-api-key": key, "x-admin-key": ADMIN_KEY, prefer: "wait=8" };
    const reply = await fetch(this.root + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
    return text && reply.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text;
  }

  /** Pings a monitor by its slug; `suffix` is `/start`, `/fail`, `/0` or the like. */
  async ping(slug, suffix = "", body = "") {
    const reply = await fetch(`${this.root}/ping/${PING_KEY}/${slug}${suffix}?create=1`, { method: "POST", body });
    if (!reply.ok) throw new Error(`ping ${slug}: ${reply.status}`);
  }

  /** Imports a random walk of bars, and requests the signal of `trend-rsi`. */
  async signals(series = "demo") {
    const { stdout } = await run(this.binary, ["demo-bars", "--bars", "600", "--seed", "7"], { maxBuffer: 1e8 });
    const folder = await mkdtemp(join(tmpdir(), "thrum-"));
    const file = join(folder, "bars.csv");
    await writeFile(file, stdout);
    const to = ["--url", this.root, "--api-key", WRITE_KEY];
    await run(this.binary, ["import", "bars", file, "--series", series, "--timeframe", "1h", ...to]);
    await rm(folder, { recursive: true });
    return this.call("POST", "/v1/signals", { series, timeframe: "1h", strategy: "trend-rsi" });
  }

  async stop() {
    this.process.kill("SIGTERM");
    await until("end of thrum", () => this.process.exitCode !== null || this.process.signalCode);
  }
}

/** Starts the installed Chromium, with its background network requests disabled. */
export function browser() {
  const paths = [process.env.THRUM_TEST_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  const executablePath = paths.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("Chromium not found: install the chromium package, or set THRUM_TEST_CHROMIUM to its path");
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
}

/** Signs in. */
export async function signIn(page, root, key = WRITE_KEY) {
  await page.goto(`${root}/sign-in`);
  await page.fill("input[name=key]", key);
  await page.click("button.primary");
  await page.waitForURL(`${root}/`);
}

/** Creates monitors, channels and series that show most features. */
export async function furnish(thrum, hook) {
  await thrum.call("POST", "/v1/channels", { kind: "webhook", url: hook, name: "on call" });
  await thrum.call("POST", "/v1/channels", { kind: "webhook", url: "http://127.0.0.1:9/", name: "nobody home" });
  const create = (monitor) => thrum.call("POST", "/v1/monitors", monitor);
  for (const [i, name] of ["api", "checkout", "search", "mail relay", "billing"].entries()) {
    const slug = name.replace(" ", "-");
    await create({ name, slug, tags: ["prod", i % 2 ? "web" : "core"], period_s: 60 * (i + 1), grace_s: 60 });
    await thrum.ping(slug);
  }
  await create({ name: "nightly backup", slug: "backup", tags: ["prod", "db"], schedule: "0 3 * * *", tz: "Europe/Berlin", grace_s: 3600, desc: "pg_dump to the vault; see the runbook." });
  for (let i = 0; i < 12; i++) {
    await thrum.ping("backup", "/start");
    await sleep(20 + 40 * Math.abs(Math.sin(i)));
    await thrum.ping("backup", i === 7 ? "/1" : "/0", i === 7 ? "pg_dump: error: connection to server lost" : `${1200 + i} MB`);
  }
  await create({ name: "reports", slug: "reports", tags: ["batch"], period_s: 86400, grace_s: 3600 });
  await thrum.ping("reports", "/start");
  await create({ name: "staging", slug: "staging", tags: ["staging"], period_s: 300, grace_s: 60 });
  const staging = await thrum.call("GET", "/v1/monitors/staging");
  await thrum.call("POST", `/v1/monitors/${staging.uuid}/pause`);
  await create({ name: "new host", slug: "new-host", period_s: 300, grace_s: 60 });
  await create({ name: "edge-7", slug: "edge-7", tags: ["edge"], period_s: 1, grace_s: 1 });
  await thrum.ping("edge-7");
  await thrum.call("PATCH", "/v1/project", { status_page: { title: "Example status", tag: "prod" } });
  await thrum.signals();
  const watch = { series: "demo", timeframe: "1h", strategy: "trend-rsi", name: "demo turns" };
  await thrum.call("POST", "/v1/watches", watch);
  await until("edge-7 down", async () => (await thrum.call("GET", "/v1/monitors/edge-7")).status === "down");
}
