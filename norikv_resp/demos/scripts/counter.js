// A counter with ioredis:  node counter.js [URL, redis://127.0.0.1:6379 if left out]
"use strict";

const crypto = require("node:crypto");
const Redis = require("ioredis");

const KEY = "demo:counter:js";

// Add one by compare-and-set. A lost race answers with the version and number that it lost to.
async function increment(redis, seen) {
  for (;;) {
    const next = Number(seen.number) + 1;
    const [done, version, held] = await redis.call("CAS", KEY, seen.version, next, "KEEPTTL");
    seen.version = version;
    seen.number = done ? next : held;
    if (done) return next;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 4));
  }
}

async function main() {
  const url = process.argv[2] || "redis://127.0.0.1:6379";
  const clients = [1, 2, 3, 4].map(() => new Redis(url));
  const [redis] = clients;
  await redis.del(KEY);
  await Promise.all(
    clients.map(async (client) => {
      const seen = { number: 0, version: "0" };
      for (let n = 0; n < 25; n += 1) await increment(client, seen);
    }),
  );
  console.log(`four connections have counted to ${await redis.get(KEY)}`);
  const token = crypto.randomUUID();
  const first = await redis.call("IDEM", token, "INCRBY", KEY, 1);
  const again = await redis.call("IDEM", token, "INCRBY", KEY, 1);
  console.log(`one more, sent twice: ${first}, ${again}`);
  const passed = first === 101 && again === 101;
  await redis.del(KEY);
  clients.forEach((client) => client.disconnect());
  console.log(passed ? "PASSED" : "FAILED");
  process.exitCode = passed ? 0 : 1;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
