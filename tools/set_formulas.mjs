// Sets the formulas of a built site: node set_formulas.mjs FOLDER. Pages then need neither scripts nor a network to show them.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import katex from "katex";

const folder = process.argv[2];
const named = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };
const formula = /<(span|div) class="arithmatex">\\([(\[])([\s\S]*?)\\[)\]]<\/\1>/g;
let count = 0;

for (const file of readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".html"))) {
  const page = readFileSync(join(folder, file), "utf8");
  const set = page.replace(formula, (_, tag, opening, escaped) => {
    const tex = escaped.replace(/&(amp|lt|gt|quot|#39);/g, (_, name) => named[name]);
    count += 1;
    try {
      // Strict: what is no LaTeX, and GitHub might refuse, ends the build.
      const options = { displayMode: opening === "[", strict: "error" };
      return `<${tag} class="formula">${katex.renderToString(tex, options)}</${tag}>`;
    } catch (error) {
      console.error(`${file}: ${tex.trim()}: ${error.message}`);
      process.exit(1);
    }
  });
  if (set !== page) writeFileSync(join(folder, file), set);
}
console.log(`${count} formulas set`);
