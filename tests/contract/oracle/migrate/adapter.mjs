// The driver under Prisma's schema engine: node-postgres by Prisma's own adapter, mended where it is not as the driver
// in Rust, which the engine has where it is a binary.

import { createRequire } from "node:module";

// The packages are installed beside this checkout's other caches, not beside this file.
const require = createRequire(`${process.env.ORACLE_PACKAGES}/package.json`);
const { PrismaPg } = require("@prisma/adapter-pg");

const TYPES_OF_CATALOGS = new Set([18, 19]); // "char" and name, which the adapter does not know
const TEXT = 25;

export class Pg extends PrismaPg {
  constructor() {
    super({ connectionString: process.env.DATABASE_URL, max: 1 }); // the lock is a session's
  }

  async connect() {
    const adapter = await super.connect();
    // The adapter would cut a script at each `;`, those in texts as well. It goes as one message.
    adapter.executeScript = async (script) => {
      try {
        await adapter.client.query(script);
      } catch (error) {
        adapter.onError(error);
      }
    };
    const performIO = adapter.performIO.bind(adapter);
    adapter.performIO = async (query) => {
      const result = await performIO(query);
      for (const field of result.fields) if (TYPES_OF_CATALOGS.has(field.dataTypeID)) field.dataTypeID = TEXT;
      return result;
    };
    return adapter;
  }
}
