#!/usr/bin/env node
// What prisma-client-py starts as its query engine: the engine's HTTP interface over Prisma's genuine query core, which
// its npm package has as WebAssembly. That build knows the JSON protocol only, so the client's GraphQL is translated.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

// The packages are installed beside this checkout's other caches, not beside this file.
const require = createRequire(`${process.env.ORACLE_PACKAGES}/package.json`);
const { Kind, parse } = require("graphql");
const { PrismaPg } = require("@prisma/adapter-pg");
const { bindAdapter } = require("@prisma/driver-adapter-utils");
const pg = require("pg");
const core = require("@prisma/client/runtime/query_engine_bg.postgresql.js");

const STATUS_BY_MESSAGE = [
  [/already closed/i, 422],
  [/not found/i, 404],
  [/Unable to start a transaction in the given time/, 504],
];

/** The fields of each model: their types, which are scalars or other models. */
function readModels(schema) {
  const models = new Map();
  for (const [, name, body] of schema.matchAll(/^model (\w+) \{(.*?)^\}/gms)) {
    models.set(name, new Map([...body.matchAll(/^\s*(\w+)\s+(\w+)/gm)].map(([, field, type]) => [field, type])));
  }
  return models;
}

/** Arguments that the engine refuses when it speaks GraphQL, and takes when it speaks JSON. */
class Refused extends Error {}

/**
 * GraphQL to the JSON protocol, as text: JavaScript's numbers would round 64 bit integers.
 *
 * In the JSON protocol, a Json field takes any value as it is; in GraphQL, only a string with JSON in it.
 */
class Translator {
  constructor(models) {
    this.models = models;
  }

  operation(query) {
    const root = parse(query).definitions[0].selectionSet.selections[0];
    const [, action, model, orThrow = ""] = root.name.value.match(ACTION);
    return `{${model ? `"modelName":"${model}",` : ""}"action":"${action}${orThrow}","query":${this.node(root, model)}}`;
  }

  node(node, model) {
    const given = (node.arguments ?? []).map((one) => [one.name.value, one.value]);
    const fields = (node.selectionSet?.selections ?? []).map((one) => {
      const type = this.models.get(model)?.get(one.name.value);
      const plain = !one.selectionSet && !one.arguments?.length;
      return `${JSON.stringify(one.name.value)}:${plain ? "true" : this.node(one, type)}`;
    });
    return `{"arguments":${this.object(given, { model, path: [] })},"selection":{${fields.join(",")}}}`;
  }

  object(entries, { model, path, json }) {
    const parts = entries.map(([name, value]) => {
      const fields = this.models.get(model);
      const isArgument = DATA.has(name) && ARGUMENTS.has(path.at(-1) ?? "") && [Kind.OBJECT, Kind.LIST].includes(value.kind);
      const type = isArgument ? undefined : fields?.get(name);
      const inner = {
        model: this.models.has(type) ? type : model,
        path: [...path, name],
        json: (type === "Json" && !(isFilter(path) && value.kind === Kind.OBJECT)) || (json && JSON_OPERATORS.has(name)),
        filterOfJson: type === "Json" && isFilter(path),
      };
      return `${JSON.stringify(name)}:${this.value(value, inner)}`;
    });
    return `{${parts.join(",")}}`;
  }

  value(value, context) {
    if (context.json) return this.json(value, context);
    switch (value.kind) {
      case Kind.OBJECT: {
        const entries = value.fields.map((field) => [field.name.value, field.value]);
        return this.object(entries, { ...context, json: context.filterOfJson });
      }
      case Kind.LIST:
        return `[${value.values.map((one) => this.value(one, context)).join(",")}]`;
      case Kind.NULL:
        return "null";
      case Kind.INT:
        if (BigInt.asIntN(64, BigInt(value.value)) !== BigInt(value.value)) throw new Error("number too large");
        return value.value;
      case Kind.FLOAT:
        return value.value;
      case Kind.ENUM: // Python's NaN and Infinity
        return `{"$type":"Enum","value":${JSON.stringify(value.value)}}`;
      default:
        return JSON.stringify(value.value ?? null);
    }
  }

  json(value, { path }) {
    if (value.kind === Kind.NULL) {
      const reason = `\`${path.join(".")}\`: A value is required but not set`;
      throw new Refused(`Unable to match input value to any allowed input type for the field. Parse errors: [${reason}]`);
    }
    if (value.kind === Kind.STRING && isJSON(value.value)) return `{"$type":"Json","value":${JSON.stringify(value.value)}}`;
    return '{"$type":"Enum","value":"(not a string with JSON in it)"}'; // of a wrong type in this protocol, too
  }
}

const ACTION =
  /^(queryRaw|executeRaw|findUnique|findFirst|findMany|createOne|createMany|updateOne|updateMany|upsertOne|deleteOne|deleteMany|aggregate|groupBy)(?:(LiteLLM_\w+?)(OrThrow)?)?$/;
// A model may have fields that are named as these arguments.
const ARGUMENTS = new Set(["", "createMany", "update", "updateMany", "upsert", "connectOrCreate"]);
const DATA = new Set(["data", "create", "update", "where"]);
const FILTERS = new Set(["where", "having", "cursor", "some", "every", "none", "is", "isNot"]);
const JSON_OPERATORS = new Set(["equals", "not", "lt", "lte", "gt", "gte", "array_contains", "array_starts_with", "array_ends_with"]);

function isFilter(path) {
  const last = path.findLastIndex((name) => FILTERS.has(name) || DATA.has(name));
  return last >= 0 && FILTERS.has(path[last]);
}

function isJSON(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

// JavaScript would round long numbers, and write 7.0 as 7: they pass as strings that begin with \u0001.
function read(text) {
  const tokens = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  return JSON.parse(text.replace(tokens, (token) => (token[0] === '"' ? token : `"\\u0001${token}"`)));
}

function write(value) {
  return JSON.stringify(value).replace(/"\\u0001([-+\w.]+)"/g, "$1");
}

/** The JSON protocol's result as GraphQL's: plain values. */
function untag(value) {
  if (Array.isArray(value)) return value.map(untag);
  if (value === null || typeof value !== "object") return value;
  if ("$type" in value) return value.value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, untag(one)]));
}

function asResult(answer) {
  if (!answer.data) return answer;
  const [[name, value]] = Object.entries(answer.data);
  return { data: { result: /^(query|execute)Raw$/.test(name) ? value : untag(value) } };
}

function asBatchResult(answer) {
  return answer.batchResult ? { ...answer, batchResult: answer.batchResult.map(asResult) } : answer;
}

class Engine {
  constructor(schema, url) {
    this.translator = new Translator(readModels(schema));
    this.pool = new pg.Pool({ connectionString: url, max: 5 });
    const options = {
      datamodel: schema,
      logQueries: process.env.LOG_QUERIES === "y",
      logLevel: process.env.LOG_QUERIES === "y" ? "query" : "error",
      ignoreEnvVarErrors: true,
      datasourceOverrides: {},
      engineProtocol: "json",
      env: {},
    };
    const log = (line) => process.env.LOG_QUERIES === "y" && console.error(line);
    this.core = new core.QueryEngine(options, log, bindAdapter(new PrismaPg(this.pool)));
  }

  async connect() {
    await (await this.pool.connect()).release(); // as the engine does, which stops where there is no database
    await this.core.connect("{}");
  }

  async query(body, transaction) {
    let content;
    try {
      content = body.batch
        ? `{"batch":[${body.batch.map((one) => this.translator.operation(one.query)).join(",")}],"transaction":{}}`
        : this.translator.operation(body.query);
    } catch (error) {
      const refused = error instanceof Refused;
      const message = refused ? error.message : `Error parsing GraphQL query: ${error.message}`;
      const details = refused ? { error_code: "P2009", meta: { kind: "Union", errors: [] } } : { meta: null };
      return { errors: [{ error: message, user_facing_error: { is_panic: false, message, ...details } }] };
    }
    const answer = read(await this.core.query(content, "{}", transaction));
    return body.batch ? asBatchResult(answer) : asResult(answer);
  }
}

async function readBody(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function answer(engine, request) {
  const path = new URL(request.url, "http://localhost").pathname;
  const body = await readBody(request);
  if (path === "/status") return [200, { status: "ok" }];
  if (path === "/") return [200, await engine.query(JSON.parse(body), request.headers["x-transaction-id"])];
  const [, id, verb] = path.match(/^\/transaction\/(?:(.+)\/)?(start|commit|rollback)$/) ?? [];
  if (!verb) return [404, {}];
  const done = JSON.parse(
    verb === "start"
      ? await engine.core.startTransaction(body, "{}")
      : await (verb === "commit" ? engine.core.commitTransaction : engine.core.rollbackTransaction).call(engine.core, id, "{}"),
  );
  if (!done?.error_code) return [200, done ?? {}];
  return [STATUS_BY_MESSAGE.find(([pattern]) => pattern.test(done.message))?.[1] ?? 500, done];
}

function serve(engine, port) {
  const server = createServer((request, response) => {
    answer(engine, request)
      .catch((error) => [500, { is_panic: true, message: String(error.stack ?? error) }])
      .then(([status, body]) => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(write(body));
      });
  });
  server.keepAliveTimeout = 60_000;
  server.listen(port, "localhost");
}

if (process.argv.includes("--version")) {
  console.log("query-engine 393aa359c9ad4a4bb28630fb5613f9c281cde053");
} else {
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
  const overrides = JSON.parse(process.env.OVERWRITE_DATASOURCES ?? "[]");
  const schema = readFileSync(process.env.PRISMA_DML_PATH, "utf8");
  const wasm = readFileSync(require.resolve("@prisma/client/runtime/query_engine_bg.postgresql.wasm"));
  const { instance } = await WebAssembly.instantiate(wasm, { "./query_engine_bg.js": core });
  core.__wbg_set_wasm(instance.exports);
  const engine = new Engine(schema, overrides[0]?.url ?? process.env.DATABASE_URL);
  await engine.connect();
  serve(engine, Number(process.argv[process.argv.indexOf("-p") + 1]));
}
