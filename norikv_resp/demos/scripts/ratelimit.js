// A rate limit with ioredis:  node ratelimit.js [URL, redis://127.0.0.1:6379 if left out]
//
// The same value as norikv_resp.patterns.RateLimiter: [window, requests of the last write,
// time, how many, time, how many, …]. The time of the last write is in the key's expiry.
"use strict";

const Redis = require("ioredis");

const KEY = "ratelimit:demo:js";
const LIMIT = 10;
const WINDOW = 400;
const milliseconds = ([seconds, micros]) =>
  Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);

// The server's time at which a request was granted; null if it is refused.
async function ask(redis) {
  for (;;) {
    const [[, found], [, expires], [, time]] = await redis
      .multi()
      .call("GETVER", KEY)
      .pexpiretime(KEY)
      .time()
      .exec();
    const [value, version] = found || [`[${WINDOW},0]`, "0"];
    const [window, last, ...flat] = JSON.parse(value);
    if (last) flat.push(expires - window, last);
    const now = milliseconds(time);
    const counting = [];
    let used = 0;
    for (let at = 0; at < flat.length; at += 2) {
      if (flat[at] + WINDOW > now) {
        counting.push(flat[at], flat[at + 1]);
        used += flat[at + 1];
      }
    }
    if (used >= LIMIT) return null;
    const wanted = JSON.stringify([WINDOW, 1, ...counting]);
    const [[, [done]], [, until]] = await redis
      .multi()
      .call("CAS", KEY, version, wanted, "PX", WINDOW)
      .pexpiretime(KEY)
      .exec();
    if (done) return until - WINDOW;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 4));
  }
}

async function main() {
  const url = process.argv[2] || "redis://127.0.0.1:6379";
  const clients = [1, 2, 3, 4].map(() => new Redis(url));
  await clients[0].del(KEY);
  const granted = [];
  const end = Date.now() + 1500;
  await Promise.all(
    clients.map(async (redis) => {
      while (Date.now() < end) {
        const at = await ask(redis);
        if (at === null) await new Promise((resolve) => setTimeout(resolve, 5));
        else granted.push(at);
      }
    }),
  );
  const within = (start) => granted.filter((at) => at >= start && at < start + WINDOW).length;
  const most = Math.max(...granted.map(within));
  console.log(`${granted.length} granted, the fullest window of ${WINDOW} ms holds ${most}`);
  const passed = most <= LIMIT && granted.length > LIMIT;
  await clients[0].del(KEY);
  clients.forEach((redis) => redis.disconnect());
  console.log(passed ? "PASSED" : "FAILED");
  process.exitCode = passed ? 0 : 1;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
