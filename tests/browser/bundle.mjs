// node bundle.mjs BUNDLER FOLDER
// Builds the page examples/browser/plain with Vite or webpack (installed in target/bundlers) into its `dist`. FOLDER has
// the page's module in `module`, as wasm-bindgen made it.
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const [bundler, folder] = process.argv.slice(2);
const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const page = join(root, "examples/browser/plain");
const dist = join(page, "dist");
const app = resolve(folder);
const require = createRequire(join(root, "target/bundlers/package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)));

// The form for the web has a function that loads the module; that for bundlers is loaded with the page.
const isForWeb = readFileSync(join(app, "module/app.js"), "utf8").includes("export { initSync");
const html = readFileSync(join(page, "index.html"), "utf8");
const script = /<script type="module">([^]*)<\/script>/.exec(html)[1].replace("./app.js", "./module/app.js");
const main = isForWeb ? script : script.replace("import init, {", "import {").replace("await init();", "");
writeFileSync(join(app, "main.js"), main);
writeFileSync(
  join(app, "index.html"),
  html.replace(/<script type="module">[^]*<\/script>/, '<script type="module" src="./main.js"></script>'),
);
copyFileSync(join(root, "examples/browser/style.css"), join(app, "style.css"));
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);

if (bundler === "vite") {
  const [{ build }, wasm] = [await load("vite"), await load("vite-plugin-wasm")];
  await build({
    root: app,
    logLevel: "warn",
    build: { outDir: dist, emptyOutDir: true, target: "esnext" },
    // Vite itself has no imports of wasm, which the form for bundlers consists of.
    plugins: isForWeb ? [] : [(wasm.default.default ?? wasm.default)()],
  });
} else {
  const webpack = (await load("webpack")).default;
  const options = {
    mode: "production",
    context: app,
    entry: "./main.js",
    output: { path: dist, filename: "main.js", module: true },
    experiments: { outputModule: true, asyncWebAssembly: true },
    performance: { hints: false },
  };
  const stats = await new Promise((done, failed) => webpack(options, (error, stats) => (error ? failed(error) : done(stats))));
  if (stats.hasErrors()) throw new Error(stats.toString({ all: false, errors: true }));
  for (const name of ["index.html", "style.css"]) copyFileSync(join(app, name), join(dist, name));
}
if (!existsSync(join(dist, "index.html"))) throw new Error(`${bundler} made no page`);
