// Drives the server as a Node application would: node ioredis.js PORT [UNIX_SOCKET]
"use strict";

const assert = require("node:assert");
const Redis = require("ioredis");

async function strings(redis) {
  assert.strictEqual(await redis.set("k", "v"), "OK");
  assert.strictEqual(await redis.set("k", "w", "NX"), null);
  assert.strictEqual(await redis.get("k"), "v");
  assert.strictEqual(await redis.set("k", "w", "EX", 100, "XX"), "OK");
  assert.ok((await redis.ttl("k")) > 90);
  assert.deepStrictEqual(await redis.getBuffer("k"), Buffer.from("w"));
  await redis.mset({ a: 1, b: 2 });
  assert.deepStrictEqual(await redis.mget("a", "b", "nope"), ["1", "2", null]);
  assert.strictEqual(await redis.incrby("a", 41), 42);
  await assert.rejects(redis.incr("k"), /not an integer/);
  await assert.rejects(redis.call("NOSUCH"), /unknown command/);
}

async function pipelines(redis) {
  const pipeline = redis.pipeline();
  for (let n = 0; n < 500; n += 1) pipeline.set(`p${n}`, n).get(`p${n}`);
  const replies = await pipeline.exec();
  assert.strictEqual(replies.length, 1000);
  replies.forEach(([error], n) => assert.strictEqual(error, null, `reply ${n}`));
  assert.strictEqual(replies[999][1], "499");

  const results = await redis.multi().set("m", 1).incr("m").incr("k").get("m").exec();
  assert.deepStrictEqual(results[1], [null, 2]);
  assert.match(results[2][0].message, /not an integer/);
  assert.deepStrictEqual(results[3], [null, "2"]);
}

async function watching(redis, other) {
  await redis.watch("w");
  await other.set("w", "elsewhere");
  assert.strictEqual(await redis.multi().set("w", "here").exec(), null);
  assert.strictEqual(await redis.get("w"), "elsewhere");
}

async function scanning(redis) {
  const found = [];
  for await (const keys of redis.scanStream({ match: "p*", count: 50 })) found.push(...keys);
  assert.strictEqual(new Set(found).size, 500);
}

async function subscribing(redis, other) {
  const message = new Promise((resolve) => other.on("message", (...args) => resolve(args)));
  await other.subscribe("news");
  assert.strictEqual(await redis.publish("news", "hello"), 1);
  assert.deepStrictEqual(await message, ["news", "hello"]);
  await other.unsubscribe("news");
}

async function norikv(redis) {
  const version = await redis.call("SETVER", "v", "one");
  assert.match(version, /^\d+-\d+$/);
  assert.deepStrictEqual(await redis.call("GETVER", "v"), ["one", version]);
  const [done, newer, nothing] = await redis.call("CAS", "v", version, "two");
  assert.deepStrictEqual([done, nothing], [1, null]);
  assert.deepStrictEqual(await redis.call("CAS", "v", version, "x"), [0, newer, "two"]);
  assert.strictEqual(await redis.call("IDEM", "t", "INCR", "n"), 1);
  assert.strictEqual(await redis.call("IDEM", "t", "INCR", "n"), 1);
  const lost = await redis.multi().call("CHECK", "v", version).set("v", "three").exec();
  assert.strictEqual(lost, null);
}

async function main() {
  const [port, path] = process.argv.slice(2);
  const redis = new Redis({ port: Number(port), db: 0 });
  const other = path ? new Redis({ path }) : redis.duplicate();
  await redis.flushall();
  await strings(redis);
  await pipelines(redis);
  await watching(redis, other);
  await scanning(redis);
  await subscribing(redis, other);
  if (await redis.call("COMMAND", "INFO", "SETVER").then(([info]) => info)) await norikv(redis);
  const info = await redis.info("server");
  assert.match(info, /redis_version:/);
  redis.disconnect();
  other.disconnect();
  console.log("all checks passed");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
