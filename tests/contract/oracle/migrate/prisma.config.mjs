import { Pg } from "./adapter.mjs";

export default {
  experimental: { adapter: true },
  engine: "js",
  schema: process.env.ORACLE_SCHEMA,
  adapter: async () => new Pg(),
};
