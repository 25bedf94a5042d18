// `prisma migrate diff --from-url $DATABASE_URL --to-schema-datamodel SCHEMA --script`, by Prisma's genuine schema engine.
// The command itself refuses a database on one side where the engine is the one as WebAssembly.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Pg } from "./adapter.mjs";

const require = createRequire(`${process.env.ORACLE_PACKAGES}/package.json`);
const { bindMigrationAwareSqlAdapterFactory } = require("@prisma/driver-adapter-utils");
const engines = await import(require.resolve("@prisma/schema-engine-wasm/schema_engine_bg"));

const { instance } = await WebAssembly.instantiate(
  readFileSync(require.resolve("@prisma/schema-engine-wasm/schema_engine_bg").replace(/js$/, "wasm")),
  { "./schema_engine_bg.js": engines },
);
engines.__wbg_set_wasm(instance.exports);
instance.exports.__wbindgen_start();

const files = [{ path: process.argv[2], content: readFileSync(process.argv[2], "utf8") }];
const engine = await engines.SchemaEngine.new(
  { datamodels: files.map(({ path, content }) => [path, content]) },
  () => {},
  bindMigrationAwareSqlAdapterFactory(new Pg()),
);
const { stdout } = await engine.diff({
  from: { tag: "schemaDatasource", files, configDir: "." },
  to: { tag: "schemaDatamodel", files },
  shadowDatabaseUrl: null,
  script: true,
  exitCode: null,
  filters: { externalTables: [], externalEnums: [] },
});
process.stdout.write(stdout);
process.exit(0);
