// Semantic search with ioredis:  node semantic.js [URL, redis://127.0.0.1:6379 if left out]
"use strict";

const crypto = require("node:crypto");
const Redis = require("ioredis");

const DIMENSIONS = 256;
const INDEX = "demo:semantic:js:vectors";
const DOCUMENT = "demo:semantic:js:doc:";

const DOCUMENTS = {
  bread: ["Baking bread", "Feed the starter, knead the dough, let the loaf rise."],
  chain: ["Oiling a bicycle chain", "Brush the chain and put a drop of oil on every link."],
  roses: ["Pruning roses", "Cut above a bud that points away from the middle."],
};
const QUESTIONS = {
  "how do I bake a loaf of bread": "bread",
  "my bike's chain needs oil": "chain",
  "when to prune a rose": "roses",
};

// Stands in for a model: the letters of each word, three at a time, hashed into a vector.
function embed(text) {
  const vector = new Float32Array(DIMENSIONS);
  for (const word of text.toLowerCase().match(/[a-z]+/g)) {
    const framed = `<${word}>`;
    for (let at = 0; at + 3 <= framed.length; at += 1) {
      const hash = crypto.createHash("md5").update(framed.slice(at, at + 3)).digest();
      vector[hash.readUInt16LE(0) % DIMENSIONS] += hash[2] & 1 ? 1 : -1;
    }
  }
  return Buffer.from(vector.buffer);
}

// A document and its vector, in one transaction: both are there, or neither is.
async function index(redis, id, title, content) {
  const replies = await redis
    .multi()
    .set(DOCUMENT + id, JSON.stringify({ title, content }))
    .call("VADD", INDEX, "FP32", embed(`${title} ${content}`), id)
    .exec();
  for (const [error] of replies) if (error) throw error;
}

async function search(redis, question, count) {
  const hits = await redis.call("VSEARCH", INDEX, count, "FP32", embed(question));
  const ids = hits.filter((_, at) => at % 2 === 0);
  const texts = await redis.mget(ids.map((id) => DOCUMENT + id));
  return ids
    .map((id, at) => ({ id, score: 1 - Number(hits[2 * at + 1]), ...JSON.parse(texts[at]) }))
    .filter(({ title }) => title !== undefined);
}

async function main() {
  const redis = new Redis(process.argv[2] || "redis://127.0.0.1:6379");
  await redis.del(INDEX);
  await redis.call("VCREATE", INDEX, "DIM", DIMENSIONS, "METRIC", "COSINE");
  for (const [id, [title, content]] of Object.entries(DOCUMENTS)) {
    await index(redis, id, title, content);
  }
  let passed = true;
  for (const [question, wanted] of Object.entries(QUESTIONS)) {
    const [best] = await search(redis, question, 2);
    console.log(`${question} -> ${best.title} (${best.score.toFixed(2)})`);
    passed = passed && best.id === wanted;
  }
  await redis.del(INDEX, ...Object.keys(DOCUMENTS).map((id) => DOCUMENT + id));
  redis.disconnect();
  console.log(passed ? "PASSED" : "FAILED");
  process.exitCode = passed ? 0 : 1;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
