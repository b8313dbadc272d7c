// Simulates every call that the functions make against the policies of their roles, with a third-party model of IAM:
// node e2e/aws/policies.mjs < deployment.json
//
// The input has the policies as deployed, by role, and the ARNs of what they are about. Each call must be allowed,
// and denied to every function that does not make it and on every resource that is not the stack's.

import { runSimulation } from "@cloud-copilot/iam-simulate";
import { readFileSync } from "node:fs";

const { account, region, policies, arns } = JSON.parse(readFileSync(0, "utf8"));
const arn = (service, resource) => `arn:aws:${service}:${region}:${account}:${resource}`;
const { table, stream, bus, timerQueue, workQueue, notifyQueue, streamFailures, secret, stack, topic, userBus } = arns;

const each = (service, actions, resource) => actions.split(" ").map((action) => [`${service}:${action}`, resource]);
const log = (name) => each("logs", "CreateLogStream PutLogEvents", arn("logs", `log-group:/aws/lambda/${stack}-${name}:log-stream:2026/11/30`));
const trace = each("xray", "PutTelemetryRecords PutTraceSegments", "*");
const receive = (queue) => each("sqs", "ReceiveMessage DeleteMessage GetQueueAttributes SendMessage", queue);
const mailTopic = arn("sns", `${stack}-mail-0a1b2c3d`);
const table_ = "BatchGetItem DeleteItem GetItem PutItem Query UpdateItem";

const calls = {
  IngestRole: [
    ...each("dynamodb", `${table_} BatchWriteItem ConditionCheckItem`, table),
    ["secretsmanager:GetSecretValue", secret],
    ...log("ingest"),
    ...trace,
  ],
  EvaluateRole: [
    ...each("dynamodb", `${table_} BatchWriteItem ConditionCheckItem`, table),
    ...each("dynamodb", "DescribeStream GetRecords GetShardIterator", stream),
    ["dynamodb:ListStreams", "*"],
    ["events:PutEvents", bus],
    ...receive(timerQueue),
    ...receive(workQueue),
    // Where Lambda puts the position of a record that failed for good.
    ["sqs:SendMessage", streamFailures],
    ...log("evaluate"),
    ...trace,
  ],
  NotifyRole: [
    ...each("dynamodb", table_, table),
    ...receive(notifyQueue),
    ...each("sns", "CreateTopic DeleteTopic ListSubscriptionsByTopic Publish Subscribe", mailTopic),
    ["sns:Publish", topic],
    // Text messages are left out, because a phone number has no ARN; deploy.py sends one.
    ["events:PutEvents", userBus],
    ...log("notify"),
    ...trace,
  ],
};

// What belongs to others in the same account.
const foreign = [
  ...each("dynamodb", "GetItem PutItem", arn("dynamodb", "table/other")),
  ["dynamodb:GetRecords", `${arn("dynamodb", "table/other")}/stream/2026-11-30T00:00:00.000`],
  ["dynamodb:DeleteTable", table],
  ...each("sqs", "SendMessage ReceiveMessage", arn("sqs", "other")),
  ...each("sns", "Publish Subscribe DeleteTopic", arn("sns", "other")),
  ["events:PutEvents", arn("events", "event-bus/default")],
  ["secretsmanager:GetSecretValue", arn("secretsmanager", "secret:other-AbCdEf")],
  ["secretsmanager:PutSecretValue", secret],
  ["logs:PutLogEvents", arn("logs", "log-group:/aws/lambda/other:log-stream:1")],
];

async function isAllowed(role, [action, resource]) {
  const result = await runSimulation(
    {
      request: {
        action,
        resource: { resource, accountId: account },
        principal: `arn:aws:iam::${account}:role/${role}`,
        contextVariables: {},
      },
      identityPolicies: policies[role],
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    {},
  );
  if (result.resultType === "error") throw new Error(`${role} ${action} ${resource}: ${JSON.stringify(result.errors)}`);
  return result.overallResult === "Allowed";
}

const wrong = [];
let simulated = 0;
const expect = async (role, call, allowed) => {
  simulated += 1;
  if ((await isAllowed(role, call)) !== allowed) wrong.push(`${role} must ${allowed ? "" : "not "}be allowed ${call.join(" on ")}`);
};
for (const [role, own] of Object.entries(calls)) {
  const has = new Set(own.map((call) => call.join(" ")));
  for (const call of own) await expect(role, call, true);
  for (const call of Object.values(calls).flat()) if (!has.has(call.join(" "))) await expect(role, call, false);
  for (const call of foreign) await expect(role, call, false);
  // A permission that no call here needs is either unnecessary or untested.
  const granted = policies[role].flatMap(({ policy }) => policy.Statement.flatMap(({ Action }) => Action));
  for (const action of granted) if (!own.some(([name]) => name === action)) wrong.push(`no call needs ${action} of ${role}`);
}
if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(`${simulated} calls are allowed or denied as they must be`);
