// A receiver in Node that judges each delivery twice: as Capa's published sample does, over the body parsed and written
// again, and with the library of Standard Webhooks. It answers 200 if both agree, else 400, and prints one line of JSON.
//
// Environment: CAPA_WEBHOOK_SECRET, the 64 hex digits; CAPA_PACKAGES, the folder that holds `node_modules`.

import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.CAPA_PACKAGES, "from-here.js"));
const { Webhook } = require("standardwebhooks");

const secret = process.env.CAPA_WEBHOOK_SECRET;
const webhook = new Webhook("whsec_" + Buffer.from(secret, "utf8").toString("base64"));

function sample(request) {
  const hash = createHmac("sha256", secret).update(JSON.stringify(request.body)).digest("hex");
  return hash === request.headers["capa-signature"];
}

function standard(text, headers) {
  try {
    webhook.verify(text, headers);
    return true;
  } catch {
    return false;
  }
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const text = Buffer.concat(chunks).toString("utf8");
    let body = null;
    try {
      body = JSON.parse(text);
    } catch {
      // Then neither way can agree.
    }
    const judged = { sample: sample({ body, headers: request.headers }), standard: standard(text, request.headers) };
    response.writeHead(judged.sample && judged.standard ? 200 : 400).end();
    const id = request.headers["webhook-id"];
    console.log(JSON.stringify({ id, ...judged, user: body?.externalUserId, bytes: Buffer.byteLength(text) }));
  });
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
