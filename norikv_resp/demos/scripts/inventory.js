// Inventory with ioredis:  node inventory.js [URL, redis://127.0.0.1:6379 if left out]
//
// The same keys and values as norikv_resp.patterns.InventoryManager: both may be used together.
"use strict";

const crypto = require("node:crypto");
const Redis = require("ioredis");

const SKU = "demo:lamp:js";
const ITEM = `inventory:item:${SKU}`;
const reservationKey = (id) => `inventory:reservation:${id}`;

async function read(redis, ...ids) {
  const replies = await redis
    .multi()
    .call("MGETVER", ITEM, ...ids.map(reservationKey))
    .time()
    .exec();
  const [[, [item, ...found]], [, [seconds, micros]]] = replies;
  const now = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  const { quantity, held } = JSON.parse(item[0]);
  for (const until of Object.keys(held)) if (Number(until) <= now) delete held[until];
  const available = quantity - Object.values(held).reduce((sum, n) => sum + n, 0);
  const reservations = found.map((pair) => pair && { ...JSON.parse(pair[0]), version: pair[1] });
  return { version: item[1], quantity, held, now, available, reservations };
}

async function write(redis, seen, id, version, reservation, ...expiry) {
  const value = JSON.stringify({ quantity: seen.quantity, held: seen.held });
  const replies = await redis
    .multi()
    .call("CHECK", ITEM, seen.version)
    .call("CHECK", reservationKey(id), version)
    .set(ITEM, value)
    .set(reservationKey(id), JSON.stringify(reservation), ...expiry)
    .exec();
  return replies !== null;
}

async function reserve(redis, n, holdMs) {
  const id = `${crypto.randomUUID()}:${SKU}`;
  for (;;) {
    const seen = await read(redis);
    if (seen.available < n) return null;
    const until = seen.now + holdMs;
    seen.held[until] = (seen.held[until] || 0) + n;
    const reservation = { quantity: n, until, state: "held" };
    if (await write(redis, seen, id, "0", reservation, "PXAT", until)) return id;
  }
}

async function commit(redis, id) {
  for (;;) {
    const seen = await read(redis, id);
    const [found] = seen.reservations;
    if (!found || found.state !== "held") return found !== null && found.state === "committed";
    const { version, ...reservation } = found;
    seen.held[found.until] -= found.quantity;
    if (!seen.held[found.until]) delete seen.held[found.until];
    seen.quantity -= found.quantity;
    reservation.state = "committed";
    if (await write(redis, seen, id, version, reservation, "PX", 60000)) return true;
  }
}

async function main() {
  const redis = new Redis(process.argv[2] || "redis://127.0.0.1:6379");
  const other = redis.duplicate();
  await redis.set(ITEM, JSON.stringify({ quantity: 10, held: {} }));
  const tries = [...Array(30).keys()].map((n) => reserve(n % 2 ? redis : other, 1, 500));
  const ids = (await Promise.all(tries)).filter((id) => id !== null);
  console.log(`30 ask for one of 10: ${ids.length} have one`);
  const sold = await Promise.all(ids.slice(0, 6).map((id) => commit(redis, id)));
  const again = await commit(other, ids[0]);
  await new Promise((resolve) => setTimeout(resolve, 600));
  const late = await commit(redis, ids[9]);
  const { available } = await read(redis);
  console.log(`6 are sold; 4 were never committed: ${available} are available again`);
  const passed = ids.length === 10 && sold.every(Boolean) && again && !late && available === 4;
  await redis.del(ITEM, ...ids.map(reservationKey));
  redis.disconnect();
  other.disconnect();
  console.log(passed ? "PASSED" : "FAILED");
  process.exitCode = passed ? 0 : 1;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
