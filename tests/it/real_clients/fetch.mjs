// Node's own fetch through a proxy agent.
//
//   NODE_EXTRA_CA_CERTS=ROOTS node fetch.mjs undici|https-proxy-agent MODULES PROXY URL
//
// Prints {"status":…,"body":…} or {"error":…,"code":…}.
import https from 'node:https';
import { createRequire } from 'node:module';

const [agent, modules, proxy, url] = process.argv.slice(2);
const require = createRequire(modules + '/');

async function byUndici() {
  const { ProxyAgent } = require('undici');
  const dispatcher = new ProxyAgent(proxy);
  const response = await fetch(url, { dispatcher });
  const got = { status: response.status, body: await response.text() };
  await dispatcher.close();
  return got;
}

function byHttpsProxyAgent() {
  const { HttpsProxyAgent } = require('https-proxy-agent');
  return new Promise((resolve, reject) => {
    https.get(url, { agent: new HttpsProxyAgent(proxy) }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (part) => { body += part; });
      response.on('end', () => resolve({ status: response.statusCode, body }));
    }).on('error', reject);
  });
}

const work = agent === 'undici' ? byUndici : byHttpsProxyAgent;
let said;
try {
  said = await work();
} catch (error) {
  const words = [];
  for (let at = error; at; at = at.cause) words.push(`${at.code ?? ''} ${at.message}`);
  said = { error: words.join(' <- ') };
}
process.stdout.write(JSON.stringify(said) + '\n');
