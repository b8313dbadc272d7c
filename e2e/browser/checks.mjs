// Checks that every page must pass: valid HTML, no accessibility violation that axe rates moderate
// or worse, no console error, and nothing that violates the content security policy.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { HtmlValidate } from "html-validate";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const validator = new HtmlValidate({
  extends: ["html-validate:standard"],
  rules: {
    // Rules of style, which generated markup need not follow.
    "no-trailing-whitespace": "off", "long-title": "off", "no-implicit-button-type": "off", "void-style": "off",
    "svg-focusable": "off", "prefer-native-element": "off", "tel-non-breaking": "off",
  },
});

export class Faults {
  all = [];

  /** Records console errors, script errors and dialogs on `page`. */
  watch(page) {
    const note = (what) => this.all.push(`${page.url()}: ${what}`);
    page.on("console", (message) => {
      // A 4xx of the page itself is expected; every other console error is a fault.
      const expected = /status of (400|403|404|409)/.test(message.text()) && message.location().url === page.url();
      if (message.type() === "error" && !expected) note(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => note(`script: ${error}`));
    page.on("dialog", (dialog) => { note(`dialog: ${dialog.message()}`); dialog.dismiss(); });
    return page;
  }

  /** Checks the page in its current state. */
  async check(page, name) {
    const faults = [];
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }));
    for (const violation of found.violations) {
      if (["serious", "critical", "moderate"].includes(violation.impact)) {
        faults.push(`axe ${violation.id} (${violation.impact}): ${violation.nodes.map((node) => `${node.html} ${node.any[0]?.message ?? ""}`).slice(0, 3).join(" | ")}`);
      }
    }
    const foreign = await page.evaluate(() => [...document.querySelectorAll("script")].filter((script) => !script.src.startsWith(location.origin)).length
      + document.querySelectorAll("[onerror],[onload],[onclick],[style],iframe,object,embed").length);
    if (foreign) faults.push(`${foreign} scripts, styles or handlers are inline or from another origin`);
    await this.validate(await (await page.request.get(page.url())).text(), name, faults);
    this.all.push(...faults.map((fault) => `${name}: ${fault}`));
  }

  async validate(html, name, faults) {
    const report = await validator.validateString(html);
    for (const result of report.results) {
      for (const message of result.messages) faults.push(`html ${message.ruleId} at ${message.line}:${message.column}: ${message.message}`);
    }
  }
}
