// Runs a script of k6 in Node, without k6: its setup, then iterations of the users one after the other. Prints what
// k6 would count as a line of JSON: {"checks": {NAME: [passed, missed]}, "statuses": {STATUS: NUMBER}, "slept": SECONDS}.
//
//   node run_script.mjs SCRIPT ITERATIONS USERS
//
// Of k6 it has what loadtest/k6-upload-test.js imports. Requests are synchronous, as in k6: a worker sends them while
// this thread waits.
import { register } from 'node:module';
import { pathToFileURL } from 'node:url';
import { MessageChannel, Worker, receiveMessageOnPort } from 'node:worker_threads';

const [script, iterations, users] = process.argv.slice(2);
const scriptUrl = pathToFileURL(script).href;
const counted = { checks: {}, statuses: {}, slept: 0 };

const state = new Int32Array(new SharedArrayBuffer(4));
const { port1: near, port2: far } = new MessageChannel();
const worker = new Worker(
  `const { workerData: { state, port } } = require('node:worker_threads');
   port.on('message', async ({ method, url, body, headers }) => {
     let answer;
     try {
       const response = await fetch(url, { method, body, headers });
       answer = { status: response.status, body: await response.text() };
     } catch (error) {
       answer = { status: 0, body: String(error) };
     }
     port.postMessage(answer);
     Atomics.store(state, 0, 1);
     Atomics.notify(state, 0);
   });`,
  { eval: true, workerData: { state, port: far }, transferList: [far] },
);

function request(method, url, body, params = {}) {
  Atomics.store(state, 0, 0);
  near.postMessage({ method, url, body: body ?? undefined, headers: params.headers || {} });
  Atomics.wait(state, 0, 0);
  const { status, body: text } = receiveMessageOnPort(near).message;
  counted.statuses[status] = (counted.statuses[status] || 0) + 1;
  const json = (name) => (name === undefined ? JSON.parse(text) : JSON.parse(text)[name]);
  return { status, body: text, json };
}

function check(value, checks) {
  let passed = true;
  for (const [name, test] of Object.entries(checks)) {
    const holds = Boolean(test(value));
    counted.checks[name] ||= [0, 0];
    counted.checks[name][holds ? 0 : 1] += 1;
    passed &&= holds;
  }
  return passed;
}

const vu = { idInTest: 1 };
globalThis.__ENV = { ...process.env, USERS: users };
globalThis.__k6 = {
  k6: { check, sleep: (seconds) => { counted.slept += seconds; } },
  'k6/execution': { default: { vu } },
  'k6/http': {
    default: {
      get: (url, params) => request('GET', url, null, params),
      post: (url, body, params) => request('POST', url, body, params),
      batch: (requests) => requests.map((each) => request(...each)),
    },
  },
};

const hooks = `
  const names = {
    'k6': ['check', 'sleep'], 'k6/execution': ['default'], 'k6/http': ['default'],
  };
  export async function resolve(specifier, context, next) {
    if (specifier in names) return { url: 'k6:' + specifier, shortCircuit: true };
    return next(specifier, context);
  }
  export async function load(url, context, next) {
    if (url.startsWith('k6:')) {
      const module = url.slice(3);
      const source = names[module].map((name) => {
        const value = 'globalThis.__k6[' + JSON.stringify(module) + '].' + name;
        return name === 'default' ? 'export default ' + value : 'export const ' + name + ' = ' + value;
      }).join(';\\n');
      return { format: 'module', source, shortCircuit: true };
    }
    return next(url, url === ${JSON.stringify(scriptUrl)} ? { ...context, format: 'module' } : context);
  }`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

const { default: iterate, setup } = await import(scriptUrl);
const data = setup();
for (let number = 0; number < Number(iterations); number += 1) {
  vu.idInTest = 1 + (number % Number(users));
  iterate(data);
}
console.log(JSON.stringify(counted));
await worker.terminate();
near.close();
