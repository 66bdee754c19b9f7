// Leader election with ioredis:  node leader.js [URL, redis://127.0.0.1:6379 if left out]
"use strict";

const assert = require("node:assert");
const Redis = require("ioredis");

const LEASE = "demo:leader:js";
const TERM = `${LEASE}:term`;
const RESOURCE = `${LEASE}:resource`;
const LEASE_MS = 300;

// Take the lease if it is free. The companion key's new version is the fencing token.
async function stand(redis, node) {
  const replies = await redis
    .multi()
    .call("CHECK", LEASE, "0")
    .call("SETVER", LEASE, node, "PX", LEASE_MS)
    .call("SETVER", TERM, node)
    .exec();
  return replies && { node, lease: replies[1][1], token: replies[2][1] };
}

// Extend the lease if it is still one's own.
async function renew(redis, leader) {
  const [done, version] = await redis.call(
    "CAS", LEASE, leader.lease, leader.node, "PX", LEASE_MS,
  );
  if (done) leader.lease = version;
  return done === 1;
}

// Write under the fencing token: refused once another leader has been elected.
async function write(redis, leader) {
  const replies = await redis
    .multi()
    .call("CHECK", TERM, leader.token)
    .set(RESOURCE, leader.node)
    .exec();
  return replies !== null;
}

async function main() {
  const redis = new Redis(process.argv[2] || "redis://127.0.0.1:6379");
  await redis.del(LEASE, TERM, RESOURCE);
  const bids = await Promise.all(["ada", "bob", "cyd"].map((node) => stand(redis, node)));
  const [old, ...more] = bids.filter((bid) => bid !== null);
  assert.strictEqual(more.length, 0);
  console.log(`${old.node} leads, fencing token ${old.token}`);
  for (let n = 0; n < 3; n += 1) {
    await new Promise((resolve) => setTimeout(resolve, LEASE_MS / 3));
    assert.ok(await renew(redis, old));
  }
  assert.ok(await write(redis, old));
  await new Promise((resolve) => setTimeout(resolve, LEASE_MS * 1.2));
  const next = await stand(redis, "bob");
  console.log(`${next.node} leads, fencing token ${next.token}`);
  assert.strictEqual(await renew(redis, old), false);
  assert.strictEqual(await write(redis, old), false);
  console.log(`${old.node} wakes up and is refused`);
  assert.ok(await write(redis, next));
  assert.strictEqual(await redis.call("DELEX", LEASE, "VER", old.lease), 0);
  assert.strictEqual(await redis.call("DELEX", LEASE, "VER", next.lease), 1);
  await redis.del(TERM, RESOURCE);
  redis.disconnect();
  console.log("PASSED");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
