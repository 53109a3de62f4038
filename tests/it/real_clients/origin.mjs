// A cloud service to be reached, made of Node's HTTP stacks: an independent peer for the proxy. HTTP/2 and HTTP/1.1 over TLS,
// HTTP/1.1 alone over TLS, or plain HTTP/1.1 where no certificate is given. /socket is a page with a WebSocket.
//
//   node origin.mjs [CERTIFICATE KEY [http/1.1]]
//
// Prints {"port":N} and then one line of JSON for every request it got. Ends with its standard input.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';

const [certificate, key, only] = process.argv.slice(2);
const tell = (line) => process.stdout.write(JSON.stringify(line) + '\n');

const PAGE = `<!doctype html><html lang="en"><meta charset="utf-8"><title>origin</title>
<link rel="stylesheet" href="/style.css"><body><p id="static">Reached the origin.</p><p id="script">no script ran</p>
<img src="/picture.svg" alt=""><script src="/script.js"></script></body></html>`;
// The browser itself says which protocol it spoke.
const SCRIPT = `document.getElementById('script').textContent =
  'script ran over ' + performance.getEntriesByType('navigation')[0].nextHopProtocol;`;
// The picture comes when the socket is closed, so that the page is not loaded before.
const SOCKET = `<!doctype html><html lang="en"><meta charset="utf-8"><title>socket</title><body><p id="said">nothing said</p>
<script>const socket = new WebSocket('wss://' + location.host + '/speak');
  const say = (words) => { document.getElementById('said').textContent = words; socket.close(); };
  socket.onopen = () => socket.send('hello');
  socket.onmessage = (event) => say('the socket said ' + event.data);
  socket.onerror = () => { say('the socket failed'); fetch('/give-up'); };</script>
<img src="/after-the-socket.svg" alt=""></body></html>`;
const PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>';
const FILES = {
  '/': ['text/html; charset=utf-8', PAGE],
  '/script.js': ['text/javascript', SCRIPT],
  '/style.css': ['text/css', 'p { color: navy }'],
  '/picture.svg': ['image/svg+xml', PICTURE],
  '/socket': ['text/html; charset=utf-8', SOCKET],
};

let socketIsOver;
const afterTheSocket = new Promise((resolve) => { socketIsOver = resolve; });

function arrived(request) {
  const fields = [];
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    fields.push([request.rawHeaders[at].toLowerCase(), request.rawHeaders[at + 1]]);
  }
  const host = request.headers[':authority'] ?? request.headers.host ?? '';
  tell({ version: request.httpVersion, method: request.method, path: request.url, host, fields });
}

function answer(request, response) {
  const hash = createHash('sha256');
  let length = 0;
  request.on('data', (part) => { hash.update(part); length += part.length; });
  request.on('end', () => {
    const url = new URL(request.url, 'https://origin.invalid');
    arrived(request);
    if (url.pathname === '/echo') {
      response.setHeader('content-type', 'text/plain');
      response.end(`${request.method} ${length} ${hash.digest('hex')} HTTP/${request.httpVersion}\n`);
    } else if (url.pathname === '/zeros') {
      response.setHeader('content-type', 'application/octet-stream');
      response.end(Buffer.alloc(Number(url.searchParams.get('length'))));
    } else if (url.pathname === '/after-the-socket.svg') {
      response.setHeader('content-type', 'image/svg+xml');
      afterTheSocket.then(() => response.end(PICTURE));
    } else if (FILES[url.pathname]) {
      response.setHeader('content-type', FILES[url.pathname][0]);
      response.end(FILES[url.pathname][1]);
    } else {
      if (url.pathname === '/give-up') socketIsOver();
      response.statusCode = 404;
      response.end('no such page\n');
    }
  });
}

// RFC 6455, as much as one short frame each way needs. It leaves the closing to the client: a browser waits two seconds and then
// closes TCP without a close_notify, which has to reach here.
function speak(request, socket) {
  arrived(request);
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
    `Sec-WebSocket-Accept: ${accept.digest('base64')}\r\n\r\n`);
  socket.on('data', (frame) => {
    const mask = frame.subarray(2, 6);
    const payload = Buffer.from(frame.subarray(6, 6 + (frame[1] & 127)).map((octet, at) => octet ^ mask[at % 4]));
    socket.write(Buffer.concat([Buffer.from([frame[0], payload.length]), payload]));
  });
  socket.on('error', () => {}).on('close', socketIsOver).on('end', () => socket.end());
}

function serve() {
  if (!certificate) return http.createServer(answer);
  const identity = { cert: readFileSync(certificate), key: readFileSync(key) };
  if (only) return https.createServer({ ...identity, ALPNProtocols: [only] }, answer);
  return http2.createSecureServer({ ...identity, allowHTTP1: true }, answer);
}

const server = serve().on('upgrade', speak);
server.listen(0, '127.0.0.1', () => tell({ port: server.address().port }));
process.stdin.resume().on('end', () => process.exit(0));
