// Load test of the upload API for k6: 100 users, each of whom creates a job of 10 photos a second and looks at it.
//
//   k6 run loadtest/k6-upload-test.js            BASE_URL, default http://localhost:8080
//   make loadtest                                starts the services and a gateway first
//
// Each virtual user is a user of their own. That still is more than the 10 jobs a minute that the gateway grants one,
// and all of them register from one address: raise SLUICE_GATEWAY__JOBS_PER_MINUTE and
// SLUICE_GATEWAY__ADDRESS_GUESSES_PER_MINUTE before. Otherwise the test fails, as it should: refusals are no results.
import http from 'k6/http';
import exec from 'k6/execution';
import { check, sleep } from 'k6';

const BASE_URL = __ENV.BASE_URL || 'http://localhost:8080';
const USERS = Number(__ENV.USERS || 100);
const SCALE = Number(__ENV.SCALE || 1); // of the stages' durations
const FILES = 10;
const JSON_BODY = { 'Content-Type': 'application/json' };
const AT_ONCE = 4; // registrations: hashing passwords takes processor time

const stage = (seconds, share) => ({
  duration: `${Math.max(1, Math.round(seconds * SCALE))}s`,
  target: Math.ceil(USERS * share),
});

export const options = {
  setupTimeout: '5m',
  scenarios: {
    users: {
      executor: 'ramping-vus',
      startVUs: 0,
      stages: [stage(30, 0.1), stage(60, 0.5), stage(120, 1), stage(60, 1), stage(30, 0)],
    },
  },
  // Of the users' requests alone, not of the registrations before.
  thresholds: {
    'http_req_duration{scenario:users}': ['p(95)<500'],
    'http_req_failed{scenario:users}': ['rate<0.01'],
    checks: ['rate>0.99'],
  },
};

// Return the body, or an empty object: `json()` throws for an answer that is none, and an exception ends the iteration
// before anything is counted.
function bodyOf(response) {
  try {
    return response.json() || {};
  } catch {
    return {};
  }
}

function newAccount(number) {
  const email = `k6-${Date.now()}-${number}-${Math.floor(Math.random() * 1e9)}@example.com`;
  return JSON.stringify({ email, password: 'correct horse' });
}

export function setup() {
  const tokens = [];
  while (tokens.length < USERS) {
    const count = Math.min(AT_ONCE, USERS - tokens.length);
    const requests = Array.from({ length: count }, (_, index) => [
      'POST',
      `${BASE_URL}/api/auth/register`,
      newAccount(tokens.length + index),
      { headers: JSON_BODY },
    ]);
    for (const response of http.batch(requests)) {
      if (response.status !== 201) {
        throw new Error(`registering answered ${response.status}: ${response.body}`);
      }
      tokens.push(response.json('token'));
    }
  }
  return { tokens };
}

export default function ({ tokens }) {
  const token = tokens[(exec.vu.idInTest - 1) % tokens.length];
  const params = { headers: { ...JSON_BODY, Authorization: `Bearer ${token}` } };
  const files = Array.from({ length: FILES }, (_, index) => ({
    filename: `photo${index}.jpg`,
    mimeType: 'image/jpeg',
    bytes: 1000000 + Math.floor(Math.random() * 5000000),
  }));

  const created = http.post(
    `${BASE_URL}/commands/upload-jobs`,
    JSON.stringify({ files, strategy: 'S3_PRESIGNED' }),
    { ...params, tags: { name: 'create job' } },
  );
  const { jobId, items = [] } = bodyOf(created);
  const isCreated = check(created, {
    'job is created': (response) => response.status === 201,
    'job has an id': () => Boolean(jobId),
    // Up to 5 MiB in one PUT, larger ones in parts.
    'every photo can be sent': () =>
      items.length === FILES && items.every((item) => item.presignedUrl || item.multipart),
  });

  if (isCreated) {
    const shown = http.get(`${BASE_URL}/queries/upload-jobs/${jobId}`, {
      ...params,
      tags: { name: 'query job' },
    });
    check(shown, {
      'job is shown': (response) => response.status === 200,
      'job is queued': (response) => bodyOf(response).status === 'QUEUED',
    });
  }
  sleep(1);
}
